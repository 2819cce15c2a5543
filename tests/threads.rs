//! Threads of one space on real CPUs: faults and stores against every call that takes memory away.
//!
//! Each test ends after a number of rounds, not after some time, and verifies data, not only survival:
//! what a thread stored and nobody took away is there, and what it sees was stored by somebody.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use rumpvm::{Backing, FaultError, MapFlags, RemapFlags, SyncFlags, WaitFor};
use rumpvm_arch::{PAGE_SIZE, Prot, VirtAddr};
use rumpvm_harness::machine::{Machine, User};
use rumpvm_hosted::MemoryFile;
use rumpvm_platform::{CpuId, File};
use rumpvm_tests::is_short;

const BASE: VirtAddr = VirtAddr(0x4000_0000);
const AWAY: VirtAddr = VirtAddr(0x6000_0000);
const DONTNEED: i32 = 4;
const ANON: MapFlags = MapFlags::PRIVATE.union(MapFlags::ANONYMOUS);
/// Enough to meet every race of these tests many times, in a few seconds of a debug build.
static ROUNDS: LazyLock<u64> = LazyLock::new(|| match (is_short(), cfg!(debug_assertions)) {
    (true, _) => 10_000,
    (false, true) => 100_000,
    (false, false) => 200_000,
});

fn page(number: u64) -> VirtAddr {
    BASE + number * PAGE_SIZE
}

fn map(user: &User, at: VirtAddr, pages: u64, flags: MapFlags) {
    let flags = flags | MapFlags::FIXED;
    let mapped = user.mmap(at, pages * PAGE_SIZE, Prot::RW, flags, Backing::Anonymous, 0);
    assert_eq!(mapped, Ok(at));
}

/// Runs `act` in this thread while `others` threads of the process do `disturbed`, each with its number,
/// until every one of them has done its [`ROUNDS`] rounds, and this one too; then checks.
fn against<A, D>(others: u64, prepare: fn(&User), act: A, disturbed: D)
where
    A: Fn(&User, u64) + Send + 'static,
    D: Fn(&User, u64, u64) + Send + Sync + 'static,
{
    let machine = Machine::builder().cpus(4).build();
    machine.run(move |user| {
        prepare(user);
        let (busy, disturbed) = (Arc::new(AtomicU64::new(others)), Arc::new(disturbed));
        for number in 0..others {
            let (busy, disturbed) = (Arc::clone(&busy), Arc::clone(&disturbed));
            user.spawn_thread(move |user| {
                for round in 1.. {
                    disturbed(user, number, round);
                    if round == *ROUNDS {
                        busy.fetch_sub(1, Ordering::Relaxed);
                    }
                    // Who is done goes on, so that the last one is disturbed as well.
                    if round >= *ROUNDS && busy.load(Ordering::Relaxed) == 0 {
                        break;
                    }
                }
            });
        }
        let mut round = 0;
        while busy.load(Ordering::Relaxed) > 0 {
            act(user, round);
            round += 1;
            user.yield_now();
        }
    });
    machine.check();
}

#[test]
fn threads_that_fault_in_disjoint_parts_keep_what_they_stored() {
    const PAGES: u64 = 700;
    let machine = Machine::builder().cpus(4).build();
    machine.run(|user| {
        map(user, BASE, 8 * PAGES, ANON);
        for thread in 0..8 {
            user.spawn_thread(move |user| {
                // Parts that are interleaved share leaf tables; each page is one thread's alone.
                let mine = |at: u64| page(at * 8 + thread) + thread * 8;
                (0..PAGES).for_each(|at| user.store_u64(mine(at), at + thread).unwrap());
                assert!((0..PAGES).all(|at| user.load_u64(mine(at)) == Ok(at + thread)));
            });
        }
    });
    machine.check();
}

#[test]
fn threads_that_fault_on_the_same_pages_get_the_same_pages() {
    let machine = Machine::builder().cpus(4).build();
    machine.run(|user| {
        for round in 0..*ROUNDS / 1000 {
            let at = BASE + round * 16 * PAGE_SIZE;
            map(user, at, 16, ANON);
            for thread in 0..4 {
                user.spawn_thread(move |user| {
                    for number in 0..16 {
                        let own = at + number * PAGE_SIZE + thread * 8;
                        user.store_u64(own, round + thread).unwrap();
                        assert_eq!(user.load_u64(own), Ok(round + thread));
                    }
                });
            }
        }
    });
    machine.check();
}

