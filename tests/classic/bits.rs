//! What CPUs note of a frame, and what is done to all mappings of one.

use super::machine::in_every_format;

in_every_format! {
    a_store_is_known_wherever_it_came_from_and_after_its_mapping_is_gone
    clearing_forgets_on_every_cpu_and_the_next_access_is_noted_again
    protecting_a_frame_takes_the_right_from_every_pmap_on_every_cpu
    a_pmap_lives_as_long_as_a_reference_or_a_cpu_that_is_in_it
    wired_mappings_stay_when_the_others_are_collected
    a_copy_has_what_was_not_wired_and_nothing_that_was_there_goes
    wrong_arguments_are_refused_and_devices_are_mapped_as_they_are
    a_frame_seen_in_the_kernels_window_for_a_while_is_not_tracked_there
    a_cpu_with_nothing_to_do_finds_work_and_comes_to_its_end
}

mod promises {
    use rumpvm::classic::{NotHosts, PmapError, Wiring};
    use rumpvm::phys::GiveBackError;
    use rumpvm::pmap::{Debt, TlbScope};
    use rumpvm_arch::{Format, Frame, PAGE_SIZE, Prot, VirtAddr, VirtRange, kernel_half, span};

    use super::super::machine::*;

    pub(super) fn a_store_is_known_wherever_it_came_from_and_after_its_mapping_is_gone<
        F: Format,
    >() {
        let machine = Machine::<F>::new(1);
        machine.on(0, |pmaps, hosted| {
            let (one, other) = (pmaps.create().unwrap(), pmaps.create().unwrap());
            let frame = frame(pmaps);
            let noted = || (pmaps.is_referenced(frame).unwrap(), pmaps.is_modified(frame).unwrap());
            pmaps.enter(&one, page(1), frame, Prot::READ, Wiring::Unwired).unwrap();
            pmaps.enter(&other, page(700), frame, Prot::RW, Wiring::Wired).unwrap();
            assert_eq!(noted(), (false, false));
            pmaps.activate(&one);
            assert_eq!(load(hosted, page(1)), Some(0));
            assert_eq!(noted(), (true, false));
            assert!(!store(hosted, page(1), 7));
            pmaps.activate(&other);
            assert!(store(hosted, page(700), 7));
            assert_eq!(noted(), (true, true));
            pmaps.remove(&other, pages(700, 1));
            pmaps.remove(&one, pages(1, 1));
            assert_eq!(pmaps.mappings(frame), 0);
            assert_eq!(noted(), (true, true), "the record knows it now");
            assert_eq!(pmaps.clear_modify(frame), Ok(true));
            assert_eq!(pmaps.clear_reference(frame), Ok(true));
            assert_eq!(noted(), (false, false));
            // Contents that the host changes are no access.
            pmaps.zero_page_of(frame).unwrap();
            assert_eq!(noted(), (false, false));
            // A pmap that ends with mappings keeps what was noted too.
            pmaps.enter(&other, page(3), frame, Prot::RW, Wiring::Wired).unwrap();
            assert!(store(hosted, page(3), 8));
            pmaps.deactivate();
            pmaps.destroy(&one);
            pmaps.destroy(&other);
            assert_eq!(noted(), (true, true));
            pmaps.phys.give_back(frame).unwrap();
        });
        machine.check();
    }

    pub(super) fn clearing_forgets_on_every_cpu_and_the_next_access_is_noted_again<F: Format>() {
        let machine = Machine::<F>::new(2);
        let (pmap, frame) = machine.on(0, |pmaps, _| {
            let pmap = pmaps.create().unwrap();
            let frame = frame(pmaps);
            pmaps.enter(&pmap, page(5), frame, Prot::RW, Wiring::Unwired).unwrap();
            (pmap, frame)
        });
        for turn in 0..50 {
            let there = pmap.clone();
            machine.on(1, move |pmaps, hosted| {
                pmaps.activate(&there);
                assert!(store(hosted, page(5), turn));
            });
            let seen = machine.on(0, move |pmaps, _| {
                (pmaps.clear_modify(frame), pmaps.clear_reference(frame), pmaps.is_modified(frame))
            });
            assert_eq!(seen, (Ok(true), Ok(true), Ok(false)), "turn {turn}");
        }
        machine.check();
        let flushes = machine.pmaps.statistics().flushes_remote;
        assert!(flushes >= 50, "{flushes}");
        machine.on(1, |pmaps, _| pmaps.deactivate());
        machine.on(0, move |pmaps, _| pmaps.destroy(&pmap));
        machine.check();
    }

