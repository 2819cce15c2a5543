//! Every behaviour case, as kernel code of this machine: one line each, and `check` after each.
//!
//! Flow:  case -> its own thread of CPU 0 -> the component; the other CPUs idle and serve.

use rumpvm_bare::{Bare, heap};
use rumpvm_cases::{Case, all};

use crate::kernel::{self, HeapSize, Kernel};

/// Cases want 12 MiB of a machine that may have 16; of what they allocate themselves this is several times as much.
const SMALLEST_HEAP: u64 = 1 << 20;
/// Some cases list every frame, by four bytes each, in lists that double: of 4 KiB a 32nd of this would do.
const SHARE: u64 = 128;

/// Runs those cases whose names contain one of `words`, or all. A case that fails is a panic, which ends the machine.
pub(crate) fn run<'a>(words: impl Iterator<Item = &'a str> + Clone) -> u8 {
    let heap = (rumpvm_bare::memory::left() / SHARE).max(SMALLEST_HEAP);
    let kernel = kernel::start(HeapSize::Fixed(heap as usize));
    let mut passed = 0;
    for case in all::<Bare>() {
        let wanted = |word: &str| case.name.contains(word) || case.subject.contains(word);
        if words.clone().next().is_none() || words.clone().any(wanted) {
            run_one(kernel, &case);
            passed += 1;
        }
    }
    let (_, used) = heap::usage();
    log::info!("{passed} cases passed, {used} bytes of the heap in use");
    if passed == 0 { 1 } else { 0 }
}

fn run_one(kernel: &Kernel, case: &Case<Bare>) {
    let vm = &kernel.vm;
    log::info!("case {}: {}", case.subject, case.name);
    (case.run)(vm);
    // Tables and nodes wait for the last reader; nobody reads now.
    vm.mmu.squeeze();
    if let Err(broken) = kernel.check() {
        panic!("after case {}: {}: {broken}", case.subject, case.name);
    }
    let made = vm.statistics();
    assert_eq!(made.tables_made, made.tables_freed, "{}: tables are left", case.name);
    assert_eq!(made.nodes_made, made.nodes_freed, "{}: nodes are left", case.name);
}
