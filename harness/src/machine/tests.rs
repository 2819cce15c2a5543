//! The facade's own promises; what the component promises is tested elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rumpvm::{FaultError, WaitFor};
use rumpvm_arch::{I386, PAGE_SIZE, Pae, VirtAddr, X86_64, X86_64La57};

use super::{Machine, User};

#[test]
fn what_a_thread_stores_it_loads_in_every_format() {
    fn case<F: rumpvm_arch::Format>() {
        let machine = Machine::builder().format::<F>().build();
        let value = machine.run(|user| {
            let at = user.map_anonymous(4 * PAGE_SIZE).unwrap();
            user.store_u64(at + PAGE_SIZE - 4, 42).unwrap();
            user.load_u64(at + PAGE_SIZE - 4)
        });
        assert_eq!(value, Ok(42));
        machine.check();
    }
    case::<I386>();
    case::<Pae>();
    case::<X86_64>();
    case::<X86_64La57>();
}

#[test]
fn an_access_that_nothing_covers_is_an_error_and_the_machine_goes_on() {
    let machine = Machine::with_frames(1024);
    let at = VirtAddr(0x1234_5000);
    let fault = machine.run(move |user| user.load_u8(at));
    assert_eq!(fault, Err(FaultError::Unmapped { at }));
    assert_eq!(machine.run(|_| 1), 1);
    machine.check();
}

#[test]
fn a_forked_child_has_its_own_memory_and_its_parent_reaps_its_status() {
    let machine = Machine::builder().build();
    machine.run(|user| {
        let at = user.map_anonymous(PAGE_SIZE).unwrap();
        user.store_u8(at, 1).unwrap();
        let child = move |user: &User| {
            user.store_u8(at, 2).unwrap();
            i32::from(user.load_u8(at).unwrap())
        };
        let pid = user.fork(child).unwrap();
        assert_ne!(pid, user.pid());
        assert_eq!(user.wait(WaitFor::Any), Ok((pid, 2)));
        assert_eq!(user.load_u8(at), Ok(1));
    });
    machine.check();
}

#[test]
fn a_vforked_child_works_in_its_parents_memory_until_it_execs() {
    let machine = Machine::builder().build();
    machine.run(|user| {
        let at = user.map_anonymous(PAGE_SIZE).unwrap();
        let gone = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&gone);
        let child = move |user: &User| {
            user.store_u8(at, 7).unwrap();
            seen.store(1, Ordering::SeqCst);
            user.exec().unwrap();
            i32::from(user.load_u8(at).is_err())
        };
        user.vfork(child).unwrap();
        assert_eq!(gone.load(Ordering::SeqCst), 1, "the parent waited");
        assert_eq!(user.load_u8(at), Ok(7));
        assert_eq!(user.wait(WaitFor::Any).unwrap().1, 1);
    });
    machine.check();
}

#[test]
fn threads_share_their_memory_and_the_last_one_ends_the_process() {
    let machine = Machine::builder().build();
    machine.run(|user| {
        user.fork(|user| {
            let at = user.map_anonymous(PAGE_SIZE).unwrap();
            for thread in 0..20 {
                user.spawn_thread(move |user| user.store_u8(at + thread, 1).unwrap());
            }
            while (0..20).any(|thread| user.load_u8(at + thread) != Ok(1)) {
                user.yield_now();
            }
            user.spawn_thread(move |user| {
                (0..100).for_each(|_| user.yield_now());
                assert_eq!(user.load_u8(at), Ok(1), "the process still has its space");
            });
            3
        })
        .unwrap();
        assert_eq!(user.wait(WaitFor::Any).unwrap().1, 3);
    });
    machine.check();
}

#[test]
fn many_processes_take_turns_on_few_cpus() {
    let machine = Machine::builder().build();
    machine.run(|user| {
        let at = user.map_anonymous(16 * PAGE_SIZE).unwrap();
        for child in 0..30_u64 {
            let body = move |user: &User| {
                for round in 0..50 {
                    let place = at + round % 16 * PAGE_SIZE;
                    user.store_u64(place, child * 1000 + round).unwrap();
                    user.yield_now();
                    assert_eq!(user.load_u64(place), Ok(child * 1000 + round));
                }
                0
            };
            user.fork(body).unwrap();
        }
        (0..30).for_each(|_| assert_eq!(user.wait(WaitFor::Any).unwrap().1, 0));
    });
    machine.check();
}

#[test]
#[should_panic(expected = "out of the child")]
fn a_panic_in_a_child_comes_out_of_run() {
    let machine = Machine::builder().build();
    machine.run(|user| {
        user.fork(|_| panic!("out of the child")).unwrap();
        user.wait(WaitFor::Any).ok();
    });
}

#[test]
fn memory_held_back_is_there_once_it_is_added() {
    let machine = Machine::builder().memory(16 << 20).held_back(8 << 20).build();
    let before = machine.vm().statistics().frames_free;
    machine.add_held_back().unwrap();
    let added = machine.vm().statistics().frames_free - before;
    assert!(added > (7 << 20) / PAGE_SIZE, "{added}");
    machine.check();
}
