//! Steps: one command each, announced, timed, and fatal when it fails.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

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

/// Runs `command` until it ends, or for so long; its exit status, if it ended by itself, and what it said.
pub fn within(limit: Duration, command: &mut Command) -> Result<(Option<i32>, String)> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    let mut output = child.stdout.take().context("its output is a pipe")?;
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        output.read_to_end(&mut bytes).ok();
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let end = Instant::now() + limit;
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status.code(),
            None if Instant::now() > end => {
                child.kill()?;
                child.wait()?;
                break None;
            }
            None => thread::sleep(Duration::from_millis(20)),
        }
    };
    Ok((status, reader.join().unwrap_or_default()))
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
