//! What tests and people need around the component: workloads, replay, reports, the command line.

pub mod machine;
pub mod replay;
pub mod report;
pub mod trace;
