//! The differential test can fail: what is planted is found, shrunk, and printed as programs that compile; and what
//! is the tool's own failure is said to be that.
//!
//! The run of two million steps is `rumpvm differ`, in `cargo xtask test`.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[path = "differ/printed.rs"]
#[rustfmt::skip]
mod printed;
#[path = "differ/printed_look.rs"]
#[rustfmt::skip]
mod printed_look;

use std::io;
use std::process::Command;

use rumpvm_harness::differ::{
    Answers, Call, DONTNEED, Failed, Found, Ground, Hunt, Op, Ours, Outcome, PAGE, Program,
    Settings, Voice, Voices, hunt, one, tell_c, tell_rust,
};
use rumpvm_harness::linux::Linux;

/// A flaw that is put between a program and rumpvm: steps are carried out wrongly, or answered so.
#[derive(Clone, Copy)]
struct Flaw {
    step: fn(&mut Op),
    answer: fn(&Op, &mut Outcome),
}

const NONE: Flaw = Flaw { step: |_| (), answer: |_, _| () };

/// rumpvm with a flaw.
struct Flawed {
    ours: Ours,
    flaw: Flaw,
}

impl Voice for Flawed {
    fn name(&self) -> &'static str {
        "rumpvm with a flaw"
    }

    fn start(&mut self, _program: &Program) -> Result<(), Failed> {
        Ok(())
    }

    fn finish(&mut self, program: &Program) -> Result<Answers, Failed> {
        let mut changed = program.clone();
        changed.ops.iter_mut().for_each(self.flaw.step);
        let mut answers = self.ours.finish(&changed)?;
        for (op, outcome) in program.ops.iter().zip(&mut answers.outcomes) {
            (self.flaw.answer)(op, outcome);
        }
        Ok(answers)
    }
}

fn ground() -> Ground {
    Ground::of_host(&mut Linux::new().unwrap()).unwrap()
}

fn voices(ground: &Ground, flaw: Flaw) -> io::Result<Voices> {
    let ours = Ours::new(ground)?;
    Ok((Box::new(Linux::new()?), Box::new(Flawed { ours, flaw })))
}

fn hunted(ops: u64, processes: u8, flaw: Flaw) -> Hunt {
    let ground = ground();
    let settings = Settings { ops, seed: 1, processes, lanes: 2 };
    hunt(&settings, &ground, &|| voices(&ground, flaw), &|_| ()).unwrap()
}

/// What is found of `flaw`, which must be shrunk to `most` steps.
#[track_caller]
fn found(flaw: Flaw, most: usize) -> Found {
    let found = hunted(300_000, 4, flaw).found.expect("what was planted is found");
    assert!(found.program.ops.len() <= most, "{}", found.program);
    compiles(&tell_c(&found.program, &found.difference));
    found
}

/// The compiler takes `text`, without a warning, and what it makes of it runs to its end.
#[track_caller]
fn compiles(text: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (source, program) = (folder.path().join("program.c"), folder.path().join("program"));
    std::fs::write(&source, text).unwrap();
    let words = ["-Wall", "-Wextra", "-Werror", "-o"];
    let made = Command::new("cc").args(words).args([&program, &source]).output();
    let Ok(made) = made else {
        eprintln!("there is no `cc` here: that the printed C compiles was not tried");
        return;
    };
    assert!(made.status.success(), "{}\n{text}", String::from_utf8_lossy(&made.stderr));
    let ran = Command::new(&program).output().unwrap();
    assert!(ran.status.success(), "{ran:?}\n{text}");
}

#[test]
fn advice_that_is_forgotten_is_found_in_four_steps() {
    let forgets = |op: &mut Op| {
        if op.call == Call::Madvise && op.arguments[2] == DONTNEED as u64 {
            op.arguments[2] = 0;
        }
    };
    let found = found(Flaw { step: forgets, ..NONE }, 4);
    assert!(found.program.ops.iter().any(|op| op.arguments[2] == DONTNEED as u64));
}

#[test]
fn a_file_that_is_cut_off_a_page_too_late_is_found_in_three_steps() {
    let late = |op: &mut Op| {
        if op.call == Call::Truncate {
            op.arguments[1] += PAGE;
        }
    };
    found(Flaw { step: late, ..NONE }, 3);
}

#[test]
fn rights_that_miss_the_last_page_are_found_in_three_steps() {
    let misses = |op: &mut Op| {
        if op.call == Call::Mprotect && op.arguments[1] > PAGE {
            op.arguments[1] -= PAGE;
        }
    };
    found(Flaw { step: misses, ..NONE }, 3);
}

#[test]
fn a_wrong_error_number_is_found_in_two_steps() {
    let wrong = |_: &Op, outcome: &mut Outcome| {
        if *outcome == Outcome::Refused(17) {
            *outcome = Outcome::Refused(22);
        }
    };
    let found = found(Flaw { answer: wrong, ..NONE }, 2);
    assert_eq!(found.difference.outcome, Outcome::Refused(17));
}

