//! What all workers of one run share: the settings, when to end, what was counted, what went wrong.

use std::sync::Mutex;
use std::thread::JoinHandle;

use super::board::Board;
use super::stop::Stop;
use super::system;

/// The run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Settings {
    pub(super) workload: String,
    /// What random choices follow from.
    pub(super) seed: u64,
    /// Bytes of memory that the workload counts on.
    pub(super) memory: u64,
    /// Rounds of each worker.
    pub(super) rounds: u64,
    /// What a process has besides that was started by another one of the run.
    pub(super) again: Option<Again>,
}

/// From who started it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Again {
    /// The descriptor of the shared page.
    pub(super) board: i32,
    pub(super) number: u64,
    pub(super) word: u64,
}

impl Settings {
    /// What `words` say; nothing if that is nothing.
    pub(super) fn read(words: &[String]) -> Option<Self> {
        let (first, again) = match words {
            [first @ .., board, number, word] if first.len() == 4 => {
                let (board, number) = (board.parse().ok()?, number.parse().ok()?);
                (first, Some(Again { board, number, word: word.parse().ok()? }))
            }
            words => (words, None),
        };
        let [workload, seed, memory, rounds] = first else { return None };
        let memory = match memory.as_str() {
            "free" => system::free_memory()?,
            said => match said.strip_suffix('M') {
                Some(number) => number.parse::<u64>().ok()? << 20,
                None => said.parse().ok()?,
            },
        };
        let (seed, rounds) = (seed.parse().ok()?, rounds.parse().ok()?);
        Some(Self { workload: workload.clone(), seed, memory, rounds, again })
    }

    /// The words that start worker `number` of the same run.
    pub(super) fn again(&self, number: u64, word: u64) -> [String; 7] {
        let Self { workload, seed, memory, rounds, .. } = self;
        let numbers = [*seed, *memory, *rounds, system::board_number() as u64, number, word];
        let [seed, memory, rounds, board, number, word] = numbers.map(|number| number.to_string());
        [workload.clone(), seed, memory, rounds, board, number, word]
    }
}

/// Numbers on the board.
const FAILURES: u64 = 0;
const OUT_OF_MEMORY: u64 = 1;
const OPERATIONS: u64 = 2;

/// See the header.
pub(super) struct Load {
    pub(super) settings: Settings,
    counts: Board,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Load {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, counts: Board::new(3), threads: Mutex::default() }
    }

    /// Announces workers: there is nobody to be told here.
    pub(super) fn plan(&self, _workers: u64) {}

    /// Whether a worker that has done `rounds` rounds begins another one.
    pub(super) fn goes_on(&self, rounds: u64) -> bool {
        rounds < self.settings.rounds
    }

    /// Adds what a worker did.
    pub(super) fn add(&self, operations: u64) {
        self.counts.add(OPERATIONS, operations);
    }

    /// Counts that memory ran out.
    pub(super) fn ran_out(&self) {
        self.counts.add(OUT_OF_MEMORY, 1);
    }

    /// Tells why a worker stopped and returns its exit status.
    pub(super) fn settle(&self, who: u64, result: Result<(), Stop>) -> i32 {
        let Err(stop) = result else { return 0 };
        match &stop {
            Stop::OutOfMemory => self.ran_out(),
            Stop::Broken(what) => self.fail(&format!("worker {who}: {what}")),
        }
        stop.status()
    }

    /// Tells that something is wrong.
    pub(super) fn fail(&self, what: &str) {
        eprintln!("{what}");
        self.counts.add(FAILURES, 1);
    }

    /// How often something was wrong.
    pub(super) fn failures(&self) -> u64 {
        self.counts.get(FAILURES)
    }

    /// A thread has begun.
    pub(super) fn keep(&self, thread: JoinHandle<()>) {
        self.threads.lock().expect("nobody panics holding it").push(thread);
    }

    /// Waits for all threads.
    pub(super) fn join(&self) {
        for thread in self.threads.lock().expect("nobody panics holding it").drain(..) {
            if thread.join().is_err() {
                self.fail("a thread has panicked");
            }
        }
    }

    /// What came of it.
    pub(super) fn story(&self) -> String {
        let counts = [OPERATIONS, OUT_OF_MEMORY, FAILURES].map(|at| self.counts.get(at));
        let [operations, out_of_memory, failures] = counts;
        let name = &self.settings.workload;
        format!(
            "{name}: {failures} failures, {operations} operations, {out_of_memory} times out of memory"
        )
    }
}
