//! `rumpvm boot` at a terminal: somebody who types when he has seen what he waits for.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use rumpvm_boot::guests;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// What he waits for, and then types.
type Exchange = (&'static str, &'static str);

const TYPED: [Exchange; 17] = [
    ("/ # ", "vi /tmp/letter\n"),
    ("1/1 100%", "ihello\x1b"),
    ("[Modified]", ":wq\n"),
    // In the background it stops when it wants to read: 128 and SIGTTIN.
    ("/ # ", "cat /tmp/letter; cat & wait $!; echo is $?\n"),
    ("hello\r", ""),
    ("is 149\r", ""),
    ("/ # ", "fg\n"),
    ("cat\r", "once\n"),
    // In the foreground what is typed is seen twice.
    ("once\r", ""),
    ("once\r", "\x1a"),
    ("Stopped", "kill %1; fg\n"),
    ("Terminated", "echo ready; cat; exit 6\n"),
    ("ready\r", "twice\n"),
    ("twice\r", ""),
    ("twice\r", "\x03"),
    ("/ # ", "jobs.musl\n"),
    ("jobs: done\r", "exit 5\n"),
];

/// A shell, an editor, and jobs that go to the background, come back, are stopped and interrupted.
pub(super) fn session(image: &Path) -> Result<()> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).context("no terminal")?;
    grantpt(&master).and_then(|()| unlockpt(&master)).context("no terminal")?;
    let name = ptsname(&master, Vec::new()).context("no terminal")?;
    let name = name.to_str().context("no terminal")?;
    let slave = || File::options().read(true).write(true).open(name).context("no terminal");
    let program = guests::built("jobs", guests::Library::Musl)?.display().to_string();
    let options = ["--timeout", "60s", "--cpus", "2", "--add", &program];
    let mut command = super::command::boot(image, &options, &[])?;
    command.stdin(slave()?).stdout(slave()?).stderr(Stdio::null());
    let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    // It keeps the terminal's other side.
    drop(command);
    let shown = converse(File::from(master));
    let status = child.wait()?;
    match shown {
        Ok(_) if status.code() == Some(5) => Ok(()),
        Ok(shown) | Err(shown) => bail!("{status}, not 5, after:\n{}", shown.escape_debug()),
    }
}

/// All that was shown, when it ended; as an error if something was waited for in vain.
fn converse(mut terminal: File) -> Result<String, String> {
    let mut shown = String::new();
    let mut bytes = [0; 4096];
    let (mut seen, mut typed) = (0, TYPED.iter().peekable());
    // When nobody has the other side any more, this one fails.
    while let Ok(count @ 1..) = terminal.read(&mut bytes) {
        shown.push_str(&String::from_utf8_lossy(&bytes[..count]));
        while let Some((awaited, keys)) = typed.peek() {
            let Some(at) = shown[seen..].find(awaited) else { break };
            seen += at + awaited.len();
            typed.next();
            if terminal.write_all(keys.as_bytes()).is_err() {
                return Err(shown);
            }
        }
    }
    if typed.next().is_none() { Ok(shown) } else { Err(shown) }
}
