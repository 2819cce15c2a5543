//! #2355: CPUs begin and cease to translate while others ask all who translate for something.
//!
//! The TLBs are compared with the tables at the end: whoever was not asked still knows what is gone.

use rumpvm::phys::PageKind;
use rumpvm::{FaultError, MapFlags};
use rumpvm_arch::PAGE_SIZE;
use rumpvm_hosted::explored::{Settings, Stage};

use crate::{FAR, Kernel, Scenario};

const REPORT: &str = "#2355";

pub(super) fn table() -> Vec<Scenario> {
    let three = Settings { cpus: 3, ..Settings::USUAL };
    let scenario = |name, says, setup| Scenario {
        settings: three,
        ..Scenario::new(name, REPORT, says, setup)
    };
    vec![
        scenario(
            "attach-against-truncation",
            "two CPUs begin to translate, and one ceases, while a page that all may know vanishes",
            attach_against_truncation,
        ),
        scenario(
            "fresh-against-truncation",
            "as before, but the CPUs make the tables that lead to the page",
            fresh_against_truncation,
        ),
        scenario(
            "attach-against-unmap",
            "a CPU joins and leaves a space that another one joins, and a third one unmaps its page",
            attach_against_unmap,
        ),
        scenario(
            "attach-against-squeeze",
            "two CPUs begin to serve requests at once, and have to give their free frames up later",
            attach_against_squeeze,
        ),
    ]
}

fn is_one_or_gone(seen: Result<u8, FaultError>) -> bool {
    matches!(seen, Ok(1) | Err(FaultError::Unmapped { .. } | FaultError::BeyondEnd { .. }))
}

fn attach_against_truncation(stage: &Stage) {
    truncation(stage, true);
}

/// What is known of a table is known from the moment at which it is made.
fn fresh_against_truncation(stage: &Stage) {
    truncation(stage, false);
}

/// Two spaces map one page of memory, and no CPU translates through any.
fn truncation(stage: &Stage, mapped: bool) {
    let kernel = Kernel::boot(stage);
    let object = kernel.shared_memory(PAGE_SIZE).expect("memory");
    for cpu in 0..2 {
        let user = kernel.user();
        user.map_object(FAR, 1, &object, MapFlags::SHARED).expect("room");
        user.store(FAR, 1).expect("memory");
        if !mapped {
            user.map_object(FAR, 1, &object, MapFlags::SHARED).expect("room");
        }
        kernel.keep(user.twin());
        let kernel = kernel.clone();
        stage.actor(cpu, "load", move || {
            assert!(is_one_or_gone(user.load(FAR)));
            if cpu == 0 {
                kernel.deactivate();
            }
        });
    }
    kernel.deactivate();
    stage.actor(2, "shrink", move || {
        kernel.resize(&object, 0).expect("memory can be cut off");
        kernel.close(&object).expect("it is mapped");
    });
}

fn attach_against_unmap(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let user = kernel.user();
    user.map(FAR, 1).expect("room");
    user.store(FAR, 1).expect("memory");
    kernel.deactivate();
    kernel.keep(user.twin());
    let (one, other) = (user.twin(), user.twin());
    stage.actor(0, "join and leave", move || {
        for _ in 0..2 {
            assert!(is_one_or_gone(one.load(FAR)));
            kernel.deactivate();
        }
    });
    stage.actor(1, "join", move || assert!(is_one_or_gone(other.load(FAR))));
    stage.actor(2, "unmap", move || {
        user.unmap(FAR, 1).expect("memory");
        assert_eq!(user.load(FAR), Err(FaultError::Unmapped { at: FAR }));
    });
}

fn attach_against_squeeze(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let user = kernel.user();
    user.map(FAR, 3).expect("room");
    user.store(FAR, 1).expect("memory");
    kernel.keep(user.twin());
    for cpu in 1..3 {
        let user = user.twin();
        stage.actor(cpu, "use", move || {
            let at = FAR + cpu as u64 * PAGE_SIZE;
            user.store(at, 1).expect("memory");
            user.forget(at, 1).expect("memory");
        });
    }
    kernel.at_end(|kernel| {
        let phys = &kernel.mmu.phys;
        kernel.mmu.squeeze();
        let free = phys.free_frames();
        let mut taken = Vec::new();
        while let Ok(fresh) = phys.alloc() {
            taken.push(phys.give(fresh, PageKind::Wired));
        }
        assert_eq!(taken.len() as u64, free, "a CPU was not asked for the frames that it keeps");
        for frame in taken {
            phys.free(phys.take(frame));
        }
    });
}
