//! The table: figure, budget, what stands beside, verdict; and for what is missed, where it goes.

use std::collections::HashMap;

use anyhow::Result;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, ContentArrangement, Table};

use crate::callgrind::{self, Count};
use crate::cases::{memory, scaling};
use crate::linux;
use crate::meter::{How, Measured, Meter};
use crate::places;
use crate::rows::{Limit, Row};

/// Turns of each case, of which the median counts.
const TURNS: usize = 5;

/// Ours and the peers' figures of one row.
struct Figures {
    row: &'static Row,
    /// By case: the median turn.
    measured: Vec<Measured>,
}

/// Prints every row with `filter` in its name; the rows that are no work of one CPU only if there is no filter.
pub(crate) fn all(filter: &str) -> Result<()> {
    println!("cycles: of the time-stamp counter; the median of {TURNS} turns, peers in between");
    let figures: Vec<Figures> = crate::rows(filter).map(measure).collect();
    let names = figures.iter().flat_map(|figures| figures.row.cases).map(|case| case.name);
    let counts: HashMap<String, Count> =
        callgrind::count(names)?.into_iter().map(|count| (count.name.clone(), count)).collect();
    let host = filter.is_empty().then(linux::beside).transpose()?;
    let mut table = new_table(["work", "cycles", "instr.", "budget", "beside", ""]);
    let mut missed = Vec::new();
    for figures in &figures {
        let met = figures.row.limits.iter().all(|limit| figures.meets(*limit, &counts));
        if !met {
            missed.push(figures.row);
        }
        table.add_row([
            figures.row.work.to_string(),
            figures.cycles(),
            instructions(&counts, figures.row.name),
            figures.budget(),
            figures.beside(&counts, host.as_ref()),
            verdict(met),
        ]);
    }
    println!("{table}");
    if filter.is_empty() {
        println!("{}", others());
    }
    for row in missed {
        if let Some(count) = counts.get(row.name) {
            println!("{}: where {:.1} instructions go", row.work, count.each());
            println!("{}\n{}", places::functions(count, 10), places::table(count, 10));
        }
    }
    Ok(())
}

fn measure(row: &'static Row) -> Figures {
    let mut turns: Vec<Vec<Measured>> = row.cases.iter().map(|_| Vec::new()).collect();
    for _ in 0..TURNS {
        for (case, turns) in row.cases.iter().zip(&mut turns) {
            turns.push((case.run)(Meter::new(How::Cycles)));
        }
    }
    let median = |mut turns: Vec<Measured>| {
        turns.sort_by(|a, b| a.cycles_each().total_cmp(&b.cycles_each()));
        turns[TURNS / 2]
    };
    Figures { row, measured: turns.into_iter().map(median).collect() }
}

impl Figures {
    fn ours(&self) -> Measured {
        self.measured.first().copied().unwrap_or_default()
    }

    fn peers(&self) -> impl Iterator<Item = (&'static str, Measured)> {
        let names = self.row.cases.iter().map(|case| case.name);
        names.zip(self.measured.iter().copied()).skip(1)
    }

    /// How many times fewer cycles we take than the fastest of the peers in question.
    fn times_faster(&self, than: Option<&str>) -> f64 {
        let peers = self.peers().filter(|(name, _)| than.is_none_or(|than| than == *name));
        let best = peers.map(|(_, peer)| peer.cycles_each()).fold(f64::INFINITY, f64::min);
        best / self.ours().cycles_each()
    }

    fn meets(&self, limit: Limit, counts: &HashMap<String, Count>) -> bool {
        match limit {
            Limit::Cycles(most) => self.ours().cycles_each() <= most,
            Limit::Instructions(most) => {
                counts.get(self.row.name).is_some_and(|count| count.each() <= most)
            }
            Limit::Faster(times) => self.times_faster(None) >= times,
            Limit::FasterThan(peer, times) => self.times_faster(Some(peer)) >= times,
            Limit::Milliseconds(most) => self.ours().milliseconds_each() <= most,
        }
    }

