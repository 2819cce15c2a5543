//! Issue 3, locks: page tables under a host's own map, of which one call holds two tables at once.

use std::ops::Deref;
use std::sync::{Arc, Weak};

use rumpvm::check::check_pmaps;
use rumpvm::classic::{Pmap, Pmaps, Wiring};
use rumpvm::phys::Contents;
use rumpvm::sync::Hold;
use rumpvm_arch::{Frame, PAGE_SIZE, Prot, VirtAddr, VirtRange};
use rumpvm_hosted::Upcalls;
use rumpvm_hosted::explored::Stage;

use crate::{NEAR, Pc, Scenario};

/// The page that each pmap has.
const PAGES: [VirtAddr; 2] = [NEAR, VirtAddr(NEAR.0 + PAGE_SIZE)];

pub(super) fn table() -> Vec<Scenario> {
    let scenario = |name, says, setup| Scenario::new(name, "issue 3, locks", says, setup);
    vec![
        scenario(
            "copies-crossed",
            "two CPUs copy mappings between two pmaps, in opposite directions",
            copies_crossed,
        ),
        scenario(
            "copy-against-protect",
            "a CPU copies the mapping of a frame that another one takes out of every pmap",
            copy_against_protect,
        ),
    ]
}

/// Page tables and memory alone, and their side of interrupts.
struct Whole(Pmaps<Pc>);

impl Deref for Whole {
    type Target = Pmaps<Pc>;
    fn deref(&self) -> &Pmaps<Pc> {
        &self.0
    }
}

impl Upcalls for Whole {
    fn tlb_interrupt(&self) {
        self.0.tlb_interrupt();
    }

    fn idle(&self) -> bool {
        self.0.idle()
    }
}

/// Two pmaps that have one page each, both in the range of one leaf table.
#[derive(Clone)]
struct Two {
    pmaps: Arc<Whole>,
    both: [Hold<Pmap<Pc>, Pc>; 2],
    frames: [Frame; 2],
}

impl Two {
    fn boot(stage: &Stage) -> Self {
        let machine = Pc::here();
        let (start, end) = machine.memory();
        let pmaps = Pmaps::try_new(machine.clone()).expect("memory for records");
        pmaps.phys.add_memory(start, end).expect("it is memory");
        let pmaps = Arc::new(Whole(pmaps));
        let weak: Weak<Whole> = Arc::downgrade(&pmaps);
        machine.connect(weak);
        let both = std::array::from_fn(|_| pmaps.create().expect("memory"));
        let frames =
            std::array::from_fn(|_| pmaps.phys.take_frame(Contents::Zeros).expect("memory"));
        let two = Self { pmaps, both, frames };
        for (which, at) in PAGES.into_iter().enumerate() {
            let (pmap, frame) = (&two.both[which], two.frames[which]);
            two.pmaps.enter(pmap, at, frame, Prot::RW, Wiring::Unwired).expect("memory");
        }
        let own = two.clone();
        stage.finally(move || own.end());
        two
    }

    /// Copies what pmap `from` has at its page into the other one; the number of pages.
    fn copy(&self, from: usize) -> u64 {
        let at = PAGES[from];
        let range = VirtRange::new(at, at + PAGE_SIZE);
        self.pmaps.copy(&self.both[1 - from], at, &self.both[from], range)
    }

    fn end(self) {
        let check = || {
            check_pmaps(&self.pmaps).unwrap_or_else(|broken| panic!("{broken}"));
            Pc::here().verify_tlbs().unwrap_or_else(|story| panic!("{story}"));
        };
        check();
        self.both.iter().for_each(|pmap| self.pmaps.destroy(pmap));
        check();
        for frame in self.frames {
            self.pmaps.phys.give_back(frame).expect("nobody maps it");
        }
    }
}

fn copies_crossed(stage: &Stage) {
    let two = Two::boot(stage);
    for from in 0..2 {
        let two = two.clone();
        stage.actor(from, "copies", move || {
            assert_eq!(two.copy(from), 1);
            assert_eq!(two.pmaps.mappings(two.frames[from]), 2);
        });
    }
}

fn copy_against_protect(stage: &Stage) {
    let two = Two::boot(stage);
    let other = two.clone();
    stage.actor(0, "copies", move || {
        assert!(two.copy(0) <= 1, "one if it was still there");
        let there = two.pmaps.extract(&two.both[1], PAGES[0]);
        assert!(there.is_none_or(|it| it.frame == two.frames[0]));
    });
    stage.actor(1, "protects", move || {
        other.pmaps.page_protect(other.frames[0], Prot::empty()).expect("it is the host's");
        assert_eq!(other.frames.map(|frame| other.pmaps.mappings(frame)), [0, 1]);
    });
}
