//! The library for other kernels: `rumpvm.o`, `librumpvm.a` and `rumpvm.h`.
//!
//! Flow:  `platform/foreign` -> static library with all of Rust's runtime -> what `rumpvm_*` needs of it, in four
//!        sections -> no GOT (`got`) -> no names but `rumpvm_*` -> looked at once more (`promises`).
//!
//! A kernel's linker script knows `.text`, `.rodata`, `.data` and `.bss`, and puts what it does not know anywhere:
//! beyond its `end`, for one, where the page allocator begins. So the object has these four sections, and needs nothing
//! that a kernel may lack: no GOT, no PLT, no constructors, no red zone, no floating point. On i386 no table is there to be
//! taken out: code at a fixed place calls and loads directly.

mod got;
mod promises;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use object::read::archive::ArchiveFile;
use object::{Object, ObjectSymbol};

use crate::{debian, image, step, workspace};

/// Code at a fixed place below 2 GiB, or in the uppermost 2 GiB, where kernels are; callers that a debugger can follow.
const FLAGS: &str = "-Crelocation-model=static -Crelro-level=off -Cforce-frame-pointers=yes";
const WORDS: &str = "rustc --quiet --profile link -p rumpvm-foreign --lib --crate-type staticlib --no-default-features \
     --features";

/// For layers that are to be small: a third less code than for speed.
const SMALL: &str = " -Copt-level=z";

/// All sections of the object, by the names that every kernel's linker script knows. Unwind tables are left out: nothing
/// here unwinds.
const LAYOUT: &str = "\
SECTIONS {
  .text : { *(.text .text.*) }
  .rodata : { *(.rodata .rodata.* .data.rel.ro .data.rel.ro.*) }
  .data : { *(.data .data.*) }
  .bss : { *(.bss .bss.* COMMON) }
  /DISCARD/ : { *(.eh_frame .gcc_except_table* .comment .note* .debug* .llvm*) }
}
";

/// What a kernel runs on, and which page tables it has. A library has one format of tables, so i386 has two libraries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// Long mode, four levels.
    X86_64,
    /// Protected mode, the classic two levels.
    I386,
    /// Protected mode, PAE: three levels.
    I386Pae,
}

impl Target {
    /// As the command line and a kernel's makefile have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::I386 => "i386",
            Self::I386Pae => "i386-pae",
        }
    }

    /// The compiler's target. For i386 the one without vector registers that comes compiled; nothing of its system, Linux,
    /// is used.
    fn triple(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-none",
            Self::I386 | Self::I386Pae => "i586-unknown-linux-gnu",
        }
    }

    /// What `platform/foreign` is asked for.
    fn features(self) -> &'static str {
        match self {
            Self::X86_64 | Self::I386 => "standalone",
            Self::I386Pae => "standalone,pae",
        }
    }

    /// What `ld` calls the machine.
    fn emulation(self) -> &'static str {
        match self {
            Self::X86_64 => "elf_x86_64",
            Self::I386 | Self::I386Pae => "elf_i386",
        }
    }
}

/// How much of rumpvm is in the library. What is left out is not there at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layer {
    /// Frames alone.
    Frames,
    /// Frames, kernel mappings, and an allocator.
    Memory,
    /// Page tables under the host's own map.
    Pmap,
    /// Everything but processes.
    Spaces,
    /// Everything.
    All,
}

impl Layer {
    /// All of them, smallest first.
    pub const EACH: [Self; 5] = [Self::Frames, Self::Memory, Self::Pmap, Self::Spaces, Self::All];

    /// As the command line has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Frames => "frames",
            Self::Memory => "memory",
            Self::Pmap => "pmap",
            Self::Spaces => "spaces",
            Self::All => "all",
        }
    }

    /// What `platform/foreign` is asked for, besides what the target says.
    fn features(self) -> &'static str {
        match self {
            Self::Frames => "",
            Self::Memory => ",kmem",
            Self::Pmap => ",pmap",
            Self::Spaces => ",spaces",
            Self::All => ",processes",
        }
    }

    /// The most code that it may have, in bytes.
    pub fn budget(self) -> u64 {
        match self {
            Self::Frames | Self::Pmap => 64 << 10,
            Self::Memory => 96 << 10,
            Self::Spaces | Self::All => 400 << 10,
        }
    }

    /// Whether there is an allocator in it.
    fn has_allocator(self) -> bool {
        !matches!(self, Self::Frames | Self::Pmap)
    }

    /// Whether maps and all that stands on them are in it.
    fn has_maps(self) -> bool {
        matches!(self, Self::Spaces | Self::All)
    }
}

/// What comes of it when a host frees what it has freed, or writes beyond the end of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Misuse {
    /// Anything.
    Undefined,
    /// The host's `panic` is told. Blocks and items have red zones and records of who had them (`kmem-debug`).
    Told,
}