    fn cycles(&self) -> String {
        match self.row.limits {
            [Limit::Milliseconds(_)] => format!("{:.3} ms", self.ours().milliseconds_each()),
            _ => number(self.ours().cycles_each()),
        }
    }

    fn budget(&self) -> String {
        let told = |limit: &Limit| match *limit {
            Limit::Cycles(most) => format!("{most} cycles"),
            Limit::Instructions(most) => format!("{most} instr."),
            Limit::Faster(times) => {
                format!("{times} x faster: {:.2}", self.times_faster(None))
            }
            Limit::FasterThan(peer, times) => {
                let (short, ratio) = (peer_name(peer), self.times_faster(Some(peer)));
                if times < 1.0 {
                    format!("{:.0} x {short} at most: {:.2}", 1.0 / times, 1.0 / ratio)
                } else {
                    format!("{times} x faster than {short}: {ratio:.1}")
                }
            }
            Limit::Milliseconds(most) => format!("{most} ms"),
        };
        self.row.limits.iter().map(told).collect::<Vec<_>>().join("\n")
    }

    fn beside(&self, counts: &HashMap<String, Count>, host: Option<&linux::Linux>) -> String {
        let mut told: Vec<String> = self
            .peers()
            .map(|(name, peer)| {
                let cycles = number(peer.cycles_each());
                format!("{} {cycles} ({})", peer_name(name), instructions(counts, name))
            })
            .collect();
        if let Some(host) = host {
            match self.row.name {
                "fork" => told.push(format!(
                    "Linux {:.1} ms: {:.0} x",
                    host.fork,
                    host.fork / self.ours().milliseconds_each()
                )),
                "fault" => told.push(format!("Linux {:.0} ns with trap and zeroing", host.fault)),
                "areas-1k" => told.push(format!("Linux {:.0} ns with two traps", host.areas)),
                _ => {}
            }
        }
        told.join("\n")
    }
}

/// What is no work of one CPU: memory, and two CPUs at once.
fn others() -> Table {
    let mut table = new_table(["figure", "is", "budget", "beside", ""]);
    let memory = memory::measure();
    let mut bytes = |what: &str, is: f64, budget: f64, beside: &str| {
        // To the byte: the upper nodes of a tree are a 512th of its leaves.
        let met = is.round() <= budget;
        let told = [what.to_string(), format!("{is:.2} B"), format!("{budget} B")];
        table.add_row(told.into_iter().chain([beside.to_string(), verdict(met)]));
    };
    bytes("memory of a frame", memory.frame, 64.0, "Linux: struct page, 64 B");
    bytes(
        "memory of an area",
        memory.area,
        128.0,
        "Linux: vm_area_struct, 192 B and a maple node's part",
    );
    let tables = format!("page tables beside that: {:.2} B, as Linux's", memory.tables);
    bytes("memory of a resident page mapped once", memory.page, 8.0, &tables);
    let mut ratio = |what: &str, is: scaling::Scaling| {
        let told = format!("{:.2} ({:.2} by the clock)", is.cycles, is.clock);
        table.add_row([what, &told, "1.8", "one CPU", &verdict(is.cycles >= 1.8)]);
    };
    ratio("frame alloc + free on two CPUs, times one", scaling::frames());
    ratio("faults in disjoint parts of a space on two CPUs, times one", scaling::faults());
    table
}

fn new_table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    for column in 1..3 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn verdict(met: bool) -> String {
    String::from(if met { "met" } else { "missed" })
}

fn peer_name(case: &str) -> &str {
    case.split_once('/').map_or(case, |(_, peer)| peer)
}

fn instructions(counts: &HashMap<String, Count>, name: &str) -> String {
    counts.get(name).map_or_else(|| String::from("-"), |count| number(count.each()))
}

fn number(value: f64) -> String {
    if value < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}
