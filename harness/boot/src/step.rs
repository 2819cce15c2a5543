//! Steps: one command each, announced, timed, and fatal when it fails.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// Says what is being done, in the name of the program that does it. On standard error: standard output may be a guest's.
pub fn say(what: impl std::fmt::Display) {
    let program = std::env::current_exe().ok();
    let name = program.as_deref().and_then(Path::file_stem).map(|name| name.to_string_lossy());
    eprintln!("{}: {what}", name.as_deref().unwrap_or("rumpvm"));
}

/// Announces `title` and runs `command` to its end.
pub fn run(title: &str, command: &mut Command) -> Result<()> {
    say(title);
    let started = Instant::now();
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    if !status.success() {
        bail!("{title}: `{}` ended with {status}", words(command));
    }
    say(format_args!("{title}: done in {:.1} s", started.elapsed().as_secs_f64()));
    Ok(())
}

/// The command without its environment, which may be longer than all else.
fn words(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Whether `command` can be started and succeeds; what it prints is dropped.
pub fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// The cargo that started us, in `root`, with `words` separated by spaces.
pub fn cargo(root: &Path, words: &str) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root).args(words.split_whitespace());
    command
}
