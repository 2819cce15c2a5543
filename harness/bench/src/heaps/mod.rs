//! Allocation traces of real programs, on the kernel heap and on other allocators: `cargo xtask bench heap`.
//!
//! Flow:  trace -> operations -> each allocator in turns, on one CPU and on two -> medians, ratios.
//!
//! All run on the CPUs of one hosted machine. The crates for `no_std` stand behind one spin lock each, as a kernel with
//! more than one CPU has to put them; how traces are recorded says `traces/record.c`.

mod others;
mod trace;

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::NonNull;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use comfy_table::Table;
use rumpvm::kmem::KernelHeap;
use rumpvm::phys::Phys;
use rumpvm_platform::CpuId;

use crate::machine::{Home, Machine};
use crate::meter::{How, Measured, Meter};
use others::{Buddy, LinkedList, Talc};
use trace::{Trace, all as traces};

/// Turns, of which the median counts.
const TURNS: usize = 7;
/// Times that a trace is played in one turn.
const PLAYS: u64 = 4;
/// An allocator that takes longer for one play is measured once: it is not a matter of small differences.
const LONG: Duration = Duration::from_millis(100);
/// More than two traces at once need, for each allocator.
pub(crate) const MEMORY: usize = 64 << 20;

/// What is measured.
type Allocator = Arc<dyn GlobalAlloc + Send + Sync>;

/// The component's heap, of a machine that lives as long as the measurement.
struct Ours {
    phys: &'static Phys<Home>,
    heap: KernelHeap<Home>,
}

// SAFETY: the heap's blocks are disjoint and as their layout asks; it is given back what it handed out.
unsafe impl GlobalAlloc for Ours {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.heap.alloc(self.phys, layout).map_or(std::ptr::null_mut(), NonNull::as_ptr)
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: by the caller's promise.
            unsafe { self.heap.free(self.phys, block, layout) };
        }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(block) = NonNull::new(block) else { return std::ptr::null_mut() };
        // SAFETY: by the caller's promise.
        let moved = unsafe { self.heap.realloc(self.phys, block, layout, size) };
        moved.map_or(std::ptr::null_mut(), NonNull::as_ptr)
    }
}

fn ours(machine: &Machine) -> Allocator {
    machine.on_cpu(CpuId(0), |vm| {
        // SAFETY: the machine is kept until everything is measured (`all`), and the heap is used on its CPUs alone.
        let phys: &'static Phys<Home> = unsafe { &*std::ptr::from_ref(&vm.mmu.phys) };
        let heap = KernelHeap::try_new(phys).expect("memory for its records");
        Arc::new(Ours { phys, heap }) as Allocator
    })
}

/// Cycles and nanoseconds of an operation of `trace` on each of `cpus` CPUs, played `plays` times: the slowest.
fn turn(
    machine: &Machine,
    cpus: usize,
    with: &Allocator,
    trace: &Arc<Trace>,
    plays: u64,
) -> (f64, f64) {
    let start = Arc::new(Barrier::new(cpus));
    let measured: Vec<_> = thread::scope(|scope| {
        let begin = |cpu: usize| {
            let (with, trace, start) = (Arc::clone(with), Arc::clone(trace), Arc::clone(&start));
            scope.spawn(move || {
                machine.on_cpu(CpuId(cpu as u32), move |_| {
                    start.wait();
                    let work = || (0..plays).for_each(|_| trace.play(&*with));
                    Meter::new(How::Cycles).measured(plays * trace.operations(), work)
                })
            })
        };
        let threads: Vec<_> = (0..cpus).map(begin).collect();
        threads.into_iter().map(|one| one.join().expect("the trace ends well")).collect()
    });
    let worst = |each: fn(&Measured) -> f64| measured.iter().map(each).fold(0.0, f64::max);
    (worst(Measured::cycles_each), worst(Measured::nanoseconds_each))
}

/// Prints what an operation costs on each allocator.
pub(crate) fn all() -> Result<()> {
    let machine = Machine::new(4 * MEMORY as u64, 2);
    let allocators: [(&str, Allocator); 5] = [
        ("rumpvm", ours(&machine)),
        ("talc", Arc::new(Talc::new())),
        ("buddy_system", Arc::new(Buddy::new())),
        ("linked_list", Arc::new(LinkedList::new())),
        ("system", Arc::new(System)),
    ];
    let mut table = Table::new();
    let mut head = vec!["trace".to_string(), "CPUs".to_string()];
    head.extend(allocators.iter().map(|(name, _)| (*name).to_string()));
    table.set_header(head);
    for trace in traces()? {
        let trace = Arc::new(trace);
        println!("{}", trace.describe());
        for cpus in [1, 2] {
            let mut seen = vec![(vec![], vec![], false); allocators.len()];
            // The first turn warms up, and is the only one of those that take long.
            for number in 0..=TURNS {
                for ((_, with), (cycles, time, is_slow)) in allocators.iter().zip(&mut seen) {
                    if *is_slow {
                        continue;
                    }
                    let began = Instant::now();
                    let plays = if number == 0 { 1 } else { PLAYS };
                    let (a, b) = turn(&machine, cpus, with, &trace, plays);
                    *is_slow = number == 0 && began.elapsed() > LONG;
                    if number > 0 || *is_slow {
                        cycles.push(a);
                        time.push(b);
                    }
                }
            }
            let median = |of: &mut Vec<f64>| {
                of.sort_by(f64::total_cmp);
                of[of.len() / 2]
            };
            let figures: Vec<_> = seen.iter_mut().map(|(a, b, _)| (median(a), median(b))).collect();
            let (own, own_time) = figures[0];
            let mut row = vec![trace.name.to_string(), cpus.to_string()];
            row.extend(figures.iter().map(|(cycles, time)| match cpus {
                1 => format!("{cycles:.0} ({:.2})", cycles / own),
                _ => format!("{cycles:.0} ({:.2}), clock {:.2}", cycles / own, time / own_time),
            }));
            table.add_row(row);
        }
    }
    println!("{table}");
    println!(
        "cycles of an operation, median of {TURNS} turns (one, where it takes long); in brackets, how many times ours, on two CPUs also by the clock"
    );
    Ok(())
}
