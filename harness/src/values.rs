//! Values on the command line: sizes, times, numbers of CPUs. Each error names the value and shows what
//! would be right.

use std::time::Duration;

use clap::builder::{RangedU64ValueParser, ValueParser};
use rumpvm_platform::MAX_CPUS;

/// Reads `512M`. Units are binary, as those of memory are: 1K is 1024 bytes.
fn size(text: &str) -> Result<u64, String> {
    let size = parse_size::Config::new().with_binary().parse_size(text);
    size.map_err(|_| format!("`{text}` is no size: write a number and K, M or G, such as 512M"))
}

/// Reads the memory of a machine.
pub fn memory(text: &str) -> Result<u64, String> {
    /// Below this, the component's own records and the first page tables leave nothing to run in.
    const LEAST: u64 = 4 << 20;
    /// What a hosted machine's frame numbers and the host's address space carry without trouble.
    const MOST: u64 = 1 << 40;
    match size(text)? {
        size if size < LEAST => Err(format!("`{text}` is too little: a machine needs 4M")),
        size if size > MOST => Err(format!("`{text}` is too much: a machine has at most 1024G")),
        size => Ok(size),
    }
}

/// Refuses room on a disk for memory: an option that was accepted and did nothing would be worse.
pub(crate) fn swap(text: &str) -> Result<u64, String> {
    size(text)?;
    Err("rumpvm does not swap yet: memory stays where it is until a program gives it up, and who finds none is killed. \
         Give the machine more with --memory"
        .into())
}

/// Reads `60s`, `2m`, `1h 30m`.
pub fn time(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("no time at all: nothing would run".into()),
        Ok(time) => Ok(time),
        Err(_) => {
            Err(format!("`{text}` is no time: write a number and its unit, such as 60s or 2m"))
        }
    }
}

/// Reads a number of CPUs.
pub(crate) fn cpus() -> ValueParser {
    RangedU64ValueParser::<usize>::new().range(1..=MAX_CPUS as u64).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary() {
        assert_eq!(size("512M"), Ok(512 << 20));
        assert_eq!(size("2g"), Ok(2 << 30));
        assert_eq!(size("4096"), Ok(4096));
    }

    #[test]
    fn what_is_no_value_is_named_in_the_error() {
        for bad in ["lots", "-1M", "12Q", ""] {
            assert!(memory(bad).is_err_and(|error| error.contains(&format!("`{bad}`"))), "{bad}");
            assert!(time(bad).is_err_and(|error| error.contains(&format!("`{bad}`"))), "{bad}");
        }
        assert!(memory("1K").is_err() && memory("2T").is_err() && time("0s").is_err());
    }
}
