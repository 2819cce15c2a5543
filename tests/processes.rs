//! Process life among threads and CPUs: wait by several threads, exit against exit, exec against exit, vfork.
//!
//! The numbered promises are those of `process/mod.rs`. No test waits for time: whoever waits for a thread
//! gives its turn away until that thread has come as far.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rumpvm::{CallError, Orphans, Pid, WaitFor};
use rumpvm_arch::VirtAddr;
use rumpvm_harness::machine::{Machine, User};

const ROUNDS: u32 = 300;

/// A count that threads of several CPUs wait for.
#[derive(Clone, Default)]
struct Stage(Arc<AtomicU32>);

impl Stage {
    fn step(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn await_steps(&self, user: &User, steps: u32) {
        while self.0.load(Ordering::SeqCst) < steps {
            user.yield_now();
        }
    }

    fn steps(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}

fn machine() -> Machine {
    Machine::builder().cpus(4).build()
}

#[test]
fn of_several_threads_that_wait_for_one_child_one_reaps_it_and_the_others_learn_that_there_is_none()
{
    // L1, L2.
    let machine = machine();
    machine.run(|user| {
        for round in 0..ROUNDS {
            let (begun, told, reaped) = (Stage::default(), Stage::default(), Stage::default());
            let may_exit = begun.clone();
            let child = move |user: &User| {
                // Now before the waiters sleep, now after.
                may_exit.await_steps(user, round % 4);
                5
            };
            let pid = user.fork(child).unwrap();
            for waiter in 0..3 {
                let (begun, told, reaped) = (begun.clone(), told.clone(), reaped.clone());
                user.spawn_thread(move |user| {
                    let whom = if waiter == 0 { WaitFor::Any } else { WaitFor::Pid(pid) };
                    begun.step();
                    match user.wait(whom) {
                        Ok(got) => {
                            assert_eq!(got, (pid, 5));
                            reaped.step();
                        }
                        Err(error) => assert_eq!(error, CallError::NoChild),
                    }
                    told.step();
                });
            }
            told.await_steps(user, 3);
            assert_eq!(reaped.steps(), 1);
        }
    });
    machine.check();
}

#[test]
fn every_child_is_reaped_once_by_threads_that_wait_for_any() {
    // L1.
    const THREADS: u32 = 4;
    let machine = machine();
    machine.run(|user| {
        let reaped = Arc::new(AtomicU64::new(0));
        for _ in 0..THREADS {
            let reaped = Arc::clone(&reaped);
            user.spawn_thread(move |user| {
                for round in 0..ROUNDS {
                    user.fork(move |_| i32::try_from(round + 1).unwrap()).unwrap();
                    // Perhaps another thread's child; there is one for each wait.
                    let (_, status) = user.wait(WaitFor::Any).unwrap();
                    reaped.fetch_add(u64::try_from(status).unwrap(), Ordering::Relaxed);
                }
            });
        }
        let all = u64::from(THREADS) * u64::from(ROUNDS * (ROUNDS + 1) / 2);
        while reaped.load(Ordering::Relaxed) < all {
            user.yield_now();
        }
        assert_eq!(user.wait(WaitFor::Any), Err(CallError::NoChild));
    });
    machine.check();
}

#[test]
fn a_child_that_exits_while_its_parent_does_is_reaped_by_the_heir() {
    // L4, L5.
    let machine = machine();
    machine.run(|user| {
        for round in 0..ROUNDS {
            let middle = move |user: &User| {
                let gone = Stage::default();
                for child in 0..3 {
                    let gone = gone.clone();
                    let exits = move |user: &User| {
                        gone.await_steps(user, 1);
                        child
                    };
                    user.fork(exits).unwrap();
                }
                gone.step();
                if round % 2 == 0 {
                    user.yield_now();
                }
                10
            };
            user.fork(middle).unwrap();
            let sum: i32 = (0..4).map(|_| user.wait(WaitFor::Any).unwrap().1).sum();
            assert_eq!(sum, 10 + 1 + 2);
            assert_eq!(user.wait(WaitFor::Any), Err(CallError::NoChild));
        }
    });
    machine.check();
}

#[test]
fn a_wait_that_sleeps_hears_of_a_zombie_that_is_inherited() {
    // L4: the heir sleeps already when the zombie becomes its own.
    let machine = machine();
    machine.run(|user| {
        for _ in 0..ROUNDS {
            let pids = Arc::new(AtomicU32::new(0));
            let told = Arc::clone(&pids);
            let middle = move |user: &User| {
                let child = user.fork(|_| 7).unwrap();
                told.store(child.0, Ordering::SeqCst);
                1
            };
            let middle = user.fork(middle).unwrap();
            let first = user.wait(WaitFor::Any).unwrap();
            let second = user.wait(WaitFor::Any).unwrap();
            let mut both = [first, second];
            both.sort_unstable();
            let child = Pid(pids.load(Ordering::SeqCst));
            assert_eq!(both, [(middle, 1), (child, 7)]);
        }
    });
    machine.check();
}

#[test]
fn exec_waits_for_the_other_threads_and_a_second_exec_is_refused() {
    // L6.
    let machine = machine();
    machine.run(|user| {
        for round in 0..ROUNDS {
            let program = move |user: &User| {
                let at = user.map_anonymous(4096).unwrap();
                let refused = Stage::default();
                for _ in 0..2 {
                    let refused = refused.clone();
                    user.spawn_thread(move |user| {
                        if round % 3 == 0 {
                            user.yield_now();
                        }
                        // One of the three gets through, when the others have been refused and ended.
                        match user.exec() {
                            Ok(()) => {
                                assert_eq!(user.vm().find_process(user.pid()).unwrap().threads(), 1)
                            }
                            Err(error) => assert_eq!(error, CallError::Again),
                        }
                        refused.step();
                    });
                }
                match user.exec() {
                    Ok(()) => {
                        assert_eq!(refused.steps(), 2);
                        assert!(user.load_u8(at).is_err(), "the space is a fresh one");
                    }
                    Err(error) => assert_eq!(error, CallError::Again),
                }
                3
            };
            user.fork(program).unwrap();
            assert_eq!(user.wait(WaitFor::Any).unwrap().1, 3);
        }
    });
    machine.check();
}

#[test]
fn exec_goes_on_when_the_last_other_thread_exits() {
    // L6.
    let machine = machine();
    machine.run(|user| {
        for round in 0..ROUNDS {
            let program = move |user: &User| {
                for thread in 0..3 {
                    user.spawn_thread(move |user| {
                        for _ in 0..(round + thread) % 5 {
                            user.yield_now();
                        }
                        let own = user.map_anonymous(4096).unwrap();
                        user.store_u8(own, 1).unwrap();
                    });
                }
                user.exec().unwrap();
                assert_eq!(user.space().area_count(), 0);
                4
            };
            user.fork(program).unwrap();
            assert_eq!(user.wait(WaitFor::Any).unwrap().1, 4);
        }
    });
    machine.check();
}

#[test]
fn the_thread_that_vforks_sleeps_until_its_child_execs_or_exits_and_the_others_go_on() {
    // L7.
    let machine = machine();
    machine.run(|user| {
        for round in 0..ROUNDS {
            let at = user.map_anonymous(4096).unwrap();
            let (other, stored) = (Stage::default(), Stage::default());
            let (seen, tells) = (other.clone(), stored.clone());
            user.spawn_thread(move |user| {
                // Runs while the first thread sleeps.
                tells.await_steps(user, 1);
                assert_eq!(user.load_u8(at), Ok(9));
                seen.step();
            });
            let (seen, tells) = (other.clone(), stored.clone());
            let child = move |user: &User| {
                user.store_u8(at, 9).unwrap();
                tells.step();
                seen.await_steps(user, 1);
                if round % 2 == 0 {
                    user.exec().unwrap();
                    assert!(user.load_u8(VirtAddr(at.0)).is_err());
                }
                6
            };
            let pid = user.vfork(child).unwrap();
            assert_eq!((other.steps(), user.load_u8(at)), (1, Ok(9)));
            assert_eq!(user.wait(WaitFor::Pid(pid)), Ok((pid, 6)));
            user.munmap(at, 4096).unwrap();
        }
    });
    machine.check();
}

#[test]
fn families_that_exit_in_every_order_leave_nothing_behind() {
    // L1, L4, L5: an adopter in the middle, grandchildren that outlive everybody.
    let machine = machine();
    machine.run(|user| {
        let lines = 3;
        for line in 0..lines {
            let family = move |user: &User| {
                let own = user.vm().find_process(user.pid()).unwrap();
                own.set_orphans(if line == 0 { Orphans::Adopt } else { Orphans::PassOn });
                for round in 0..ROUNDS / 4 {
                    let parent = move |user: &User| {
                        for child in 0..3 {
                            let grandchild = move |user: &User| {
                                (0..(round + child) % 3).for_each(|_| user.yield_now());
                                0
                            };
                            user.fork(grandchild).unwrap();
                        }
                        if round % 2 == 0 {
                            user.wait(WaitFor::Any).unwrap();
                        }
                        0
                    };
                    let pid = user.fork(parent).unwrap();
                    user.wait(WaitFor::Pid(pid)).unwrap();
                }
                0
            };
            user.fork(family).unwrap();
        }
        let mut reaped = 0;
        while user.wait(WaitFor::Any).is_ok() {
            reaped += 1;
        }
        assert!(reaped >= lines);
    });
    machine.check();
    machine.on_cpu(|vm| vm.for_each_process(|process| panic!("{:?} is left", process.pid())));
}
