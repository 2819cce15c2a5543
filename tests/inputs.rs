//! What is done with bytes that nobody has looked at: by the fuzzers of `harness/fuzz`, and by the test that gives
//! each file of their corpora to them again. A new reader of foreign bytes gets a function here, a file in
//! `harness/fuzz/targets` and a folder in `harness/fuzz/corpus`.
//!
//! Flow:  bytes -> reader -> a value that keeps its promises, or an error; a panic is a finding.

mod files;

use rumpvm_arch::{I386, Pae, X86_64};
use rumpvm_harness::trace::{Trace, TraceError, What};
use rumpvm_harness::values;

pub use self::files::{archive, program};
use crate::random::{Choices, Plan, run};

/// Most calls of a program.
const OPERATIONS: u64 = 300;

/// What takes bytes of a kind.
pub type Taker = fn(&[u8]);

/// Every kind of input, by the name of its fuzzer.
pub const ALL: [(&str, Taker); 6] = [
    ("archive", archive),
    ("calls", calls),
    ("line", line),
    ("program", program),
    ("trace", trace),
    ("values", values),
];

/// A file that should be a recording of strace.
pub fn trace(bytes: &[u8]) {
    if let Ok(trace) = recording(bytes) {
        check(&trace);
    }
}

/// One line of such a recording, whatever its other lines are.
pub fn line(bytes: &[u8]) {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    // A call before, so that this is a recording in any case, and a line as it comes after one.
    let text = [b"7 brk(NULL) = 0x1000\n", line, b"\n7 munmap(0x1000, 4096) = 0\n"].concat();
    match recording(&text) {
        Ok(trace) => {
            // strace breaks a line to say that it attached to a task: the next one is the rest of it then.
            assert!((2..=3).contains(&trace.lines), "{} lines", trace.lines);
            check(&trace);
        }
        // A zero byte makes it no text.
        Err(error) => assert!(matches!(error, TraceError::Binary { .. }), "{error}"),
    }
}

fn recording(bytes: &[u8]) -> Result<Trace, TraceError> {
    Trace::parse(bytes).inspect_err(|error| assert!(!error.to_string().is_empty()))
}

/// Whatever an event names is there.
fn check(trace: &Trace) {
    let mut entered = 0;
    for event in &trace.events {
        assert!(
            (1..=trace.lines).contains(&event.line.0),
            "line {} of {}",
            event.line,
            trace.lines
        );
        match event.what {
            What::Entered(id) | What::Returned(id) => {
                let record = trace.record(id);
                entered += usize::from(event.what == What::Entered(id));
                assert!((1..=trace.lines).contains(&record.line.0), "{}", record.line);
                assert!(!record.returned.to_string().is_empty());
            }
            What::Ended(_) | What::Superseded { .. } | What::Mode(_) => {}
        }
    }
    assert!(entered > 0, "a recording has calls");
    for broken in &trace.broken {
        assert!((1..=trace.lines).contains(&broken.line.0), "line {}", broken.line);
    }
}

/// The decisions of a random program, in one of three formats, with everything failing or nothing.
pub fn calls(bytes: &[u8]) {
    let Some((&first, rest)) = bytes.split_first() else { return };
    let plan = Plan {
        name: format!("{} bytes of decisions", rest.len()),
        choices: Choices::of_bytes(rest.to_vec()),
        operations: OPERATIONS,
        fails: first & 1 != 0,
    };
    match first >> 1 & 3 {
        0 | 1 => run::<X86_64>(plan),
        2 => run::<I386>(plan),
        _ => run::<Pae>(plan),
    };
}

/// A word on the command line that should be a size or a time.
pub fn values(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match values::memory(&text) {
        Ok(size) => assert!((4 << 20..=1 << 40).contains(&size), "{size}"),
        Err(error) => assert!(error.contains(&*text)),
    }
    match values::time(&text) {
        Ok(time) => assert!(!time.is_zero()),
        Err(error) => assert!(!error.is_empty()),
    }
}
