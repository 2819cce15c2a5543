//! Threads, sleeping, flush messages, and the end of it all.

use std::panic::Location;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, Weak};

use rumpvm_arch::{PAGE_SIZE, Prot, Pte, VirtAddr, VirtRange, X86_64};
use rumpvm_platform::{CpuId, CpuSet, Platform, Scarce, Seam};

use super::tables::Tables;
use super::{machine, panic_of};
use crate::{Hosted, Power, Upcalls};

type Pc = Hosted<X86_64>;

fn pc(cpus: usize) -> (Pc, Power) {
    machine(cpus)
}

fn sleep(word: &AtomicU32, expected: u32) {
    Pc::sleep(word, expected, None, Location::caller());
}

fn wake(word: &AtomicU32) {
    Pc::wakeup(word, Location::caller());
}

/// Sleeps until `word` is no longer `expected`.
fn await_change(word: &AtomicU32, expected: u32) {
    while word.load(Ordering::SeqCst) == expected {
        sleep(word, expected);
    }
}

fn announce(word: &AtomicU32, value: u32) {
    word.store(value, Ordering::SeqCst);
    wake(word);
}

#[test]
fn run_returns_when_the_thread_and_its_descendants_have_ended() {
    let (pc, _power) = pc(2);
    let ended = Arc::new(AtomicUsize::new(0));
    let (machine, count) = (pc.clone(), Arc::clone(&ended));
    let result = pc.run(None, move || {
        for _ in 0..10 {
            let (inner, count) = (machine.clone(), Arc::clone(&count));
            machine.spawn(None, move || {
                let grandchild = Arc::clone(&count);
                inner.spawn(None, move || {
                    grandchild.fetch_add(1, Ordering::SeqCst);
                });
                count.fetch_add(1, Ordering::SeqCst);
            });
        }
        42
    });
    assert_eq!(result, 42);
    assert_eq!(ended.load(Ordering::SeqCst), 20);
}

#[test]
fn a_thread_stays_on_the_cpu_it_was_told_and_others_go_where_the_fewest_are() {
    let (pc, _power) = pc(3);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (machine, places) = (pc.clone(), Arc::clone(&seen));
    pc.run(Some(CpuId(2)), move || {
        assert_eq!(Pc::cpu_id(), CpuId(2));
        for _ in 0..2 {
            let places = Arc::clone(&places);
            machine.spawn(None, move || places.lock().unwrap().push(Pc::cpu_id()));
        }
        assert_eq!(Pc::cpu_id(), CpuId(2));
    });
    let mut seen = seen.lock().unwrap().clone();
    seen.sort();
    assert!(!seen.contains(&CpuId(2)), "{seen:?}");
}

#[test]
fn no_wakeup_between_cpus_is_lost() {
    const ROUNDS: u32 = 20_000;
    let (pc, _power) = pc(2);
    let machine = pc.clone();
    pc.run(Some(CpuId(0)), move || {
        let words = Arc::new((AtomicU32::new(0), AtomicU32::new(0)));
        let theirs = Arc::clone(&words);
        machine.spawn(Some(CpuId(1)), move || {
            for round in 0..ROUNDS {
                await_change(&theirs.0, round);
                announce(&theirs.1, round + 1);
            }
        });
        for round in 0..ROUNDS {
            announce(&words.0, round + 1);
            await_change(&words.1, round);
        }
    });
}

#[test]
fn one_wakeup_wakes_every_sleeper_of_the_word_and_no_other() {
    let (pc, _power) = pc(2);
    let machine = pc.clone();
    pc.run(Some(CpuId(0)), move || {
        let words = Arc::new([const { AtomicU32::new(0) }; 3]);
        for sleeper in 0..20_u32 {
            let words = Arc::clone(&words);
            machine.spawn(Some(CpuId(sleeper % 2)), move || {
                let [first, other, awake] = &*words;
                sleep(if sleeper < 10 { first } else { other }, 0);
                awake.fetch_add(1, Ordering::SeqCst);
                wake(awake);
            });
        }
        for _ in 0..1000 {
            machine.yield_now();
        }
        assert_eq!(words[2].load(Ordering::SeqCst), 0);
        for (word, expected) in [(0, 10), (1, 20)] {
            announce(&words[word], 1);
            loop {
                let awake = words[2].load(Ordering::SeqCst);
                if awake == expected {
                    break;
                }
                assert!(awake < expected);
                sleep(&words[2], awake);
            }
        }
    });
}

#[test]
fn sleep_returns_at_once_when_the_word_has_changed_already() {
    let (pc, _power) = pc(1);
    pc.run(None, || sleep(&AtomicU32::new(1), 0));
}

#[test]
fn a_deadlock_is_a_panic_that_names_the_word() {
    let (pc, _power) = pc(2);
    let word = Arc::new(AtomicU32::new(0));
    let (machine, theirs) = (pc.clone(), Arc::clone(&word));
    let story = panic_of(|| {
        pc.run(None, move || {
            let again = Arc::clone(&theirs);
            machine.spawn(None, move || await_change(&again, 0));
            await_change(&theirs, 0);
        })
    });
    let name = format!("word {:#x}", Arc::as_ptr(&word) as usize);
    assert!(story.contains("deadlock") && story.contains(&name), "{story}");
}

