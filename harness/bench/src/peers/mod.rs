//! What stands beside the component: crates that do one of its jobs, used as their documentation says.

pub(crate) mod areas;
pub(crate) mod buddy_slab;
pub(crate) mod buddy_system;
pub(crate) mod depot;
pub(crate) mod multiarch;
mod ram;
pub(crate) mod x86_64;
