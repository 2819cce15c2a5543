//! Linux programs in the image: busybox as it is packaged, and programs of `harness/guest`, built here: in C with both
//! libraries, in Rust with 64 threads, and the five workloads.
//!
//! Each run ends with the component's own check of every invariant. It is short: what takes long is measured elsewhere.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rumpvm_boot::emulator::{self, Settings};
use rumpvm_boot::hardware::Hardware;
use rumpvm_boot::{guests, ramdisk};

use crate::bench::guest;
use crate::step;

/// A program, where it runs, and what has to come of it.
struct Run {
    words: &'static [&'static str],
    input: &'static str,
    machine: (&'static str, &'static str),
    cpus: usize,
    /// Time goes by instructions.
    is_counted: bool,
    memory: &'static str,
    status: u8,
    /// What it writes, exactly or, if it ends with dots, at least in the beginning.
    output: &'static str,
    found: Found,
}

/// What a program finds besides itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    /// Busybox, and the guests in C.
    Busybox,
    /// Nothing. It is in Rust, and large beside the smallest machine.
    Nothing,
}

const SHELL: Run = Run {
    words: &[],
    input: "",
    machine: ("q35", "max"),
    cpus: 2,
    is_counted: false,
    memory: "64M",
    status: 0,
    output: "",
    found: Found::Busybox,
};

const fn shell(words: &'static [&'static str], output: &'static str) -> Run {
    Run { words, output, ..SHELL }
}

const fn alone(words: &'static [&'static str], output: &'static str) -> Run {
    Run { found: Found::Nothing, ..shell(words, output) }
}

const OLD: (&str, &str) = ("pc", "qemu64");

const RUNS: [Run; 38] = [
    shell(&["/bin/busybox", "echo", "hi"], "hi\n"),
    Run {
        machine: OLD,
        cpus: 1,
        ..shell(&["/bin/busybox", "echo", "two words", ""], "two words \n")
    },
    shell(
        &[
            "/bin/sh",
            "-c",
            "echo a | cat | tr a b; x=$(echo c); echo $x; (sleep 0.01; echo d) & wait; ls / | wc -l",
        ],
        "b\nc\nd\n...",
    ),
    shell(
        &[
            "/bin/sh",
            "-c",
            "seq 2000 | sort -r | sort -n | uniq | cat | head -1500 | tail -3 | cat | sed s/^/n/ | tac",
        ],
        "n1500\nn1499\nn1498\n",
    ),
    Run {
        memory: "16M",
        machine: OLD,
        cpus: 1,
        ..shell(
            &["/bin/sh", "-c", "dd if=/dev/zero bs=1M count=2 2>/dev/null | md5sum"],
            "b2d1236c286a3c0704224fe4105eca49  -\n",
        )
    },
    // Half a million lines, each with memory of its own. Twenty times as many work as well, and take a minute.
    shell(&["/bin/sh", "-c", "yes | head -c 1000000 | sort | uniq -c"], " 500000 y\n"),
    Run { memory: "32M", ..shell(&["/bin/hog.musl", "16"], "hog: 16 MiB held\n") },
    // Memory that there is not is refused where the promise is asked for, and kills where it is kept.
    Run { memory: "32M", status: 2, ..shell(&["/bin/hog.musl", "64", "whole"], "hog: refused\n") },
    Run { memory: "32M", status: 137, ..shell(&["/bin/hog.musl", "64"], "") },
    Run { input: "one\ntwo\n", ..shell(&["/bin/sh", "-c", "sort -r"], "two\none\n") },
    shell(
        &[
            "/bin/sh",
            "-c",
            "mkdir /tmp/d; echo x > /tmp/d/f; mv /tmp/d/f /tmp/d/g; ln -s g /tmp/d/h; cat /tmp/d/h; rm -r /tmp/d; ls /tmp",
        ],
        "x\n",
    ),
    shell(
        &[
            "/bin/sh",
            "-c",
            "grep -c . /proc/self/maps > /dev/null && grep VmRSS /proc/self/status | cut -c1-6",
        ],
        "VmRSS:\n",
    ),
    shell(
        &[
            "/bin/sh",
            "-c",
            "find / -xdev -type f -not -path /tmp/sums | xargs md5sum > /tmp/sums && md5sum -c -s /tmp/sums; echo $?",
        ],
        "0\n",
    ),
    // Whatever is shown of processes can be read, but what is as long as the addresses.
    shell(
        &[
            "/bin/sh",
            "-c",
            "find /proc -type f | grep -v -e mem$ -e pagemap -e sysrq | xargs cat | grep -c : >/dev/null; echo $?",
        ],
        "0\n",
    ),
    shell(
        &["/bin/sh", "-c", "i=0; while [ $i -lt 200 ]; do (true); i=$((i+1)); done; echo $i"],
        "200\n",
    ),
    Run { status: 7, ..shell(&["/bin/sh", "-c", "exit 7"], "") },
    Run { status: 200, ..shell(&["/bin/sh", "-c", "exit 200"], "") },
    Run { status: 137, cpus: 1, ..shell(&["/bin/sh", "-c", "kill -9 $$"], "") },
    Run { status: 127, ..shell(&["/bin/nothing"], "") },
    shell(&["/bin/signals.glibc"], "signals: done\n"),
    shell(&["/bin/locks.musl"], "locks: done\n"),
    shell(&["/bin/rights.musl"], "rights: done\n"),
    shell(&["/bin/sockets.musl"], "sockets: done\n"),
    shell(&["/bin/limits.musl"], "limits: done\n"),
    shell(&["/bin/clocks.musl"], "clocks: done\n"),
    shell(&["/bin/heard.musl"], "heard: done\n"),
    Run { cpus: 4, ..shell(&["/bin/threads.musl"], "threads: done\n") },
    Run { cpus: 1, ..shell(&["/bin/priorities.musl"], "priorities: done\n") },
    Run { cpus: 1, is_counted: true, ..shell(&["/bin/alarms.musl"], "alarms: done\n") },
    shell(&["/bin/calls.glibc", "1", "1000000"], "calls: ..."),
    shell(&["/bin/calls.musl", "2", "1000000"], "calls: ..."),
    Run { memory: "32M", ..shell(&["/bin/calls.glibc", "3", "1000000"], "calls: ...") },
    alone(&["/crowd"], "crowd: 64 threads, 3200 parcels\n"),
    // What is counted follows from the seed, and is the same on Linux.
    alone(
        &["/load", "tuxload", "1", "16M", "3"],
        "tuxload: 0 failures, 5280 operations, 0 times out of memory\n",
    ),
    alone(
        &["/load", "bulkbuild", "1", "64M", "3"],
        "bulkbuild: 0 failures, 8666 operations, 0 times out of memory\n",
    ),
    // Its fourth buffer is larger than what is left.
    alone(&["/load", "bigbuffer", "1", "free", "4"], "bigbuffer: 0 failures, ..."),
    alone(
        &["/load", "server", "1", "32M", "20"],
        "server: 0 failures, 69878 operations, 0 times out of memory\n",
    ),
    alone(
        &["/load", "mapstorm", "1", "64M", "2"],
        "mapstorm: 0 failures, 31894 operations, 0 times out of memory\n",
    ),
];