#[test]
fn a_panic_in_a_thread_comes_out_of_run_while_others_sleep_or_spin() {
    let (pc, _power) = pc(3);
    let machine = pc.clone();
    let story = panic_of(|| {
        pc.run(Some(CpuId(0)), move || {
            let word = Arc::new(AtomicU32::new(0));
            let theirs = Arc::clone(&word);
            machine.spawn(Some(CpuId(0)), move || await_change(&theirs, 0));
            let theirs = Arc::clone(&word);
            machine.spawn(Some(CpuId(1)), move || {
                while theirs.load(Ordering::SeqCst) == 0 {
                    Pc::relax(0);
                }
            });
            machine.spawn(Some(CpuId(2)), || panic!("the sky falls"));
            await_change(&word, 0);
        })
    });
    assert_eq!(story, "the sky falls");
    let later = panic_of(|| pc.run(None, || ()));
    assert_eq!(later, "the machine has stopped: the sky falls");
}

#[test]
fn a_sleep_in_a_destructor_during_a_panic_does_not_hang() {
    struct Sleeper;
    impl Drop for Sleeper {
        fn drop(&mut self) {
            sleep(&AtomicU32::new(0), 0);
        }
    }
    let (pc, _power) = pc(2);
    let story = panic_of(|| {
        pc.run(None, || {
            let _sleeper = Sleeper;
            panic!("first");
        })
    });
    assert!(story.contains("unwound from a panic"), "{story}");
}

#[test]
fn a_thread_that_sleeps_yields_or_ends_with_a_spin_lock_stops_the_machine() {
    type Case = (fn(&Pc), &'static str);
    let cases: [Case; 3] = [
        (|_| sleep(&AtomicU32::new(1), 0), "a thread sleeps"),
        (|pc| pc.yield_now(), "a thread yields"),
        (|_| (), "a thread ends"),
    ];
    for (case, what) in cases {
        let (pc, _power) = pc(1);
        let machine = pc.clone();
        let story = panic_of(|| {
            pc.run(None, move || {
                let first = Pc::intr_save();
                let second = Pc::intr_save();
                Pc::intr_restore(second);
                let _ = first;
                case(&machine);
            })
        });
        assert!(story.contains(what) && story.contains("spin lock"), "{story}");
        assert!(pc.is_stopped());
    }
}

#[test]
fn a_machine_switched_off_says_so_to_whoever_asks_for_more() {
    let (pc, power) = pc(1);
    drop(power);
    let story = panic_of(|| pc.run(None, || ()));
    assert_eq!(story, "the machine has stopped: it was switched off");
}

#[test]
fn seam_calls_off_the_machine_are_refused_clearly() {
    assert!(panic_of(Pc::cpu_id).contains("not on a CPU"));
    assert!(panic_of(|| wake(&AtomicU32::new(0))).contains("not on a CPU"));
}

#[test]
fn yielding_gives_every_thread_of_the_cpu_its_turn() {
    let (pc, _power) = pc(1);
    let order = Arc::new(Mutex::new(Vec::new()));
    let (machine, seen) = (pc.clone(), Arc::clone(&order));
    pc.run(None, move || {
        for name in 0..3 {
            let (machine, seen) = (machine.clone(), Arc::clone(&seen));
            let inner = machine.clone();
            machine.spawn(None, move || {
                for _ in 0..3 {
                    seen.lock().unwrap().push(name);
                    inner.yield_now();
                }
            });
        }
    });
    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 0, 1, 2, 0, 1, 2]);
}

#[test]
fn a_hundred_threads_that_never_yield_progress_on_two_cpus() {
    let (pc, _power) = pc(2);
    let machine = pc.clone();
    pc.run(None, move || {
        let mut tables = Tables::new(&machine);
        let at = VirtAddr(0x1000);
        tables.map_new(at, Prot::RW);
        let (root, arrived) = (tables.root, Arc::new(AtomicU32::new(0)));
        for _ in 0..100 {
            let (user, arrived) = (machine.clone(), Arc::clone(&arrived));
            machine.spawn(None, move || {
                let active = user.clone();
                user.set_on_resume(move || active.tlb_activate(Some(root)));
                arrived.fetch_add(1, Ordering::SeqCst);
                // Ends only if all the others get to run in between.
                while arrived.load(Ordering::SeqCst) < 100 {
                    user.load(at, &mut [0]).unwrap();
                }
            });
        }
    });
}

