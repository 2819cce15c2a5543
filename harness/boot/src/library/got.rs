//! Takes the global offset table out of an object, as a linker does for `GOTPCRELX` where it can. It is done here
//! because the compiler's prebuilt `core` asks for the table in a way that may not be relaxed, and because kernels'
//! linker scripts have no place for it.
//!
//! x86-64 psABI, B.2. Each of the three instructions is as long afterwards, so nothing moves:
//!
//! | through the table | direct |
//! |---|---|
//! | `ff 15` call | `67 e8` call, with a prefix that means nothing |
//! | `ff 25` jmp | `90 e9` nop, jmp |
//! | `8b` mov from the table | `8d` lea |

use anyhow::{Context, Result, bail};
use object::LittleEndian as Little;
use object::elf::{self, FileHeader64};
use object::read::SectionIndex;
use object::read::elf::{FileHeader, SectionHeader};

/// Bytes of an `Elf64_Rela`, and where its type is.
const RELA: (usize, usize) = (24, 8);

/// Where an instruction and its relocation are in a file.
struct Place {
    /// The 32-bit field of the instruction.
    field: usize,
    /// The type of the relocation.
    kind: usize,
}

/// Rewrites every use of the table in `object`, a relocatable ELF file for x86-64.
pub(super) fn remove(object: &mut [u8]) -> Result<()> {
    for place in uses(object)? {
        let before = place.field.checked_sub(2).context("a use of the GOT begins the section")?;
        let [first, second] = object[before..place.field] else { bail!("two bytes are two") };
        let direct = match (first, second) {
            (0xff, 0x15) => [0x67, 0xe8],
            (0xff, 0x25) => [0x90, 0xe9],
            // Mod 0, register-or-memory 5: relative to the next instruction.
            (0x8b, register) if register & 0xc7 == 0x05 => [0x8d, register],
            other => bail!("an instruction that uses the GOT is not known: {other:x?}"),
        };
        object[before..place.field].copy_from_slice(&direct);
        object[place.kind..][..4].copy_from_slice(&elf::R_X86_64_PC32.0.to_le_bytes());
    }
    Ok(())
}

/// Every use of the table.
fn uses(object: &[u8]) -> Result<Vec<Place>> {
    let header = FileHeader64::<Little>::parse(object)?;
    let sections = header.sections(Little, object)?;
    let mut places = Vec::new();
    for section in sections.iter() {
        let Some((entries, _)) = section.rela(Little, object)? else { continue };
        let target = sections.section(SectionIndex(section.sh_info(Little) as usize))?;
        for (number, entry) in entries.iter().enumerate() {
            let is_use = matches!(
                entry.r_type(Little, false),
                elf::R_X86_64_GOTPCREL | elf::R_X86_64_GOTPCRELX | elf::R_X86_64_REX_GOTPCRELX
            );
            if is_use {
                let field = target.sh_offset(Little) + entry.r_offset.get(Little);
                let kind = section.sh_offset(Little) as usize + number * RELA.0 + RELA.1;
                places.push(Place { field: field as usize, kind });
            }
        }
    }
    Ok(places)
}
