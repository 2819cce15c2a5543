//! Seeds 002 and 004, #2137, #2118, #2352, #2369: a fault works on a backing structure that another thread replaces
//! and frees.
//!
//! Here the structures are areas, the amap's tree, leaf tables that a fork shared, and an object's pages.

use rumpvm::{FaultError, MapFlags};
use rumpvm_arch::{PAGE_SIZE, Prot};
use rumpvm_hosted::explored::{Chance, Settings, Stage};

use crate::{Disk, FAR, Kernel, NEAR, Scenario, User};

const REPORT: &str = "seed 002, #2137";

pub(super) fn table() -> Vec<Scenario> {
    let three = Settings { cpus: 3, ..Settings::USUAL };
    // Hardware may fault on what is in order by the time anybody looks.
    let chances = Settings::USUAL.chances.with(Chance::Fault);
    let stray = Settings { chances, ..Settings::USUAL };
    vec![
        Scenario::new(
            "store-against-fork",
            REPORT,
            "a store copies a page while another thread of the space forks it",
            store_against_fork,
        ),
        Scenario {
            settings: three,
            ..Scenario::new(
                "stores-against-fork",
                REPORT,
                "two threads store and load while a third one forks their space",
                stores_against_fork,
            )
        },
        Scenario::new(
            "around-against-unmap",
            "#2118",
            "a store maps its neighbours while another thread unmaps one of them",
            around_against_unmap,
        ),
        Scenario::new(
            "around-against-read",
            "#2118",
            "a load maps its neighbours while one of them is being read from its file",
            around_against_read,
        ),
        Scenario::new(
            "around-against-truncation",
            "#2352",
            "a load maps its neighbours while their object shrinks",
            around_against_truncation,
        ),
        Scenario::new(
            "fill-against-truncation",
            "#2352",
            "a fault brings a page into an object that shrinks",
            fill_against_truncation,
        ),
        Scenario::new(
            "install-against-truncation",
            "#2352",
            "two faults put pages into an object that shrinks, and its nodes are there",
            install_against_truncation,
        ),
        Scenario::new(
            "load-against-last-close",
            "#2369",
            "a fault looks a file up whose last user leaves",
            load_against_last_close,
        ),
        Scenario::new(
            "unshare-on-both-sides",
            "seed 004, #2137",
            "parent and child store below a table that their fork left shared, at once",
            unshare_on_both_sides,
        ),
        Scenario {
            settings: three,
            ..Scenario::new(
                "unshare-under-two-threads",
                "seed 004, #2137",
                "one thread of the parent loads while another one and the child store below a shared table",
                unshare_under_two_threads,
            )
        },
        Scenario {
            settings: three,
            ..Scenario::new(
                "unshare-under-a-late-flush",
                "seed 004, #2137",
                "a CPU knows the way to a shared table that one side gives up and the other side stores to",
                unshare_under_a_late_flush,
            )
        },
        Scenario::new(
            "unshare-by-two-threads",
            "seed 004, #2137",
            "two threads of the parent store below what their fork shared, and the child keeps its pages",
            unshare_by_two_threads,
        ),
        Scenario::new(
            "leave-on-both-sides",
            "seed 004",
            "two spaces that share leaf tables and private pages end at once",
            leave_on_both_sides,
        ),
        Scenario::new(
            "map-below-shared-table",
            "seed 004",
            "parent and child each map something else where the table is that they share",
            map_below_shared_table,
        ),
        Scenario {
            settings: stray,
            ..Scenario::new(
                "store-against-unmap",
                REPORT,
                "a store against munmap of its page, with faults for no reason",
                store_against_unmap,
            )
        },
        Scenario {
            settings: stray,
            ..Scenario::new(
                "store-against-move",
                REPORT,
                "a store against mremap of its page, with faults for no reason",
                store_against_move,
            )
        },
        Scenario {
            settings: stray,
            ..Scenario::new(
                "store-against-forgetting",
                REPORT,
                "a store against MADV_DONTNEED of its page, with faults for no reason",
                store_against_forgetting,
            )
        },
        Scenario::new(
            "store-against-mapping",
            REPORT,
            "a store against mmap over its page",
            store_against_mapping,
        ),
    ]
}

/// A space with `pages` pages from `FAR` on that were stored to: page `n` begins with `n + 1`.
fn filled(kernel: &Kernel, pages: u64) -> User {
    let user = kernel.user();
    user.map(FAR, pages).expect("room");
    for page in 0..pages {
        user.store(FAR + page * PAGE_SIZE, page as u8 + 1).expect("memory");
    }
    user
}

