//! #2300: what an object knows of its mappings, while mappings come and go and somebody counts on it.
//!
//! Who seals stores off counts on the areas that may store; who shrinks it, on the spaces with private copies.

use rumpvm::{CallError, FaultError, MapFlags, MemoryFlags, Seals};
use rumpvm_arch::PAGE_SIZE;
use rumpvm_hosted::explored::{Settings, Stage};

use crate::{Kernel, NEAR, Scenario};

const REPORT: &str = "#2300";

pub(super) fn table() -> Vec<Scenario> {
    let three = Settings { cpus: 3, ..Settings::USUAL };
    let scenario = |name, says, setup| Scenario {
        settings: three,
        ..Scenario::new(name, REPORT, says, setup)
    };
    vec![
        scenario(
            "seal-against-mappings",
            "stores to a memory file are sealed off while two spaces map it to store to it",
            seal_against_mappings,
        ),
        scenario(
            "truncation-against-private-mappings",
            "an object is cut off while two spaces make private copies of it, and one gives its up",
            truncation_against_private_mappings,
        ),
    ]
}

fn seal_against_mappings(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let file = kernel.memory_file(MemoryFlags::ALLOW_SEALING).expect("memory");
    kernel.resize(&file, PAGE_SIZE).expect("it can grow");
    for cpu in 0..2 {
        let (user, file) = (kernel.user(), file.clone());
        kernel.keep(user.twin());
        stage.actor(cpu, "map", move || match user.map_object(NEAR, 1, &file, MapFlags::SHARED) {
            Ok(_) => user.store(NEAR, 1).expect("what is mapped may be stored to"),
            Err(refused) => assert_eq!(refused, CallError::NotPermitted),
        });
    }
    let (own, sealed) = (kernel.clone(), file.clone());
    stage.actor(2, "seal", move || {
        let answer = own.add_seals(&sealed, Seals::WRITE);
        assert!(matches!(answer, Ok(()) | Err(CallError::Busy)), "{answer:?}");
    });
    kernel.at_end(move |kernel| {
        let answer = kernel.user().map_object(NEAR, 1, &file, MapFlags::SHARED);
        let sealed = file.seals().is_some_and(|seals| seals.contains(Seals::WRITE));
        assert_eq!(answer.is_err(), sealed, "{answer:?}");
        kernel.close(&file).expect("it is memory");
    });
}

fn truncation_against_private_mappings(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let object = kernel.shared_memory(PAGE_SIZE).expect("memory");
    for cpu in 0..2 {
        let (user, object) = (kernel.user(), object.clone());
        kernel.keep(user.twin());
        let twin = user.twin();
        stage.actor(cpu, "copy", move || {
            user.map_object(NEAR, 1, &object, MapFlags::PRIVATE).expect("room");
            let stored = user.store(NEAR, 1);
            assert!(matches!(stored, Ok(()) | Err(FaultError::BeyondEnd { .. })), "{stored:?}");
            if cpu == 1 {
                user.unmap(NEAR, 1).expect("memory");
            }
        });
        if cpu == 0 {
            kernel.at_end(move |_| {
                assert_eq!(twin.load(NEAR), Err(FaultError::BeyondEnd { at: NEAR }));
            });
        }
    }
    let (own, cut) = (kernel.clone(), object.clone());
    stage.actor(2, "cut off", move || own.resize(&cut, 0).expect("memory can be cut off"));
    kernel.at_end(move |kernel| kernel.close(&object).expect("it is memory"));
}
