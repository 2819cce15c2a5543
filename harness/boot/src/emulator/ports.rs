//! A machine's serial ports, each copied by a thread to or from what is ours.
//!
//! Flow:  [`connect`] waits for QEMU at each socket -> threads copy until the other side closes -> [`Copies::join`].

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Child;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::Settings;

/// The line of the log after which input may be sent: earlier it would be lost.
const WANTED: &str = "rumpvm: input is wanted";
/// Towards the guest: "the length of your input follows".
const ENDED: u8 = 4;

/// The threads that copy.
pub(super) struct Copies {
    log: JoinHandle<String>,
    output: Option<JoinHandle<Vec<u8>>>,
    errors: Option<JoinHandle<Vec<u8>>>,
}

/// What was copied: the log, and what the program wrote if that was wanted.
pub(super) struct Copied {
    pub(super) log: String,
    pub(super) output: Vec<u8>,
    pub(super) errors: Vec<u8>,
}

/// Waits for QEMU at each socket, and starts copying.
pub(super) fn connect(
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
            show(&text);
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

/// Shows the log. Where our input is the same terminal, QEMU has made that one which does not wait.
fn show(text: &str) {
    let mut left = text.as_bytes();
    while !left.is_empty() {
        match io::stderr().write(left) {
            Ok(count) => left = &left[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(2));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Nobody is left to be told.
            Err(_) => return,
        }
    }
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

impl Copies {
    /// Waits until all is copied.
    pub(super) fn join(self) -> Copied {
        let bytes = |thread: Option<JoinHandle<Vec<u8>>>| {
            thread.and_then(|thread| thread.join().ok()).unwrap_or_default()
        };
        // A thread that panicked has nothing to say.
        let log = self.log.join().unwrap_or_default();
        Copied { log, output: bytes(self.output), errors: bytes(self.errors) }
    }
}
