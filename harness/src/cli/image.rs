//! `rumpvm image`: the boot image, and a disc that boots it.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use rumpvm_boot::disc::{self, Contents};
use rumpvm_boot::image::{self, Profile};
use rumpvm_boot::ramdisk;

use super::output;

#[derive(Args)]
pub(super) struct ImageArgs {
    /// Also make a disc, from which GRUB starts a busybox shell on the first serial port.
    #[arg(long, value_name = "FILE")]
    iso: Option<PathBuf>,
}

/// Builds it.
pub(super) fn image(arguments: &ImageArgs) -> Result<u8> {
    let image = image::build(Profile::Quick)?;
    output::say(image.display())?;
    if let Some(disc) = &arguments.iso {
        let ramdisk = ramdisk::of_busybox(&[])?;
        let contents = Contents { image: &image, words: "linux", ramdisk: Some(&ramdisk) };
        disc::make(disc, &contents)?;
        output::say(disc.display())?;
    }
    Ok(0)
}
