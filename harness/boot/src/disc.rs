//! A disc from which GRUB starts the boot image, as it would on a PC.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{debian, step, workspace};

/// What makes one: GRUB for a PC's BIOS, and who writes the file systems.
const PACKAGES: [&str; 4] = ["grub-pc-bin", "grub-common", "xorriso", "mtools"];

/// What a disc has on it.
pub struct Contents<'a> {
    /// The boot image.
    pub image: &'a Path,
    /// Its command line.
    pub words: &'a str,
    /// An initial ramdisk.
    pub ramdisk: Option<&'a Path>,
}

/// Where a disc goes that nobody wants to keep.
pub fn usual_place() -> Result<PathBuf> {
    Ok(workspace::metadata()?.target_directory.join("rumpvm.iso").into())
}

/// Makes the disc `disc`.
pub fn make(disc: &Path, contents: &Contents<'_>) -> Result<()> {
    debian::need(&PACKAGES)?;
    let Contents { image, words, ramdisk } = contents;
    let products: PathBuf = workspace::metadata()?.target_directory.into();
    let folder = products.join("disc");
    let grub = folder.join("boot/grub");
    fs::create_dir_all(&grub).with_context(|| format!("cannot make {grub:?}"))?;
    let module = if ramdisk.is_some() { "    module /boot/ramdisk\n" } else { "" };
    let menu = format!(
        "set timeout=0\nmenuentry rumpvm {{\n    multiboot /boot/rumpvm {words}\n{module}    boot\n}}\n"
    );
    fs::write(grub.join("grub.cfg"), menu).context("cannot write GRUB's menu")?;
    fs::copy(image, folder.join("boot/rumpvm")).context("cannot copy the image")?;
    if let Some(ramdisk) = ramdisk {
        fs::copy(ramdisk, folder.join("boot/ramdisk")).context("cannot copy the ramdisk")?;
    }
    let mut command = Command::new("grub-mkrescue");
    step::run("disc", command.arg("-o").arg(disc).arg(&folder).arg("-quiet"))
}
