//! What interrupts call in scenarios that boot no component.

use std::sync::{Arc, Weak};

use rumpvm_hosted::Upcalls;
use rumpvm_hosted::explored::Stage;

use crate::Pc;

/// Serves flush requests and timer ticks by a call.
pub(super) struct Handler<F>(F);

impl<F: Fn() + Send + Sync + 'static> Handler<F> {
    /// Has every interrupt of the run call `serve`.
    pub(super) fn connect(stage: &Stage, serve: F) {
        let handler = Arc::new(Self(serve));
        let weak: Weak<Self> = Arc::downgrade(&handler);
        Pc::here().connect(weak);
        stage.finally(move || drop(handler));
    }
}

impl<F: Fn() + Send + Sync> Upcalls for Handler<F> {
    fn tlb_interrupt(&self) {
        (self.0)();
    }

    fn idle(&self) -> bool {
        false
    }
}
