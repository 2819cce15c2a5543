//! Kernel memory: arenas, zones and the heap on top, on hosted machines.
//!
//! Each test ends with what it made closed: every frame is back where it came from, and every invariant holds.

#[path = "kernel_memory/arenas.rs"]
mod arenas;
#[path = "kernel_memory/heap.rs"]
mod heap;
#[path = "kernel_memory/machine.rs"]
mod machine;
#[path = "kernel_memory/maps.rs"]
mod maps;
#[path = "kernel_memory/pressure.rs"]
mod pressure;
#[path = "kernel_memory/reports.rs"]
mod reports;
#[path = "kernel_memory/zones.rs"]
mod zones;
