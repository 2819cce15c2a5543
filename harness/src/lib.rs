//! What tests and people need around the component: the machine, workloads, recordings, reports, the
//! command line.

pub mod cli;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod differ;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod linux;
pub mod machine;
pub mod replay;
pub mod report;
pub mod tour;
pub mod trace;
pub mod values;
pub mod workload;
