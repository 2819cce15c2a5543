//! `cargo xtask sanitize`: AddressSanitizer and ThreadSanitizer over everything that runs on several CPUs.
//!
//! The hosted CPUs are host threads, so the sanitizers see the component's real accesses on them. Both
//! need a standard library that is instrumented too, which Debian's compiler can build; its clang links.
//!
//! Flow:  packages -> tests and command line, instrumented -> each run; any report fails the chore.
//!
//! ThreadSanitizer does not know fences: `--cfg rumpvm_tsan` puts a read-modify-write in their place. Nor
//! does it know that threads of the machine switch stacks: the innermost frames of its reports are right,
//! but those below the scheduler's may be another thread's of the same CPU.

use std::process::Command;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use crate::{debian, step, workspace};

const TARGET: &str = "x86_64-unknown-linux-gnu";
const TESTS: &str = "test -p rumpvm-tests --test threads";
const BUILD: &str = "build -p rumpvm-harness";
/// More CPUs than most desks have, so that the host takes them away in the middle of things too.
const RUNS: [&str; 5] = [
    "run mapstorm --cpus 4 --seed 1",
    "run bulkbuild --cpus 4 --seed 1",
    "run tuxload --cpus 4 --seed 1",
    "run server --cpus 4 --seed 1",
    // Little memory: the caches of all CPUs are drained under load.
    "run mapstorm --cpus 4 --memory 16M --seed 2",
];
/// What is no race of ours, each line with its reason.
const SUPPRESSIONS: &str = "tests/sanitize/thread.supp";

#[derive(Args)]
pub(crate) struct Arguments {
    /// Which one; both if none is named.
    #[arg(value_enum)]
    which: Option<Sanitizer>,
    /// How long each workload runs: 60s, 2m...
    #[arg(long, default_value = "20s", value_name = "TIME")]
    time: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Sanitizer {
    /// Accesses to heap and stack memory that is not there any more, or never was; leaks.
    Address,
    /// Two threads at one place, one of them storing, with no order between them.
    Thread,
}

/// Installs what is missing and runs the tests and workloads under one sanitizer or both.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    debian::need(&debian::COMPILER)?;
    let llvm = debian::llvm()?;
    let tools = [
        format!("clang-{llvm}"),
        format!("lld-{llvm}"),
        format!("libclang-rt-{llvm}-dev"),
        // The symbolizer; suppressions go by the names that it finds.
        format!("llvm-{llvm}"),
    ];
    debian::need(&tools.each_ref().map(String::as_str))?;
    let wanted = |sanitizer: &Sanitizer| arguments.which.is_none_or(|only| only == *sanitizer);
    for sanitizer in Sanitizer::value_variants().iter().filter(|sanitizer| wanted(sanitizer)) {
        sanitizer.run(llvm, &arguments.time)?;
    }
    Ok(())
}

impl Sanitizer {
    fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Thread => "thread",
        }
    }

    fn run(self, llvm: u32, time: &str) -> Result<()> {
        let name = self.name();
        let folder = workspace::metadata()?.target_directory.join(format!("sanitize-{name}"));
        let cargo = |words: &str| {
            let words = format!("{words} -Zbuild-std=std,panic_unwind --target {TARGET}");
            let mut command = debian::cargo(folder.as_std_path(), &words);
            command.env("RUSTFLAGS", self.rustc_flags(llvm));
            command
        };
        let report = || format!("{name} sanitizer: a report above, or the run itself failed");
        self.step("threads", llvm, &mut cargo(TESTS)).with_context(report)?;
        step::run(&format!("{name}: build"), &mut cargo(BUILD))?;
        let program = folder.join(TARGET).join("debug/rumpvm");
        for run in RUNS {
            let words = format!("{run} --time {time}");
            let mut command = Command::new(&program);
            command.args(words.split_whitespace());
            self.step(&words, llvm, &mut command).with_context(report)?;
        }
        Ok(())
    }

    fn step(self, title: &str, llvm: u32, command: &mut Command) -> Result<()> {
        let (variable, options) = self.options();
        let symbolizer = format!("/usr/bin/llvm-symbolizer-{llvm}");
        command.env(variable, format!("{options}:external_symbolizer_path={symbolizer}"));
        step::run(&format!("{}: {title}", self.name()), command)
    }

    fn rustc_flags(self, llvm: u32) -> String {
        let name = self.name();
        let cfg = match self {
            Self::Address => "",
            Self::Thread => "--cfg rumpvm_tsan",
        };
        format!(
            "-Zsanitizer={name} -Zexternal-clangrt -Clinker=clang-{llvm} \
             -Clink-arg=-fsanitize={name} -Clink-arg=-fuse-ld=lld {cfg}"
        )
    }

    /// The variable that the sanitizer's runtime reads, and what we say there. A report makes the program
    /// exit with a status of its own, which is not 0.
    fn options(self) -> (&'static str, String) {
        match self {
            // A frame's fate on a fake stack is decided by comparing addresses of one real stack, and
            // each of the machine's threads has its own.
            Self::Address => ("ASAN_OPTIONS", "detect_stack_use_after_return=0".into()),
            Self::Thread => {
                let suppressions = workspace::root().join(SUPPRESSIONS);
                let path = suppressions.display();
                ("TSAN_OPTIONS", format!("suppressions=\"{path}\""))
            }
        }
    }
}