#[test]
fn the_resume_hook_runs_at_once_and_when_another_thread_ran_in_between() {
    let (pc, _power) = pc(1);
    let machine = pc.clone();
    let hooks = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&hooks);
    pc.run(None, move || {
        let seen = Arc::clone(&count);
        machine.set_on_resume(move || {
            seen.fetch_add(1, Ordering::SeqCst);
        });
        machine.yield_now();
        assert_eq!(count.load(Ordering::SeqCst), 1, "nobody else was there");
        machine.spawn(None, || ());
        machine.yield_now();
        assert_eq!(count.load(Ordering::SeqCst), 2);
        machine.yield_now();
        assert_eq!(count.load(Ordering::SeqCst), 2);
    });
}

/// A component that answers flush requests by dropping one page.
struct Flusher {
    pc: Pc,
    requested: [AtomicBool; 2],
    idled: AtomicU32,
}

const PAGE: VirtRange = VirtRange::new(VirtAddr(0x5000), VirtAddr(0x5000 + PAGE_SIZE));

impl Flusher {
    fn on(pc: &Pc) -> Arc<Self> {
        let flusher = Arc::new(Self {
            pc: pc.clone(),
            requested: [const { AtomicBool::new(false) }; 2],
            idled: AtomicU32::new(0),
        });
        let weak: Weak<Self> = Arc::downgrade(&flusher);
        pc.connect(weak);
        flusher
    }

    /// Has the other CPU drop the page, and waits until it has.
    fn flush_other(&self) {
        let other = CpuId(1 - Pc::cpu_id().0);
        let request = &self.requested[other.0 as usize];
        request.store(true, Ordering::SeqCst);
        let mut targets = CpuSet::EMPTY;
        targets.insert(other);
        self.pc.tlb_ipi(&targets);
        while request.load(Ordering::SeqCst) {
            Pc::relax(std::ptr::from_ref(request) as usize);
        }
    }
}

impl Upcalls for Flusher {
    fn tlb_interrupt(&self) {
        let request = &self.requested[Pc::cpu_id().0 as usize];
        if request.load(Ordering::SeqCst) {
            self.pc.tlb_invalidate(PAGE);
            request.store(false, Ordering::SeqCst);
        }
    }

    fn idle(&self) -> bool {
        !self.idled.fetch_add(1, Ordering::SeqCst).is_multiple_of(8)
    }
}

#[test]
fn flushes_are_served_by_idle_cpus_and_by_cpus_that_flush_each_other() {
    let (pc, _power) = pc(2);
    let flusher = Flusher::on(&pc);
    let alone = Arc::clone(&flusher);
    pc.run(Some(CpuId(0)), move || (0..100).for_each(|_| alone.flush_other()));

    let (machine, both) = (pc.clone(), Arc::clone(&flusher));
    pc.run(Some(CpuId(0)), move || {
        let other = Arc::clone(&both);
        machine.spawn(Some(CpuId(1)), move || (0..10_000).for_each(|_| other.flush_other()));
        (0..10_000).for_each(|_| both.flush_other());
    });
    assert!(flusher.idled.load(Ordering::SeqCst) > 0, "an idle CPU offers its time");
}

#[test]
fn a_frame_freed_after_the_other_cpu_has_flushed_is_never_reached_by_it() {
    const ROUNDS: u32 = 3_000;
    let (pc, _power) = pc(2);
    let flusher = Flusher::on(&pc);
    let machine = pc.clone();
    pc.run(Some(CpuId(0)), move || {
        let mut tables = Tables::new(&machine);
        let frame = tables.map_new(PAGE.start, Prot::RW);
        let (root, done) = (tables.root, Arc::new(AtomicBool::new(false)));
        let (reader, stop) = (machine.clone(), Arc::clone(&done));
        machine.spawn(Some(CpuId(1)), move || {
            reader.tlb_activate(Some(root));
            while !stop.load(Ordering::SeqCst) {
                reader.store(PAGE.start, &[1; 64]).ok();
            }
        });
        for _ in 0..ROUNDS {
            tables.set_leaf(PAGE.start, Pte::ABSENT);
            flusher.flush_other();
            machine.frame_freed(frame);
            tables.map(PAGE.start, frame, Prot::RW, true);
        }
        done.store(true, Ordering::SeqCst);
    });
}

#[test]
fn an_ordered_shortage_hits_the_nth_allocation() {
    let (pc, _power) = pc(1);
    pc.failures().fail_nth(Scarce::Frame, 2);
    let fails = pc.run(None, || [(); 3].map(|()| Pc::fails(Scarce::Frame, Location::caller())));
    assert_eq!(fails, [false, true, false]);
    assert!(!pc.failures().is_pending(Scarce::Frame));
}

#[test]
fn many_machines_live_side_by_side() {
    let start = Arc::new(Barrier::new(8));
    let users: Vec<_> = (0..8)
        .map(|number| {
            let start = Arc::clone(&start);
            std::thread::spawn(move || {
                let (pc, _power) = pc(2);
                start.wait();
                pc.run(None, move || number)
            })
        })
        .collect();
    let results: Vec<u32> = users.into_iter().map(|user| user.join().unwrap()).collect();
    assert_eq!(results, [0, 1, 2, 3, 4, 5, 6, 7]);
}