    pub(super) fn protecting_a_frame_takes_the_right_from_every_pmap_on_every_cpu<F: Format>() {
        const CPUS: u32 = 3;
        let machine = Machine::<F>::new(CPUS as usize);
        let (pmaps_of, frame) = machine.on(0, |pmaps, _| {
            let all: Vec<_> = (0..CPUS).map(|_| pmaps.create().unwrap()).collect();
            (all, frame(pmaps))
        });
        for round in 1..20 {
            for cpu in 0..CPUS {
                let own = pmaps_of[cpu as usize].clone();
                machine.on(cpu, move |pmaps, hosted| {
                    for number in [0, 1, 900] {
                        let at = page(number + u64::from(cpu));
                        pmaps.enter(&own, at, frame, Prot::RW, Wiring::Wired).unwrap();
                    }
                    pmaps.activate(&own);
                    assert!(store(hosted, page(u64::from(cpu)), round));
                });
            }
            let mappings = machine.on(0, move |pmaps, _| {
                pmaps.page_protect(frame, Prot::READ).unwrap();
                pmaps.mappings(frame)
            });
            assert_eq!(mappings, u64::from(3 * CPUS));
            for cpu in 0..CPUS {
                machine.on(cpu, move |_, hosted| {
                    assert_eq!(load(hosted, page(u64::from(cpu))), Some(round));
                    assert!(!store(hosted, page(u64::from(cpu)), 0));
                });
            }
            machine.on(1, move |pmaps, _| {
                assert_eq!(pmaps.phys.give_back(frame), Err(GiveBackError::Mapped));
                pmaps.page_protect(frame, Prot::empty()).unwrap();
                assert_eq!(pmaps.mappings(frame), 0);
                assert_eq!(pmaps.is_modified(frame), Ok(true));
            });
            for cpu in 0..CPUS {
                let nothing = machine.on(cpu, move |_, hosted| load(hosted, page(u64::from(cpu))));
                assert_eq!(nothing, None);
            }
            machine.check();
        }
        for cpu in 0..CPUS {
            machine.on(cpu, |pmaps, _| pmaps.deactivate());
        }
        machine.on(0, move |pmaps, _| {
            pmaps_of.iter().for_each(|pmap| pmaps.destroy(pmap));
            pmaps.phys.give_back(frame).unwrap();
            assert_eq!(pmaps.phys.give_back(frame), Err(GiveBackError::NotHosts));
        });
        machine.check();
    }

    pub(super) fn a_pmap_lives_as_long_as_a_reference_or_a_cpu_that_is_in_it<F: Format>() {
        let machine = Machine::<F>::new(1);
        machine.on(0, |pmaps, hosted| {
            let made = || {
                let now = pmaps.statistics();
                now.tables_made - now.tables_freed
            };
            let (before, frame) = (made(), frame(pmaps));
            let pmap = pmaps.create().unwrap();
            pmaps.enter(&pmap, page(0), frame, Prot::RW, Wiring::Unwired).unwrap();
            pmaps.reference(&pmap);
            pmaps.destroy(&pmap);
            pmaps.activate(&pmap);
            pmaps.activate(&pmap);
            pmaps.destroy(&pmap);
            assert!(store(hosted, page(0), 1), "this CPU is in it");
            assert!(made() > before);
            pmaps.deactivate();
            assert_eq!(made(), before);
            assert_eq!(load(hosted, page(0)), None);
            pmaps.phys.give_back(frame).unwrap();
        });
        machine.check();
    }