#[test]
fn a_store_lands_or_is_refused_while_memory_is_unmapped_and_mapped_again() {
    let act = |user: &User, round: u64| {
        let at = page(round % 8 * 4);
        user.munmap(at, 4 * PAGE_SIZE).unwrap();
        user.yield_now();
        map(user, at, 4, ANON);
    };
    let disturbed = |user: &User, thread: u64, round: u64| {
        let at = page((round + thread) % 32) + thread * 8;
        match user.store_u64(at, round) {
            Ok(()) => {
                // Ours, or zero because it went meanwhile, or gone.
                let seen = user.load_u64(at);
                assert!(matches!(seen, Ok(value) if value == round || value == 0) || seen.is_err());
            }
            Err(error) => assert_eq!(error, FaultError::Unmapped { at }),
        }
    };
    against(4, |user| map(user, BASE, 32, ANON), act, disturbed);
}

#[test]
fn a_load_sees_ones_own_store_or_zero_while_pages_are_thrown_away() {
    let act = |user: &User, round: u64| {
        user.madvise(page(round % 4 * 8), 16 * PAGE_SIZE, DONTNEED).unwrap();
    };
    let disturbed = |user: &User, thread: u64, round: u64| {
        let at = page((round * 7 + thread) % 64) + thread * 8;
        user.store_u64(at, round).unwrap();
        let seen = user.load_u64(at).unwrap();
        assert!(seen == round || seen == 0, "{seen} is of another round than {round}");
    };
    against(4, |user| map(user, BASE, 64, ANON), act, disturbed);
}

#[test]
fn what_was_stored_stays_while_rights_come_and_go() {
    let act = |user: &User, round: u64| {
        let prot = [Prot::READ, Prot::RW, Prot::empty(), Prot::RW][round as usize % 4];
        user.mprotect(page(0), 32 * PAGE_SIZE, prot).unwrap();
        user.yield_now();
        user.mprotect(page(0), 32 * PAGE_SIZE, Prot::RW).unwrap();
    };
    let disturbed = |user: &User, thread: u64, round: u64| {
        let at = page(round % 32) + thread * 8;
        let load = || loop {
            match user.load_u64(at) {
                Ok(value) => return value,
                Err(error) => assert_eq!(error, FaultError::Denied { at, wanted: Prot::READ }),
            }
        };
        let before = load();
        match user.store_u64(at, round) {
            Ok(()) => assert_eq!(load(), round),
            Err(error) => {
                assert_eq!(error, FaultError::Denied { at, wanted: Prot::WRITE });
                assert_eq!(load(), before);
            }
        }
    };
    against(4, |user| map(user, BASE, 32, ANON), act, disturbed);
}

#[test]
fn a_page_is_at_one_of_two_places_while_it_moves() {
    const PAGES: u64 = 16;
    let prepare = |user: &User| {
        map(user, BASE, PAGES, ANON);
        (0..PAGES).for_each(|number| user.store_u64(page(number), number + 1).unwrap());
    };
    let act = |user: &User, round: u64| {
        let (from, to) = if round.is_multiple_of(2) { (BASE, AWAY) } else { (AWAY, BASE) };
        let length = PAGES * PAGE_SIZE;
        let flags = RemapFlags::MAYMOVE | RemapFlags::FIXED;
        assert_eq!(user.mremap(from, length, length, flags, to), Ok(to));
    };
    let disturbed = |user: &User, thread: u64, round: u64| {
        let number = round % PAGES;
        let at = [BASE, AWAY][(round / PAGES % 2) as usize] + number * PAGE_SIZE;
        match user.load_u64(at) {
            Ok(value) => assert_eq!(value, number + 1),
            Err(error) => assert_eq!(error, FaultError::Unmapped { at }),
        }
        let mark = at + 8 + thread * 8;
        if let Err(error) = user.store_u64(mark, round) {
            assert_eq!(error, FaultError::Unmapped { at: mark });
        }
    };
    against(4, prepare, act, disturbed);
}

#[test]
fn a_child_sees_one_moment_of_a_parent_that_goes_on_storing() {
    const FAR: u64 = 3000;
    let act = |user: &User, _| {
        let child = |user: &User| {
            for writer in 0..3 {
                let second = user.load_u64(page(FAR) + writer * 8).unwrap();
                let first = user.load_u64(page(0) + writer * 8).unwrap();
                assert!(first == second || first == second + 1, "{first} {second}");
                // Its own from now on.
                user.store_u64(page(0) + writer * 8, 0).unwrap();
            }
            7
        };
        user.fork(child).unwrap();
        assert_eq!(user.wait(WaitFor::Any).unwrap().1, 7);
    };
    let disturbed = |user: &User, thread: u64, round: u64| {
        let (first, second) = (page(0) + thread * 8, page(FAR) + thread * 8);
        assert_eq!(user.load_u64(first), Ok(round - 1));
        user.store_u64(first, round).unwrap();
        user.store_u64(second, round).unwrap();
        assert_eq!(user.load_u64(second), Ok(round));
    };
    against(3, |user| map(user, BASE, FAR + 1, ANON), act, disturbed);
}

