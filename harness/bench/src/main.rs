//! What the component costs, beside what others take: `cargo xtask bench`.
//!
//! Flow:  rows (work, budget) -> cases (ours, the peers') -> meter -> table, or baseline.
//!
//! A case is run twice in different ways. For cycles it runs in this process, in turns with the peers of its row,
//! and the median of the turns counts: what else the machine does then hits all of them. For instructions this
//! program runs itself under callgrind; that count is the same every time, so it is what the baseline keeps.

mod baseline;
mod callgrind;
mod cases;
mod heap;
mod heaps;
mod linux;
mod machine;
mod meter;
mod peers;
mod places;
mod report;
mod rows;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};

use meter::{How, Meter};
use rows::{ROWS, Row};

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

/// Measures the component beside its peers.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Everything, as a table.
    All {
        /// Only rows with this in their name.
        filter: Option<String>,
    },
    /// Instructions against the baseline; fails if one is more than 3 % away.
    Check,
    /// Makes the instructions of today the baseline.
    Bless,
    /// Where the instructions of a row go.
    Profile {
        /// Name of the row.
        row: String,
    },
    /// One case after the other under callgrind, which must run this program. For the commands above.
    #[command(hide = true)]
    Counted {
        /// Names of the cases.
        cases: Vec<String>,
    },
    /// Allocation traces of real programs, on the kernel heap and on other allocators.
    Heap,
    /// Linux itself, in a process without threads. For the command `all`.
    #[command(hide = true)]
    Linux,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().what {
        What::All { filter } => report::all(filter.as_deref().unwrap_or("")),
        What::Check => baseline::check(),
        What::Bless => baseline::bless(),
        What::Profile { row } => profile(&row),
        What::Counted { cases } => counted(&cases),
        What::Heap => heaps::all(),
        What::Linux => linux::measure(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Rows with `filter` in their name.
fn rows(filter: &str) -> impl Iterator<Item = &'static Row> {
    ROWS.iter().filter(move |row| row.name.contains(filter))
}

fn profile(name: &str) -> Result<()> {
    let mut found = rows(name).peekable();
    ensure!(found.peek().is_some(), "no row has {name} in its name");
    for row in found {
        let counts = callgrind::count(row.ours().map(|case| case.name))?;
        for count in counts {
            println!("{}: {:.1} instructions", count.name, count.each());
            println!("{}\n{}", places::functions(&count, 40), places::table(&count, 40));
        }
    }
    Ok(())
}

fn counted(names: &[String]) -> Result<()> {
    for name in names {
        let case = ROWS.iter().flat_map(|row| row.cases).find(|case| case.name == name);
        let case = case.ok_or_else(|| anyhow::anyhow!("no case is called {name}"))?;
        let measured = (case.run)(Meter::new(How::Instructions));
        callgrind::end_of(case.name, measured.operations);
    }
    Ok(())
}
