//! #2083, "zone: entry not free": a zone's magazines that are filled, emptied and limited while other CPUs do the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rumpvm::phys::{PageKind, Phys};
use rumpvm::zone::{Spec, Zone};
use rumpvm_hosted::explored::{Settings, Stage};

use super::cache::use_frames;
use crate::items::Item;
use crate::{Kernel, Pc, Scenario};

const REPORT: &str = "#2083";
/// Few of them fit a slab.
const SIZE: u32 = 900;

pub(super) fn table() -> Vec<Scenario> {
    vec![
        Scenario::new(
            "zone-refill",
            REPORT,
            "two CPUs take and free items of a zone until their magazines refill and spill",
            refill,
        ),
        Scenario::new(
            "zone-drain",
            REPORT,
            "a CPU gives back all that a zone has free while another one takes and frees items",
            drain,
        ),
        Scenario::new(
            "zone-limit",
            REPORT,
            "two CPUs need a slab at once, and only one of them may have it",
            limit,
        ),
        Scenario {
            // What lies in magazines is a small part of memory: in less, a batch is one item for good.
            settings: Settings { cpus: 2, frames: 2048, ..Settings::USUAL },
            ..Scenario::new(
                "zone-batch",
                REPORT,
                "a CPU that goes to the depot often moves more at a time, while another one is there",
                batch,
            )
        },
        Scenario {
            settings: Settings { cpus: 2, frames: 24, ..Settings::USUAL },
            ..Scenario::new(
                "zone-of-last-frames",
                REPORT,
                "two CPUs take items until there is no frame for another slab",
                last_frames,
            )
        },
        Scenario {
            settings: Settings { cpus: 2, frames: 24, ..Settings::USUAL },
            ..Scenario::new(
                "zone-lets-go",
                REPORT,
                "a CPU wants frames that only a zone has, while another one takes and frees items of it",
                lets_go,
            )
        },
        Scenario::new(
            "zone-against-squeeze",
            REPORT,
            "a CPU empties the caches of all CPUs, zones included, while another one takes and frees items",
            against_squeeze,
        ),
    ]
}

/// A zone, and how many items were taken from it.
struct Watched {
    zone: Arc<Zone<Pc>>,
    taken: AtomicU64,
}

/// A zone that has nothing in use at the end.
fn zone(kernel: &Kernel, limit: Option<u64>) -> Arc<Watched> {
    zone_of(kernel, Spec { limit, ..Spec::new("scenario", SIZE, 8) })
}

fn zone_of(kernel: &Kernel, spec: Spec) -> Arc<Watched> {
    let zone = Arc::new(Zone::try_new(&kernel.mmu.phys, spec).expect("memory for a zone"));
    let watched = Arc::new(Watched { zone, taken: AtomicU64::new(0) });
    let own = Arc::clone(&watched);
    kernel.at_end(move |kernel| {
        let (phys, zone) = (&kernel.mmu.phys, &own.zone);
        for is_drained in [false, true] {
            if is_drained {
                zone.drain(phys);
            }
            if let Err(broken) = zone.check(phys) {
                panic!("{broken}");
            }
        }
        assert_eq!(zone.usage().out, 0, "items in use that nobody has");
        assert_eq!(zone.usage().taken, own.taken.load(Ordering::Relaxed), "items taken");
    });
    watched
}

impl Watched {
    fn take(&self, phys: &Phys<Pc>, mark: u8) -> Option<Item> {
        let item = Item::take(&self.zone, phys, mark)?;
        self.taken.fetch_add(1, Ordering::Relaxed);
        Some(item)
    }
}

/// Takes up to `count` items, marks them, and frees them if they still have the mark. How many there were.
fn use_items(watched: &Watched, phys: &Phys<Pc>, count: usize, mark: u8) -> usize {
    let (zone, mut taken) = (&watched.zone, vec![]);
    for _ in 0..count {
        let Some(item) = watched.take(phys, mark) else { break };
        taken.push(item);
    }
    // A slab has four items.
    let most = zone.spec().limit.map_or(u64::MAX, |limit| limit + 3);
    assert!(zone.usage().items <= most, "more items than the limit");
    let many = taken.len();
    for item in taken {
        assert_eq!(item.mark(phys), mark, "an item was handed out twice");
        item.free(phys);
    }
    many
}

