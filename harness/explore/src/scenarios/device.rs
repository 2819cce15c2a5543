//! #2300: a device or a file is taken away while it is in use; #2284: a wild access, and what its story names.

use rumpvm::{FaultError, MapFlags};
use rumpvm_arch::{Frame, PAGE_SIZE, PhysAddr};
use rumpvm_hosted::explored::Stage;

use crate::{Disk, Kernel, NEAR, Scenario};

const REPORT: &str = "#2300";

pub(super) fn table() -> Vec<Scenario> {
    vec![
        Scenario::new(
            "device-that-goes",
            REPORT,
            "the last mapping of a device goes, and the device with it, while another thread uses it",
            device_that_goes,
        ),
        Scenario::new(
            "close-in-use",
            REPORT,
            "a file is closed while it is mapped and stored to",
            close_in_use,
        ),
        Scenario::new(
            "stray-access",
            "#2284",
            "a page is freed and taken by another space while a CPU may still know where it was",
            stray_access,
        ),
    ]
}

fn device_that_goes(stage: &Stage) {
    let kernel = Kernel::boot_beside(stage, 2);
    let first: Frame = PhysAddr(kernel.platform().memory().1.0 - 2 * PAGE_SIZE).frame();
    let device = kernel.device(first, 2).expect("memory");
    let user = kernel.user();
    user.map_object(NEAR, 2, &device, MapFlags::SHARED).expect("room");
    user.store(NEAR, 1).expect("a device");
    let twin = user.twin();
    stage.actor(0, "use", move || {
        for _ in 0..2 {
            let seen = user.load(NEAR);
            assert!(matches!(seen, Ok(1) | Err(FaultError::Unmapped { .. })), "{seen:?}");
        }
    });
    stage.actor(1, "remove", move || {
        kernel.close(&device).expect("it is mapped");
        twin.unmap(NEAR, 2).expect("memory");
        assert_eq!(device.users(), 0);
        // Nobody maps it any more: what is there now is somebody else's.
        kernel.mmu.phys.write(first, 0, &[0xee]);
    });
}

fn close_in_use(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let disk = Disk::new(1, 1);
    let object = kernel.open_file(disk.clone()).expect("memory");
    let user = kernel.user();
    user.map_object(NEAR, 1, &object, MapFlags::SHARED).expect("room");
    let vm = kernel.clone();
    kernel.at_end(move |_| assert_eq!(disk.byte(0), 5, "the last user wrote it"));
    stage.actor(0, "use", move || {
        user.store(NEAR, 5).expect("a file");
        user.unmap(NEAR, 1).expect("memory");
    });
    stage.actor(1, "close", move || vm.close(&object).expect("a disk"));
}

fn stray_access(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let user = kernel.user();
    user.map(NEAR, 1).expect("room");
    user.store(NEAR, 1).expect("memory");
    let twin = user.twin();
    kernel.keep(user.twin());
    stage.actor(0, "free", move || {
        user.unmap(NEAR, 1).expect("memory");
        let other = kernel.user();
        other.map(NEAR, 1).expect("room");
        other.store(NEAR, 8).expect("memory");
        assert_eq!(other.load(NEAR), Ok(8));
    });
    stage.actor(1, "use", move || {
        for _ in 0..2 {
            let seen = twin.load(NEAR);
            assert!(matches!(seen, Ok(1) | Err(FaultError::Unmapped { .. })), "{seen:?}");
        }
    });
}
