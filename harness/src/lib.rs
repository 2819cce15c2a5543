//! What tests and people need around the component: workloads, reports, the command line.

pub mod report;
