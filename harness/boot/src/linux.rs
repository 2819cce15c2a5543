//! Linux in the same emulator, to be measured beside: Debian's kernel for virtual machines, and one program.
//!
//! The package is fetched and unpacked into the target folder, not installed. The program is the first process and all
//! that there is, and what it writes comes through the serial port. When it ends the kernel panics, which ends the
//! machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::hardware::Hardware;
use crate::{ramdisk, step, workspace};

/// The package that depends on the newest kernel of its kind.
const PACKAGE: &str = "linux-image-cloud-amd64";

/// Nothing by chance, no messages, no tests of its own, pages of one size: what is compared is the rest.
const WORDS: &str = "console=ttyS0 quiet panic=-1 nokaslr norandmaps cryptomgr.notests \
                     transparent_hugepage=never sysctl.debug.exception-trace=0";

/// How long a run may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(600);

/// The kernel, after fetching it if it is not there.
pub fn kernel() -> Result<PathBuf> {
    let folder: PathBuf = workspace::metadata()?.target_directory.join("linux").into();
    if let Some(kernel) = kernel_in(&folder) {
        return Ok(kernel);
    }
    fetch(&folder).with_context(|| {
        format!("cannot fetch Debian's kernel: `apt-get download` {PACKAGE}'s newest dependency")
    })?;
    kernel_in(&folder).with_context(|| format!("no kernel in {folder:?}"))
}

fn kernel_in(folder: &Path) -> Option<PathBuf> {
    let mut files = fs::read_dir(folder.join("boot")).ok()?.filter_map(Result::ok);
    let is_kernel = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("vmlinuz-")
    };
    files.find_map(|file| Some(file.path()).filter(is_kernel))
}

fn fetch(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    // Without lists of packages there is no name; with old ones there may still be one.
    step::succeeds(Command::new("apt-get").arg("update"));
    let package = newest()?;
    step::run("Linux", Command::new("apt-get").args(["download", &package]).current_dir(folder))?;
    let files = fs::read_dir(folder)?.filter_map(Result::ok).map(|file| file.path());
    let archive = files.filter(|path| path.extension().is_some_and(|kind| kind == "deb")).last();
    let archive = archive.context("apt-get has left no package")?;
    step::run("unpack", Command::new("dpkg").arg("-x").args([&archive, folder]))
}

/// The name of the newest kernel's own package.
fn newest() -> Result<String> {
    let mut command = Command::new("apt-cache");
    let output = command.args(["show", "--no-all-versions", PACKAGE]).output();
    let output = output.context("cannot start apt-cache")?;
    let text = String::from_utf8_lossy(&output.stdout);
    dependency(&text).with_context(|| format!("Debian has no {PACKAGE} that depends on a kernel"))
}

fn dependency(text: &str) -> Option<String> {
    let words = text.lines().find_map(|line| line.strip_prefix("Depends: "))?;
    Some(words.split_whitespace().find(|word| word.starts_with("linux-image-"))?.to_string())
}

/// Runs `program` with `words` as Linux's first process, instructions counted; what was written.
pub fn run(hardware: &Hardware<'_>, program: &Path, words: &[&str]) -> Result<String> {
    let ramdisk = ramdisk::of_program("init", program)?;
    let mut command = hardware.emulated();
    command.args(["-serial", "stdio", "-kernel"]).arg(kernel()?).arg("-initrd").arg(ramdisk);
    command.args(["-append", &format!("{WORDS} -- {}", words.join(" "))]);
    let (status, output) = step::within(LIMIT, &mut command)?;
    match status {
        Some(0) => {}
        Some(status) => bail!("QEMU ended with {status}: {output}"),
        None => bail!("Linux did not end within {} s: {output}", LIMIT.as_secs()),
    }
    Ok(output.replace('\r', ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_is_what_its_package_depends_on() {
        let text = "Package: linux-image-cloud-amd64\nDepends: linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)\n";
        assert_eq!(dependency(text).as_deref(), Some("linux-image-6.1.0-56-cloud-amd64"));
        assert_eq!(dependency("Package: nothing\n"), None);
    }
}
