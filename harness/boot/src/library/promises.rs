//! What is promised of the packed object, looked at in the object itself.

use anyhow::{Result, bail};
use object::{Object, ObjectSection, ObjectSymbol, RelocationFlags, SectionFlags, elf};

/// The sections that every kernel's linker script knows.
const SECTIONS: [&str; 4] = [".text", ".rodata", ".data", ".bss"];

/// Budget of the whole component.
const MOST_TEXT: u64 = 400 << 10;

/// Relocations that any linker resolves without making a table.
const DIRECT: [elf::RelocationType; 5] = [
    elf::R_X86_64_64,
    elf::R_X86_64_PC32,
    elf::R_X86_64_PLT32,
    elf::R_X86_64_32,
    elf::R_X86_64_32S,
];

/// Fails with the first promise that `bytes` breaks: four sections that have a place in memory, no symbol undefined, none
/// visible but `rumpvm_*`, no relocation that needs a table, no more code than it may have.
/// Returns how large each section is.
pub(super) fn check(bytes: &[u8]) -> Result<[(&'static str, u64); 4]> {
    let object = object::File::parse(bytes)?;
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
                RelocationFlags::Elf { r_type } if DIRECT.contains(&r_type) => {}
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
    let text = sizes[0].1;
    if text > MOST_TEXT {
        bail!("rumpvm.o has {text} bytes of text, more than {MOST_TEXT}");
    }
    Ok(sizes)
}
