//! Replay: recordings of real programs agree with Linux, planted errors are found at their lines, and
//! nothing that is fed in breaks it.

use std::fmt::Write;
use std::io::Read;
use std::path::PathBuf;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use rumpvm_harness::replay::{Options, Outcome, ReplayError, Touch, Untold, replay, replay_trace};
use rumpvm_harness::trace::{LineNumber, Trace};

/// The recordings that are shipped.
const SHIPPED: [&str; 6] = ["git", "make", "node", "python", "rustc", "sort"];

fn shipped(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("traces");
    folder.join(format!("{name}.strace.gz"))
}

fn replay_text(text: &str) -> Outcome {
    let trace = Trace::parse(text.as_bytes()).expect("a recording");
    replay_trace(trace, &Options::default(), &mut |_, _| {}).expect("memory for processes")
}

/// The lines of all disagreements.
fn lines(outcome: &Outcome) -> Vec<u32> {
    outcome.disagreements.iter().map(|it| it.line.0).collect()
}

fn assert_agrees(outcome: &Outcome) {
    assert!(outcome.agrees, "{outcome}");
}

#[test]
fn every_shipped_recording_agrees_with_linux_whatever_is_touched() {
    for name in SHIPPED {
        for touch in [Touch::None, Touch::First, Touch::All, Touch::Zipf] {
            let options = Options { touch, ..Options::default() };
            let outcome = replay(&shipped(name), &options, &mut |_, _| {}).expect("a recording");
            assert!(outcome.agrees, "{name}, {touch:?}:\n{outcome}");
            assert_eq!(outcome.broken, [], "{name}");
            assert_eq!(outcome.touches.without_memory, 0, "{name}, {touch:?}");
        }
    }
}

#[test]
fn a_replay_repeats_itself_for_a_seed() {
    let options = Options { touch: Touch::Zipf, seed: 5, ..Options::default() };
    let twice = [(); 2].map(|()| {
        let outcome = replay(&shipped("python"), &options, &mut |_, _| {}).expect("a recording");
        // Without what depends on the clock.
        let moments = outcome.curve.iter().map(|moment| (moment.calls, moment.frames));
        (outcome.calls.clone(), outcome.faults.clone(), moments.collect::<Vec<_>>())
    });
    assert_eq!(twice[0], twice[1]);
}

#[test]
fn progress_is_told_up_to_the_end() {
    let mut told = Vec::new();
    let mut progress = |done, total| told.push((done, total));
    replay(&shipped("sort"), &Options::default(), &mut progress).expect("a recording");
    assert!(told.len() > 10 && told.is_sorted());
    let (done, total) = told.last().expect("told");
    assert!(done * 100 > total * 90, "{done} of {total}");
}

