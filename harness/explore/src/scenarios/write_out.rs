//! #2350, #2364: a page is protected, unmapped, stored to or read while it is on its way to a disk; and a program that
//! writes to a file what it maps of the same file.

use rumpvm::{CallError, FaultError, MapFlags};
use rumpvm_arch::{PAGE_SIZE, Prot};
use rumpvm_hosted::explored::{Chance, Settings, Stage};

use crate::{Disk, Kernel, NEAR, Scenario, User};

const REPORT: &str = "#2350";

pub(super) fn table() -> Vec<Scenario> {
    let three = Settings { cpus: 3, ..Settings::USUAL };
    vec![
        Scenario::new(
            "write-out-against-store",
            REPORT,
            "msync writes a page while it is stored to",
            write_out_against_store,
        ),
        Scenario::new(
            "write-out-against-protect",
            REPORT,
            "msync writes a page while its rights are taken away and given back",
            write_out_against_protect,
        ),
        Scenario {
            settings: three,
            ..Scenario::new(
                "write-out-against-unmap",
                REPORT,
                "msync writes a page while one thread stores to it and another one unmaps it",
                write_out_against_unmap,
            )
        },
        Scenario::new(
            "write-out-against-truncation",
            REPORT,
            "msync writes a page while the file is cut off before it",
            write_out_against_truncation,
        ),
        Scenario {
            settings: Settings {
                chances: Settings::USUAL.chances.with(Chance::Io),
                ..Settings::USUAL
            },
            ..Scenario::new(
                "failed-write-out",
                REPORT,
                "two threads write a page out at once, and the disk fails",
                failed_write_out,
            )
        },
        Scenario::new(
            "last-close-against-open",
            REPORT,
            "the last user of a file leaves, and writes it, while it is opened again",
            last_close_against_open,
        ),
        Scenario::new(
            "write-of-own-mapping",
            "#2364",
            "a program writes to a file what it maps of the same file, while that is written out",
            write_of_own_mapping,
        ),
    ]
}

/// A space that has mapped a file of two pages, and stored `10` to the first one; and the file.
fn dirty(kernel: &Kernel) -> (User, std::sync::Arc<Disk>) {
    let disk = Disk::new(1, 2);
    let object = kernel.open_file(disk.clone()).expect("memory");
    let user = kernel.user();
    user.map_object(NEAR, 2, &object, MapFlags::SHARED).expect("room");
    user.store(NEAR, 10).expect("a file");
    kernel.close(&object).expect("it is mapped");
    (user, disk)
}

fn write_out_against_store(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let (user, disk) = dirty(&kernel);
    let twin = user.twin();
    let written = disk.clone();
    kernel.keep(user.twin());
    kernel.at_end(move |kernel| {
        let space = User::of(kernel, user.space()).expect("it is kept");
        space.sync(NEAR, 1).expect("a disk");
        assert_eq!(written.byte(0), 11, "what was stored during a write is lost");
        drop(user);
    });
    let syncer = twin.twin();
    stage.actor(0, "sync", move || {
        syncer.sync(NEAR, 1).expect("a disk");
        assert!(matches!(disk.byte(0), 10 | 11));
    });
    stage.actor(1, "store", move || {
        twin.store(NEAR, 11).expect("memory");
        assert_eq!(twin.load(NEAR), Ok(11));
    });
}

fn write_out_against_protect(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let (user, disk) = dirty(&kernel);
    let twin = user.twin();
    kernel.keep(user.twin());
    stage.actor(0, "sync", move || {
        user.sync(NEAR, 1).expect("a disk");
        assert_eq!(disk.byte(0), 10);
    });
    stage.actor(1, "protect", move || {
        twin.protect(NEAR, 1, Prot::READ).expect("memory");
        assert!(matches!(twin.store(NEAR, 12), Err(FaultError::Denied { .. })));
        assert_eq!(twin.load(NEAR), Ok(10));
    });
}