#[test]
fn a_store_that_was_seen_is_not_unseen_while_pages_are_copied() {
    // A writer bumps the first page, then the second; whoever sees the second new must see the first new.
    // Forks make every store copy a page, under readers that know the old one, and a second writer that
    // uses the new one at once.
    const SECOND: u64 = 8;
    let act = |user: &User, _| {
        user.fork(|user| i32::from(user.load_u8(BASE).is_err())).unwrap();
        assert_eq!(user.wait(WaitFor::Any).unwrap().1, 0);
    };
    let disturbed = |user: &User, thread: u64, round: u64| {
        let writer = thread / 2;
        let (first, second) = (page(0) + writer * 8, page(SECOND) + writer * 8);
        if thread.is_multiple_of(2) {
            user.store_u64(first, round).unwrap();
            user.store_u64(second, round).unwrap();
            return;
        }
        let after = user.load_u64(second).unwrap();
        let before = user.load_u64(first).unwrap();
        assert!(before >= after, "writer {writer} had stored {after}, and now {before} is there");
    };
    against(6, |user| map(user, BASE, 16, ANON), act, disturbed);
}

#[test]
fn a_storm_of_short_lived_children_leaves_nothing_behind() {
    let machine = Machine::builder().cpus(4).build();
    machine.run(|user| {
        map(user, BASE, 40, ANON);
        (0..40).for_each(|number| user.store_u64(page(number), number).unwrap());
        for thread in 0..4 {
            user.spawn_thread(move |user| {
                for round in 0..*ROUNDS / 100 {
                    let child = move |user: &User| {
                        user.store_u64(page(round % 40), 1).unwrap();
                        if round.is_multiple_of(3) {
                            user.exec().unwrap();
                        }
                        0
                    };
                    user.fork(child).unwrap();
                    user.store_u64(page((round + thread) % 40) + 8 + thread * 8, round).unwrap();
                    user.wait(WaitFor::Any).unwrap();
                }
            });
        }
        assert!((0..40).all(|number| user.load_u64(page(number)) == Ok(number)));
    });
    machine.check();
}

#[test]
fn processes_see_each_others_stores_to_shared_memory_in_order() {
    let machine = Machine::builder().cpus(3).build();
    machine.run(|user| {
        map(user, BASE, 4, MapFlags::SHARED | MapFlags::ANONYMOUS);
        for _ in 0..3 {
            let reader = |user: &User| {
                let mut last = 0;
                while last < *ROUNDS {
                    let second = user.load_u64(page(3)).unwrap();
                    let first = user.load_u64(page(0)).unwrap();
                    assert!(first >= second && second >= last);
                    last = second;
                }
                0
            };
            user.fork(reader).unwrap();
        }
        for round in 1..=*ROUNDS {
            user.store_u64(page(0), round).unwrap();
            user.store_u64(page(3), round).unwrap();
            if round.is_multiple_of(64) {
                user.madvise(BASE, 4 * PAGE_SIZE, DONTNEED).unwrap();
            }
        }
        (0..3).for_each(|_| assert_eq!(user.wait(WaitFor::Any).unwrap().1, 0));
    });
    machine.check();
}

#[test]
fn no_store_to_a_file_is_lost_between_writing_it_out_and_storing_again() {
    const PAGES: u64 = 6;
    let file = Arc::new(MemoryFile::zeroed((PAGES * PAGE_SIZE) as usize));
    let mapped = Arc::clone(&file);
    let machine = Machine::builder().cpus(4).build();
    machine.run(move |user| {
        let object = user.vm().open_file(mapped).unwrap();
        let length = PAGES * PAGE_SIZE;
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        user.mmap(BASE, length, Prot::RW, flags, Backing::Object(&object), 0).unwrap();
        user.vm().close(&object).unwrap();
        for thread in 0..3 {
            user.spawn_thread(move |user| {
                for round in 1..=*ROUNDS {
                    let at = page(round % PAGES) + thread * 8;
                    user.store_u64(at, round).unwrap();
                    assert_eq!(user.load_u64(at), Ok(round));
                }
            });
        }
        for _ in 0..*ROUNDS / 100 {
            user.msync(BASE, length, SyncFlags::SYNC).unwrap();
        }
    });
    machine.check();
    // The process has ended, so the last mapping has written what was left.
    let last = |number: u64| (*ROUNDS - PAGES + 1..=*ROUNDS).find(|round| round % PAGES == number);
    for number in 0..PAGES {
        let mut bytes = [0; 24];
        file.read(number * PAGE_SIZE, &mut bytes).unwrap();
        for word in bytes.chunks(8) {
            assert_eq!(u64::from_le_bytes(word.try_into().unwrap()), last(number).unwrap());
        }
    }
}

