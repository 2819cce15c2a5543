//! A program as Rust: a test against our own interface, which fails as long as the difference is there.
//!
//! One statement for each step, each with what it does. The last one is what differs.

use std::fmt::Write;

use super::op::{
    BYTES, Call, DONTNEED, FILE, FREE, HEAP, LIMIT_AREAS, LIMIT_MAPPED, MEMORY, NO_OBJECT, Op,
    address,
};
use super::{Difference, Outcome, Program};

/// The program as a test.
pub fn tell_rust(program: &Program, difference: &Difference) -> String {
    let mut text = String::from("// What Linux answers to the last step, and what rumpvm does:\n");
    let place = difference.place();
    let mut line = |line: std::fmt::Arguments<'_>| {
        // Writing to a string does not fail.
        let _ = text.write_fmt(line);
        text.push('\n');
    };
    line(format_args!("//   Linux:  {place}{}", difference.linux));
    line(format_args!("//   rumpvm: {place}{}", difference.ours));
    for import in imports(program, difference) {
        line(format_args!("{import}"));
    }
    line(format_args!("\n#[test]\nfn rumpvm_answers_as_linux_does() {{"));
    line(format_args!("    let machine = Machine::builder().cpus(1).build();"));
    line(format_args!("    machine.on_cpu(|vm| {{"));
    let forks = program.ops.iter().any(|op| matches!(op.call, Call::Fork | Call::Exit));
    line(format_args!(
        "        let {}stage = Stage::new(vm).unwrap();",
        if forks { "mut " } else { "" }
    ));
    if uses(program, FILE) {
        let bytes = "(0..OBJECT_PAGES * PAGE).map(file_byte).collect::<Vec<u8>>()";
        line(format_args!("        let file = vm.open_file(MemoryFile::new({bytes})).unwrap();"));
    }
    if uses(program, MEMORY) {
        line(format_args!("        let memory = vm.shared_memory(OBJECT_PAGES * PAGE).unwrap();"));
    }
    if has(program, Call::Brk) {
        line(format_args!("        stage.at(0).space.set_brk_base(VirtAddr({HEAP:#x}));"));
    }
    if names_segments(program) {
        let changes = if has(program, Call::Shmget) { "mut " } else { "" };
        line(format_args!("        let {changes}slots = Slots::default();"));
    }
    if let Some(locked) = program.locked {
        line(format_args!("        let space = &stage.at(0).space;"));
        line(format_args!(
            "        space.set_limits(Limits {{ locked: {locked:#x}, ..space.limits() }});"
        ));
    }
    let last = program.ops.len() - 1;
    for (step, op) in program.ops.iter().enumerate() {
        let what = match op.call {
            // What is in memory may change by looking at bytes, so every page is loaded from.
            Call::Look if step < last && op.arguments[0] & BYTES != 0 => {
                let load = format!("stage.load_u64({}, VirtAddr(address(page)))", op.process);
                line(format_args!("        for page in 0..SEEN as u64 {{"));
                line(format_args!("            let _ = {load};\n        }}"));
                continue;
            }
            Call::Look if step < last => continue,
            Call::Look => look(program, op, difference),
            _ => statement(op),
        };
        match op.call {
            Call::Exit => line(format_args!("        {what};")),
            _ if step == last => line(format_args!("        let answer = {what};")),
            _ => line(format_args!("        let _ = {what};")),
        }
    }
    line(format_args!("        {}", check(&program.ops[last], difference)));
    line(format_args!("        stage.end();"));
    if names_segments(program) {
        line(format_args!("        slots.end(vm);"));
    }
    line(format_args!("    }});\n}}"));
    text
}

fn uses(program: &Program, object: u64) -> bool {
    program.ops.iter().any(|op| match op.call {
        Call::Mmap => op.arguments[4] == object && op.arguments[3] & 0x20 == 0,
        Call::Truncate => op.arguments[0] == object,
        Call::AddSeals | Call::Fallocate => object == MEMORY,
        _ => false,
    })
}

fn has(program: &Program, call: Call) -> bool {
    program.ops.iter().any(|op| op.call == call)
}

fn names_segments(program: &Program) -> bool {
    let calls = [Call::Shmget, Call::Shmat, Call::Shmdt, Call::Shmctl];
    calls.iter().any(|call| has(program, *call))
}