    pub(super) fn wired_mappings_stay_when_the_others_are_collected<F: Format>() {
        let machine = Machine::<F>::new(1);
        machine.on(0, |pmaps, hosted| {
            let pmap = pmaps.create().unwrap();
            let frame = frame(pmaps);
            for number in 0..2000 {
                let wiring = if number == 3 { Wiring::Wired } else { Wiring::Unwired };
                pmaps.enter(&pmap, page(number), frame, Prot::RW, wiring).unwrap();
            }
            pmaps.activate(&pmap);
            assert!(store(hosted, page(1999), 5) && store(hosted, page(3), 6));
            assert!(pmaps.change_wiring(&pmap, page(4), Wiring::Wired));
            assert!(!pmaps.change_wiring(&pmap, page(2000), Wiring::Wired));
            assert_eq!(pmaps.resident(&pmap), 2000);
            let tables = pmaps.statistics().tables_freed;
            pmaps.collect(&pmap);
            assert_eq!(pmaps.resident(&pmap), 2);
            assert!(pmaps.statistics().tables_freed > tables);
            assert_eq!(load(hosted, page(3)), Some(6));
            assert_eq!(load(hosted, page(1999)), None);
            assert!(pmaps.change_wiring(&pmap, page(3), Wiring::Unwired));
            pmaps.collect(&pmap);
            assert_eq!(pmaps.resident(&pmap), 1);
            let there = pmaps.extract(&pmap, page(4)).unwrap();
            assert_eq!((there.frame, there.wiring), (frame, Wiring::Wired));
            pmaps.deactivate();
            pmaps.destroy(&pmap);
            pmaps.phys.give_back(frame).unwrap();
        });
        machine.check();
    }

    pub(super) fn a_copy_has_what_was_not_wired_and_nothing_that_was_there_goes<F: Format>() {
        let machine = Machine::<F>::new(1);
        machine.on(0, |pmaps, hosted| {
            let (one, other) = (pmaps.create().unwrap(), pmaps.create().unwrap());
            let frames: Vec<_> = (0..40).map(|_| frame(pmaps)).collect();
            // Across the border of two leaf tables, in every format.
            let first = span::<F>(2) / PAGE_SIZE - 20;
            for (number, frame) in (first..).zip(&frames) {
                let wiring = if number % 4 == 0 { Wiring::Wired } else { Wiring::Unwired };
                let prot = if number % 2 == 0 { Prot::RW } else { Prot::READ };
                pmaps.enter(&one, page(number), *frame, prot, wiring).unwrap();
            }
            let there = page(first + 101);
            pmaps.enter(&other, there, frames[30], Prot::READ, Wiring::Wired).unwrap();
            let copied = pmaps.copy(&other, page(first + 100), &one, pages(first, 40));
            let plain = |number: &u64| !number.is_multiple_of(4) && *number != first + 1;
            assert_eq!(copied, (first..first + 40).filter(plain).count() as u64);
            for (number, frame) in (first..).zip(&frames) {
                let found = pmaps.extract(&other, page(number + 100));
                let expected = match number {
                    number if number == first + 1 => Some(frames[30]),
                    number if number % 4 == 0 => None,
                    _ => Some(*frame),
                };
                assert_eq!(found.map(|it| it.frame), expected, "page {number}");
                if let Some(it) = found.filter(|it| it.wiring == Wiring::Unwired) {
                    assert_eq!(it.prot.contains(Prot::WRITE), number % 2 == 0);
                }
            }
            assert_eq!(pmaps.copy(&one, page(5000), &one, pages(first, 40)), 0);
            assert_eq!(pmaps.copy(&one, page(5000), &other, pages(0, 5)), 0, "nothing is there");
            // No whole pages, or not a program's.
            let from = |start, length| {
                pmaps.copy(&other, page(6000), &one, VirtRange::of_length(start, length).unwrap())
            };
            assert_eq!(from(page(first) + 1, PAGE_SIZE - 1), 0);
            assert_eq!(from(page(first), PAGE_SIZE + 1), 0);
            assert_eq!(from(F::USER_END - PAGE_SIZE, 2 * PAGE_SIZE), 0);
            assert_eq!(from(page(first + 2), PAGE_SIZE), 1);
            pmaps.remove(&other, pages(6000, 1));
            assert_eq!(pmaps.is_referenced(frames[1]), Ok(false));
            pmaps.activate(&other);
            assert_eq!(load(hosted, page(first + 102)), Some(0));
            pmaps.deactivate();
            pmaps.destroy(&one);
            pmaps.destroy(&other);
            frames.iter().for_each(|frame| pmaps.phys.give_back(*frame).unwrap());
        });
        machine.check();
    }