fn store_against_fork(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let parent = filled(&kernel, 1);
    let twin = parent.twin();
    stage.actor(0, "store", move || {
        parent.store(FAR, 2).expect("memory");
        assert_eq!(parent.load(FAR), Ok(2));
    });
    stage.actor(1, "fork", move || {
        let child = twin.fork().expect("memory");
        let seen = child.load(FAR).expect("memory");
        assert!(seen == 1 || seen == 2, "{seen} is neither old nor new");
        assert_eq!(child.load(FAR), Ok(seen));
        child.store(FAR, 3).expect("memory");
        assert!(twin.load(FAR).expect("memory") < 3);
    });
}

fn stores_against_fork(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let parent = filled(&kernel, 2);
    let (twin, third) = (parent.twin(), parent.twin());
    kernel.keep(parent.twin());
    stage.actor(0, "store", move || {
        parent.store(FAR, 11).expect("memory");
        assert_eq!(parent.load(FAR), Ok(11));
    });
    stage.actor(1, "neighbour", move || {
        twin.store(FAR + PAGE_SIZE, 12).expect("memory");
        let seen = twin.load(FAR).expect("memory");
        assert!(seen == 1 || seen == 11);
        if seen == 11 {
            assert_eq!(twin.load(FAR), Ok(11), "what was seen once stays");
        }
    });
    stage.actor(2, "fork", move || {
        let child = third.fork().expect("memory");
        let seen = child.load(FAR).expect("memory");
        assert_eq!(child.load(FAR), Ok(seen), "what a child has does not change");
    });
}

fn around_against_unmap(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let parent = filled(&kernel, 3);
    // The child keeps the table: the parent's next store begins an empty one and fills it from around.
    kernel.keep(parent.fork().expect("memory"));
    let twin = parent.twin();
    kernel.keep(parent.twin());
    stage.actor(0, "store", move || {
        parent.store(FAR, 11).expect("memory");
        assert_eq!(parent.load(FAR), Ok(11));
        assert_eq!(parent.load(FAR + 2 * PAGE_SIZE), Ok(3));
    });
    stage.actor(1, "unmap", move || {
        let at = FAR + PAGE_SIZE;
        twin.unmap(at, 1).expect("memory");
        assert_eq!(twin.load(at), Err(FaultError::Unmapped { at }));
    });
}

fn around_against_read(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let object = kernel.open_file(Disk::new(1, 2)).expect("memory");
    let (one, other) = (kernel.user(), kernel.user());
    for user in [&one, &other] {
        user.map_object(NEAR, 2, &object, MapFlags::SHARED).expect("room");
    }
    // The first page is in memory and mapped nowhere, the second one is not.
    one.load(NEAR).expect("a file");
    one.map_object(NEAR, 2, &object, MapFlags::SHARED).expect("room");
    kernel.close(&object).expect("others use it");
    stage.actor(0, "around", move || {
        assert_eq!(one.load(NEAR), Ok(1));
        assert_eq!(one.load(NEAR + PAGE_SIZE), Ok(2));
    });
    stage.actor(1, "read", move || {
        assert_eq!(other.load(NEAR + PAGE_SIZE), Ok(2));
    });
}

fn around_against_truncation(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let object = kernel.shared_memory(3 * PAGE_SIZE).expect("memory");
    let user = kernel.user();
    user.map_object(NEAR, 3, &object, MapFlags::SHARED).expect("room");
    for page in 0..3 {
        user.store(NEAR + page * PAGE_SIZE, 1).expect("memory");
    }
    // In memory, and mapped nowhere.
    user.map_object(NEAR, 3, &object, MapFlags::SHARED).expect("room");
    kernel.keep(user.twin());
    let vm = kernel.clone();
    stage.actor(0, "around", move || {
        assert_eq!(user.load(NEAR), Ok(1));
        let at = NEAR + 2 * PAGE_SIZE;
        assert!(matches!(user.load(at), Ok(1) | Err(FaultError::BeyondEnd { .. })));
    });
    stage.actor(1, "shrink", move || {
        vm.resize(&object, PAGE_SIZE).expect("memory needs no disk");
        vm.close(&object).expect("it is mapped");
    });
}

