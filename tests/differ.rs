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
    Answers, Call, DONTNEED, Failed, Found, Ground, Hunt, Op, Ours, Outcome, PAGE, PageSeen,
    Present, Program, Settings, Shown, Voice, Voices, hunt, one, tell_c, tell_rust,
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
    let hunted = hunted(200_000, 4, NONE);
    assert!(hunted.found.is_none(), "{:?}", hunted.found);
    assert!(hunted.ops >= 200_000);
}

/// Both sides answer each step of `text` alike, without any excuse; returns what they say.
#[track_caller]
fn agreed(text: &str) -> Vec<Outcome> {
    let program: Program = text.parse().unwrap();
    let (mut linux, mut ours) = voices(&ground(), NONE).unwrap();
    let (theirs, mine) = rumpvm_harness::differ::ask(&mut *linux, &mut *ours, &program).unwrap();
    for (step, op) in program.ops.iter().enumerate() {
        assert_eq!(theirs.outcomes[step], mine.outcomes[step], "step {step}, `{op}`\n{text}");
    }
    mine.outcomes
}

/// Each call begins with room for so many areas; what it did does not stand in the way of the next.
#[test]
fn the_last_areas_are_refused_to_the_same_calls() {
    if !ground().crowds {
        eprintln!("the host lets a process have too many areas: their limit was not tried");
        return;
    }
    let calls = [
        "munmap 0xfffff1000 0x1000",
        "munmap 0xfffff0000 0x1000",
        "mprotect 0xfffff4000 0x1000 1",
        "mprotect 0xfffff5000 0x2000 1",
        "madvise 0xfffff8000 0x1000 10",
        "mlock 0xfffffa000 0x1000",
        "mmap 0xfffffc000 0x1000 1 0x32 - 0",
        "mmap 0x1000001000 0x1000 3 0x32 - 0",
        "mremap 0x1000003000 0x1000 0x2000 0 0",
        "mremap 0x1000003000 0x1000 0x3000 1 0",
        "mremap 0x1000006000 0x1000 0x1000 3 0x100000a000",
        "mremap 0x1000008000 0x1000 0x1000 7 0x100000a000",
        "shmat 0 0x100000b000 0",
        "remap_file_pages 0x100000d000 0x1000 0 0 0",
        "fork 1",
    ];
    let mut refused = 0;
    for room in 0..9 {
        let mut text = String::from(
            "0 mmap 0xfffff0000 0x10000 3 0x32 - 0\n0 mmap 0x1000003000 0x1000 3 0x32 - 0
            0 mmap 0x1000006000 0x3000 3 0x32 - 0\n0 mmap 0x100000d000 0x2000 3 0x11 1 0
            0 shmget 0 0 0x1000 0o600\n",
        )
        .replace("0o600", "0x180");
        for call in calls {
            text += &format!("0 limit 2 {room}\n0 {call}\n");
        }
        let answers = agreed(&text);
        refused += answers.iter().filter(|answer| **answer == Outcome::Refused(12)).count();
    }
    assert!(refused > 20, "{refused} calls were refused");
}

#[test]
fn rights_that_are_refused_half_way_stay_changed_as_far_as_on_linux() {
    let areas = "0 mmap 0xfffff0000 0x1000 1 0x32 - 0\n0 mmap 0xfffff1000 0x2000 0 0x32 - 0
        0 mmap 0xfffff3000 0x1000 1 0x32 - 0\n";
    for (limits, refused) in [
        ("0 limit 1 0x2000", true),
        ("0 limit 1 0x3000", true),
        ("0 limit 1 0x4000", false),
        ("0 limit 1 0\n0 limit 0 0", false),
        ("0 limit 1 0\n0 limit 0 0x1000", true),
        ("0 limit 1 0x1000\n0 limit 0 0x1000", true),
    ] {
        let text = format!("{areas}{limits}\n0 mprotect 0xfffff0000 0x4000 3\n");
        let stores = [0, 1, 3].map(|page| format!("0 store 0xfffff{page}000 0x1\n")).concat();
        let answers = agreed(&(text + &stores));
        let protected = answers[answers.len() - 4];
        assert_eq!(protected == Outcome::Refused(12), refused, "{limits}");
    }
}

