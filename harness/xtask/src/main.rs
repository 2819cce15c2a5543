//! The workspace's chores: `cargo xtask check`, `cargo xtask test`, and those that take longer.
//!
//! Each chore is a list of steps, a step is one command or one of the checks below `layers`, and the
//! first step that fails ends the chore with its exit status.

mod bench;
mod boot;
mod check;
mod explore;
mod fuzz;
mod header;
mod layers;
mod link;
mod mutants;
mod sanitize;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rumpvm_boot::{debian, disc, image, library, step, workspace};

/// Builds, checks and tests the workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// What is quick: formatting, clippy, documentation, layers.
    Check,
    /// Everything that CI runs after `check`: all tests, the build for bare metal, the command line.
    Test,
    /// The component for bare metal, one stage of `test`; sets up the compiler if it is missing.
    Bare,
    /// The boot image on each kind of emulated machine, one stage of `test`; sets up the compiler and QEMU if they are
    /// missing. With a word, only those runs whose title contains it.
    Boot {
        /// Part of a title: `linux`, `ring3`, `microvm`...
        only: Option<String>,
    },
    /// What the component costs, beside its budgets and its peers. Sets up valgrind if it is missing.
    Bench(bench::Arguments),
    /// Every scenario, some ten million schedules in all; with `--nightly` as many as a night allows.
    Explore(explore::Arguments),
    /// The fuzzers of `harness/fuzz`, guided by coverage: readers of foreign bytes, and sequences of calls against
    /// the model of memory.
    Fuzz(fuzz::Arguments),
    /// Writes `rumpvm.h` anew, of what `platform/foreign` says.
    Header,
    /// The library for other kernels, and hosts in C that are linked with it, one stage of `test`; sets up compilers if they
    /// are missing.
    Link,
    /// How large the library is with each of its layers, for x86-64; fails if one is larger than it may be.
    Sizes,
    /// Imports that point the wrong way, by crate and by module.
    Layers,
    /// The tests and workloads with several CPUs under AddressSanitizer and ThreadSanitizer; sets up
    /// Debian's compiler and clang if they are missing.
    Sanitize(sanitize::Arguments),
    /// Whether the tests would notice if the code were wrong.
    Mutants(mutants::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().chore {
        Chore::Check => check::run(),
        Chore::Test => test::run(),
        Chore::Bare => image::build(image::Profile::Checked).map(drop),
        Chore::Boot { only } => boot::run(only.as_deref().unwrap_or_default()),
        Chore::Bench(arguments) => bench::run(&arguments),
        Chore::Explore(arguments) => explore::run(&arguments),
        Chore::Fuzz(arguments) => fuzz::run(&arguments),
        Chore::Header => header::write(),
        Chore::Link => link::run(),
        Chore::Sizes => link::sizes(),
        Chore::Layers => layers::run(),
        Chore::Sanitize(arguments) => sanitize::run(&arguments),
        Chore::Mutants(arguments) => mutants::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
