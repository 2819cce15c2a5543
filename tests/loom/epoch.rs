//! Epochs: nothing is freed under a pin that could have found it (E2, E3).

use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::Arc;

use rumpvm::sync::epoch::{Epoch, Retired};
use rumpvm::sync::{AtomicPtr, Ordering};

use crate::home::{Home, Watched, model, on};

/// A record with its links in front. Its memory outlives the model, so that a read too late is reported and
/// not undefined.
#[repr(C)]
struct Record {
    links: Retired,
    contents: Watched,
    freed: AtomicBool,
}

/// What all CPUs see: the clock, and the one link to the record.
struct Shared {
    epoch: Epoch<Home>,
    link: AtomicPtr<Record, Home>,
}

/// # Safety
/// `record` is the first field of a live `Record`.
unsafe fn free(record: *mut Retired) {
    // SAFETY: by the caller's promise; records are `repr(C)`.
    let record = unsafe { &*record.cast::<Record>() };
    record.contents.change();
    assert!(!record.freed.swap(true, Relaxed), "freed twice");
}

fn read(shared: &Shared) {
    let _pin = shared.epoch.pin();
    let record = shared.link.load(Ordering::Acquire);
    if !record.is_null() {
        // SAFETY: the record's memory is freed at the end of the model only.
        let record = unsafe { &*record };
        record.contents.look();
        assert!(!record.freed.load(Relaxed), "freed under a pin");
    }
}

fn unlink(shared: &Shared) {
    let record = shared.link.load(Ordering::Relaxed);
    shared.link.store(ptr::null_mut(), Ordering::Release);
    // SAFETY: the only link is gone, and only this function retires, once in each model.
    unsafe { shared.epoch.retire(NonNull::new(record).unwrap().cast()) };
}

fn move_on_and_free(shared: &Shared) {
    shared.epoch.advance();
    shared.epoch.advance();
    shared.epoch.collect();
}

/// Runs `works` at once, each on a CPU of its own. Returns in how many runs the record went before the clock.
fn freed_early(works: Vec<fn(&Shared)>) -> u64 {
    let early = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&early);
    model(move || {
        let links = Retired::new(free);
        let (contents, freed) = (Watched::new(), AtomicBool::new(false));
        let record = Box::into_raw(Box::new(Record { links, contents, freed }));
        let epoch = Epoch::try_new(works.len() + 1).unwrap();
        let shared = Arc::new(Shared { epoch, link: AtomicPtr::new(record) });
        let start = |(at, work): (usize, &fn(&Shared))| {
            let (shared, work) = (Arc::clone(&shared), *work);
            on(at as u32 + 1, move || work(&shared))
        };
        let cpus: Vec<_> = works.iter().enumerate().map(start).collect();
        for cpu in cpus {
            cpu.join().unwrap();
        }
        assert!(!shared.epoch.is_pinned());
        // SAFETY: no CPU runs any more, and the memory is freed below.
        count.fetch_add(u64::from(unsafe { &*record }.freed.load(Relaxed)), Relaxed);
        drop(shared);
        // SAFETY: it came out of a box above, and the clock, which had the last pointer to it, is gone.
        let record = unsafe { Box::from_raw(record) };
        assert!(record.freed.load(Relaxed), "lost");
    });
    early.load(Relaxed)
}

#[test]
fn nothing_is_freed_under_a_pin_that_found_it() {
    let writer: fn(&Shared) = |shared| {
        unlink(shared);
        move_on_and_free(shared);
    };
    assert_ne!(
        freed_early(vec![read, writer]),
        0,
        "no run freed anything while the clock was there"
    );
}

#[test]
fn it_does_not_matter_which_cpu_moves_the_epoch_on() {
    let writer: fn(&Shared) = |shared| {
        unlink(shared);
        shared.epoch.advance();
        shared.epoch.collect();
    };
    let mover: fn(&Shared) = |shared| {
        shared.epoch.advance();
    };
    assert_ne!(
        freed_early(vec![read, writer, mover]),
        0,
        "no run freed anything while the clock was there"
    );
}
