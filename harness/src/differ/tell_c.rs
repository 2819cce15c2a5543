//! A program as C: a complete file against libc, which prints what this host's kernel answers to each step.
//!
//! All processes run the same text; each step belongs to one of them, and a counter in shared memory says whose turn
//! it is. Nothing in it depends on us: `cc -o program program.c && ./program`.

use std::fmt::Write;

use super::op::{
    Call, DONTNEED, FILE, FREE, HEAP, LIMIT_AREAS, MEMORY, OBJECT_PAGES, Op, PAGE, SEEN_BASE,
    SEEN_END, STORED,
};
use super::{Difference, NOP, Program};

/// What comes before the steps. Accesses that may fault come back by `siglongjmp`; a fetch by the trap flag.
const HEAD: &str = include_str!("tell_c_head.c");

/// The program as a file.
pub fn tell_c(program: &Program, difference: &Difference) -> String {
    let mut text = String::new();
    let place = difference.place();
    let mut line = |line: std::fmt::Arguments<'_>| {
        // Writing to a string does not fail.
        let _ = text.write_fmt(line);
        text.push('\n');
    };
    line(format_args!("/* The last step is answered so:"));
    line(format_args!("     Linux:  {place}{}", difference.linux));
    line(format_args!("     rumpvm: {place}{} */", difference.ours.replace("*/", "* /")));
    line(format_args!("#define PAGES {OBJECT_PAGES}\n#define PAGE {PAGE}"));
    line(format_args!("#define STORED {STORED}\n#define NOP {NOP:#x}"));
    line(format_args!("#define FIRST {SEEN_BASE:#x}UL\n#define END {SEEN_END:#x}UL"));
    line(format_args!("{HEAD}"));
    line(format_args!("int main(void) {{"));
    line(format_args!(
        "    begin({});",
        program.locked.map_or("RLIM_INFINITY".into(), |locked| format!("{locked:#x}"))
    ));
    if program.ops.iter().any(|op| op.call == Call::Brk) {
        line(format_args!("    heap({HEAP:#x}UL);"));
    }
    for (step, op) in program.ops.iter().enumerate() {
        line(format_args!("    /* {op} */"));
        line(format_args!("    if (turn({step}, {})) {{ {} }}", op.process, statement(op)));
    }
    line(format_args!("    end({});\n}}", program.ops.len()));
    text
}

/// A step as a statement.
fn statement(op: &Op) -> String {
    let [a, b, c, d, e, f] = op.arguments;
    let called = |number: &str, arguments: String| {
        format!("call(\"{}\", SYS_{number}, {arguments});", op.call.name())
    };
    let object = |number: u64| match number {
        FILE => "file",
        MEMORY => "memory",
        _ => "-1",
    };
    match op.call {
        Call::Mmap => format!(
            "place({b:#x}UL, call(\"mmap\", SYS_mmap, {a:#x}UL, {b:#x}UL, {c:#x}UL, {d:#x}UL, {}, {f:#x}UL));",
            object(e)
        ),
        Call::Mremap => format!(
            "place({c:#x}UL, call(\"mremap\", SYS_mremap, {a:#x}UL, {b:#x}UL, {c:#x}UL, {d:#x}UL, {e:#x}UL));"
        ),
        Call::Madvise if c as i32 == FREE => format!(
            "if (!call(\"madvise\", SYS_madvise, {a:#x}UL, {b:#x}UL, {FREE})) call(\"madvise\", SYS_madvise, {a:#x}UL, {b:#x}UL, {DONTNEED});"
        ),
        Call::Mincore => called("mincore", format!("{a:#x}UL, {b:#x}UL, vector")),
        Call::Truncate => called("ftruncate", format!("{}, {b:#x}UL", object(a))),
        Call::AddSeals => format!("call(\"add_seals\", SYS_fcntl, memory, F_ADD_SEALS, {a:#x});"),
        Call::Limit if a == LIMIT_AREAS => format!("crowd({b});"),
        Call::Limit => format!("limit({a}, {b:#x}UL);"),
        Call::ProcessMadvise => {
            format!("advise({f}, {a:#x}UL, {b:#x}UL, {c:#x}UL, {d:#x}UL, {});", e as i32)
        }
        Call::Fallocate => called("fallocate", format!("memory, {a:#x}UL, {b:#x}UL, {c:#x}UL")),
        Call::Shmget => format!("get({a}, {b}, {c:#x}UL, {d:#x});"),
        Call::Shmat => format!("attach({a}, {b:#x}UL, {c:#x});"),
        Call::Shmctl => format!("control({a}, {b}, {c:#x});"),
        Call::Load => format!("load({a:#x}UL);"),
        Call::Store => format!("store({a:#x}UL, {b:#x}UL);"),
        Call::Fetch => format!("fetch({a:#x}UL);"),
        Call::Fork => format!("child({a});"),
        Call::Exit => "leave();".into(),
        Call::Look => format!("look({a});"),
        _ => {
            let given: Vec<String> = op.told().map(|(_, value)| format!("{value:#x}UL")).collect();
            let given = if given.is_empty() { "0".into() } else { given.join(", ") };
            called(op.call.name(), given)
        }
    }
}