fn imports(program: &Program, difference: &Difference) -> Vec<String> {
    let has = |call: Call| has(program, call);
    let mut component = Vec::new();
    for (used, name) in [
        (has(Call::ProcessMadvise), "Advised"),
        (has(Call::Mmap), "Backing"),
        (program.locked.is_some() || has(Call::Limit), "Limits"),
        (has(Call::Mlockall), "LockAllFlags"),
        (has(Call::Mlock2), "LockFlags"),
        (has(Call::Mmap) || has(Call::RemapFilePages), "MapFlags"),
        (has(Call::Mprotect), "ProtFlags"),
        (has(Call::Mremap), "RemapFlags"),
        (has(Call::AddSeals), "Seals"),
        (matches!(difference.outcome, Outcome::Signal { .. }), "Signal"),
        (has(Call::Msync), "SyncFlags"),
    ] {
        if used {
            component.push(name);
        }
    }
    let loads = |op: &Op| op.call == Call::Look && op.arguments[0] & BYTES != 0;
    let loads = program.ops[..program.ops.len() - 1].iter().any(loads);
    let mut differ = Vec::new();
    for (used, name) in [
        (uses(program, FILE) || uses(program, MEMORY), "OBJECT_PAGES"),
        (uses(program, FILE) || uses(program, MEMORY), "PAGE"),
        (loads, "SEEN"),
        (names_segments(program), "Slots"),
        (true, "Stage"),
        (loads, "address"),
        (has(Call::Fallocate), "fallocate"),
        (uses(program, FILE), "file_byte"),
        (difference.part != 0, "page_told"),
    ] {
        if used {
            differ.push(name);
        }
    }
    let mut lines = Vec::new();
    if !component.is_empty() {
        lines.push(format!("use rumpvm::{{{}}};", component.join(", ")));
    }
    lines.push(format!(
        "use rumpvm_arch::{{{}VirtAddr}};",
        if has(Call::Mmap) { "Prot, " } else { "" }
    ));
    lines.push(format!("use rumpvm_harness::differ::{{{}}};", differ.join(", ")));
    lines.push("use rumpvm_harness::machine::Machine;".into());
    if uses(program, FILE) {
        lines.push("use rumpvm_hosted::MemoryFile;".into());
    }
    lines
}

/// A step as an expression.
fn statement(op: &Op) -> String {
    let [a, b, c, d, e, f] = op.arguments;
    let who = op.process;
    let space = format!("stage.at({who}).space");
    let at = format!("VirtAddr({a:#x})");
    let object = |number: u64| if number == FILE { "file" } else { "memory" };
    match op.call {
        Call::Mmap => {
            let prot = format!("Prot::from_bits_truncate({:#x})", c as u8);
            let flags = format!("MapFlags::from_bits_retain({d:#x})");
            let backing = if d & 0x20 != 0 || e == NO_OBJECT {
                "Backing::Anonymous".into()
            } else {
                format!("Backing::Object(&{})", object(e))
            };
            format!("{space}.mmap(vm, {at}, {b:#x}, {prot}, {flags}, {backing}, {f:#x})")
        }
        Call::Mprotect => {
            format!("{space}.mprotect(vm, {at}, {b:#x}, ProtFlags::from_bits_retain({c:#x}))")
        }
        Call::Mremap => {
            let flags = format!("RemapFlags::from_bits_retain({d:#x})");
            format!("{space}.mremap(vm, {at}, {b:#x}, {c:#x}, {flags}, VirtAddr({e:#x}))")
        }
        Call::Madvise if c as i32 == FREE => {
            let after = format!("{space}.madvise(vm, {at}, {b:#x}, {DONTNEED})");
            format!("{space}.madvise(vm, {at}, {b:#x}, {FREE}).and_then(|()| {after})")
        }
        Call::Madvise => format!("{space}.madvise(vm, {at}, {b:#x}, {})", c as i32),
        Call::Msync => {
            format!("{space}.msync(vm, {at}, {b:#x}, SyncFlags::from_bits_retain({c:#x}))")
        }
        Call::Mincore => format!("{space}.mincore(vm, {at}, {b:#x}, &mut [0; 4096])"),
        Call::Truncate => format!("vm.resize(&{}, {b:#x})", object(a)),
        Call::AddSeals => {
            format!("vm.add_seals(&memory, Seals::from_bits_retain({a:#x}))")
        }
        Call::Limit => {
            let (limit, now) = match a {
                LIMIT_MAPPED => ("address_space", "mapped_bytes"),
                LIMIT_AREAS => ("areas", "area_count"),
                _ => ("data", "data_bytes"),
            };
            let more = format!("{space}.{now}() + {b:#x}");
            let limits = format!("Limits {{ {limit}: {more}, ..{space}.limits() }}");
            format!("{space}.set_limits({limits})")
        }
        Call::ProcessMadvise => {
            let ranges = format!("[({at}, {b:#x}), (VirtAddr({c:#x}), {d:#x})]");
            let whose = if f == u64::from(who) { "Own" } else { "Others" };
            let advised = format!("stage.at({f}).space");
            format!("{advised}.process_madvise(vm, &{ranges}, {}, 0, Advised::{whose})", e as i32)
        }
        Call::Fallocate => format!("fallocate(vm, &memory, {a:#x}, {b:#x}, {c:#x})"),
        Call::Brk => format!("{space}.brk(vm, {at})"),
        Call::Shmget => format!("slots.get(vm, {a}, {b}, {c:#x}, {d:#o})"),
        Call::Shmat => format!("slots.attach(vm, &{space}, {a}, VirtAddr({b:#x}), {c:#o})"),
        Call::Shmdt => format!("slots.detach(vm, &{space}, {at})"),
        Call::Shmctl => format!("slots.control(vm, &{space}, {a}, {b}, {c:#o})"),
        Call::Load => format!("stage.load_u64({who}, {at})"),
        Call::Store => format!("stage.store_u64({who}, {at}, {b:#x})"),
        Call::Fetch => {
            format!("stage.load_u64({who}, {at}).and_then(|_| stage.fetch({who}, {at}))")
        }
        Call::Fork => format!("stage.fork({who}, {a})"),
        Call::Exit => format!("stage.exit({who})"),
        Call::Look => "()".into(),
        Call::Munmap | Call::Mlock | Call::Munlock => {
            format!("{space}.{}(vm, {at}, {b:#x})", op.call.name())
        }
        Call::Mlock2 => {
            format!("{space}.mlock2(vm, {at}, {b:#x}, LockFlags::from_bits_retain({c:#x}))")
        }
        Call::Mlockall => format!("{space}.mlockall(vm, LockAllFlags::from_bits_retain({a:#x}))"),
        Call::Munlockall => format!("{space}.munlockall(vm)"),
        Call::RemapFilePages => {
            let flags = format!("MapFlags::from_bits_retain({e:#x})");
            format!("{space}.remap_file_pages(vm, {at}, {b:#x}, {c:#x}, {d:#x}, {flags})")
        }
    }
}

