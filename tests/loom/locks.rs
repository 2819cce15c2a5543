//! Locks: who is inside is alone, and sees what was done inside before.

use std::sync::Arc;

use rumpvm::sync::{Mutex, Rw, Spin};

use crate::home::{Home, LOCK, Watched, model, on};

/// Runs `works` at once, the first on CPU 0.
fn at_once<T: 'static>(shared: T, works: &[fn(&T)]) {
    let shared = Arc::new(shared);
    let start = |(cpu, work): (usize, &fn(&T))| {
        let (shared, work) = (Arc::clone(&shared), *work);
        on(cpu as u32, move || work(&shared))
    };
    let others: Vec<_> = works.iter().enumerate().skip(1).map(start).collect();
    works[0](&shared);
    for other in others {
        other.join().unwrap();
    }
}

#[test]
fn the_holder_of_a_spin_lock_is_alone() {
    let take: fn(&Spin<Watched, Home>) = |lock| lock.lock().change();
    let attempt: fn(&Spin<Watched, Home>) = |lock| {
        if let Some(held) = lock.try_lock() {
            held.change();
        }
    };
    model(move || at_once(Spin::new(&LOCK, Watched::new()), &[take, take]));
    model(move || at_once(Spin::new(&LOCK, Watched::new()), &[take, attempt, attempt]));
}

#[test]
fn a_writer_is_alone_and_readers_see_what_it_did() {
    let read: fn(&Rw<Watched, Home>) = |lock| lock.read().look();
    let write: fn(&Rw<Watched, Home>) = |lock| lock.write().change();
    model(move || at_once(Rw::new(&LOCK, Watched::new()), &[read, write]));
    model(move || at_once(Rw::new(&LOCK, Watched::new()), &[write, write]));
}

#[test]
fn a_try_at_a_reader_writer_lock_gets_in_only_where_a_wait_would() {
    let write: fn(&Rw<Watched, Home>) = |lock| lock.write().change();
    let try_read: fn(&Rw<Watched, Home>) = |lock| {
        if let Some(held) = lock.try_read() {
            held.look();
        }
    };
    let try_write: fn(&Rw<Watched, Home>) = |lock| {
        if let Some(held) = lock.try_write() {
            held.change();
        }
    };
    let read: fn(&Rw<Watched, Home>) = |lock| lock.read().look();
    model(move || at_once(Rw::new(&LOCK, Watched::new()), &[read, try_write, try_write]));
    model(move || at_once(Rw::new(&LOCK, Watched::new()), &[write, try_read, try_write]));
}

#[test]
fn the_holder_of_a_sleep_lock_is_alone_and_whoever_waits_is_woken() {
    let take: fn(&Mutex<Watched, Home>) = |lock| lock.lock().change();
    model(move || at_once(Mutex::new(&LOCK, Watched::new()), &[take, take]));
    model(move || at_once(Mutex::new(&LOCK, Watched::new()), &[take, take, take]));
}
