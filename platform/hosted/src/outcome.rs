//! How it ends: a group of threads is done, or the machine has stopped and says why.
//!
//! Flow:  last thread of a group, or first panic anywhere -> `Outcome` -> whoever waits in `run`.
//! Locks: `casualty`; the condition variable goes with it.
//! Sleep: threads of the host wait here, never a CPU.
//! Owns:  the payload of the first panic, until somebody has resumed it.

use std::any::Any;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::cpu::lock;

/// The threads that descend from one call of `run`, as a count.
#[derive(Clone, Default)]
pub(crate) struct Group(Arc<AtomicUsize>);

impl Group {
    pub(crate) fn join(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

pub(crate) type Payload = Box<dyn Any + Send>;

struct Casualty {
    story: String,
    payload: Option<Payload>,
}

#[derive(Default)]
pub(crate) struct Outcome {
    casualty: Mutex<Option<Casualty>>,
    changed: Condvar,
}

impl Outcome {
    /// A thread of `group` has ended.
    pub(crate) fn leave(&self, group: &Group) {
        if group.0.fetch_sub(1, Ordering::SeqCst) == 1 {
            let _casualty = lock(&self.casualty);
            self.changed.notify_all();
        }
    }

    /// Keeps the first panic; later ones are consequences.
    pub(crate) fn record(&self, payload: Payload) {
        let mut casualty = lock(&self.casualty);
        if casualty.is_none() {
            let story = story_of(&payload);
            *casualty = Some(Casualty { story, payload: Some(payload) });
        }
        self.changed.notify_all();
    }

    pub(crate) fn has_stopped(&self) -> bool {
        lock(&self.casualty).is_some()
    }

    /// Panics if the machine has stopped.
    pub(crate) fn assert_alive(&self) {
        if let Some(casualty) = &*lock(&self.casualty) {
            panic!("the machine has stopped: {}", casualty.story);
        }
    }

    /// Waits until `group` is done. If the machine stops first, its panic goes on here; whoever comes
    /// later gets the story only.
    pub(crate) fn wait(&self, group: &Group) {
        let mut casualty = lock(&self.casualty);
        loop {
            if let Some(dead) = &mut *casualty {
                let (story, payload) = (dead.story.clone(), dead.payload.take());
                drop(casualty);
                match payload {
                    Some(payload) => resume_unwind(payload),
                    None => panic!("the machine has stopped: {story}"),
                }
            }
            if group.0.load(Ordering::SeqCst) == 0 {
                return;
            }
            casualty = self.changed.wait(casualty).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn story_of(payload: &Payload) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".to_owned())
}
