//! Waits: no wake-up is lost. One that is lost leaves a sleeper, which loom reports as a deadlock.

use std::sync::Arc;

use rumpvm::phys::{Page, PageKind};
use rumpvm::sync::{Atomic, Event, Ordering};

use crate::home::{Home, Watched, model, on};

#[test]
fn whoever_waits_for_an_event_sees_what_was_changed_before_it() {
    model(|| {
        // The counts are relaxed: the generation alone orders them.
        let counts: [Atomic<u32, Home>; 2] = [Atomic::new(0), Atomic::new(0)];
        let shared = Arc::new((Event::<Home>::new(), counts));
        let raisers = [0, 1].map(|at| {
            let shared = Arc::clone(&shared);
            on(at as u32 + 1, move || {
                shared.1[at].store(1, Ordering::Relaxed);
                shared.0.raise();
            })
        });
        loop {
            let seen = shared.0.seen();
            if shared.1.iter().all(|count| count.load(Ordering::Relaxed) == 1) {
                break;
            }
            shared.0.wait(seen);
        }
        for raiser in raisers {
            raiser.join().unwrap();
        }
    });
}

/// Gets the page busy, sleeping while it is, and changes its contents.
fn fill(page: &Page<Home>, contents: &Watched) {
    loop {
        if let Some(_busy) = page.try_busy() {
            contents.change();
            return;
        }
        page.sleep_while_busy();
    }
}

#[test]
fn whoever_has_a_page_busy_is_alone_and_wakes_whoever_waits() {
    model(|| {
        let shared = Arc::new((Page::<Home>::new(PageKind::Object), Watched::new()));
        let other = {
            let shared = Arc::clone(&shared);
            on(1, move || fill(&shared.0, &shared.1))
        };
        // Changes the word under a sleeper.
        let marker = {
            let shared = Arc::clone(&shared);
            on(2, move || shared.0.set_dirty())
        };
        fill(&shared.0, &shared.1);
        other.join().unwrap();
        marker.join().unwrap();
        assert!(shared.0.is_dirty() && !shared.0.is_busy());
    });
}
