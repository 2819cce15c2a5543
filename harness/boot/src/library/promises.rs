//! What is promised of the packed object, looked at in the object itself.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use object::{
    Architecture, Object, ObjectSection, ObjectSymbol, RelocationFlags, SectionFlags, elf,
};

/// The sections that every kernel's linker script knows.
const SECTIONS: [&str; 4] = [".text", ".rodata", ".data", ".bss"];

/// The component's modules that stand on maps.
const ABOVE: [&str; 4] = ["map", "object", "fault", "space"];

/// Relocations that any linker resolves without making a table.
const DIRECT_X86_64: &[elf::RelocationType] = &[
    elf::R_X86_64_64,
    elf::R_X86_64_PC32,
    elf::R_X86_64_PLT32,
    elf::R_X86_64_32,
    elf::R_X86_64_32S,
];
const DIRECT_I386: &[elf::RelocationType] = &[elf::R_386_32, elf::R_386_PC32, elf::R_386_PLT32];

/// Fails with the first promise that `bytes` breaks: four sections that have a place in memory, no symbol undefined, none
/// visible but `rumpvm_*`, no relocation that needs a table.
/// Returns how large each section is.
pub(super) fn check(bytes: &[u8]) -> Result<[(&'static str, u64); 4]> {
    let object = object::File::parse(bytes)?;
    let direct = match object.architecture() {
        Architecture::X86_64 => DIRECT_X86_64,
        Architecture::I386 => DIRECT_I386,
        other => bail!("rumpvm.o is for {other:?}"),
    };
    let mut sizes = SECTIONS.map(|name| (name, 0));
    for section in object.sections() {
        let name = section.name()?;
        let SectionFlags::Elf { sh_flags, .. } = section.flags() else {
            bail!("rumpvm.o is no ELF file")
        };
        let is_placed = sh_flags.0 & elf::SHF_ALLOC.0 != 0;
        if is_placed && !SECTIONS.contains(&name) {
            bail!("rumpvm.o has a section {name}");
        }
        if let Some(size) = sizes.iter_mut().find(|size| size.0 == name) {
            size.1 += section.size();
        }
        for (at, relocation) in section.relocations() {
            match relocation.flags() {
                RelocationFlags::Elf { r_type } if direct.contains(&r_type) => {}
                other => bail!("rumpvm.o needs a table: {other:?} at {at:#x} of {name}"),
            }
        }
    }
    for symbol in object.symbols() {
        let name = symbol.name()?;
        if symbol.is_undefined() && !name.is_empty() {
            bail!("rumpvm.o does not define {name}");
        }
        if symbol.is_global() && symbol.is_definition() && !name.starts_with("rumpvm_") {
            bail!("rumpvm.o shows {name}");
        }
    }
    Ok(sizes)
}

/// Fails if an object that still has all names has code of maps and what stands on them, and should not; or has not, and
/// should, since then this looks at the wrong names.
pub(super) fn check_layer(bytes: &[u8], has_maps: bool) -> Result<()> {
    let object = object::File::parse(bytes)?;
    let names: Vec<&str> = object.symbols().filter_map(|symbol| symbol.name().ok()).collect();
    for module in ABOVE {
        // As both of the compiler's ways to write a path have it, and the older one in an implementation's name.
        let paths = [format!("6rumpvm{}{module}", module.len()), format!("rumpvm..{module}..")];
        let found = names.iter().find(|name| paths.iter().any(|path| name.contains(path)));
        match found {
            Some(name) if !has_maps => bail!("{name} is in a library without maps"),
            None if has_maps => bail!("nothing of rumpvm::{module} is in a library with maps"),
            _ => {}
        }
    }
    Ok(())
}

/// Fails with the first instruction of `object` that uses a register of the FPU's: those belong to a program.
pub(super) fn check_instructions(object: &Path) -> Result<()> {
    let mut objdump = Command::new("objdump");
    objdump.args(["-d", "--no-show-raw-insn", "--no-addresses"]).arg(object);
    let output = objdump.output().context("cannot start objdump")?;
    let text = String::from_utf8(output.stdout).context("objdump does not say text")?;
    // An instruction begins with a tabulator, whoever it belongs to does not.
    let mut instructions = text.lines().filter_map(|line| line.strip_prefix('\t')).peekable();
    if !output.status.success() || instructions.peek().is_none() {
        bail!("objdump sees no instruction of {}", object.display());
    }
    match instructions.find(|instruction| uses_fpu(instruction)) {
        Some(instruction) => bail!("rumpvm.o uses the FPU: {instruction}"),
        None => Ok(()),
    }
}

/// Whether an instruction as objdump writes it names a vector register, or is one of the FPU's own, all of which begin
/// with an f.
fn uses_fpu(instruction: &str) -> bool {
    // A prefix that names a segment stands alone.
    let is_x87 = instruction.starts_with('f') && !instruction.starts_with("fs ");
    is_x87 || ["%xmm", "%ymm", "%zmm", "%mm", "%st"].iter().any(|name| instruction.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_of_the_fpu_are_told_from_all_others() {
        for fpu in ["fildll (%eax)", "fsts (%esp)", "movups %xmm0,(%rdi)", "movq %mm0,(%eax)"] {
            assert!(uses_fpu(fpu), "{fpu}");
        }
        for other in [
            "mov    %fs:0x0,%eax",
            "fs nop",
            "lock cmpxchg8b (%esi)",
            "call   f <fill>",
            "xchg %ax,%ax",
        ] {
            assert!(!uses_fpu(other), "{other}");
        }
    }
}
