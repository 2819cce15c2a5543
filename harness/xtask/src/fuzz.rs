//! `cargo xtask fuzz`: the fuzzers of `harness/fuzz`, guided by coverage, on the stable compiler.
//!
//! Flow:  a C++ compiler for libFuzzer -> build, instrumented -> each fuzzer over its corpus and what it found before
//!        -> nothing, or the input that ended it and the command that does so again.
//!
//! It is what `cargo fuzz run --fuzz-dir harness/fuzz` does without a sanitizer, but needs neither its program nor a
//! nightly compiler: the passes that count edges and compare operands belong to LLVM and are reached by stable
//! options. New inputs go to the target folder; `--keep` adds those to the tree that reach something new.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{debian, step, workspace};

/// With a target named, build scripts and macros are left as they are.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// As cargo-fuzz has them.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
     -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing";

/// Longest inputs: thousands of calls and hundreds of lines tell no more than some.
const LIMITS: &str =
    "-max_len=4096 -timeout=30 -rss_limit_mb=2048 -print_final_stats=0 -verbosity=1";

/// The run that `cargo xtask test` makes of each; with one seed, so that it is much the same everywhere.
const SHORT: &str = "-max_total_time=3 -seed=1";

/// More of an input than this says nothing on a screen.
const SHOWN: usize = 2000;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Which one; each in turn if none is named.
    fuzzer: Option<String>,
    /// How long each runs: 60s, 10m...
    #[arg(long, default_value = "60s", value_name = "TIME")]
    time: humantime::Duration,
    /// Runs this one input, with the whole story, and nothing else.
    #[arg(long, requires = "fuzzer", value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Afterwards, adds to the corpus in the tree what reaches anything new.
    #[arg(long)]
    keep: bool,
}

/// Builds the fuzzers and lets them run.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let fuzzers = Fuzzers::build()?;
    let names: Vec<&String> = match &arguments.fuzzer {
        None => fuzzers.names.iter().collect(),
        Some(wanted) => fuzzers.names.iter().filter(|name| *name == wanted).collect(),
    };
    if names.is_empty() {
        bail!("there is no such fuzzer; there are {}", fuzzers.names.join(", "));
    }
    for name in names {
        if let Some(input) = &arguments.replay {
            let input = input.canonicalize().with_context(|| format!("{}", input.display()))?;
            return step::run(&format!("{name}: replay"), fuzzers.command(name).arg(input));
        }
        fuzzers.fuzz(name, &format!("-max_total_time={}", arguments.time.as_secs().max(1)))?;
        if arguments.keep {
            fuzzers.keep(name)?;
        }
    }
    Ok(())
}

/// The short run of each.
pub(crate) fn short() -> Result<()> {
    let fuzzers = Fuzzers::build()?;
    fuzzers.names.iter().try_for_each(|name| fuzzers.fuzz(name, SHORT))
}

/// The fuzzers, built.
struct Fuzzers {
    names: Vec<String>,
    /// Where they were built, and where they put what they find.
    folder: PathBuf,
}

impl Fuzzers {
    fn build() -> Result<Self> {
        if !step::succeeds(Command::new("c++").arg("--version")) {
            debian::need(&["g++"])?;
        }
        let folder = workspace::metadata()?.target_directory.join("fuzz").into_std_path_buf();
        let words = format!("build --release --target {TARGET}");
        let mut command = step::cargo(&source(), &words);
        command.env("RUSTFLAGS", FLAGS).env("CARGO_TARGET_DIR", &folder);
        step::run("fuzzers", &mut command)?;
        let mut names = Vec::new();
        for entry in fs::read_dir(source().join("targets"))? {
            let path = entry?.path();
            names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
        }
        names.sort();
        Ok(Self { names, folder })
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.folder.join(TARGET).join("release").join(name));
        command.args(LIMITS.split_whitespace());
        command
    }

    /// What it found in earlier runs, and what ended it.
    fn found(&self, name: &str, kind: &str) -> Result<PathBuf> {
        let folder = self.folder.join(kind).join(name);
        fs::create_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
        Ok(folder)
    }

    /// Lets one run, and tells the input that ended it.
    fn fuzz(&self, name: &str, options: &str) -> Result<()> {
        let (found, ended) = (self.found(name, "found")?, self.found(name, "ended")?);
        for old in fs::read_dir(&ended)? {
            fs::remove_file(old?.path())?;
        }
        let mut command = self.command(name);
        command.args(options.split_whitespace());
        command.arg(format!("-artifact_prefix={}/", ended.display()));
        command.arg(&found).arg(corpus(name));
        // It tells every few seconds how far it is, on standard error.
        let outcome = step::run(&format!("{name}: {options}"), &mut command);
        for input in fs::read_dir(&ended)? {
            tell(name, &input?.path())?;
        }
        outcome
    }

    /// Adds to the tree what reaches anything new. Those that are there stay, as each was worth it once.
    fn keep(&self, name: &str) -> Result<()> {
        let mut command = self.command(name);
        command.arg("-merge=1").arg(corpus(name)).arg(self.found(name, "found")?);
        step::run(&format!("{name}: keep"), &mut command)
    }
}

/// Where the fuzzers are.
fn source() -> PathBuf {
    workspace::root().join("harness/fuzz")
}

fn corpus(name: &str) -> PathBuf {
    source().join("corpus").join(name)
}

/// Prints an input, as text if it is, and how to give it once more.
fn tell(name: &str, path: &Path) -> Result<()> {
    let bytes = fs::read(path)?;
    let shown = &bytes[..bytes.len().min(SHOWN)];
    println!("xtask: {} bytes ended {name}:", bytes.len());
    match std::str::from_utf8(shown) {
        Ok(text) => println!("{text}"),
        Err(_) => println!("{}", shown.escape_ascii()),
    }
    println!("To see it again:\n  cargo xtask fuzz {name} --replay {}", path.display());
    println!("To have every test run look at it, copy it to {}.", corpus(name).display());
    Ok(())
}
