//! Seed 003: entries that are left after unmapping, pages that are entered in a batch, and what is there already.

use rumpvm::FaultError;
use rumpvm_arch::PAGE_SIZE;
use rumpvm_hosted::explored::{Settings, Stage};

use crate::{FAR, Kernel, Scenario, User};

const REPORT: &str = "seed 003";

pub(super) fn table() -> Vec<Scenario> {
    vec![
        Scenario::new(
            "populate-from-two-sides",
            REPORT,
            "two CPUs bring the same batch of pages in",
            populate_from_two_sides,
        ),
        Scenario::new(
            "populate-against-unmap",
            REPORT,
            "one CPU brings a batch in while another one unmaps its middle",
            populate_against_unmap,
        ),
        Scenario {
            settings: Settings { frames: 96, ..Settings::USUAL },
            ..Scenario::new(
                "populate-after-unmap",
                REPORT,
                "a batch is entered where another one was unmapped, while a neighbour is unmapped too",
                populate_after_unmap,
            )
        },
    ]
}

fn populated(kernel: &Kernel, pages: u64) -> (User, User) {
    let user = kernel.user();
    user.map(FAR, pages).expect("room");
    kernel.keep(user.twin());
    let twin = user.twin();
    (user, twin)
}

fn populate_from_two_sides(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let (user, twin) = populated(&kernel, 3);
    for (cpu, user) in [user, twin].into_iter().enumerate() {
        stage.actor(cpu, "populate", move || {
            user.populate(FAR, 3).expect("memory");
            let at = FAR + cpu as u64 * PAGE_SIZE;
            user.store(at, 7).expect("memory");
            assert_eq!(user.load(at), Ok(7));
            assert_eq!(user.load(FAR + 2 * PAGE_SIZE), Ok(0));
        });
    }
}

fn populate_against_unmap(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let (user, twin) = populated(&kernel, 3);
    stage.actor(0, "populate", move || {
        let populated = user.populate(FAR, 3);
        assert!(matches!(populated, Ok(()) | Err(rumpvm::CallError::Unmapped)), "{populated:?}");
    });
    stage.actor(1, "unmap", move || {
        let at = FAR + PAGE_SIZE;
        twin.unmap(at, 1).expect("memory");
        assert_eq!(twin.load(at), Err(FaultError::Unmapped { at }));
    });
}

fn populate_after_unmap(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let (user, twin) = populated(&kernel, 4);
    user.populate(FAR, 4).expect("memory");
    for page in 0..4 {
        user.store(FAR + page * PAGE_SIZE, 9).expect("memory");
    }
    stage.actor(0, "again", move || {
        user.unmap(FAR, 2).expect("memory");
        user.map(FAR, 2).expect("room");
        user.populate(FAR, 2).expect("memory");
        for page in 0..2 {
            assert_eq!(user.load(FAR + page * PAGE_SIZE), Ok(0), "what was unmapped is back");
        }
    });
    stage.actor(1, "neighbour", move || {
        twin.unmap(FAR + 2 * PAGE_SIZE, 2).expect("memory");
    });
}
