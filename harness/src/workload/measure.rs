//! One run, measured: the machine, the workload on it, samples while it runs, and `check` at the end.
//!
//! Flow: `Job` -> machine; its statistics, every few milliseconds, -> samples; counts -> `Part`.
//! Sleep: the caller waits for the machine; a thread of the host takes the samples.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use rumpvm::stats::Statistics;
use rumpvm::sync::class;
use rumpvm_platform::LockCounts;

use super::load::{Deed, Load};
use super::{Job, Settings, worker};
use crate::machine::{Machine, User};
use crate::report::{Count, LockRow, Part, PartKind, Run, Sample};

/// Time between two samples: 50 a second draw a smooth curve and cost nothing that can be measured.
const INTERVAL: Duration = Duration::from_millis(20);

/// Runs `job` on a new machine.
pub(super) fn measure(
    name: &str,
    job: Arc<dyn Job>,
    settings: &Settings,
    progress: &(dyn Fn(f64) + Sync),
) -> io::Result<Part> {
    let machine = Machine::builder().memory(settings.memory).cpus(settings.cpus).try_build()?;
    let load = Arc::new(Load::new(*settings));
    let (elapsed, samples) = thread::scope(|scope| {
        let (done, wait) = channel();
        let sampler = scope.spawn(|| sample(&machine, &load, progress, wait));
        let elapsed = work(&machine, &load, job.clone());
        drop(done);
        (elapsed, sampler.join().expect("the sampler does not panic"))
    });
    let mut part = part(name, &load, elapsed, samples, &machine.vm().statistics());
    part.locks = lock_rows(&machine);
    // Files are compared on disk when the last mapping and the machine are gone.
    drop(machine);
    if part.passed()
        && let Err(story) = job.verify()
    {
        part.failures.push(story);
    }
    Ok(part)
}

/// Runs the workload to the end of its last process, which takes the time returned, and then `check`.
fn work(machine: &Machine, load: &Arc<Load>, job: Arc<dyn Job>) -> Duration {
    let shared = load.clone();
    let first = move |user: &User| worker::run(user, &shared, 0, |worker| job.start(worker));
    let ran = succeeds(load, || {
        machine.run(first);
        Ok(())
    });
    let elapsed = load.elapsed();
    if ran {
        succeeds(load, || machine.try_check());
    }
    elapsed
}

/// Whether `step` goes well. If not, the run has failed; a panic has stopped the machine for good.
fn succeeds(load: &Load, step: impl FnOnce() -> Result<(), String>) -> bool {
    match catch_unwind(AssertUnwindSafe(step)) {
        Ok(Ok(())) => return true,
        Ok(Err(broken)) => load.fail(format!("check: {broken}")),
        Err(payload) => load.fail(format!("the machine stopped: {}", story(payload.as_ref()))),
    }
    false
}

/// Takes samples and reports progress until `wait`'s other end is dropped.
fn sample(
    machine: &Machine,
    load: &Load,
    progress: &(dyn Fn(f64) + Sync),
    wait: Receiver<()>,
) -> Vec<Sample> {
    let mut samples = Vec::new();
    loop {
        samples.push(Sample::new(load.elapsed(), &machine.vm().statistics()));
        progress(load.fraction());
        if wait.recv_timeout(INTERVAL) != Err(RecvTimeoutError::Timeout) {
            return samples;
        }
    }
}

fn part(
    name: &str,
    load: &Load,
    elapsed: Duration,
    samples: Vec<Sample>,
    counted: &Statistics,
) -> Part {
    let deeds = load.deeds();
    let out_of_memory = deeds[Deed::OutOfMemory as usize];
    let named = Deed::ALL.iter().zip(deeds).filter(|(_, count)| *count != 0);
    let details = named.map(|(deed, count)| Count::new(deed.name(), count)).collect();
    let run = Run {
        name: name.into(),
        kind: PartKind::Workload,
        failures: load.failures(),
        elapsed,
        operations: deeds.iter().sum::<u64>() - out_of_memory,
        samples,
        details,
    };
    run.with_statistics(counted)
}

/// What was counted of the machine's locks; nothing if nothing was.
fn lock_rows(machine: &Machine) -> Vec<LockRow> {
    let counted = machine.hosted().lock_stats().into_iter();
    let counts = counted.flat_map(|stats| stats.counts(class::ALL));
    let row = |counts: LockCounts| LockRow {
        class: counts.class.name.into(),
        acquired: counts.acquired,
        contended: counts.contended,
        longest: counts.longest,
    };
    counts.map(row).collect()
}

/// What a panic said.
fn story(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no story")
}