    pub(super) fn wrong_arguments_are_refused_and_devices_are_mapped_as_they_are<F: Format>() {
        let machine = Machine::<F>::new(1);
        machine.on(0, |pmaps, _| {
            let pmap = pmaps.create().unwrap();
            let frame = frame(pmaps);
            let enter =
                |at: VirtAddr, frame, prot| pmaps.enter(&pmap, at, frame, prot, Wiring::Unwired);
            let invalid = Err(PmapError::Invalid);
            assert_eq!(enter(page(0) + 1, frame, Prot::RW), invalid);
            assert_eq!(enter(page(0), frame, Prot::empty()), invalid);
            assert_eq!(enter(F::USER_END, frame, Prot::RW), invalid);
            assert_eq!(enter(page(0), pmap.root(), Prot::RW), invalid, "that is a table");
            if let Ok(end) = u32::try_from(F::FRAME_END) {
                assert_eq!(enter(page(0), Frame(end), Prot::RW), invalid, "no entry can name it");
                assert_eq!(enter(page(0), Frame(end - 1), Prot::RW), Ok(()));
                pmaps.remove(&pmap, pages(0, 1));
            }
            assert_eq!(pmaps.page_protect(pmap.root(), Prot::READ), Err(NotHosts));
            assert_eq!(pmaps.zero_page_of(Frame(3)), Err(NotHosts));
            assert_eq!(pmaps.phys.give_back(pmap.root()), Err(GiveBackError::NotHosts));
            assert!(pmaps.extract(&pmap, F::USER_END).is_none());
            assert_eq!(pmaps.resident(&pmap), 0);
            // Frame 3 was never added.
            assert_eq!(enter(page(9), Frame(3), Prot::RW), Ok(()));
            assert_eq!(pmaps.extract(&pmap, page(9)).unwrap().frame, Frame(3));
            assert_eq!(enter(page(9), frame, Prot::READ), Ok(()), "in place of it");
            assert_eq!(enter(page(9), Frame(4), Prot::READ), Ok(()));
            assert_eq!(pmaps.mappings(frame), 0);
            let last = F::USER_END - PAGE_SIZE;
            assert_eq!(enter(last, frame, Prot::RW), Ok(()));
            pmaps.remove(&pmap, VirtRange::new(VirtAddr(0), F::USER_END));
            assert_eq!((pmaps.resident(&pmap), pmaps.mappings(frame)), (0, 0));
            pmaps.destroy(&pmap);
            pmaps.phys.give_back(frame).unwrap();
        });
        machine.check();
    }

    pub(super) fn a_cpu_with_nothing_to_do_finds_work_and_comes_to_its_end<F: Format>() {
        let machine = Machine::<F>::new(1);
        machine.on(0, |pmaps, _| {
            assert!(pmaps.idle(), "there are frames to zero");
            assert!((0..10_000).any(|_| !pmaps.idle()), "some are enough");
        });
        machine.check();
    }

    pub(super) fn a_frame_seen_in_the_kernels_window_for_a_while_is_not_tracked_there<F: Format>() {
        let machine = Machine::<F>::new(1);
        machine.on(0, |pmaps, hosted| {
            let start = kernel_half::<F>().start + 64 * span::<F>(2);
            let range = VirtRange::new(start, start + 8 * PAGE_SIZE);
            let kernel = pmaps
                .open_window(range, TlbScope::Global, |link| {
                    hosted.link_kernel(link.at, link.level, link.entry);
                })
                .unwrap();
            kernel.prepare(pmaps, range).unwrap();
            let pmap = pmaps.create().unwrap();
            let frame = frame(pmaps);
            pmaps.enter(&pmap, page(0), frame, Prot::READ, Wiring::Unwired).unwrap();
            let mut debt = Debt::new();
            kernel.enter_untracked(pmaps, range, [frame; 3], Prot::RW, &mut debt).unwrap();
            kernel.pay(pmaps, debt);
            hosted.store_kernel(start + 2 * PAGE_SIZE, &42u64.to_ne_bytes()).unwrap();
            pmaps.activate(&pmap);
            assert_eq!(load(hosted, page(0)), Some(42));
            assert_eq!((pmaps.mappings(frame), kernel.resident(pmaps)), (1, 3));
            assert_eq!(pmaps.is_modified(frame), Ok(false));
            rumpvm::check::check_pmaps(pmaps).unwrap();
            // Revoking leaves it; removing does not.
            pmaps.page_protect(frame, Prot::empty()).unwrap();
            assert_eq!((load(hosted, page(0)), kernel.resident(pmaps)), (None, 3));
            let mut debt = Debt::new();
            let mut gone = 0;
            kernel.remove(pmaps, range, &mut debt, |_, _| gone += 1);
            kernel.pay(pmaps, debt);
            assert!(hosted.store_kernel(start, &[1]).is_err() && gone == 3);
            pmaps.deactivate();
            pmaps.destroy(&pmap);
            pmaps.phys.give_back(frame).unwrap();
        });
        machine.check();
    }
}
