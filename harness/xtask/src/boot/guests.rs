//! The programs of `harness/guest`, static, with glibc and with musl: `NAME.glibc` and `NAME.musl`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::{debian, workspace};

const NAMES: [&str; 5] = ["signals", "threads", "calls", "disk", "hog"];

/// Where they are built.
pub(super) fn folder() -> Result<PathBuf> {
    Ok(workspace::metadata()?.target_directory.join("guest").into())
}

/// Builds them.
pub(super) fn build() -> Result<Vec<PathBuf>> {
    debian::need(&["gcc", "libc6-dev", "musl-tools"])?;
    let folder = folder()?;
    std::fs::create_dir_all(&folder)?;
    let mut built = Vec::new();
    for name in NAMES {
        let source = workspace::root().join("harness/guest").join(name).with_extension("c");
        let ways = [("glibc", "gcc", "-pthread"), ("musl", "musl-gcc", "-no-pie")];
        for (library, compiler, flag) in ways {
            let program = folder.join(format!("{name}.{library}"));
            compile(compiler, flag, &source, &program)?;
            built.push(program);
        }
    }
    Ok(built)
}

fn compile(compiler: &str, flag: &str, source: &Path, program: &Path) -> Result<()> {
    let mut command = Command::new(compiler);
    command.args(["-static", flag, "-O1", "-Wall", "-Werror", "-o"]).arg(program);
    if !command.arg(source).status()?.success() {
        bail!("{compiler} does not build {}", source.display());
    }
    Ok(())
}
