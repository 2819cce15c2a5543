//! Initial ramdisks: cpio archives (`newc`), of a folder or of the host's busybox.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{debian, workspace};

/// Where Debian's package puts it.
const BUSYBOX: &str = "/bin/busybox";

/// An archive in the making.
struct Archive {
    bytes: Vec<u8>,
    number: u32,
}

/// Kinds of files, as modes have them.
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

impl Archive {
    fn new() -> Self {
        Self { bytes: Vec::new(), number: 0 }
    }

    /// Appends a file that belongs to the administrator.
    fn add(&mut self, name: &[u8], mode: u32, contents: &[u8]) -> Result<()> {
        self.number += 1;
        let length = u32::try_from(contents.len()).context("a file of 4 GiB or more")?;
        let fields = [self.number, mode, 0, 0, 1, 0, length, 0, 0, 0, 0, name.len() as u32 + 1, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            write!(self.bytes, "{field:08x}")?;
        }
        self.bytes.extend_from_slice(name);
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(contents);
        self.align();
        Ok(())
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Result<Vec<u8>> {
        self.add(b"TRAILER!!!", 0, &[])?;
        Ok(self.bytes)
    }

    /// Appends all that is below `folder`.
    fn add_folder(&mut self, folder: &Path, name: &[u8]) -> Result<()> {
        let entries = fs::read_dir(folder).with_context(|| format!("cannot read {folder:?}"))?;
        let mut entries: Vec<_> = entries.collect::<Result<_, _>>()?;
        entries.sort_by_key(|entry| entry.file_name());
        for entry in entries {
            let path = entry.path();
            let mut full = name.to_vec();
            if !full.is_empty() {
                full.push(b'/');
            }
            full.extend_from_slice(entry.file_name().as_bytes());
            let about = fs::symlink_metadata(&path)?;
            let mode = about.mode();
            if about.is_dir() {
                self.add(&full, mode, &[])?;
                self.add_folder(&path, &full)?;
            } else if about.is_symlink() {
                self.add(&full, mode, fs::read_link(&path)?.as_os_str().as_bytes())?;
            } else if about.is_file() {
                let contents = fs::read(&path).with_context(|| format!("cannot read {path:?}"))?;
                self.add(&full, mode, &contents)?;
            }
            // Devices and sockets of the host mean nothing in a guest.
        }
        Ok(())
    }
}

/// The ramdisk of a folder, as a file.
pub fn of_folder(folder: &Path) -> Result<PathBuf> {
    let mut archive = Archive::new();
    archive.add_folder(folder, b"")?;
    write("ramdisk-folder.cpio", &archive.finish()?)
}

/// The ramdisk with nothing but `program`, called `name`.
pub fn of_program(name: &str, program: &Path) -> Result<PathBuf> {
    let mut archive = Archive::new();
    let contents = fs::read(program).with_context(|| format!("cannot read {program:?}"))?;
    archive.add(name.as_bytes(), REGULAR | 0o755, &contents)?;
    write(&format!("ramdisk-{name}.cpio"), &archive.finish()?)
}

/// The ramdisk with the host's busybox, which is installed if need be, and `files` in `/bin`.
pub fn of_busybox(files: &[PathBuf]) -> Result<PathBuf> {
    debian::need(&["busybox-static"])?;
    let busybox = fs::read(BUSYBOX).with_context(|| format!("cannot read {BUSYBOX}"))?;
    let output = Command::new(BUSYBOX).arg("--list").output().context("cannot start busybox")?;
    if !output.status.success() {
        bail!("{BUSYBOX} --list ended with {}", output.status);
    }
    let mut archive = Archive::new();
    for (name, mode) in [("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("tmp", 0o1777)] {
        archive.add(name.as_bytes(), DIRECTORY | mode, &[])?;
    }
    archive.add(b"bin/busybox", REGULAR | 0o755, &busybox)?;
    for applet in String::from_utf8_lossy(&output.stdout).lines() {
        if applet != "busybox" {
            archive.add(format!("bin/{applet}").as_bytes(), LINK | 0o777, b"busybox")?;
        }
    }
    for (name, text) in ETC {
        archive.add(name.as_bytes(), REGULAR | 0o644, text.as_bytes())?;
    }
    for file in files {
        let name = file.file_name().with_context(|| format!("{file:?} has no name"))?;
        let name = [b"bin/", name.as_bytes()].concat();
        let contents = fs::read(file).with_context(|| format!("cannot read {file:?}"))?;
        archive.add(&name, REGULAR | 0o755, &contents)?;
    }
    write("ramdisk-busybox.cpio", &archive.finish()?)
}

/// What programs look for.
const ETC: [(&str, &str); 4] = [
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
    ("etc/group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"),
    ("etc/hostname", "rumpvm\n"),
    ("etc/profile", "export PS1='\\w # '\n"),
];

fn write(name: &str, bytes: &[u8]) -> Result<PathBuf> {
    let folder = workspace::metadata()?.target_directory;
    fs::create_dir_all(&folder)?;
    let path = folder.join(name);
    fs::write(&path, bytes).with_context(|| format!("cannot write {path}"))?;
    Ok(path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_aligned_and_ends_with_its_trailer() {
        let mut archive = Archive::new();
        archive.add(b"a", REGULAR | 0o644, b"12345").unwrap();
        let bytes = archive.finish().unwrap();
        assert!(bytes.len().is_multiple_of(4));
        assert!(bytes.starts_with(b"07070100000001000081a4"));
        // The header has 110 bytes, the name two, and both together are padded to 112.
        assert_eq!(&bytes[110..112], b"a\0");
        assert_eq!(&bytes[112..117], b"12345");
        assert!(bytes.windows(10).any(|window| window == b"TRAILER!!!"));
    }
}
