//! Templates of spaces, times every operation, times alignments of the range that it works on: each cell
//! against the flat model and the component's own check.
//!
//! Flow:  template -> operation on a range -> answers -> everything that can be seen -> the next cell.
//!
//! One machine serves all cells of a format; each cell has processes and objects of its own, and what one
//! leaves behind the next one's check finds. Of each template and operation a part of the alignments is
//! run, another part for the next one, so that every two of the three meet; `RUMPVM_MATRIX=all` runs them
//! all, which takes minutes. After XNU's `vm_configurator`.

#[path = "matrix/accesses.rs"]
mod accesses;
#[path = "matrix/alignments.rs"]
mod alignments;
#[path = "matrix/compare.rs"]
mod compare;
#[path = "matrix/operations.rs"]
mod operations;
#[path = "matrix/pair.rs"]
mod pair;
#[path = "matrix/templates.rs"]
mod templates;

use std::collections::BTreeSet;

use rumpvm_arch::{Format, I386, PAGE_SIZE, Pae, X86_64};
use rumpvm_harness::machine::Machine;

use alignments::Alignment;
use operations::Operation;
use pair::{Pair, Verdict};
use templates::Template;

/// Enough for every cell, few enough to be counted after each.
const FRAMES: u64 = 800;
/// Failures that are told before the matrix gives up.
const MOST_FAILURES: usize = 20;
/// Cells of one format. Fewer would mean that a table was cut.
const LEAST_CELLS: usize = 5000;

/// Names the cell if a panic comes out of it.
struct Named(String);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in {}", self.0);
        }
    }
}

fn cell<F: Format>(
    machine: &Machine<F>,
    template: &Template<F>,
    operation: &Operation<F>,
    alignment: &Alignment,
) -> Verdict {
    let mut pair = Pair::new(machine);
    let verdict = (template.build)(&mut pair)
        .map_err(|story| format!("while the template is built: {story}"))
        .and_then(|()| (operation.act)(&mut pair, alignment.span))
        .and_then(|()| pair.compare());
    let ended = pair.end();
    verdict.and(ended)
}

/// Runs the cells, of each template and operation every `step`-th alignment, and says how many there were.
fn run<F: Format>(first: usize, step: usize) {
    let all = std::env::var("RUMPVM_MATRIX").is_ok_and(|value| value == "all");
    let step = if all { 1 } else { step };
    let machine = Machine::builder().format::<F>().cpus(1).memory(FRAMES * PAGE_SIZE).build();
    let inside = machine.clone();
    let cells = machine.on_cpu(move |_| {
        let (mut cells, mut failures) = (BTreeSet::new(), vec![]);
        let (templates, operations) = (templates::all::<F>(), operations::all::<F>());
        let alignments = alignments::all::<F>();
        for (row, template) in templates.iter().enumerate() {
            for (column, operation) in operations.iter().enumerate() {
                let first = (first + row + column) % step;
                for alignment in alignments.iter().skip(first).step_by(step) {
                    if alignment.makes_more_than::<F>(operation.most) {
                        continue;
                    }
                    let names = (template.name, operation.name.clone(), alignment.name);
                    let named = Named(format!("cell {names:?}, {:?}", alignment.span));
                    if let Err(story) = cell(&inside, template, operation, alignment) {
                        failures.push(format!("{}: {story}", named.0));
                    }
                    assert!(failures.len() < MOST_FAILURES, "{}", failures.join("\n"));
                    assert!(cells.insert(names), "{} has no name of its own", named.0);
                }
            }
        }
        assert!(failures.is_empty(), "{}", failures.join("\n"));
        cells.len()
    });
    machine.check();
    println!("{}: {cells} cells", F::NAME);
    assert!(cells >= LEAST_CELLS, "{cells} cells are too few");
}

#[test]
fn every_operation_on_every_template_does_what_the_model_does_on_x86_64() {
    run::<X86_64>(0, 8);
}

#[test]
fn every_operation_on_every_template_does_what_the_model_does_on_i386() {
    run::<I386>(1, 24);
}

#[test]
fn every_operation_on_every_template_does_what_the_model_does_with_pae() {
    run::<Pae>(13, 24);
}
