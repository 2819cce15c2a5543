//! How a recording is replayed, and how that is said on the command line.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::values;

/// Memory of the machine, unless told otherwise: what a small laptop of today has for one program,
/// and enough for the shipped recordings with `--touch all`.
const DEFAULT_MEMORY: &str = "1G";

/// `rumpvm replay`.
#[derive(Clone, PartialEq, Eq, Debug, Args)]
pub struct ReplayArgs {
    /// Recordings of strace, gzipped or not.
    ///
    /// Make one of any program with `strace -f -e trace=%memory,%process -o FILE COMMAND`.
    /// Options such as -y, -t, -tt and -r do no harm, nor does leaving out -o FILE. Several
    /// recordings are replayed one after another, each on a machine of its own.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// How they are replayed.
    #[command(flatten)]
    pub options: Options,

    /// Print the result as JSON, for programs.
    #[arg(long)]
    pub json: bool,
}

/// What a recording does not say, and the replay has to choose.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Args)]
pub struct Options {
    /// Which pages the programs use.
    ///
    /// A recording says what was mapped and not what was loaded or stored. After each call that makes
    /// memory usable, this policy decides which of its pages are touched (written if that is allowed).
    #[arg(long, value_enum, default_value_t = Touch::First, value_name = "POLICY")]
    pub touch: Touch,

    /// What random choices follow from.
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub seed: u64,

    /// Memory of the machine: 512M, 2G...
    #[arg(long, default_value = DEFAULT_MEMORY, value_parser = values::memory, value_name = "SIZE")]
    pub memory: u64,
}

/// Which pages are touched when memory becomes usable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Touch {
    /// None: only maps and page tables as far as the calls themselves fill them.
    None,
    /// The first page.
    First,
    /// Every page, up to 1/64 of the machine's memory a call.
    All,
    /// Random pages, the first ones far more often than the last (Zipf's law).
    Zipf,
}

impl Default for Options {
    fn default() -> Self {
        let memory = values::memory(DEFAULT_MEMORY).expect("the default is a size");
        Self { touch: Touch::First, seed: 1, memory }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        replay: ReplayArgs,
    }

    #[test]
    fn a_command_line_without_options_means_the_defaults() {
        let command = Command::parse_from(["replay", "a.strace", "b.strace.gz"]);
        assert_eq!(command.replay.options, Options::default());
        assert_eq!(command.replay.files.len(), 2);
        assert!(!command.replay.json);
    }

    #[test]
    fn sizes_are_binary() {
        let line = ["replay", "--memory", "2G", "--touch", "zipf", "--seed", "7", "x"];
        let command = Command::parse_from(line);
        let wanted = Options { touch: Touch::Zipf, seed: 7, memory: 2 << 30 };
        assert_eq!(command.replay.options, wanted);
    }
}
