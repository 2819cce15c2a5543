//! The baseline: instructions of each of our cases, as they were committed.
//!
//! Instructions repeat to the last digit on one machine, and to a fraction of a percent on others. A case that is
//! more than 3 % dearer fails; one that is more than 3 % cheaper fails too, until the baseline says so, because
//! otherwise the next change could give the gain away unseen. Another compiler makes other instructions: then the
//! comparison is loose, and only says what it sees.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::callgrind::{self, Count};
use crate::rows::ROWS;

/// What may differ: 3 %.
const TOLERANCE: f64 = 0.03;

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("baseline.txt")
}

fn ours() -> Result<Vec<Count>> {
    callgrind::count(ROWS.iter().filter_map(|row| row.ours()).map(|case| case.name))
}

/// Compares today's instructions with the baseline.
pub(crate) fn check() -> Result<()> {
    let text = fs::read_to_string(file()).context("there is no baseline: --bless makes one")?;
    let (compiler, known) = parse(&text).context("the baseline cannot be read")?;
    let same = compiler == env!("RUMPVM_RUSTC");
    println!("{:<12} {:>14} {:>14} {:>8}", "instructions", "baseline", "now", "");
    let (mut dearer, mut cheaper) = (Vec::new(), Vec::new());
    for count in ours()? {
        let now = count.each();
        let Some(before) = known.get(&count.name) else {
            println!("{:<12} {:>14} {now:>14.1}", count.name, "none");
            dearer.push(count.name);
            continue;
        };
        let change = now / before - 1.0;
        println!("{:<12} {before:>14.1} {now:>14.1} {:>+7.1} %", count.name, 100.0 * change);
        if change > TOLERANCE {
            dearer.push(count.name);
        } else if change < -TOLERANCE {
            cheaper.push(count.name);
        }
    }
    if !same {
        println!(
            "bench: the baseline is of `{compiler}`, this is `{}`: not compared strictly",
            env!("RUMPVM_RUSTC")
        );
        return Ok(());
    }
    if !dearer.is_empty() {
        bail!(
            "more than 3 % dearer, or without a baseline: {}; if it has to be, `cargo xtask bench --bless`",
            dearer.join(", ")
        );
    }
    if !cheaper.is_empty() {
        bail!(
            "more than 3 % cheaper: {}; keep it with `cargo xtask bench --bless`",
            cheaper.join(", ")
        );
    }
    Ok(())
}

/// Writes today's instructions down.
pub(crate) fn bless() -> Result<()> {
    let mut text = format!("{}\n", env!("RUMPVM_RUSTC"));
    for count in ours()? {
        text += &format!("{} {:.1}\n", count.name, count.each());
    }
    fs::write(file(), &text)?;
    print!("{text}");
    Ok(())
}

/// The compiler in the first line, and the instructions of each case.
fn parse(text: &str) -> Option<(&str, BTreeMap<String, f64>)> {
    let (compiler, rest) = text.split_once('\n')?;
    let line = |line: &str| {
        let (name, number) = line.split_once(' ')?;
        Some((name.to_string(), number.parse().ok()?))
    };
    Some((compiler, rest.lines().map(line).collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_baseline_knows_every_row() {
        let text = fs::read_to_string(file()).unwrap();
        let (compiler, known) = parse(&text).unwrap();
        assert!(compiler.starts_with("rustc "));
        for row in ROWS {
            assert!(known.contains_key(row.name), "{}", row.name);
        }
    }
}
