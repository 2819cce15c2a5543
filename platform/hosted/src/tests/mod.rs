//! The promises of the machine, seen from outside.

mod paging;
mod running;
mod stale;
mod tables;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rumpvm_arch::{Format, PAGE_SIZE};

use crate::{Hosted, Power};

/// A machine with a megabyte.
fn machine<F: Format>(cpus: usize) -> (Hosted<F>, Power) {
    Hosted::power_on(256 * PAGE_SIZE, cpus).unwrap()
}

/// The message of the panic that `body` must end in.
fn panic_of<R>(body: impl FnOnce() -> R) -> String {
    let payload: Box<dyn Any + Send> = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(_) => panic!("it should have panicked"),
        Err(payload) => payload,
    };
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).expect("a panic with words")
}