#[test]
fn who_has_exited_has_nothing_mapped_when_the_next_step_comes() {
    let answers = agreed(
        "0 mmap 0xfffff0000 0x1000 3 0x1 1 0\n0 shmget 0 0 0x1000 0x180\n0 shmat 0 0xfffff8000 0
        0 fork 1\n0 munmap 0xfffff0000 0x1000\n0 add_seals 0x8\n0 shmctl 0 2 0
        1 exit\n0 add_seals 0x8\n0 shmctl 0 2 0",
    );
    assert_eq!((answers[5], answers[8]), (Outcome::Refused(16), Outcome::Done(0)));
    assert_ne!(answers[6], answers[9]);
}

#[test]
fn no_segment_outlives_the_program_that_made_it() {
    if !ground().segments {
        eprintln!("no name space for segments can be had: they were not tried");
        return;
    }
    let ground = ground();
    let (mut linux, mut ours) = voices(&ground, NONE).unwrap();
    let make: Program = "0 shmget 0 1 0x1000 0x380\n0 shmat 0 0xfffff0000 0".parse().unwrap();
    let find: Program = "0 shmget 0 1 0x1000 0x180".parse().unwrap();
    for program in [&make, &find, &make] {
        let (theirs, mine) = rumpvm_harness::differ::ask(&mut *linux, &mut *ours, program).unwrap();
        assert_eq!(theirs.outcomes, mine.outcomes);
        let expected = if program == &find { Outcome::Refused(2) } else { Outcome::Done(0) };
        assert_eq!(mine.outcomes[0], expected);
    }
}

#[test]
fn what_newer_calls_say_is_printed_as_c_and_as_rust() {
    let text = "0 mmap 0xfffff0000 0x2000 3 0x28 - 0
        0 shmget 0 1 0x2000 0x380
        0 shmat 0 0xfffff8000 0x2000
        0 fork 1
        1 process_madvise 0xfffff8000 0x1000 0xfffff9000 0x1000 3 0
        0 shmctl 0 2 0
        0 shmdt 0xfffff8000
        0 shmctl 0 0 0
        0 fallocate 0x0 0x2000 0x10000
        0 brk 0x1000006000
        0 limit 2 0x4
        0 brk 0x1000007000";
    let program: Program = text.parse().unwrap();
    let ground = ground();
    assert_eq!(one(&program, voices(&ground, NONE).unwrap()).unwrap(), None);
    let wrong = |_: &Op, outcome: &mut Outcome| *outcome = Outcome::Done(77);
    let voices = voices(&ground, Flaw { answer: wrong, ..NONE }).unwrap();
    let difference = one(&program, voices).unwrap().expect("the first answer is wrong");
    compiles(&tell_c(&program, &difference));
    let told = tell_rust(&program, &difference);
    for statement in ["slots.attach(vm, &stage.at(0).space, 0,", "slots.end(vm)", "Advised::Others"]
    {
        assert!(told.contains(statement), "{told}");
    }
}

/// rumpvm in Linux's place, with a page less in memory the first time that it is asked.
struct Forgetful {
    ours: Ours,
    forgets: u32,
}

impl Voice for Forgetful {
    fn name(&self) -> &'static str {
        "a host that takes pages"
    }

    fn start(&mut self, _program: &Program) -> Result<(), Failed> {
        Ok(())
    }

    fn finish(&mut self, program: &Program) -> Result<Answers, Failed> {
        let mut answers = self.ours.finish(program)?;
        let core = Present::CORE.bits();
        let is_taken = |page: &&mut PageSeen| {
            page.present & core != 0 && page.shown().contains(Shown::NAMELESS)
        };
        let taken = answers.looks.iter_mut().flatten().find(is_taken);
        if let Some(page) = taken.filter(|_| self.forgets > 0) {
            page.present &= !core;
            self.forgets -= 1;
        }
        Ok(answers)
    }
}

#[test]
fn what_the_host_has_taken_out_of_memory_counts_only_if_it_does_so_again() {
    let ground = ground();
    for (forgets, passes) in [(1, true), (u32::MAX, false)] {
        let forgetful = || -> io::Result<Voices> {
            let linux = Forgetful { ours: Ours::new(&ground)?, forgets };
            Ok((Box::new(linux), Box::new(Ours::new(&ground)?)))
        };
        let settings = Settings { ops: 20_000, seed: 1, processes: 1, lanes: 1 };
        let hunted = hunt(&settings, &ground, &forgetful, &|_| ()).unwrap();
        assert_eq!((hunted.found.is_none(), hunted.taken == 1), (passes, passes));
    }
}