#[test]
fn an_access_lands_or_lies_beyond_the_end_while_an_object_changes_its_size() {
    const PAGES: u64 = 8;
    let machine = Machine::builder().cpus(4).build();
    machine.run(|user| {
        let memory = user.vm().shared_memory(PAGES * PAGE_SIZE).unwrap();
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        let backing = Backing::Object(&memory);
        user.mmap(BASE, PAGES * PAGE_SIZE, Prot::RW, flags, backing, 0).unwrap();
        let done = Arc::new(AtomicBool::new(false));
        for thread in 0..4 {
            let done = Arc::clone(&done);
            user.spawn_thread(move |user| {
                let mut round = 0;
                while !done.load(Ordering::Relaxed) {
                    round += 1;
                    let at = page(round * 5 % PAGES) + thread * 8;
                    match user.store_u64(at, round) {
                        Ok(()) => match user.load_u64(at) {
                            Ok(seen) => assert!(seen == round || seen == 0),
                            Err(error) => assert_eq!(error, FaultError::BeyondEnd { at }),
                        },
                        Err(error) => assert_eq!(error, FaultError::BeyondEnd { at }),
                    }
                }
            });
        }
        for round in 0..*ROUNDS / 1000 {
            user.vm().resize(&memory, round * 7 % PAGES * PAGE_SIZE + round % 6 * 8).unwrap();
            user.yield_now();
            user.vm().resize(&memory, PAGES * PAGE_SIZE).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        user.vm().close(&memory).unwrap();
    });
    machine.check();
}

#[test]
fn a_page_that_an_object_loses_is_gone_from_every_cpu() {
    const CPUS: u64 = 4;
    let machine = Machine::builder().cpus(CPUS as usize).build();
    machine.run(|user| {
        let cut = Arc::new(AtomicBool::new(false));
        let (ready, turns) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (end, taken) = (Arc::clone(&cut), Arc::clone(&turns));
        // Its CPU goes from space to space all the time.
        let child = move |user: &User| {
            while !end.load(Ordering::Acquire) {
                user.yield_now();
                taken.fetch_add(1, Ordering::Release);
            }
            0
        };
        user.fork(child).unwrap();
        let memory = user.vm().shared_memory(2 * PAGE_SIZE).unwrap();
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        user.mmap(BASE, 2 * PAGE_SIZE, Prot::RW, flags, Backing::Object(&memory), 0).unwrap();
        for thread in 0..CPUS {
            let (ready, cut) = (Arc::clone(&ready), Arc::clone(&cut));
            user.spawn_thread(move |user| {
                user.store_u64(page(1) + thread * 8, 1).unwrap();
                ready.fetch_add(1, Ordering::Release);
                // Its CPU serves others between two accesses, and keeps what it knows of the other page.
                while !cut.load(Ordering::Acquire) {
                    user.load_u64(page(0)).unwrap();
                }
                assert_eq!(user.load_u64(page(1)), Err(FaultError::BeyondEnd { at: page(1) }));
            });
        }
        let wait = |word: &AtomicU64, least: u64| {
            while word.load(Ordering::Acquire) < least {
                user.yield_now();
            }
        };
        wait(&ready, CPUS);
        wait(&turns, turns.load(Ordering::Acquire) + 4);
        user.vm().resize(&memory, PAGE_SIZE).unwrap();
        cut.store(true, Ordering::Release);
        user.vm().close(&memory).unwrap();
        assert_eq!(user.wait(WaitFor::Any).unwrap().1, 0);
    });
    machine.check();
}

#[test]
fn a_page_is_not_taken_away_before_every_cpu_has_flushed_it() {
    let machine = Machine::builder().cpus(2).build();
    machine.run(|user| {
        let memory = user.vm().shared_memory(PAGE_SIZE).unwrap();
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        user.mmap(BASE, PAGE_SIZE, Prot::RW, flags, Backing::Object(&memory), 0).unwrap();
        let (away, back) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (leaves, returns) = (Arc::clone(&away), Arc::clone(&back));
        user.spawn_thread(move |user| {
            user.store_u64(page(0), 1).unwrap();
            leaves.store(true, Ordering::Release);
            // Between two accesses its CPU serves nobody.
            (0..10_000).for_each(|_| std::thread::yield_now());
            returns.store(true, Ordering::Release);
            while user.load_u64(page(0)).is_ok() {
                user.yield_now();
            }
        });
        while !away.load(Ordering::Acquire) {
            user.yield_now();
        }
        user.vm().resize(&memory, 0).unwrap();
        assert!(back.load(Ordering::Acquire));
        user.vm().close(&memory).unwrap();
    });
    machine.check();
}

#[test]
fn threads_that_run_out_of_memory_together_get_errors_and_the_machine_goes_on() {
    let machine = Machine::builder().memory(4 << 20).cpus(4).build();
    machine.run(|user| {
        for thread in 0..4 {
            user.spawn_thread(move |user| {
                let at = BASE + thread * (4 << 20);
                for _ in 0..*ROUNDS / 5000 {
                    map(user, at, 512, ANON);
                    let stored =
                        (0..512).take_while(|n| user.store_u64(at + n * PAGE_SIZE, n + 1).is_ok());
                    let stored = stored.count() as u64;
                    let kept = |n: u64| user.load_u64(at + n * PAGE_SIZE) == Ok(n + 1);
                    assert!((0..stored).all(kept));
                    user.munmap(at, 512 * PAGE_SIZE).unwrap();
                }
            });
        }
    });
    machine.check();
}

#[test]
fn all_who_wait_for_a_busy_page_sleep_until_it_is_not() {
    const WAITERS: u64 = 2;
    let machine = Machine::builder().cpus(2).build();
    let inside = machine.clone();
    machine.run(move |user| {
        for _ in 0..20 {
            let phys = &inside.vm().mmu.phys;
            let fresh = phys.alloc().unwrap();
            let (frame, busy) = (fresh.frame(), phys.page(fresh.frame()).try_busy());
            let (returns, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
            for _ in 0..WAITERS {
                let (mine, done, machine) =
                    (Arc::clone(&returns), Arc::clone(&over), inside.clone());
                user.spawn_thread(move |_| {
                    let page = machine.vm().mmu.phys.page(frame);
                    while page.is_busy() {
                        page.sleep_while_busy();
                        mine.fetch_add(1, Ordering::Relaxed);
                    }
                    // Nothing is to be waited for.
                    page.sleep_while_busy();
                    done.fetch_add(1, Ordering::Release);
                });
            }
            (0..1000).for_each(|_| user.yield_now());
            drop(busy);
            while over.load(Ordering::Acquire) < WAITERS {
                user.yield_now();
            }
            assert!(returns.load(Ordering::Relaxed) <= 2 * WAITERS, "they did not sleep");
            phys.free(fresh);
        }
    });
    machine.check();
}

#[test]
fn frames_that_another_cpu_keeps_are_there_for_who_runs_out() {
    const KEPT: usize = 30;
    let machine = Machine::builder().memory(4 << 20).cpus(2).build();
    let other = machine.clone();
    machine.on_cpu(move |vm| {
        let (full, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (filled, ends) = (Arc::clone(&full), Arc::clone(&over));
        other.clone().hosted().spawn(Some(CpuId(1)), move || {
            let phys = &other.vm().mmu.phys;
            // From now on it can be asked for something.
            other.vm().idle();
            let taken: Vec<_> = (0..KEPT).map(|_| phys.alloc().unwrap()).collect();
            taken.into_iter().for_each(|fresh| phys.free(fresh));
            filled.store(true, Ordering::Release);
            while !ends.load(Ordering::Acquire) {
                other.hosted().yield_now();
            }
        });
        while !full.load(Ordering::Acquire) {
            vm.platform().yield_now();
        }
        let phys = &vm.mmu.phys;
        let mut taken: Vec<_> = std::iter::from_fn(|| phys.alloc().ok()).collect();
        let kept = phys.free_frames();
        vm.mmu.squeeze();
        taken.extend(std::iter::from_fn(|| phys.alloc().ok()));
        let left = phys.free_frames();
        taken.into_iter().for_each(|fresh| phys.free(fresh));
        over.store(true, Ordering::Release);
        assert!(kept >= KEPT as u64 && left == 0, "of {kept} frames {left} are left");
    });
    machine.check();
}
