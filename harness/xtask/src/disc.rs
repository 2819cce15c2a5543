//! A disc from which GRUB starts the boot image, as it would on a PC.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{debian, step, workspace};

/// What makes one: GRUB for a PC's BIOS, and who writes the file systems.
const PACKAGES: [&str; 4] = ["grub-pc-bin", "grub-common", "xorriso", "mtools"];

/// Makes a disc with `image` and its command line; returns where it is.
pub(crate) fn make(image: &Path, words: &str) -> Result<PathBuf> {
    debian::need(&PACKAGES)?;
    let products: PathBuf = workspace::metadata()?.target_directory.into();
    let (folder, disc) = (products.join("disc"), products.join("rumpvm.iso"));
    let grub = folder.join("boot/grub");
    fs::create_dir_all(&grub).with_context(|| format!("cannot make {grub:?}"))?;
    let menu = format!(
        "set timeout=0\nmenuentry rumpvm {{\n    multiboot /boot/rumpvm {words}\n    boot\n}}\n"
    );
    fs::write(grub.join("grub.cfg"), menu).context("cannot write GRUB's menu")?;
    fs::copy(image, folder.join("boot/rumpvm")).context("cannot copy the image")?;
    let mut command = Command::new("grub-mkrescue");
    step::run("disc", command.arg("-o").arg(&disc).arg(&folder).arg("-quiet"))?;
    Ok(disc)
}