/// A look at the one page that differs, in words.
fn look(program: &Program, op: &Op, difference: &Difference) -> String {
    let object = |number: u64, name: &str| {
        if uses(program, number) { format!("Some(&{name})") } else { "None".into() }
    };
    let objects = format!("[{}, {}]", object(FILE, "file"), object(MEMORY, "memory"));
    let at = address(difference.page.unwrap_or(0));
    format!("page_told(&stage, {}, {objects}, {}, {at:#x})", op.process, difference.part)
}

/// What must hold of `answer`.
fn check(op: &Op, difference: &Difference) -> String {
    if difference.part != 0 {
        return format!("assert_eq!(answer, \"{}\");", difference.linux);
    }
    let access = matches!(op.call, Call::Load | Call::Store | Call::Fetch);
    let places = matches!(op.call, Call::Mmap | Call::Mremap | Call::Shmat);
    let expected = match difference.outcome {
        Outcome::Elsewhere => return "assert!(answer.is_ok());".into(),
        Outcome::Done(at) if places => format!("Ok(VirtAddr({at:#x}))"),
        Outcome::Done(at) if op.call == Call::Brk => {
            return format!("assert_eq!(answer, VirtAddr({at:#x}));");
        }
        Outcome::Done(value) if answers_with_numbers(op.call) => format!("Ok({value:#x})"),
        Outcome::Done(_) => "Ok(())".into(),
        Outcome::Refused(errno) => format!("Err({errno})"),
        Outcome::Signal { number: 11, code, at } => {
            format!("Err((Signal::Segv {{ code: {code} }}, VirtAddr({at:#x})))")
        }
        Outcome::Signal { at, .. } => format!("Err((Signal::Bus, VirtAddr({at:#x})))"),
        Outcome::Unreached => return "let _ = answer;".into(),
    };
    let errors = if access { "(error.signal(), error.at())" } else { "error.errno()" };
    format!("assert_eq!(answer.map_err(|error| {errors}), {expected});")
}

fn answers_with_numbers(call: Call) -> bool {
    matches!(call, Call::Load | Call::ProcessMadvise | Call::Shmget | Call::Shmctl)
}
