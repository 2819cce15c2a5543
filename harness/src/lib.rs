//! What tests and people need around the component: the machine, workloads, recordings, reports, the
//! command line.

pub mod cli;
pub mod machine;
pub mod replay;
pub mod report;
pub mod tour;
pub mod trace;
pub mod values;
pub mod workload;
