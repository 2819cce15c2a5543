//! The tests, built with all mutants in them, or with one.
//!
//! What does not compile is found out by the compiler: it names lines, the schema knows whose they are, and
//! those mutants are taken out until the rest compiles.
//!
//! Flow: mutants -> schemas -> copy of the tree -> cargo -> complaints, or test programs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use cargo_metadata::Message;
use cargo_metadata::diagnostic::DiagnosticLevel;

use super::list::{Mutant, Returns};
use super::schema::{SWITCH, Schema};
use crate::mutants::scratch::Scratch;
use crate::step;

/// Where the component begins.
const ROOT: &str = "rumpvm/src/lib.rs";
const SWITCH_FILE: &str = "rumpvm/src/mutant.rs";
const CHECK: &str = "check --package rumpvm --lib --tests";

/// The tests, by the name of their target.
pub(super) type Programs = BTreeMap<String, PathBuf>;

/// Builds the copies of one tree.
pub(super) struct Workshop<'a> {
    pub(super) root: &'a Path,
    /// Copies and what is built of them; kept from run to run.
    pub(super) folder: &'a Path,
    /// Targets.
    pub(super) tests: &'a [&'a str],
}

/// What became of the mutants, which are numbered from 1.
#[derive(Default)]
pub(super) struct Sorted {
    pub(super) unviable: BTreeSet<usize>,
    /// They compile perhaps, but not behind a switch.
    pub(super) alone: BTreeSet<usize>,
}

/// A complaint of the compiler: what it says, and the places that it points at.
struct Complaint {
    text: String,
    places: Vec<(String, usize)>,
}