fn fill_against_truncation(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let file = kernel.open_file(Disk::new(1, 2)).expect("memory");
    let memory = kernel.shared_memory(2 * PAGE_SIZE).expect("memory");
    let user = kernel.user();
    user.map_object(NEAR, 2, &memory, MapFlags::SHARED).expect("room");
    user.map_object(NEAR + 2 * PAGE_SIZE, 2, &file, MapFlags::SHARED).expect("room");
    kernel.keep(user.twin());
    let (one, other) = (file.clone(), memory.clone());
    kernel.at_end(move |kernel| {
        for object in [one, other] {
            let pages = object.resident_pages(&kernel.mmu);
            assert_eq!(pages, 0, "nothing was brought in but what lies beyond the end");
            kernel.close(&object).expect("it is mapped");
        }
    });
    stage.actor(0, "fill", move || {
        let filled = user.store(NEAR + PAGE_SIZE, 1);
        assert!(matches!(filled, Ok(()) | Err(FaultError::BeyondEnd { .. })));
        let read = user.load(NEAR + 3 * PAGE_SIZE);
        assert!(matches!(read, Ok(0 | 2) | Err(FaultError::BeyondEnd { .. })), "{read:?}");
    });
    stage.actor(1, "shrink", move || {
        kernel.resize(&memory, PAGE_SIZE).expect("memory needs no disk");
        kernel.resize(&file, PAGE_SIZE).expect("a disk");
    });
}

fn install_against_truncation(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let object = kernel.shared_memory(3 * PAGE_SIZE).expect("memory");
    let user = kernel.user();
    user.map_object(NEAR, 3, &object, MapFlags::SHARED).expect("room");
    user.store(NEAR, 1).expect("memory");
    kernel.keep(user.twin());
    let (shrinks, last) = (object.clone(), object);
    kernel.at_end(move |kernel| {
        assert_eq!(last.resident_pages(&kernel.mmu), 1, "pages are left beyond the end");
        kernel.close(&last).expect("it is mapped");
    });
    stage.actor(0, "store", move || {
        for page in 1..3 {
            let stored = user.store(NEAR + page * PAGE_SIZE, 1);
            assert!(matches!(stored, Ok(()) | Err(FaultError::BeyondEnd { .. })), "{stored:?}");
        }
    });
    stage.actor(1, "shrink", move || {
        kernel.resize(&shrinks, PAGE_SIZE).expect("memory can be cut off")
    });
}

fn load_against_last_close(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let object = kernel.open_file(Disk::new(1, 1)).expect("memory");
    let user = kernel.user();
    user.map_object(NEAR, 1, &object, MapFlags::SHARED).expect("room");
    kernel.close(&object).expect("it is mapped");
    drop(object);
    let twin = user.twin();
    kernel.keep(user.twin());
    stage.actor(0, "load", move || {
        let seen = user.load(NEAR);
        assert!(matches!(seen, Ok(1) | Err(FaultError::Unmapped { .. })), "{seen:?}");
    });
    stage.actor(1, "unmap", move || {
        twin.unmap(NEAR, 1).expect("memory");
    });
}

fn unshare_on_both_sides(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let parent = filled(&kernel, 2);
    let child = parent.fork().expect("memory");
    kernel.keep(parent.twin());
    kernel.keep(child.twin());
    for (cpu, user) in [parent, child].into_iter().enumerate() {
        stage.actor(cpu, "store", move || {
            let mine = 10 + cpu as u8;
            user.store(FAR, mine).expect("memory");
            assert_eq!(user.load(FAR), Ok(mine));
            assert_eq!(user.load(FAR + PAGE_SIZE), Ok(2));
            assert_eq!(user.load(FAR), Ok(mine));
        });
    }
}

fn unshare_under_two_threads(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let parent = filled(&kernel, 2);
    let child = parent.fork().expect("memory");
    let twin = parent.twin();
    kernel.keep(parent.twin());
    kernel.keep(child.twin());
    stage.actor(0, "store", move || {
        parent.store(FAR, 10).expect("memory");
        assert_eq!(parent.load(FAR), Ok(10));
    });
    stage.actor(1, "load", move || {
        // Now the CPU knows the way to the table, and not yet what it says of the page.
        assert_eq!(twin.load(FAR + PAGE_SIZE), Ok(2));
        let before = twin.load(FAR).expect("memory");
        let after = twin.load(FAR).expect("memory");
        assert!(before == 1 || before == 10 && after == 10, "{before}, then {after}");
        assert!(after == 1 || after == 10, "{after} is the child's");
    });
    stage.actor(2, "child", move || {
        child.store(FAR, 20).expect("memory");
        assert_eq!(child.load(FAR), Ok(20));
    });
}

/// As before, but the CPU of the one who loads knows the way to the table from the beginning: all that is left to
/// happen is that a flush is late.
fn unshare_under_a_late_flush(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let parent = filled(&kernel, 2);
    let child = parent.fork().expect("memory");
    parent.load(FAR + PAGE_SIZE).expect("memory");
    let twin = parent.twin();
    kernel.keep(parent.twin());
    kernel.keep(child.twin());
    stage.actor(0, "load", move || {
        let seen = twin.load(FAR).expect("memory");
        assert!(seen == 1 || seen == 10, "{seen} is the child's");
    });
    stage.actor(1, "store", move || {
        parent.store(FAR, 10).expect("memory");
        assert_eq!(parent.load(FAR), Ok(10));
    });
    stage.actor(2, "child", move || {
        child.store(FAR, 20).expect("memory");
        assert_eq!(child.load(FAR), Ok(20));
    });
}

