//! Callgrind: how this program speaks to it from inside, and how it runs itself under it.
//!
//! Everything is one process: each case that ends asks for a dump, whose description is the case's name. What the
//! processor can do enters twice, and is kept out: valgrind shows the program the features of the host, by which
//! the C library chooses its `memcpy`, so it is told to do without; and the environment's length moves the stack.

use std::arch::asm;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::places;

/// Requests of callgrind.h: "CT" and a number.
const BASE: u64 = (b'C' as u64) << 24 | (b'T' as u64) << 16;
const TOGGLE_COLLECT: u64 = BASE + 2;
const DUMP_STATS_AT: u64 = BASE + 3;
const START_INSTRUMENTATION: u64 = BASE + 4;
const STOP_INSTRUMENTATION: u64 = BASE + 5;

/// Variants of `memcpy` and the like that the C library shall not choose, by the names of its versions.
const TUNABLES: &str = "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX2,-AVX2_Usable,-AVX,-AVX_Usable,\
                        -AVX_Fast_Unaligned_Load,-ERMS,-FSRM,-SSSE3,-Fast_Copy_Backward,-Fast_Unaligned_Copy";

/// What one case took.
pub(crate) struct Count {
    /// Of the case.
    pub(crate) name: String,
    pub(crate) instructions: u64,
    pub(crate) operations: u64,
    /// The dump: where they went.
    pub(crate) dump: PathBuf,
}

impl Count {
    /// Instructions of one piece of work.
    pub(crate) fn each(&self) -> f64 {
        self.instructions as f64 / self.operations as f64
    }
}

/// Asks valgrind for something; nothing happens without it.
#[inline(always)]
fn request(what: u64, argument: u64) {
    let words = [what, argument, 0, 0, 0, 0];
    // SAFETY: valgrind.h's own sequence: rotations that add up to nothing, and an exchange of a register with
    // itself, which valgrind takes for a request with the words that `rax` points to; the answer is in `rdx`.
    unsafe {
        asm!(
            "rol rdi, 3", "rol rdi, 13", "rol rdi, 61", "rol rdi, 51", "xchg rbx, rbx",
            in("rax") words.as_ptr(),
            inout("rdx") 0u64 => _,
        );
    }
}

/// Begins to watch; nothing is counted yet.
pub(crate) fn begin() {
    request(START_INSTRUMENTATION, 0);
}

/// Begins to count, or ends it.
#[inline(always)]
pub(crate) fn toggle() {
    request(TOGGLE_COLLECT, 0);
}

/// Writes down what was counted for the case `name`, and ends watching.
pub(crate) fn end_of(name: &str, operations: u64) {
    let told = format!("{name} {operations}\0");
    request(DUMP_STATS_AT, told.as_ptr() as u64);
    request(STOP_INSTRUMENTATION, 0);
}

/// Runs the cases called `names` under callgrind.
pub(crate) fn count<'n>(names: impl IntoIterator<Item = &'n str>) -> Result<Vec<Count>> {
    // Beside the program: the dumps of the last run stay there, for callgrind_annotate.
    let program = std::env::current_exe()?;
    let folder = program.with_extension("callgrind");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--instr-atstart=no", "--collect-atstart=no"]);
    command.args(["--dump-line=yes", "--dump-instr=no"]);
    command.arg(format!("--callgrind-out-file={}", folder.join("out").display()));
    command.arg(program).arg("counted").args(names);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("GLIBC_TUNABLES", TUNABLES);
    let output = command.output().context("cannot start valgrind")?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let mut dumps: Vec<(u64, PathBuf)> = Vec::new();
    for file in fs::read_dir(&folder)? {
        let path = file?.path();
        if let Some(number) = number_of(&path) {
            dumps.push((number, path));
        }
    }
    dumps.sort();
    let counts: Result<Vec<Count>> = dumps.into_iter().map(|(_, path)| read(path)).collect();
    let counts = counts?;
    ensure!(
        !counts.is_empty(),
        "callgrind wrote nothing: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(counts)
}

/// The number at the end of a dump's name; the last one, without a number, is of the program's end.
fn number_of(path: &Path) -> Option<u64> {
    path.extension()?.to_str()?.parse().ok()
}

fn read(dump: PathBuf) -> Result<Count> {
    let text = fs::read_to_string(&dump)?;
    let line = |start: &str| text.lines().find_map(|line| line.strip_prefix(start));
    let said = line("desc: Trigger: Client Request: ");
    let said = said.with_context(|| format!("{} says not what it is of", dump.display()))?;
    let (name, operations) = said.trim().rsplit_once(' ').context("no number of operations")?;
    // The sum over lines: the totals that callgrind writes are wrong where counting began in the middle of a call.
    let (name, operations) = (name.to_string(), operations.parse()?);
    Ok(Count { name, operations, instructions: places::total(&text), dump })
}
