//! A scratch copy of the tree, to put flaws into.
//!
//! Flow: files that git knows or would add, as they are on disk -> copy; only what differs is written, so that
//! cargo builds nothing twice.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The copy.
pub(super) struct Scratch {
    /// The tree that is copied.
    from: PathBuf,
    /// Where the copy is.
    pub(super) tree: PathBuf,
    files: BTreeSet<PathBuf>,
}

impl Scratch {
    /// A copy of the tree at `from` as it is now, in `tree`, where an older one may be.
    pub(super) fn new(from: &Path, tree: &Path) -> Result<Self> {
        let scratch = Self::of(from, tree)?;
        scratch.restore()?;
        Ok(scratch)
    }

    /// As `new`, but nothing is copied yet.
    pub(super) fn of(from: &Path, tree: &Path) -> Result<Self> {
        let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
        let output = Command::new("git").current_dir(from).args(list).output();
        let output = output.context("cannot start git")?;
        if !output.status.success() {
            bail!("git ls-files: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let names = String::from_utf8(output.stdout).context("a file name that is no text")?;
        // What is deleted and not yet committed is still on git's list.
        let files = names.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from);
        let files = files.filter(|file| from.join(file).is_file()).collect();
        Ok(Self { from: from.to_owned(), tree: tree.to_owned(), files })
    }

    /// Makes the copy like the tree again.
    pub(super) fn restore(&self) -> Result<()> {
        self.restore_but(&BTreeMap::new())
    }

    /// Makes the copy like the tree, but for the files in `changed`, which need not be in the tree.
    pub(super) fn restore_but(&self, changed: &BTreeMap<PathBuf, String>) -> Result<()> {
        fs::create_dir_all(&self.tree).with_context(|| self.tree.display().to_string())?;
        let files: BTreeSet<&PathBuf> = self.files.iter().chain(changed.keys()).collect();
        for file in &files {
            let bytes = match changed.get(*file) {
                Some(text) => Cow::Borrowed(text.as_bytes()),
                None => Cow::Owned(self.read(file)?),
            };
            let to = self.tree.join(file);
            if fs::read(&to).is_ok_and(|old| old == *bytes) {
                continue;
            }
            fs::create_dir_all(to.parent().expect("it lies in the copy"))?;
            fs::write(&to, bytes).with_context(|| to.display().to_string())?;
        }
        self.sweep(Path::new(""), &files)
    }

    /// What is copied.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(PathBuf::as_path)
    }

    /// A file of the tree, not of the copy.
    pub(super) fn read(&self, file: &Path) -> Result<Vec<u8>> {
        let path = self.from.join(file);
        fs::read(&path).with_context(|| path.display().to_string())
    }

    /// Removes what is in the copy and not among `files`.
    fn sweep(&self, folder: &Path, files: &BTreeSet<&PathBuf>) -> Result<()> {
        for entry in fs::read_dir(self.tree.join(folder))? {
            let entry = entry?;
            let name = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                self.sweep(&name, files)?;
            } else if !files.contains(&name) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Applies `patch`; the error names the file and the place that it does not fit.
    pub(super) fn apply(&self, patch: &Path) -> Result<()> {
        let mut git = Command::new("git");
        git.current_dir(&self.tree).arg("apply").arg(patch);
        // The copy may lie in the tree: there git would pass over files that are not below the current folder.
        git.env("GIT_CEILING_DIRECTORIES", self.tree.parent().unwrap_or(&self.tree));
        let output = git.output().context("cannot start git")?;
        if !output.status.success() {
            bail!("it no longer applies: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree under git with one file, and where to copy it to: within the tree, as with `target`.
    fn tree(name: &str) -> (PathBuf, PathBuf) {
        let from = std::env::temp_dir().join(format!("rumpvm-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&from);
        fs::create_dir_all(&from).unwrap();
        let git = Command::new("git").current_dir(&from).args(["init", "--quiet"]).status();
        assert!(git.unwrap().success());
        fs::write(from.join(".gitignore"), "target\n").unwrap();
        fs::write(from.join("code"), "one\ntwo\nthree\n").unwrap();
        let copy = from.join("target/tree");
        (from, copy)
    }

    const PATCH: &str = "# flaw: none\ndiff --git a/code b/code\n--- a/code\n+++ b/code\n\
        @@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n";

    #[test]
    fn a_patch_changes_the_copy_and_not_the_tree_and_is_taken_back() {
        let (from, copy) = tree("apply");
        let patch = from.join("target/flaw.patch");
        let scratch = Scratch::new(&from, &copy).unwrap();
        fs::write(&patch, PATCH).unwrap();
        scratch.apply(&patch).unwrap();
        assert_eq!(fs::read_to_string(copy.join("code")).unwrap(), "one\n2\nthree\n");
        assert_eq!(fs::read_to_string(from.join("code")).unwrap(), "one\ntwo\nthree\n");
        fs::write(copy.join("litter"), "").unwrap();
        scratch.restore().unwrap();
        assert_eq!(fs::read_to_string(copy.join("code")).unwrap(), "one\ntwo\nthree\n");
        assert!(!copy.join("litter").exists());
        fs::remove_dir_all(from).unwrap();
    }

    #[test]
    fn a_patch_that_does_not_apply_is_an_error_that_names_file_and_line() {
        let (from, copy) = tree("stale");
        fs::write(from.join("code"), "one\nTWO\nthree\n").unwrap();
        let scratch = Scratch::new(&from, &copy).unwrap();
        let patch = from.join("target/flaw.patch");
        fs::write(&patch, PATCH).unwrap();
        let error = scratch.apply(&patch).unwrap_err().to_string();
        assert!(error.contains("code:1"), "{error}");
        fs::remove_dir_all(from).unwrap();
    }
}