fn write_out_against_unmap(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let (user, disk) = dirty(&kernel);
    let object = kernel.open_file(disk.clone()).expect("memory");
    let other = kernel.user();
    other.map_object(NEAR, 1, &object, MapFlags::SHARED).expect("room");
    kernel.close(&object).expect("it is mapped");
    drop(object);
    let twin = user.twin();
    let stored = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let was_stored = stored.clone();
    kernel.at_end(move |_| {
        let last = if was_stored.load(std::sync::atomic::Ordering::SeqCst) { 11 } else { 10 };
        assert_eq!(disk.byte(0), last, "the last store before the last unmap is lost");
    });
    stage.actor(0, "unmap", move || {
        user.unmap(NEAR, 1).expect("memory");
    });
    stage.actor(1, "store", move || {
        // The first one makes the CPU know an entry that is dirty.
        let _ = twin.store(NEAR, 10);
        match twin.store(NEAR, 11) {
            Ok(()) => stored.store(true, std::sync::atomic::Ordering::SeqCst),
            Err(error) => assert!(matches!(error, FaultError::Unmapped { .. })),
        }
    });
    stage.actor(2, "sync", move || {
        other.sync(NEAR, 1).expect("a disk");
    });
}

fn write_out_against_truncation(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let (user, disk) = dirty(&kernel);
    let object = kernel.open_file(disk.clone()).expect("memory");
    user.store(NEAR + PAGE_SIZE, 20).expect("a file");
    let twin = user.twin();
    stage.actor(0, "sync", move || {
        user.sync(NEAR, 2).expect("a disk");
    });
    stage.actor(1, "shrink", move || {
        kernel.resize(&object, PAGE_SIZE / 2).expect("a disk");
        assert_eq!(twin.load(NEAR), Ok(10));
        let gone = twin.load(NEAR + PAGE_SIZE);
        assert!(matches!(gone, Err(FaultError::BeyondEnd { .. })), "{gone:?}");
        kernel.close(&object).expect("it is mapped");
    });
}

fn failed_write_out(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let (user, disk) = dirty(&kernel);
    let twin = user.twin();
    kernel.at_end(move |kernel| {
        // Whatever failed, the next who opens the file finds what was stored.
        let object = kernel.open_file(disk.clone()).expect("memory");
        let user = kernel.user();
        user.map_object(NEAR, 1, &object, MapFlags::SHARED).expect("room");
        assert_eq!(user.load(NEAR), Ok(10));
        drop(user);
        kernel.close(&object).expect("the disk works again");
        assert_eq!(disk.byte(0), 10);
    });
    for (cpu, user) in [user, twin].into_iter().enumerate() {
        stage.actor(cpu, "sync", move || {
            let synced = user.sync(NEAR, 1);
            assert!(matches!(synced, Ok(()) | Err(CallError::Io(_))), "{synced:?}");
        });
    }
}

fn last_close_against_open(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let (user, disk) = dirty(&kernel);
    stage.actor(0, "exit", move || drop(user));
    stage.actor(1, "open", move || {
        let object = kernel.open_file(disk.clone()).expect("memory");
        let user = kernel.user();
        user.map_object(NEAR, 1, &object, MapFlags::SHARED).expect("room");
        assert_eq!(user.load(NEAR), Ok(10), "an open finds what the last user stored");
        user.store(NEAR, 12).expect("memory");
        drop(user);
        kernel.close(&object).expect("a disk");
        kernel.at_end(move |_| assert_eq!(disk.byte(0), 12));
    });
}

fn write_of_own_mapping(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let (user, disk) = dirty(&kernel);
    let twin = user.twin();
    stage.actor(0, "write", move || {
        // write(2): from the mapping of the first page to the second page, through the same object.
        let byte = user.copy_in(NEAR).expect("a file");
        user.copy_out(NEAR + PAGE_SIZE, byte).expect("a file");
        user.sync(NEAR + PAGE_SIZE, 1).expect("a disk");
        assert_eq!(disk.byte(1), 10);
    });
    stage.actor(1, "sync", move || {
        twin.sync(NEAR, 2).expect("a disk");
        assert_eq!(twin.copy_in(NEAR), Ok(10));
    });
}
