//! One run in QEMU: the guest's program reads our standard input and writes our standard output and error, and its exit
//! status is the result.
//!
//! | port | what goes through it |
//! |---|---|
//! | first | the kernel's log, and its exit status in the last line; shown on standard error |
//! | second | the program's input and output: a terminal if ours are one, else bytes as they are |
//! | third | as bytes: the program's errors; towards the guest, how long its input was, once that is known |
//!
//! Flow:  ports are sockets of ours, each copied by a thread (`ports`); a terminal's port is QEMU's own, which knows how
//!        to treat one.

mod ports;

use std::io::{self, IsTerminal};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use self::ports::Copied;
use crate::debian;
use crate::hardware::Hardware;

/// What is run, and on which machine.
pub struct Settings<'a> {
    /// The boot image.
    pub image: &'a Path,
    /// The initial ramdisk.
    pub ramdisk: &'a Path,
    /// The program and its words; none for a shell.
    pub program: &'a [String],
    /// The machine.
    pub hardware: Hardware<'a>,
    /// Files that the guest sees as disks, in this order.
    pub disks: &'a [PathBuf],
    /// The kernel's log is kept back, unless it panics.
    pub quiet: bool,
    /// How long it may take.
    pub limit: Option<Duration>,
    /// Further words of the kernel's command line.
    pub words: &'a str,
    /// What the program reads, if not our own input; and then what it writes is returned.
    pub captured: Option<&'a [u8]>,
}

/// How it ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The program's exit status as a shell has it; 124 if time was up, 101 if the kernel panicked.
    pub status: u8,
    /// What the program wrote, if that was wanted.
    pub output: Vec<u8>,
    /// The kernel's log, with the program's errors if its output was wanted.
    pub log: String,
}

/// Exit status when time is up, as timeout(1) has it.
pub const TIME_IS_UP: u8 = 124;
/// Exit status when the kernel panics.
pub const PANIC: u8 = 101;
/// Runs it.
pub fn run(settings: &Settings<'_>) -> Result<Outcome> {
    debian::need(&["qemu-system-x86"])?;
    let folder = tempfile::tempdir().context("no folder for temporary files")?;
    let port = |name: &str| -> Result<(UnixListener, PathBuf)> {
        let path = folder.path().join(name);
        Ok((UnixListener::bind(&path).context("cannot make a socket")?, path))
    };
    let is_stream =
        settings.captured.is_some() || !io::stdin().is_terminal() || !io::stdout().is_terminal();
    let (log, program, errors) = (port("log")?, port("program")?, port("errors")?);
    let mut command = command(settings, is_stream);
    add_port(&mut command, "log", Some(&log.1));
    add_port(&mut command, "program", is_stream.then_some(&*program.1));
    add_port(&mut command, "errors", is_stream.then_some(&*errors.1));
    command.stdin(if is_stream { Stdio::null() } else { Stdio::inherit() });
    command.stdout(if is_stream { Stdio::null() } else { Stdio::inherit() });
    let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    let copies = ports::connect(settings, is_stream, &mut child, [&log.0, &program.0, &errors.0]);
    let copies = match copies {
        Ok(copies) => copies,
        Err(error) => {
            child.kill().ok();
            child.wait().ok();
            return Err(error);
        }
    };
    let code = watch(&mut child, settings.limit)?;
    outcome(settings, code, copies.join())
}

fn command(settings: &Settings<'_>, is_stream: bool) -> Command {
    let mut command = settings.hardware.emulated();
    for (number, disk) in settings.disks.iter().enumerate() {
        // A comma ends a value for QEMU, and two are one.
        let file = disk.display().to_string().replace(',', ",,");
        command.args(["-drive", &format!("file={file},format=raw,if=none,id=disk{number}")]);
        command.args(["-device", &format!("virtio-blk-pci,drive=disk{number}")]);
    }
    command.arg("-kernel").arg(settings.image).arg("-initrd").arg(settings.ramdisk);
    command.args(["-append", &words(settings, is_stream)]);
    command
}

/// The kernel's command line.
fn words(settings: &Settings<'_>, is_stream: bool) -> String {
    let mut words = vec!["linux".to_string()];
    if is_stream {
        words.push("console=stream".to_string());
    }
    if settings.hardware.counts_instructions {
        words.push("norandmaps".to_string());
    }
    words.extend(settings.words.split_whitespace().map(str::to_string));
    words.push("--".to_string());
    words.extend(settings.program.iter().map(|word| encode(word)));
    words.join(" ")
}

/// A word without what would end it, as the image decodes it.
pub fn encode(word: &str) -> String {
    let mut encoded = String::new();
    for byte in word.bytes() {
        match byte {
            b'%' | 0..=b' ' | 0x7f.. => encoded.push_str(&format!("%{byte:02x}")),
            _ => encoded.push(char::from(byte)),
        }
    }
    // Between two spaces nothing would be seen.
    if encoded.is_empty() { "%".to_string() } else { encoded }
}

/// Adds a serial port: a socket, or QEMU's own terminal.
fn add_port(command: &mut Command, name: &str, socket: Option<&Path>) {
    match socket {
        Some(path) => {
            let path = path.display();
            command.args(["-chardev", &format!("socket,id={name},path={path}")]);
            command.args(["-serial", &format!("chardev:{name}")]);
        }
        None if name == "program" => {
            // What is typed as ^C is the guest's.
            command.args(["-chardev", "stdio,id=program,signal=off", "-serial", "chardev:program"]);
        }
        None => {
            command.args(["-serial", "null"]);
        }
    }
}

/// Waits until QEMU ends: its exit status, or nothing if time was up.
fn watch(child: &mut Child, limit: Option<Duration>) -> Result<Option<i32>> {
    let end = limit.map(|limit| Instant::now() + limit);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status.code().unwrap_or(-1)));
        }
        if end.is_some_and(|end| Instant::now() >= end) {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// What came of it all. QEMU has ended with `code`, or was ended.
fn outcome(settings: &Settings<'_>, code: Option<i32>, copied: Copied) -> Result<Outcome> {
    let Copied { mut log, output, errors } = copied;
    let status = match (code, status_in(&log)) {
        (None, _) => TIME_IS_UP,
        (Some(_), Some(status)) => status,
        (Some(0), None) => 0,
        (Some(code), None) => bail!("QEMU ended with {code}\n{log}"),
    };
    if log.contains("rumpvm: panic ") && settings.quiet && settings.captured.is_none() {
        eprint!("{log}");
    }
    if settings.captured.is_some() {
        log.push_str(&String::from_utf8_lossy(&errors));
    }
    Ok(Outcome { status, output, log })
}

/// The exit status that the log ends with. Zero is not told.
fn status_in(log: &str) -> Option<u8> {
    let line = log.lines().rev().find_map(|line| line.strip_prefix("rumpvm: exit status "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_has_no_spaces_when_it_is_encoded() {
        assert_eq!(encode("echo 100%; exit"), "echo%20100%25;%20exit");
        assert_eq!(encode("plain"), "plain");
    }

    #[test]
    fn the_last_status_of_a_log_counts() {
        assert_eq!(status_in("rumpvm: hello\nrumpvm: exit status 137\n"), Some(137));
        assert_eq!(status_in("rumpvm: hello\n"), None);
    }
}
