//! #2350: a CPU notes an access in an entry while the entry changes, and what it noted is lost.
//!
//! A page of a file is mapped for stores and clean; the first store to it is noted by the hardware alone. Whatever
//! else is done to the entry at that moment: what was stored reaches the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rumpvm::{Backing, FaultError, MapFlags};
use rumpvm_arch::{PAGE_SIZE, Prot, VirtAddr};
use rumpvm_hosted::explored::Stage;

use crate::{Disk, Kernel, NEAR, Scenario, User};

/// A page that was mapped because the one before it was loaded: nobody has touched it.
const AT: VirtAddr = VirtAddr(NEAR.0 + PAGE_SIZE);

pub(super) fn table() -> Vec<Scenario> {
    let one = |name, says, setup| Scenario::new(name, "#2350", says, setup);
    vec![
        one("noted-against-unmap", "a first store to a file's page against munmap", |stage| {
            store_against(stage, |user| user.unmap(AT, 1).expect("memory"));
        }),
        one("noted-against-protect", "a first store against the loss of its right", |stage| {
            store_against(stage, |user| user.protect(AT, 1, Prot::READ).expect("memory"));
        }),
        one("noted-against-no-exec", "a first store against the loss of another right", |stage| {
            store_against(stage, |user| user.protect(AT, 1, Prot::RW).expect("memory"));
        }),
        one("noted-against-copy", "a first store against a read by the kernel", |stage| {
            store_against(stage, |user| assert!(matches!(user.copy_in(AT), Ok(2 | 9))));
        }),
        one("noted-against-sync", "a first store against msync", |stage| {
            store_against(stage, |user| user.sync(AT, 1).expect("a disk"));
        }),
    ]
}

/// One thread stores, another one does `call`.
fn store_against(stage: &Stage, call: fn(&User)) {
    let kernel = Kernel::boot(stage);
    let disk = Disk::new(1, 2);
    let object = kernel.open_file(disk.clone()).expect("memory");
    let user = kernel.user();
    let map = |user: &User| {
        let (flags, backing) = (MapFlags::SHARED | MapFlags::FIXED, Backing::Object(&object));
        let prot = Prot::RW | Prot::EXEC;
        user.space().mmap(user.vm(), NEAR, 2 * PAGE_SIZE, prot, flags, backing, 0).expect("room");
    };
    map(&user);
    user.load(NEAR).expect("a file");
    user.load(AT).expect("a file");
    // Both are in memory; the load of one maps the other.
    map(&user);
    user.load(NEAR).expect("a file");
    kernel.close(&object).expect("it is mapped");
    let stored = Arc::new(AtomicBool::new(false));
    let was_stored = Arc::clone(&stored);
    let last = user.twin();
    kernel.at_end(move |_| {
        last.unmap(NEAR, 2).expect("memory");
        let expected = if was_stored.load(Ordering::Relaxed) { 9 } else { 2 };
        assert_eq!(disk.byte(1), expected, "what was stored is lost");
    });
    let twin = user.twin();
    stage.actor(0, "store", move || match twin.store(AT, 9) {
        Ok(()) => stored.store(true, Ordering::Relaxed),
        Err(error) => assert!(
            matches!(error, FaultError::Unmapped { .. } | FaultError::Denied { .. }),
            "{error:?}"
        ),
    });
    stage.actor(1, "call", move || call(&user));
}