/// A program that maps, protects and unmaps, right in every line.
const RIGHT: &str = "\
7 execve(\"./a\", [\"./a\"], 0x7ffd0000 /* 3 vars */) = 0
7 brk(NULL) = 0x555500000000
7 brk(0x555500021000) = 0x555500021000
7 mmap(NULL, 12288, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f0000000000
7 mprotect(0x7f0000001000, 4096, PROT_NONE) = 0
7 munmap(0x7f0000002000, 4096) = 0
7 mprotect(0x7f0000002000, 4096, PROT_READ) = -1 ENOMEM (Cannot allocate memory)
7 mremap(0x7f0000001000, 4096, 8192, 0) = 0x7f0000001000
7 madvise(0x7f0000000000, 4096, MADV_DONTNEED) = 0
7 exit_group(0) = ?
7 +++ exited with 0 +++
";

#[test]
fn a_planted_error_is_reported_at_its_line() {
    assert_agrees(&replay_text(RIGHT));
    for (line, right, wrong) in [
        (3, "= 0x555500021000", "= 0x555500022000"),
        (5, "= 0\n", "= -1 EINVAL (Invalid argument)\n"),
        (6, "= 0\n", "= -1 EINVAL (Invalid argument)\n"),
        (7, "ENOMEM (Cannot", "EINVAL (Cannot"),
        (7, "= -1 ENOMEM (Cannot allocate memory)", "= 0"),
        (8, "= 0x7f0000001000\n", "= -1 ENOMEM (Cannot allocate memory)\n"),
        (9, "= 0\n", "= -1 EINVAL (Invalid argument)\n"),
    ] {
        let mut planted: Vec<String> = RIGHT.lines().map(|line| format!("{line}\n")).collect();
        let changed = planted[line - 1].replace(right, wrong);
        assert_ne!(changed, planted[line - 1], "the error is planted");
        planted[line - 1] = changed;
        let outcome = replay_text(&planted.concat());
        assert!(lines(&outcome).contains(&(line as u32)), "line {line}, {wrong}:\n{outcome}");
        assert!(!outcome.agrees);
    }
}

#[test]
fn a_planted_error_in_a_shipped_recording_is_the_only_one_reported() {
    let text = text_of("git");
    let mut lines_of_text: Vec<String> = text.lines().map(String::from).collect();
    let is_good = |line: &String| line.contains(" mprotect(") && line.ends_with(" = 0");
    let at = lines_of_text.iter().rposition(is_good).expect("there is an mprotect");
    lines_of_text[at] = lines_of_text[at].replace(" = 0", " = -1 EFAULT (Bad address)");
    let outcome = replay_text(&lines_of_text.join("\n"));
    assert_eq!(lines(&outcome), [at as u32 + 1], "{outcome}");
}

#[test]
fn a_hole_that_the_recording_made_is_not_filled_by_inference() {
    let hole = format!("{RIGHT}8 brk(NULL) = 0x1000\n").replace(
        "7 mprotect(0x7f0000002000, 4096, PROT_READ) = -1 ENOMEM (Cannot allocate memory)\n",
        "7 mprotect(0x7f0000002000, 4096, PROT_READ) = 0\n",
    );
    let outcome = replay_text(&hole);
    assert_eq!(lines(&outcome)[0], 7, "{outcome}");
    assert_eq!(outcome.inferred.pages, 0);
}

#[test]
fn what_exec_maps_is_inferred_once() {
    let text = "\
7 execve(\"./a\", [\"./a\"], 0x7ffd0000 /* 3 vars */) = 0
7 mprotect(0x555500000000, 4096, PROT_READ) = 0
7 mprotect(0x555500000000, 8192, PROT_READ) = 0
7 munmap(0x555500000000, 4096) = 0
7 mprotect(0x555500001000, 4096, PROT_NONE) = 0
";
    let outcome = replay_text(text);
    assert_agrees(&outcome);
    assert_eq!(outcome.inferred.pages, 2);
    assert_eq!(outcome.inferred.places.first, [LineNumber(2), LineNumber(3)]);
}

#[test]
fn a_heap_may_begin_inside_the_last_page_of_the_program() {
    let text = "\
7 execve(\"./a\", [\"./a\"], 0x7ffd0000 /* 3 vars */) = 0
7 brk(NULL) = 0x4c6b40
7 brk(0x4c7340) = 0x4c7340
7 brk(0x4c6b40) = 0x4c6b40
7 brk(0x4c7340) = 0x4c7340
7 mprotect(0x4c6000, 8192, PROT_READ) = 0
";
    let outcome = replay_text(text);
    assert_agrees(&outcome);
    assert_eq!((outcome.inferred.pages, outcome.touches.pages), (1, 3));
}

#[test]
fn children_live_and_die_as_recorded() {
    let text = "\
7 execve(\"./a\", [\"./a\"], 0x7ffd0000 /* 3 vars */) = 0
7 mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f0000000000
7 fork( <unfinished ...>
8 munmap(0x7f0000000000, 4096) = 0
8 mprotect(0x7f0000000000, 4096, PROT_READ) = -1 ENOMEM (Cannot allocate memory)
7 <... fork resumed>) = 8
7 mprotect(0x7f0000000000, 4096, PROT_READ) = 0
7 vfork( <unfinished ...>
9 munmap(0x7f0000000000, 4096) = 0
9 execve(\"/bin/true\", [\"true\"], 0x7ffd0000 /* 3 vars */ <unfinished ...>
7 <... vfork resumed>) = 9
9 <... execve resumed>) = 0
9 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f0000000000
7 mprotect(0x7f0000000000, 4096, PROT_READ) = -1 ENOMEM (Cannot allocate memory)
7 clone(child_stack=0x7f0000100000, flags=CLONE_VM|CLONE_FILES|CLONE_THREAD) = 10
10 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f0000000000
10 exit(0) = ?
10 +++ exited with 0 +++
7 mprotect(0x7f0000000000, 4096, PROT_NONE) = 0
8 +++ exited with 3 +++
7 wait4(-1, [{WIFEXITED(s) && WEXITSTATUS(s) == 3}], 0, NULL) = 8
9 +++ killed by SIGKILL +++
7 wait4(9, [{WIFSIGNALED(s) && WTERMSIG(s) == SIGKILL}], 0, NULL) = 9
7 wait4(-1, NULL, 0, NULL) = -1 ECHILD (No child processes)
7 +++ exited with 0 +++
";
    let outcome = replay_text(text);
    assert_agrees(&outcome);
    assert_eq!((outcome.processes, outcome.threads, outcome.forks.count), (3, 1, 1));
    assert_eq!(outcome.calls["wait"].agreed, 3);
}

#[test]
fn room_given_up_by_a_call_under_way_is_free_for_another() {
    let text = "\
7 execve(\"./a\", [\"./a\"], 0x7ffd0000 /* 3 vars */) = 0
7 mmap(NULL, 8192, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f0000000000
7 clone(child_stack=0x7f0000100000, flags=CLONE_VM|CLONE_FILES|CLONE_THREAD) = 8
7 munmap(0x7f0000000000, 4096 <unfinished ...>
8 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f0000000000
7 <... munmap resumed>) = 0
7 mprotect(0x7f0000000000, 8192, PROT_NONE) = 0
";
    assert_agrees(&replay_text(text));
}

#[test]
fn a_32_bit_program_has_no_room_above_4_gib() {
    let text = "\
7 execve(\"./a\", [\"./a\"], 0x7ffd0000 /* 3 vars */) = 0
7 mmap2(NULL, 8192, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0xf7f4e000
7 mmap2(NULL, 4160749568, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = -1 ENOMEM (Cannot allocate memory)
7 waitpid(-1, NULL, 0) = -1 ECHILD (No child processes)
";
    let outcome = replay_text(text);
    assert_agrees(&outcome);
    assert_eq!(outcome.calls["mmap"].agreed, 2);
}

#[test]
fn what_is_not_replayed_or_cannot_be_told_is_counted_by_name() {
    let text = "\
7 execve(\"./a\", [\"./a\"], 0x7ffd0000 /* 3 vars */) = -1 ENOENT (No such file or directory)
7 mbind(0x7f0000000000, 4096, MPOL_DEFAULT, NULL, 0, 0) = 0
7 mmap(NULL, 4096, PROT_READ, MAP_SHARED, 3, 0) = -1 EACCES (Permission denied)
7 kill(7, SIGTERM) = ?
7 kill(7, SIGTERM) = 0
7 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f0000000000
7 madvise(0x7f0000000000, 4096, 0x3e7 /* MADV_??? */) = 0
";
    let outcome = replay_text(text);
    assert_agrees(&outcome);
    let counts = ["mbind", "kill", "madvise 999"].map(|name| outcome.not_replayed[name]);
    assert_eq!(counts, [1, 2, 1]);
    assert_eq!(outcome.untold[&Untold::File].count, 2);
}

#[test]
fn mangled_lines_are_counted_and_the_rest_is_replayed() {
    let mut text = String::new();
    for (index, line) in RIGHT.lines().enumerate() {
        writeln!(text, "{line}").expect("a string takes all");
        if index == 3 {
            text.push_str("7 mmap(NULL, 4096, PROT_READ, MAP_PRI\nout of the program\n");
        }
    }
    let outcome = replay_text(&text);
    assert_agrees(&outcome);
    let broken: Vec<u32> = outcome.broken.iter().map(|broken| broken.line.0).collect();
    assert_eq!(broken, [5, 6]);
}

/// The text of a shipped recording.
fn text_of(name: &str) -> String {
    let bytes = std::fs::read(shipped(name)).expect("it is shipped");
    let mut text = String::new();
    flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).expect("it is text");
    text
}

#[test]
fn whatever_the_lines_say_the_machine_stays_whole() {
    let text = text_of("sort");
    for seed in 0..24 {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut bytes = text.clone().into_bytes();
        for _ in 0..200 {
            let at = random.random_range(0..bytes.len());
            // Digits make other numbers, which are harder to survive than broken lines.
            bytes[at] = match bytes[at] {
                b'0'..=b'9' | b'a'..=b'f' => b"0123456789abcdef"[random.random_range(0..16)],
                _ => random.random(),
            };
        }
        if let Ok(trace) = Trace::parse(&bytes) {
            let outcome = replay_trace(trace, &Options::default(), &mut |_, _| {});
            let outcome = outcome.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            assert_eq!(outcome.check, None, "seed {seed}");
        }
    }
}

#[test]
fn what_is_no_recording_is_refused() {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    for path in [manifest, PathBuf::from("/nonexistent")] {
        let refused = replay(&path, &Options::default(), &mut |_, _| {});
        assert!(matches!(refused, Err(ReplayError::Trace(_))), "{path:?}");
    }
}

#[test]
fn a_machine_without_memory_for_the_touches_says_so() {
    let options = Options { touch: Touch::All, memory: 12 << 20, ..Options::default() };
    let outcome = replay(&shipped("sort"), &options, &mut |_, _| {}).expect("memory for processes");
    assert!(outcome.touches.without_memory > 0, "{outcome}");
    assert_eq!(outcome.check, None);
}

#[test]
fn an_outcome_is_the_same_as_json() {
    let outcome = replay_text(RIGHT);
    let json = serde_json::to_value(&outcome).expect("plain data");
    assert_eq!(json["agrees"], true);
    assert_eq!(json["calls"]["mmap"]["agreed"], 1);
    assert_eq!(json["touches"]["policy"], "first");
}
