//! Every allocation of the classic interface is refused once: what was there is there still.

use super::machine::in_every_format;

in_every_format! { what_is_refused_has_changed_nothing_and_what_is_not_is_done }

mod promises {
    use std::collections::BTreeMap;

    use rumpvm::classic::{PmapError, Wiring};
    use rumpvm_arch::{Format, Prot};
    use rumpvm_platform::Scarce;

    use super::super::machine::*;

    pub(super) fn what_is_refused_has_changed_nothing_and_what_is_not_is_done<F: Format>() {
        for what in [Scarce::Frame, Scarce::Heap] {
            let mut refused = 0;
            for nth in 0.. {
                let machine = Machine::<F>::new(1);
                let was_refused = machine.on(0, move |pmaps, hosted| {
                    let frames: Vec<_> = (0..3).map(|_| frame(pmaps)).collect();
                    let failures = hosted.failures();
                    failures.fail_nth(what, nth);
                    let one = pmaps.create();
                    let other = pmaps.create();
                    for pmap in [&one, &other].into_iter().flatten() {
                        let mut model = BTreeMap::new();
                        for number in [0, 1, 600, 601, 1400, 0, 600] {
                            let frame = frames[(number as usize + model.len()) % 3];
                            let before = pmaps.extract(pmap, page(number));
                            let known = pmaps.mappings(frame);
                            match pmaps.enter(pmap, page(number), frame, Prot::RW, Wiring::Wired) {
                                Ok(()) => {
                                    model.insert(number, frame);
                                }
                                Err(error) => {
                                    assert_eq!(error, PmapError::NoMemory);
                                    assert_eq!(pmaps.extract(pmap, page(number)), before);
                                    assert_eq!(pmaps.mappings(frame), known);
                                }
                            }
                        }
                        assert_eq!(pmaps.resident(pmap), model.len() as u64);
                        for (number, frame) in model {
                            assert_eq!(pmaps.extract(pmap, page(number)).unwrap().frame, frame);
                        }
                    }
                    if let (Ok(one), Ok(other)) = (&one, &other) {
                        pmaps.change_wiring(one, page(1), Wiring::Unwired);
                        pmaps.change_wiring(one, page(601), Wiring::Unwired);
                        let copied = pmaps.copy(other, page(3000), one, pages(0, 1401));
                        assert!(copied <= 2);
                    }
                    rumpvm::check::check_pmaps(pmaps).unwrap();
                    for pmap in [&one, &other].into_iter().flatten() {
                        pmaps.destroy(pmap);
                    }
                    frames.iter().for_each(|frame| pmaps.phys.give_back(*frame).unwrap());
                    let now = pmaps.statistics();
                    assert_eq!(now.tables_made, now.tables_freed);
                    !failures.is_pending(what)
                });
                machine.check();
                if !was_refused {
                    break;
                }
                refused += 1;
            }
            assert!(refused > 3, "{refused} allocations of {what:?}");
        }
    }
}