/// Budgets are for the image as it is used, without the compiler's checks.
const MEASURED: &str = "linux, instructions counted: /measure";

/// How long each may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs them on `image`; only those whose title contains `only`.
pub(super) fn run(image: &Path, only: &str) -> Result<()> {
    let wanted = RUNS.iter().filter(|run| run.title().contains(only));
    let (alone, others): (Vec<_>, Vec<_>) = wanted.partition(|run| run.found == Found::Nothing);
    if !others.is_empty() {
        let ramdisk = ramdisk::of_busybox(&guests::in_c()?)?;
        others.iter().try_for_each(|run| one(image, &ramdisk, run))?;
    }
    if !alone.is_empty() {
        let folder = guests::in_rust()?;
        for run in alone {
            let name = run.words[0].trim_start_matches('/');
            one(image, &ramdisk::of_program(name, &folder.join(name))?, run)?;
        }
    }
    if MEASURED.contains(only) {
        step::say(MEASURED);
        guest::short()?;
    }
    Ok(())
}

impl Run {
    fn title(&self) -> String {
        let Self { machine: (machine, cpu), cpus, memory, words, .. } = self;
        format!("linux {machine} -cpu {cpu} -smp {cpus} -m {memory}: {}", words.join(" "))
    }
}

fn one(image: &Path, ramdisk: &Path, run: &Run) -> Result<()> {
    let program: Vec<String> = run.words.iter().map(|word| word.to_string()).collect();
    let title = run.title();
    let started = Instant::now();
    let outcome = emulator::run(&Settings {
        image,
        ramdisk,
        program: &program,
        hardware: Hardware {
            machine: run.machine,
            memory: run.memory,
            cpus: run.cpus,
            counts_instructions: run.is_counted,
        },
        disks: &[],
        quiet: true,
        limit: Some(LIMIT),
        words: "check",
        captured: Some(run.input.as_bytes()),
    })?;
    let output = String::from_utf8_lossy(&outcome.output);
    let as_expected = match run.output.strip_suffix("...") {
        Some(beginning) => output.starts_with(beginning),
        None => output == run.output,
    };
    if outcome.status != run.status
        || !as_expected
        || !outcome.log.contains("check passed") && run.status != 127
    {
        bail!("{}\n{title}: status {} and output {output:?}", outcome.log, outcome.status);
    }
    step::say(format_args!("{title}: done in {:.1} s", started.elapsed().as_secs_f64()));
    Ok(())
}
