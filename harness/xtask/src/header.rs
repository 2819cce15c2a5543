//! `rumpvm.h`: made of `platform/foreign` by cbindgen, kept beside it, and compared at every check.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::{library, workspace};

/// Writes it.
pub(crate) fn write() -> Result<()> {
    fs::write(library::header(), generate()?).context("cannot write rumpvm.h")
}

/// Fails if it is not what the crate says.
pub(crate) fn check() -> Result<()> {
    let path = library::header();
    let kept = fs::read_to_string(&path).unwrap_or_default();
    if kept != generate()? {
        bail!("{} is not what the crate says: cargo xtask header", path.display());
    }
    Ok(())
}

fn generate() -> Result<String> {
    let folder = workspace::root().join("platform/foreign");
    let config = cbindgen::Config::from_file(folder.join("cbindgen.toml"));
    let config = config.map_err(|error| anyhow::anyhow!("cbindgen.toml: {error}"))?;
    let bindings = cbindgen::Builder::new().with_crate(&folder).with_config(config).generate();
    let mut text = Vec::new();
    bindings.context("cbindgen cannot read platform/foreign")?.write(&mut text);
    let text = String::from_utf8(text).context("the header is text")?;
    // What Rust calls so is a contract like any other in C.
    Ok(text.replace("//\n// # Safety\n// ", "// Contract: "))
}
