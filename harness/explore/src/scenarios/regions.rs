//! Seed 004, #2296: tables and nodes for whole regions come and go while others of the same space are made, shared
//! and looked at.
//!
//! A region is what one leaf table and one node serve: 2 MiB. Regions of one area have the table above, the tree and
//! its locks in common, and nothing else.

use rumpvm::{CommitPolicy, Overcommit};
use rumpvm_arch::{PAGE_SIZE, Prot, VirtAddr};
use rumpvm_hosted::explored::{Settings, Stage};

use crate::{FAR, Kernel, Scenario, User};

/// Pages of a region.
const PAGES: u64 = 512;

pub(super) fn table() -> Vec<Scenario> {
    let one = |name, report, says, setup| Scenario::new(name, report, says, setup);
    vec![
        one(
            "regions-come-and-go",
            "#2296",
            "one thread forgets regions while another one stores to others for the first time",
            come_and_go,
        ),
        one(
            "regions-against-fork",
            "seed 004",
            "one thread stores to regions for the first time while another one forks their space",
            against_fork,
        ),
        one(
            "region-against-store",
            "seed 004",
            "one thread forgets a region while another one stores in it",
            against_store,
        ),
        Scenario {
            settings: Settings { cpus: 3, ..Settings::USUAL },
            ..one(
                "one-page-in-three-tables",
                "#2296",
                "three spaces that a fork made map and unmap the page that they have in common",
                one_page,
            )
        },
    ]
}

fn region(number: u64) -> VirtAddr {
    FAR + number * PAGES * PAGE_SIZE
}

/// A space with an area of `regions` regions, of which the first two were stored to.
fn two_used(kernel: &Kernel, regions: u64) -> User {
    let user = kernel.user();
    // More than there is memory for.
    let mode = Overcommit::Always;
    kernel.set_commit_policy(CommitPolicy { mode, ..CommitPolicy::default() });
    user.map(FAR, regions * PAGES).expect("room");
    for number in 0..2 {
        user.store(region(number), 1).expect("memory");
    }
    kernel.keep(user.twin());
    user
}

fn come_and_go(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let user = two_used(&kernel, 4);
    let twin = user.twin();
    stage.actor(0, "forget", move || {
        for number in 0..2 {
            user.forget(region(number), PAGES).expect("memory");
        }
    });
    stage.actor(1, "store", move || {
        for number in 2..4 {
            twin.store(region(number), 2).expect("memory");
        }
        assert!(matches!(twin.load(region(0)), Ok(0 | 1)));
    });
}

fn against_fork(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let user = two_used(&kernel, 4);
    let twin = user.twin();
    stage.actor(0, "fork", move || {
        let child = user.fork().expect("memory");
        for number in 0..2 {
            assert_eq!(child.load(region(number)), Ok(1));
        }
        assert!(matches!(child.load(region(2)), Ok(0 | 2)));
    });
    stage.actor(1, "store", move || {
        for number in 2..4 {
            twin.store(region(number), 2).expect("memory");
        }
    });
}

fn against_store(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let user = two_used(&kernel, 2);
    let twin = user.twin();
    stage.actor(0, "forget", move || {
        for _ in 0..2 {
            user.forget(region(0), PAGES).expect("memory");
        }
    });
    stage.actor(1, "store", move || {
        for byte in 2..4 {
            twin.store(region(0), byte).expect("memory");
            assert!(matches!(twin.load(region(0)), Ok(seen) if seen == 0 || seen == byte));
        }
    });
}

/// The page is in no table, but in the trees of all three.
fn one_page(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let parent = kernel.user();
    parent.map(FAR, 1).expect("room");
    parent.store(FAR, 1).expect("memory");
    let children = [(); 2].map(|()| parent.fork().expect("memory"));
    for (cpu, user) in children.into_iter().chain([parent]).enumerate() {
        user.protect(FAR, 1, Prot::empty()).expect("memory");
        user.protect(FAR, 1, Prot::RW).expect("memory");
        kernel.keep(user.twin());
        stage.actor(cpu, "map", move || {
            assert_eq!(user.load(FAR), Ok(1));
            if cpu == 0 {
                user.unmap(FAR, 1).expect("memory");
            }
        });
    }
}
