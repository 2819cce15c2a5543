//! Whole recordings: who did what, in which order, whatever the form.

use super::*;

/// A fork whose child is quicker than its parent, as a file with numbers shows it.
const FORKED: &str = "\
10 execve(\"./a\", [\"./a\"], 0x7ffd /* 3 vars */) = 0
10 fork( <unfinished ...>
11 brk(NULL <unfinished ...>
10 <... fork resumed>) = 11
11 <... brk resumed>) = 0x1000
10 wait4(-1,  <unfinished ...>
11 exit_group(3) = ?
11 +++ exited with 3 +++
10 <... wait4 resumed>[{WIFEXITED(s) && WEXITSTATUS(s) == 3}], 0, NULL) = 11
10 --- SIGCHLD {si_signo=SIGCHLD} ---
10 +++ killed by SIGTERM +++
";

fn trace(text: &str) -> Trace {
    Trace::parse(text.as_bytes()).expect("a recording")
}

/// One word for each event: task, `+` or `-` for entry and return, kind.
fn story(trace: &Trace) -> Vec<String> {
    let word = |event: &Event| match &event.what {
        What::Entered(id) => format!("{}+{}", event.task.0, trace.record(*id).call.kind()),
        What::Returned(id) => format!("{}-{}", event.task.0, trace.record(*id).call.kind()),
        What::Ended(end) => format!("{} {end:?}", event.task.0),
        What::Superseded { by } => format!("{}<{}", event.task.0, by.0),
        What::Mode(bits) => format!("{} {bits:?}", event.task.0),
    };
    trace.events.iter().map(word).collect()
}

#[test]
fn halves_of_calls_are_joined_and_keep_their_places() {
    let trace = trace(FORKED);
    assert_eq!(
        story(&trace),
        [
            "10+exec",
            "10-exec",
            "10+fork",
            "11+brk",
            "10-fork",
            "11-brk",
            "10+wait",
            "11+exit",
            "11-exit",
            "11 Exited(3)",
            "10-wait",
            "10 Killed(\"SIGTERM\")",
        ]
    );
    assert_eq!(trace.broken, []);
    let wait = trace.record(CallId(3));
    assert_eq!((wait.returned, wait.line), (Returned::Value(11), LineNumber(9)));
}

#[test]
fn numbers_of_the_terminal_form_are_found_out() {
    let text = "\
execve(\"./a\", [\"./a\"], 0x7ffd /* 3 vars */) = 0
[ Process PID=10 runs in 32 bit mode. ]
vfork(strace: Process 11 attached
 <unfinished ...>
[pid    11] brk(NULL) = 0x1000
[pid    10] <... vfork resumed>) = 11
[pid    10] +++ exited with 0 +++
brk(NULL) = 0x1000
+++ exited with 3 +++
";
    let trace = trace(text);
    assert_eq!(
        story(&trace),
        [
            "0+exec",
            "0-exec",
            "0 B32",
            "0+vfork",
            "11+brk",
            "11-brk",
            "0-vfork",
            "0 Exited(0)",
            "11+brk",
            "11-brk",
            "11 Exited(3)",
        ]
    );
    assert_eq!(trace.broken, []);
}

#[test]
fn exec_of_a_thread_goes_on_under_the_number_of_the_first() {
    let text = "\
10 brk(NULL) = 0x1000
11 execve(\"/bin/true\", [\"true\"], 0x7fff /* 3 vars */ <unfinished ...>
10 +++ superseded by execve in pid 11 +++
10 <... execve resumed>) = 0
";
    assert_eq!(story(&trace(text)), ["10+brk", "10-brk", "11+exec", "10<11", "10-exec"]);
}

#[test]
fn lines_that_cannot_be_used_are_listed_with_reasons() {
    let text = "\
10 brk(NULL) = 0x1000
hello
10 mprotect(0x1000, 4096, PROT_READ
10 <... mmap resumed>) = 0x2000
10 mmap(NULL, 4096,  <unfinished ...>
10 munmap(0x1000, x) = 0
10 munmap(0x1000, 4096) = maybe
";
    let trace = trace(text);
    let told: Vec<_> = trace.broken.iter().map(|b| (b.line.0, b.reason.to_string())).collect();
    let wanted = [
        (2, "no line of strace's"),
        (3, "its arguments never end"),
        (4, "mmap is resumed but was never begun"),
        (5, "mmap is begun and never resumed"),
        (6, "\"x\" is not a number"),
        (7, "\"= maybe\" is not a result"),
    ];
    assert_eq!(told, wanted.map(|(line, reason)| (line, reason.to_owned())));
    assert_eq!(story(&trace), ["10+brk", "10-brk"]);
}

#[test]
fn a_last_line_of_two_pieces_counts_as_two_lines() {
    let text = "brk(NULL) = 0x1000\nclone(flags=SIGCHLDstrace: Process 12 attached\n) = 12\n";
    assert_eq!(trace(text).lines, 3);
    assert_eq!(trace("brk(NULL) = 0x1000\nbrk(NULL) = 0x1000\n").lines, 2);
}

#[test]
fn what_is_no_recording_is_refused_with_the_reason() {
    let refused = |text: &str| Trace::parse(text.as_bytes()).expect_err("no recording").to_string();
    assert_eq!(refused(""), "there is nothing in it");
    assert!(refused("\n# Notes\nx = f(1);\n").contains("line 2 is \"# Notes\""));
    assert!(refused("openat(AT_FDCWD, \"x\", O_RDONLY) = 3\n").contains("none of its 1 calls"));
    assert!(refused("\u{7f}ELF\0").contains("byte 4 is zero"));
}

#[test]
fn mangled_lines_are_never_fatal() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let spoil = b"\"()[]{}<>,=|/*\\ \n0x-+?\x80\xff";
    for _ in 0..20_000 {
        let mut bytes = FORKED.as_bytes().to_vec();
        for _ in 0..=random(8) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes.truncate(at.max(1)),
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, spoil[random(spoil.len())]),
                _ => bytes[at] = spoil[random(spoil.len())],
            }
            if bytes.is_empty() {
                bytes.push(b'x');
            }
        }
        if let Ok(trace) = Trace::parse(&bytes) {
            story(&trace);
        }
    }
}