#[test]
fn memory_that_a_child_should_not_get_is_found_with_both_processes() {
    let forgets = |op: &mut Op| {
        if op.call == Call::Madvise && op.arguments[2] == 10 {
            op.arguments[2] = 0;
        }
    };
    // The advice shows in the areas of the parent already.
    found(Flaw { step: forgets, ..NONE }, 3);
    let copies = |op: &mut Op| {
        if op.call == Call::Mmap && op.arguments[3] & 0x20 != 0 && op.arguments[3] & 0xf == 1 {
            op.arguments[3] ^= 3;
        }
    };
    let mut found = found(Flaw { step: copies, ..NONE }, 3);
    found.program.ops.truncate(1);
    assert_eq!(found.program.ops[0].call, Call::Mmap);
}

#[test]
fn a_program_of_several_processes_is_printed_as_c_that_takes_turns() {
    let text = "locked 0x10000
        0 mmap 0x1000000000 0x2000 3 0x31 - 0
        0 store 0x1000000000 0x77
        0 fork 1
        1 store 0x1000000000 0x88
        0 load 0x1000000000
        1 mmap 0x1000000000 0x1000 0 0x32 - 0
        1 load 0x1000000000
        1 exit
        0 madvise 0x1000001000 0x1000 8
        0 mmap 0x1000004000 0x1000 5 0x12 0 0
        0 fetch 0x1000004080
        0 look 7";
    let program: Program = text.parse().unwrap();
    let ground = ground();
    assert_eq!(one(&program, voices(&ground, NONE).unwrap()).unwrap(), None);
    let wrong = |_: &Op, outcome: &mut Outcome| *outcome = Outcome::Done(1);
    let voices = voices(&ground, Flaw { answer: wrong, ..NONE }).unwrap();
    let difference = one(&program, voices).unwrap().expect("the first answer is wrong");
    compiles(&tell_c(&program, &difference));
    assert!(tell_rust(&program, &difference).contains("stage.fork(0, 1)"));
}

/// What the last step of `text` is told as, if rumpvm had the flaw.
#[track_caller]
fn printed(text: &str, flaw: Flaw) -> String {
    let program: Program = text.parse().unwrap();
    let difference =
        one(&program, voices(&ground(), flaw).unwrap()).unwrap().expect("it has a flaw");
    assert_eq!(difference.step, program.ops.len() - 1);
    tell_rust(&program, &difference)
}

/// The two files are tests of this package, so what is printed compiles, and passes without the flaw. With
/// `RUMPVM_BLESS` set they are written anew.
#[test]
fn what_is_printed_as_rust_is_a_test_of_our_own() {
    let late = |op: &mut Op| {
        if op.call == Call::Truncate {
            op.arguments[1] += PAGE;
        }
    };
    let text = "locked 0x10000
        0 mmap 0x1000000000 0x3000 3 0x12 0 0x1000
        0 look 7
        0 fork 1
        1 exit
        0 ftruncate 0 0x2000
        0 load 0x1000001000";
    let access = printed(text, Flaw { step: late, ..NONE });
    let misses = |op: &mut Op| {
        if op.call == Call::Mprotect {
            op.arguments[1] -= PAGE;
        }
    };
    let text = "0 mmap 0x1000000000 0x3000 3 0x11 1 0
        0 mprotect 0x1000000000 0x2000 1
        0 look 1";
    let look = printed(text, Flaw { step: misses, ..NONE });
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/differ");
    let files = [("printed.rs", access), ("printed_look.rs", look)];
    for (name, text) in files {
        let path = format!("{folder}/{name}");
        if std::env::var_os("RUMPVM_BLESS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            text,
            "{name}: RUMPVM_BLESS=1 writes it"
        );
    }
}

#[test]
fn a_process_that_dies_is_the_tools_failure_and_no_difference() {
    let program: Program = "0 munmap 0x0 0x7ffffffff000\n0 load 0x1000000000".parse().unwrap();
    let ground = ground();
    let failed = one(&program, voices(&ground, NONE).unwrap()).unwrap_err();
    assert!(failed.0.contains("ended by signal"), "{failed}");
}

#[test]
fn a_program_begins_anew_whatever_the_last_one_did() {
    let ground = ground();
    let (mut linux, mut ours) = voices(&ground, NONE).unwrap();
    let first: Program =
        "0 mmap 0x1000000000 0x1000 3 0x31 - 0\n0 ftruncate 0 0x10\n0 look 7".parse().unwrap();
    let second: Program =
        "0 look 7\n0 mmap 0x1000000000 0x1000 3 0x11 0 0x1000\n0 load 0x1000000000"
            .parse()
            .unwrap();
    let mut ask =
        |program: &Program| rumpvm_harness::differ::ask(&mut *linux, &mut *ours, program).unwrap();
    let alone = ask(&second);
    ask(&first);
    assert_eq!(ask(&second), alone);
    assert_eq!(alone.0.outcomes, alone.1.outcomes);
    assert_eq!(alone.0.outcomes[2], Outcome::Done(0x1111_1111_1111_1111));
}

#[test]
fn random_programs_answer_as_on_linux() {
    let hunted = hunted(30_000, 4, NONE);
    assert!(hunted.found.is_none(), "{:?}", hunted.found);
    assert!(hunted.ops >= 30_000);
}