/// Bytes of each section of an object.
pub type Sizes = [(&'static str, u64); 4];

/// What was made.
pub struct Library {
    /// How large it is.
    pub sizes: Sizes,
    /// The packed object.
    pub object: PathBuf,
    /// An archive of that object alone, for who links with `-lrumpvm`.
    pub archive: PathBuf,
    /// The header.
    pub header: PathBuf,
}

/// Where the header is kept. It is made of `platform/foreign` by `cargo xtask header`.
pub fn header() -> PathBuf {
    workspace::root().join("platform/foreign/rumpvm.h")
}

/// Makes all three for `target` in `folder`, with all that `layer` needs, after setting up what is missing.
pub fn build(target: Target, layer: Layer, misuse: Misuse, folder: &Path) -> Result<Library> {
    let records = match misuse {
        Misuse::Undefined => "",
        Misuse::Told if layer.has_allocator() => ",kmem-debug",
        Misuse::Told => bail!("layer {} has no allocator that could be misused", layer.name()),
    };
    debian::need(&["binutils"])?;
    let title = format!("library for other kernels, {}, {}{records}", target.name(), layer.name());
    let words = format!("{WORDS} {}{}{records}", target.features(), layer.features());
    let flags = format!("{FLAGS}{}", if layer.has_maps() { "" } else { SMALL });
    let products = image::compile_for(target.triple(), &title, &words, Some(&flags))?;
    let whole = products.join("link/librumpvm_foreign.a");
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let object = folder.join("rumpvm.o");
    let made = Library {
        sizes: pack(target, layer, misuse, &whole, &object)?,
        object,
        archive: folder.join("librumpvm.a"),
        header: folder.join("rumpvm.h"),
    };
    // An archive is added to, if there is one.
    fs::remove_file(&made.archive).ok();
    tool(Command::new("ar").arg("rcsD").args([&made.archive, &made.object]))?;
    fs::copy(header(), &made.header).context("cannot copy rumpvm.h")?;
    Ok(made)
}

/// Makes `object` of what the interface needs of `whole`.
fn pack(
    target: Target,
    layer: Layer,
    misuse: Misuse,
    whole: &Path,
    object: &Path,
) -> Result<Sizes> {
    let scratch = tempfile::tempdir()?;
    let (layout, loose) = (scratch.path().join("layout.ld"), scratch.path().join("loose.o"));
    fs::write(&layout, LAYOUT)?;
    let mut link = Command::new("ld");
    link.args(["-r", "-m", target.emulation(), "--gc-sections", "-T"])
        .arg(&layout)
        .arg("-o")
        .arg(&loose);
    for name in interface(whole)? {
        link.args(["-u", &name]);
    }
    tool(link.arg(whole))?;
    if target == Target::X86_64 {
        let mut bytes = fs::read(&loose)?;
        got::remove(&mut bytes)?;
        fs::write(&loose, bytes)?;
    }
    promises::check_layer(&fs::read(&loose)?, layer.has_maps())?;
    let mut strip = Command::new("objcopy");
    strip.args(["--strip-unneeded", "--wildcard", "--keep-global-symbol=rumpvm_*"]);
    // Says to linkers of programs that no stack has to be executable. It has no bytes and no place in memory.
    strip.args(["--add-section", ".note.GNU-stack=/dev/null"]);
    tool(strip.args([&loose, &object.to_path_buf()]))?;
    let sizes = promises::check(&fs::read(object)?)?;
    promises::check_instructions(object)?;
    let told = sizes.map(|(name, bytes)| format!("{bytes} bytes of {name}")).join(", ");
    let (target, layer, most) = (target.name(), layer.name(), layer.budget());
    step::say(format_args!("rumpvm.o for {target}, {layer}: {told}"));
    if sizes[0].1 > most && misuse == Misuse::Undefined {
        bail!("rumpvm.o with layer {layer} has {} bytes of text, more than {most}", sizes[0].1);
    }
    Ok(sizes)
}

/// The names that `library` defines for hosts.
fn interface(library: &Path) -> Result<Vec<String>> {
    let bytes = fs::read(library).with_context(|| format!("cannot read {}", library.display()))?;
    let mut names = Vec::new();
    let archive = ArchiveFile::parse(&*bytes)?;
    for member in archive.members() {
        let data = member?.data(&*bytes)?;
        // An archive of Rust's holds more than objects.
        let Ok(file) = object::File::parse(data) else { continue };
        let ours = file.symbols().filter(|symbol| symbol.is_global() && symbol.is_definition());
        names.extend(ours.filter_map(|symbol| symbol.name().ok().map(str::to_owned)));
    }
    names.retain(|name| name.starts_with("rumpvm_"));
    if names.is_empty() {
        bail!("{} defines no rumpvm_*", library.display());
    }
    Ok(names)
}

fn tool(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} ended with {}: {said}", output.status);
    }
    Ok(())
}