impl Workshop<'_> {
    /// One build for all `mutants` but those that `sorted` knows already.
    pub(super) fn build_all(&self, mutants: &[Mutant], sorted: &mut Sorted) -> Result<Programs> {
        let scratch = Scratch::of(self.root, &self.folder.join("schemata"))?;
        let opaque = |number: &usize| mutants[number - 1].returns == Returns::Opaque;
        sorted.alone.extend((1..=mutants.len()).filter(opaque));
        for schema in schemas(&scratch, mutants, sorted)?.values() {
            sorted.alone.extend(&schema.outside);
        }
        sorted.alone.retain(|number| !sorted.unviable.contains(number));
        loop {
            let schemas = schemas(&scratch, mutants, sorted)?;
            self.write(&scratch, &schemas)?;
            let mut complaints = self.cargo(&scratch.tree, CHECK)?.1;
            if complaints.is_empty() {
                let (programs, found) = self.cargo(&scratch.tree, &test(self.tests))?;
                if found.is_empty() {
                    return Ok(programs);
                }
                complaints = found;
            }
            let before = sorted.unviable.len();
            for (file, line) in complaints.iter().flat_map(|complaint| &complaint.places) {
                let schema = schemas.get(file);
                sorted.unviable.extend(schema.and_then(|schema| schema.blame(*line)));
            }
            if before == sorted.unviable.len() {
                bail!("no mutant's fault:\n{}", complaints[0].text);
            }
            println!("xtask: {} of them do not compile", sorted.unviable.len());
        }
    }

    /// A copy with nothing but `mutant`; nothing if it does not compile.
    pub(super) fn copy_one(&self, mutant: &Mutant) -> Result<Option<Scratch>> {
        let scratch = Scratch::of(self.root, &self.folder.join("alone"))?;
        let file = PathBuf::from(&mutant.file);
        let text = String::from_utf8(scratch.read(&file)?)?;
        let text = mutant.apply(&text, 0..text.len()).context("no such place")?;
        scratch.restore_but(&BTreeMap::from([(file, text)]))?;
        let complaints = self.cargo(&scratch.tree, CHECK)?.1;
        Ok(complaints.is_empty().then_some(scratch))
    }

    /// One test of such a copy; nothing if it does not compile.
    pub(super) fn build_one(&self, scratch: &Scratch, name: &str) -> Result<Option<Programs>> {
        let (programs, complaints) = self.cargo(&scratch.tree, &test(&[name]))?;
        Ok(complaints.is_empty().then_some(programs))
    }

    fn write(&self, scratch: &Scratch, schemas: &BTreeMap<String, Schema>) -> Result<()> {
        let text = |(file, schema): (&String, &Schema)| (file.into(), schema.text.clone());
        let mut changed: BTreeMap<PathBuf, String> = schemas.iter().map(text).collect();
        let lib = String::from_utf8(scratch.read(Path::new(ROOT))?)?;
        changed.insert(ROOT.into(), format!("{lib}\nmod mutant;\n"));
        changed.insert(SWITCH_FILE.into(), SWITCH.to_owned());
        scratch.restore_but(&changed)
    }

    /// What cargo has built for `words`, and what the compiler did not like.
    fn cargo(&self, tree: &Path, words: &str) -> Result<(Programs, Vec<Complaint>)> {
        let words = format!("{words} --quiet --profile mutants --jobs 2 --message-format json");
        let mut cargo = step::cargo(tree, &words);
        // Warnings are what a mutant looks like.
        cargo.env("CARGO_ENCODED_RUSTFLAGS", "-Awarnings");
        cargo.env("CARGO_TARGET_DIR", self.folder.join("ordinary"));
        let mut child = cargo.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        // What it says there is short: complaints come as messages.
        let stdout = std::io::BufReader::new(child.stdout.take().context("it is piped")?);
        let (mut programs, mut complaints) = (Programs::new(), Vec::new());
        for message in Message::parse_stream(stdout) {
            match message? {
                Message::CompilerMessage(message) => complaints.extend(complaint(message.message)),
                Message::CompilerArtifact(artifact) => {
                    if let Some(program) = artifact.executable {
                        programs.insert(artifact.target.name, program.into());
                    }
                }
                _ => {}
            }
        }
        let output = child.wait_with_output()?;
        if !output.status.success() && complaints.is_empty() {
            bail!("cargo {words}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok((programs, complaints))
    }
}

/// Cargo's words to build `tests`.
fn test(tests: &[&str]) -> String {
    let mut words = "test --no-run --package rumpvm --package rumpvm-tests".to_owned();
    for test in tests {
        match *test {
            "rumpvm" => words += " --lib",
            test => words += &format!(" --test {test}"),
        }
    }
    words
}

/// The files that have mutants, with all of them that can be switched.
fn schemas(
    scratch: &Scratch,
    mutants: &[Mutant],
    sorted: &Sorted,
) -> Result<BTreeMap<String, Schema>> {
    let mut files: BTreeMap<&str, Vec<(usize, &Mutant)>> = BTreeMap::new();
    for (number, mutant) in (1..).zip(mutants) {
        let mine = files.entry(&mutant.file).or_default();
        if !sorted.unviable.contains(&number) && !sorted.alone.contains(&number) {
            mine.push((number, mutant));
        }
    }
    let schema = |(file, mutants): (&str, Vec<_>)| {
        let text = String::from_utf8(scratch.read(Path::new(file))?)?;
        Ok((file.to_owned(), Schema::new(&text, &mutants).with_context(|| file.to_owned())?))
    };
    files.into_iter().map(schema).collect()
}

/// An error, with all its primary places; nothing for what only sums up.
fn complaint(diagnostic: cargo_metadata::diagnostic::Diagnostic) -> Option<Complaint> {
    if !matches!(diagnostic.level, DiagnosticLevel::Error | DiagnosticLevel::Ice) {
        return None;
    }
    let primary = diagnostic.spans.iter().filter(|span| span.is_primary);
    let places: Vec<_> = primary.map(|span| (span.file_name.clone(), span.line_start)).collect();
    let text = diagnostic.rendered.unwrap_or(diagnostic.message);
    // "aborting due to ..." points nowhere.
    (!places.is_empty()).then_some(Complaint { text, places })
}
