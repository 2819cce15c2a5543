//! The small primitives of the component, in every order and with every stale value that the memory model allows.
//!
//! The explorer of `harness/explore` knows x86's order and no weaker one; loom knows the language's. It cannot do
//! whole scenarios, nor words that lie in frames, so only what stands in a record of its own is here. Empty
//! unless built with `--cfg loom`, which `cargo xtask test` does.
//!
//! | file | what |
//! |---|---|
//! | `home` | the home of the models, and what they watch |
//! | `locks` | spin, reader-writer and sleep locks |
//! | `waits` | events; the busy bit of a page |
//! | `epoch` | pins, moving on, retiring |
//! | `counts` | holds and uses |
//! | `mailbox` | a request and its acknowledgement |
#![cfg(all(loom, test))]

mod counts;
mod epoch;
mod home;
mod locks;
mod mailbox;
mod waits;
