//! Two CPUs at once, beside one alone.

use std::sync::{Arc, Barrier};
use std::thread;

use rumpvm::Vm;
use rumpvm_arch::{PAGE_SIZE, Prot};
use rumpvm_platform::CpuId;

use super::faults::touch;
use super::{BASE, map};
use crate::machine::{Home, Machine};
use crate::meter::{How, Measured, Meter};

/// Pieces of work of one CPU.
const FRAME_PAIRS: u64 = 500_000;
const PAGES: u64 = 1 << 13;
/// Turns, of which the median counts.
const TURNS: usize = 7;

/// How many times more two CPUs get done than one.
#[derive(Clone, Copy)]
pub(crate) struct Scaling {
    /// By the cycles that each piece takes: what waiting for each other's cache lines would cost.
    pub(crate) cycles: f64,
    /// By the clock, which sees what else the host does too.
    pub(crate) clock: f64,
}

/// Frames taken and given back.
pub(crate) fn frames() -> Scaling {
    median(|cpus| {
        at_once(&Machine::new(64 << 20, 2), cpus, |vm, _, start| {
            let phys = &vm.mmu.phys;
            start.wait();
            Meter::new(How::Cycles).measured(FRAME_PAIRS, || {
                for _ in 0..FRAME_PAIRS {
                    phys.free(phys.alloc().expect("a frame"));
                }
            })
        })
    })
}

/// Faults in disjoint parts of one space.
pub(crate) fn faults() -> Scaling {
    median(|cpus| {
        let machine = Machine::new(256 << 20, 2);
        let space = machine.on_cpu(CpuId(0), |vm| {
            let space = vm.new_space().expect("memory for a space");
            for cpu in 0..2 {
                map(vm, &space, BASE + (cpu << 30), PAGES, Prot::RW);
            }
            space
        });
        let shared = space.clone();
        let measured = at_once(&machine, cpus, move |vm, cpu, start| {
            vm.activate(&shared);
            let first = BASE + (u64::from(cpu.0) << 30);
            touch(vm, &shared, first, 8);
            start.wait();
            let work = || touch(vm, &shared, first + 8 * PAGE_SIZE, PAGES - 8);
            let measured = Meter::new(How::Cycles).measured(PAGES - 8, work);
            vm.deactivate();
            measured
        });
        machine.on_cpu(CpuId(0), move |vm| vm.leave_space(&space));
        measured
    })
}

/// Runs `work` on each of `cpus` CPUs of `machine`, from the same moment on.
fn at_once<W>(machine: &Machine, cpus: usize, work: W) -> Vec<Measured>
where
    W: Fn(&Vm<Home>, CpuId, &Barrier) -> Measured + Clone + Send + 'static,
{
    let start = Arc::new(Barrier::new(cpus));
    thread::scope(|scope| {
        let begin = |number: usize| {
            let (cpu, work, start) = (CpuId(number as u32), work.clone(), Arc::clone(&start));
            scope.spawn(move || machine.on_cpu(cpu, move |vm| work(vm, cpu, &start)))
        };
        let threads: Vec<_> = (0..cpus).map(begin).collect();
        threads.into_iter().map(|it| it.join().expect("the work ends well")).collect()
    })
}

/// One CPU and two in turns.
fn median(turn: impl Fn(usize) -> Vec<Measured>) -> Scaling {
    let worst =
        |all: &[Measured], each: fn(&Measured) -> f64| all.iter().map(each).fold(0.0, f64::max);
    let (mut cycles, mut clock) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let (one, two) = (turn(1), turn(2));
        let ratio = |each| 2.0 * worst(&one, each) / worst(&two, each);
        cycles.push(ratio(Measured::cycles_each));
        clock.push(ratio(Measured::nanoseconds_each));
    }
    cycles.sort_by(f64::total_cmp);
    clock.sort_by(f64::total_cmp);
    Scaling { cycles: cycles[TURNS / 2], clock: clock[TURNS / 2] }
}