fn unshare_by_two_threads(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let parent = filled(&kernel, 2);
    let (child, twin) = (parent.fork().expect("memory"), parent.twin());
    kernel.keep(parent.twin());
    kernel.at_end(move |kernel| {
        assert_eq!(child.load(FAR), Ok(1), "the child has what the parent stored");
        assert_eq!(child.load(FAR + PAGE_SIZE), Ok(2), "the child has what the parent stored");
        kernel.keep(child);
    });
    for (cpu, user) in [parent, twin].into_iter().enumerate() {
        stage.actor(cpu, "store", move || {
            let at = FAR + cpu as u64 * PAGE_SIZE;
            user.store(at, 10).expect("memory");
            assert_eq!(user.load(at), Ok(10));
        });
    }
}

fn leave_on_both_sides(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let parent = filled(&kernel, 2);
    let child = parent.fork().expect("memory");
    for (cpu, user) in [parent, child].into_iter().enumerate() {
        stage.actor(cpu, "exit", move || {
            assert_eq!(user.load(FAR), Ok(1));
            drop(user);
        });
    }
}

fn map_below_shared_table(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let parent = filled(&kernel, 1);
    let child = parent.fork().expect("memory");
    kernel.keep(parent.twin());
    kernel.keep(child.twin());
    for (cpu, user) in [parent, child].into_iter().enumerate() {
        stage.actor(cpu, "map", move || {
            let at = FAR + (1 + cpu as u64) * PAGE_SIZE;
            user.map(at, 1).expect("room");
            assert_eq!(user.load(at), Ok(0));
            let others = FAR + (2 - cpu as u64) * PAGE_SIZE;
            assert_eq!(user.load(others), Err(FaultError::Unmapped { at: others }));
        });
    }
}

/// A thread stores twice to a page with which another one does `call`.
fn store_against(stage: &Stage, call: fn(&User), fits: fn(Result<u8, FaultError>) -> bool) {
    let kernel = Kernel::boot(stage);
    let user = filled(&kernel, 2);
    // The page is there, and the next store to it faults all the same.
    user.protect(FAR, 1, Prot::READ).expect("memory");
    user.protect(FAR, 1, Prot::RW).expect("memory");
    let twin = user.twin();
    kernel.keep(user.twin());
    stage.actor(0, "store", move || {
        let stored = user.store(FAR, 11);
        assert!(matches!(stored, Ok(()) | Err(FaultError::Unmapped { .. })), "{stored:?}");
        let seen = user.load(FAR);
        // A call that has begun to take the page away may not be done with it when the store is refused.
        let early = stored.is_err() && seen == Ok(1);
        assert!(fits(seen) || seen == Ok(11) || early, "{seen:?}");
        assert_eq!(user.load(FAR + PAGE_SIZE), Ok(2));
    });
    stage.actor(1, "call", move || call(&twin));
}

fn store_against_unmap(stage: &Stage) {
    let call = |user: &User| {
        user.unmap(FAR, 1).expect("memory");
        assert_eq!(user.load(FAR), Err(FaultError::Unmapped { at: FAR }));
    };
    store_against(stage, call, |seen| matches!(seen, Err(FaultError::Unmapped { .. })));
}

fn store_against_move(stage: &Stage) {
    let call = |user: &User| {
        let to = FAR + 4 * PAGE_SIZE;
        user.relocate(FAR, 1, to).expect("memory");
        assert_eq!(user.load(FAR), Err(FaultError::Unmapped { at: FAR }));
        assert!(matches!(user.load(to), Ok(1 | 11)));
    };
    store_against(stage, call, |seen| matches!(seen, Err(FaultError::Unmapped { .. })));
}

fn store_against_forgetting(stage: &Stage) {
    let call = |user: &User| {
        user.forget(FAR, 1).expect("memory");
        assert!(matches!(user.load(FAR), Ok(0 | 11)), "what was forgotten is back");
    };
    store_against(stage, call, |seen| seen == Ok(0));
}

fn store_against_mapping(stage: &Stage) {
    let call = |user: &User| {
        user.map(FAR, 1).expect("memory");
        assert!(matches!(user.load(FAR), Ok(0 | 11)), "what was replaced is back");
    };
    store_against(stage, call, |seen| seen == Ok(0));
}
