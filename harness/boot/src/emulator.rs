//! One run in QEMU: the guest's program reads our standard input and writes our standard output and error, and its exit
//! status is the result.
//!
//! | port | what goes through it |
//! |---|---|
//! | first | the kernel's log, and its exit status in the last line; shown on standard error |
//! | second | the program's input and output: a terminal if ours are one, else bytes as they are |
//! | third | as bytes: the program's errors; towards the guest, how long its input was, once that is known |
//!
//! Flow:  ports are sockets of ours, each copied by a thread; a terminal's port is QEMU's own, which knows how to treat one.

use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

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
/// The line of the log after which input may be sent: earlier it would be lost.
const WANTED: &str = "rumpvm: input is wanted";
/// Towards the guest: "the length of your input follows".
const ENDED: u8 = 4;

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
    let copies = connect(settings, is_stream, &mut child, [&log.0, &program.0, &errors.0]);
    let copies = match copies {
        Ok(copies) => copies,
        Err(error) => {
            child.kill().ok();
            child.wait().ok();
            return Err(error);
        }
    };
    let code = watch(&mut child, settings.limit)?;
    copies.finish(settings, code)
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

/// The threads that copy.
struct Copies {
    log: JoinHandle<String>,
    output: Option<JoinHandle<Vec<u8>>>,
    errors: Option<JoinHandle<Vec<u8>>>,
}

/// Waits for QEMU at each socket, and starts copying.
fn connect(
    settings: &Settings<'_>,
    is_stream: bool,
    child: &mut Child,
    [log, program, errors]: [&UnixListener; 3],
) -> Result<Copies> {
    let (quiet, keep) = (settings.quiet, settings.captured.is_some());
    let log = accept(log, child)?;
    let (wanted, is_wanted) = mpsc::channel();
    let log = thread::spawn(move || copy_log(log, quiet || keep, &wanted));
    if !is_stream {
        return Ok(Copies { log, output: None, errors: None });
    }
    let (program, errors) = (accept(program, child)?, accept(errors, child)?);
    let (to_program, to_errors) = (program.try_clone()?, errors.try_clone()?);
    let input: Box<dyn Read + Send> = match settings.captured {
        Some(bytes) => Box::new(io::Cursor::new(bytes.to_vec())),
        None => Box::new(io::stdin()),
    };
    // Ends with the process, if our input never does.
    thread::spawn(move || {
        if is_wanted.recv().is_ok() {
            copy_input(input, to_program, to_errors);
        }
    });
    let output = thread::spawn(move || copy(program, if keep { None } else { Some(io::stdout()) }));
    let errors = thread::spawn(move || copy(errors, if keep { None } else { Some(io::stderr()) }));
    Ok(Copies { log, output: Some(output), errors: Some(errors) })
}

fn accept(listener: &UnixListener, child: &mut Child) -> Result<UnixStream> {
    listener.set_nonblocking(true)?;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("QEMU does not connect"),
        }
        if let Some(status) = child.try_wait()? {
            bail!("QEMU ended with {status} before the machine began");
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// The kernel's log; shown unless it is kept back. Says when input is wanted.
fn copy_log(mut from: UnixStream, quiet: bool, wanted: &mpsc::Sender<()>) -> String {
    let (mut log, mut bytes) = (String::new(), [0; 4096]);
    let mut is_wanted = false;
    while let Ok(count) = from.read(&mut bytes) {
        if count == 0 {
            break;
        }
        let text = String::from_utf8_lossy(&bytes[..count]).replace('\r', "");
        if !quiet {
            eprint!("{text}");
        }
        log.push_str(&text);
        if !is_wanted && log.contains(WANTED) {
            is_wanted = true;
            // Nobody waits for it if there is a terminal.
            wanted.send(()).ok();
        }
    }
    log
}

/// Everything that comes, shown or returned.
fn copy(mut from: UnixStream, mut to: Option<impl Write>) -> Vec<u8> {
    let (mut kept, mut bytes) = (Vec::new(), [0; 1 << 16]);
    while let Ok(count) = from.read(&mut bytes) {
        if count == 0 {
            break;
        }
        match &mut to {
            Some(to) => {
                // Nobody is left to be told.
                to.write_all(&bytes[..count]).and_then(|()| to.flush()).ok();
            }
            None => kept.extend_from_slice(&bytes[..count]),
        }
    }
    kept
}

/// The input, and then how long it was.
fn copy_input(mut from: Box<dyn Read + Send>, mut to: UnixStream, mut count_to: UnixStream) {
    let (mut total, mut bytes) = (0_u64, [0; 4096]);
    while let Ok(count) = from.read(&mut bytes) {
        if count == 0 || to.write_all(&bytes[..count]).is_err() {
            break;
        }
        total += count as u64;
    }
    let mut message = vec![ENDED];
    message.extend_from_slice(&total.to_le_bytes());
    count_to.write_all(&message).ok();
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

impl Copies {
    /// What came of it all. QEMU has ended with `code`, or was ended.
    fn finish(self, settings: &Settings<'_>, code: Option<i32>) -> Result<Outcome> {
        // A thread that panicked has nothing to say.
        let mut log = self.log.join().unwrap_or_default();
        let bytes = |thread: Option<JoinHandle<Vec<u8>>>| {
            thread.and_then(|thread| thread.join().ok()).unwrap_or_default()
        };
        let (output, errors) = (bytes(self.output), bytes(self.errors));
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