fn refill(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let zone = zone(&kernel, None);
    for cpu in 0..2 {
        let (kernel, zone) = (kernel.clone(), Arc::clone(&zone));
        stage.actor(cpu, "use", move || {
            assert_eq!(use_items(&zone, &kernel.mmu.phys, 10, cpu as u8 + 1), 10);
        });
    }
}

fn drain(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let zone = zone(&kernel, None);
    use_items(&zone, &kernel.mmu.phys, 3, 9);
    let (own, other) = (kernel.clone(), Arc::clone(&zone));
    stage.actor(0, "drain", move || {
        use_items(&zone, &kernel.mmu.phys, 1, 1);
        zone.zone.drain(&kernel.mmu.phys);
    });
    stage.actor(1, "use", move || {
        for _ in 0..2 {
            assert_eq!(use_items(&other, &own.mmu.phys, 2, 2), 2);
        }
    });
}

fn limit(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let zone = zone(&kernel, Some(1));
    for cpu in 0..2 {
        let (kernel, zone) = (kernel.clone(), Arc::clone(&zone));
        stage.actor(cpu, "take", move || _ = use_items(&zone, &kernel.mmu.phys, 1, cpu as u8 + 1));
    }
}

fn batch(stage: &Stage) {
    /// More than a CPU's magazine holds: some of them go on to the depot.
    const MANY: usize = 600;
    let kernel = Kernel::boot(stage);
    let zone = zone_of(&kernel, Spec::new("small", 32, 8));
    let (own, other) = (kernel.clone(), Arc::clone(&zone));
    stage.actor(0, "go often", move || {
        let phys = &kernel.mmu.phys;
        let batch = || zone.zone.usage().batch;
        let first = batch();
        let taken: Vec<_> = (0..MANY).map(|_| zone.take(phys, 1).expect("memory")).collect();
        let second = batch();
        assert!(first < second, "a batch of {first} has not grown: {second}");
        zone.zone.drain(phys);
        let third = batch();
        assert!(third < second, "a batch of a drained zone is as large as before: {third}");
        taken.into_iter().for_each(|item| item.free(phys));
        assert!(third < batch(), "a batch of {third} has not grown: {}", batch());
    });
    stage.actor(1, "use", move || _ = use_items(&other, &own.mmu.phys, 2, 2));
}

fn last_frames(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let zone = zone(&kernel, None);
    for cpu in 0..2 {
        let (kernel, zone) = (kernel.clone(), Arc::clone(&zone));
        stage.actor(cpu, "use", move || {
            let phys = &kernel.mmu.phys;
            use_items(&zone, phys, 40, cpu as u8 + 1);
            zone.zone.drain(phys);
            use_items(&zone, phys, 2, cpu as u8 + 1);
        });
    }
}

fn lets_go(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let zone = zone(&kernel, None);
    let phys = &kernel.mmu.phys;
    use_items(&zone, phys, 10, 9);
    let free = phys.free_frames();
    let take = |_| phys.give(phys.alloc().expect("it is free"), PageKind::Wired);
    let rest: Vec<_> = (0..free).map(take).collect();
    kernel.at_end(move |kernel| {
        let phys = &kernel.mmu.phys;
        rest.into_iter().for_each(|frame| phys.free(phys.take(frame)));
    });
    let (own, other) = (kernel.clone(), Arc::clone(&zone));
    stage.actor(0, "want", move || use_frames(&own.mmu.phys, 2, 1));
    stage.actor(1, "use", move || {
        for _ in 0..2 {
            use_items(&other, &kernel.mmu.phys, 2, 2);
        }
    });
}

fn against_squeeze(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let zone = zone(&kernel, None);
    use_items(&zone, &kernel.mmu.phys, 3, 9);
    let (own, other) = (kernel.clone(), Arc::clone(&zone));
    stage.actor(0, "squeeze", move || {
        use_items(&zone, &own.mmu.phys, 1, 1);
        own.mmu.squeeze();
    });
    stage.actor(1, "use", move || {
        kernel.mmu.attach_cpu();
        for _ in 0..2 {
            assert_eq!(use_items(&other, &kernel.mmu.phys, 2, 2), 2);
        }
    });
}
