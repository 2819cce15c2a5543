//! The programs' console: the second serial port, and the third for errors; the first, where there is no second.
//!
//! Flow:  a program's bytes -> port; port -> bytes, looked for by a thread that begins with the first who reads.
//! Locks: what has come in, for a few instructions.
//!
//! As a stream it hands bytes on as they are. How many there will be is said on the third port, by [`ENDED`] and a number
//! of eight bytes, once that is known. Nothing is sent before the log says that input is wanted.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use rumpvm::sync::{Atomic, Ordering, Spin, try_box};
use rumpvm_bare::serial::Port;
use rumpvm_bare::{Bare, calendar};
use rumpvm_files::node::Call;
use rumpvm_files::services::device_number;
use rumpvm_files::tty::{Terminal, Typed, Wire};
use rumpvm_files::{Errno, Open, Queue, Ready, Rights, Sink, Source, Special, Walk};
use spin::Once;

use super::calls::job;
use super::class;
use super::signal::Signal;

/// How the console is offered to programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Manner {
    /// As a terminal.
    #[default]
    Terminal,
    /// As two streams.
    Stream,
}

/// Which way a device node goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Output,
    Errors,
}

/// Numbers of the device nodes: a stream has a number of its own, which Linux leaves to local use.
const CONSOLE: u64 = device_number(5, 1);
const TTY: u64 = device_number(5, 0);
const OUTPUT: u64 = device_number(240, 1);
const ERRORS: u64 = device_number(240, 2);

/// The length of the input follows.
const ENDED: u8 = 4;
/// Between two looks at the port.
const PERIOD: u64 = 5_000_000;
/// Looks in a row before that, while bytes are coming.
const LOOKS: u32 = 2_000;
/// Bytes of a stream that wait for a reader; more wait in the port.
const MOST: usize = 64 << 10;

/// The terminal, as programs see it.
pub(crate) type Console = Terminal<Bare, Serial>;

/// The wire of the terminal.
pub(crate) struct Serial;

impl Wire for Serial {
    fn send(&self, bytes: &[u8]) {
        write(bytes);
    }

    fn signal(&self, group: u32, signal: Typed) {
        job::typed(group, Signal::new(signal as u64));
    }
}

/// Writes to the port that programs have.
fn write(bytes: &[u8]) {
    if Port::Second.is_there() {
        Port::Second.write(bytes);
    } else {
        rumpvm_bare::console::write(bytes);
    }
}

/// The next byte that came in.
fn read() -> Option<u8> {
    if Port::Second.is_there() { Port::Second.read() } else { rumpvm_bare::console::read() }
}

static TERMINAL: Once<Console> = Once::new();
static INPUT: Once<Input> = Once::new();

/// What has come in.
struct Input {
    bytes: Spin<VecDeque<u8>, Bare>,
    readers: Queue<Bare>,
    came: Atomic<u64, Bare>,
    /// How many there will be.
    total: Atomic<u64, Bare>,
    started: Atomic<u32, Bare>,
}

fn input() -> &'static Input {
    INPUT.call_once(|| Input {
        bytes: Spin::new(&class::CONSOLE, VecDeque::new()),
        readers: Queue::new(),
        came: Atomic::new(0),
        total: Atomic::new(u64::MAX),
        started: Atomic::new(0),
    })
}

/// Offers the console so.
pub(crate) fn start(manner: Manner) -> Result<(), Errno> {
    if manner == Manner::Terminal {
        let terminal = Terminal::try_new(Serial)?;
        TERMINAL.call_once(|| terminal);
    }
    Ok(())
}

/// The terminal, if the console is offered as one.
pub(crate) fn terminal() -> Option<&'static Console> {
    TERMINAL.get()
}

/// What the first program has as its standard files.
pub(crate) fn standard_files() -> [&'static [u8]; 3] {
    match terminal() {
        Some(_) => [b"/dev/console"; 3],
        None => [b"/dev/stdstream", b"/dev/stdstream", b"/dev/errstream"],
    }
}

/// Makes the nodes in `/dev`.
pub(crate) fn make_devices(walk: &Walk<'_, Bare>) -> Result<(), Errno> {
    const CHARACTER: u32 = 0o020_000;
    for (path, mode, number) in [
        (&b"/dev/null"[..], 0o666, device_number(1, 3)),
        (b"/dev/zero", 0o666, device_number(1, 5)),
        (b"/dev/full", 0o666, device_number(1, 7)),
        (b"/dev/random", 0o666, device_number(1, 8)),
        (b"/dev/urandom", 0o666, device_number(1, 9)),
        (b"/dev/tty", 0o666, TTY),
        (b"/dev/console", 0o600, CONSOLE),
        (b"/dev/stdstream", 0o600, OUTPUT),
        (b"/dev/errstream", 0o600, ERRORS),
    ] {
        match walk.mknod(path, CHARACTER | mode, number) {
            Ok(_) | Err(Errno::EEXIST) => {}
            Err(error) => return Err(error),
        }
    }
    for (target, path) in [
        (&b"/proc/self/fd/0"[..], &b"/dev/stdin"[..]),
        (b"/proc/self/fd/1", b"/dev/stdout"),
        (b"/proc/self/fd/2", b"/dev/stderr"),
    ] {
        match walk.symlink(target, path) {
            Ok(_) | Err(Errno::EEXIST) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What stands behind the device of that number.
pub(crate) fn device(number: u64) -> Result<Box<dyn Special<Bare>>, Errno> {
    let stream =
        |way| -> Result<Box<dyn Special<Bare>>, Errno> { Ok(try_box::<_, Bare>(Stream(way))?) };
    match (number, terminal()) {
        (CONSOLE | TTY, Some(terminal)) => Ok(try_box::<_, Bare>(Opened(terminal))?),
        (CONSOLE | OUTPUT, _) => stream(Way::Output),
        (ERRORS, _) => stream(Way::Errors),
        _ => Err(Errno::ENXIO),
    }
}

/// The terminal, if `open` is it.
pub(crate) fn terminal_of(open: &Open<Bare>) -> Option<&'static Console> {
    let terminal = terminal()?;
    open.special::<Console>().map(|_| terminal)
}

/// The terminal for who has it open: a read has the port looked at.
struct Opened(&'static Console);

impl Special<Bare> for Opened {
    fn read(&self, call: &Call<'_, Bare>, at: u64, into: &mut dyn Sink) -> Result<usize, Errno> {
        input().start();
        self.0.read(call, at, into)
    }

    fn write(&self, call: &Call<'_, Bare>, at: u64, from: &mut dyn Source) -> Result<usize, Errno> {
        self.0.write(call, at, from)
    }

    fn ready(&self, rights: Rights) -> Ready {
        input().start();
        self.0.ready(rights)
    }

    fn queues(&self) -> [Option<&Queue<Bare>>; 2] {
        self.0.queues()
    }

    fn control(
        &self,
        request: u32,
        argument: &mut dyn rumpvm_files::Exchange,
    ) -> Result<u64, Errno> {
        // ^C is heard also while nobody reads.
        input().start();
        self.0.control(request, argument)
    }

    fn as_any(&self) -> Option<&dyn core::any::Any> {
        self.0.as_any()
    }
}

/// One direction of the console.
struct Stream(Way);

impl Special<Bare> for Stream {
    fn read(&self, call: &Call<'_, Bare>, _: u64, into: &mut dyn Sink) -> Result<usize, Errno> {
        let input = input();
        input.start();
        if into.room() == 0 {
            return Ok(0);
        }
        call.wait(&input.readers, || input.has_news().then_some(()))?;
        let mut bytes = [0; 256];
        let count = input.take(&mut bytes[..into.room().min(256)]);
        if count == 0 { Ok(0) } else { into.put(&bytes[..count]) }
    }

    fn write(&self, _: &Call<'_, Bare>, _: u64, from: &mut dyn Source) -> Result<usize, Errno> {
        let mut done = 0;
        while from.left() > 0 {
            let mut bytes = [0; 512];
            match from.take(&mut bytes) {
                Ok(0) => break,
                Ok(count) => {
                    match self.0 {
                        Way::Output => write(&bytes[..count]),
                        Way::Errors => Port::Third.write(&bytes[..count]),
                    }
                    done += count;
                }
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    fn ready(&self, rights: Rights) -> Ready {
        let mut ready = Ready::OUT | Ready::WRITE_NORMAL;
        let input = input();
        if rights.contains(Rights::READ) {
            input.start();
            ready.set(Ready::IN | Ready::READ_NORMAL, input.has_news());
        }
        ready
    }

    fn queues(&self) -> [Option<&Queue<Bare>>; 2] {
        [Some(&input().readers), None]
    }
}

impl Input {
    fn has_news(&self) -> bool {
        !self.bytes.lock().is_empty() || self.is_at_end()
    }

    fn is_at_end(&self) -> bool {
        self.came.load(Ordering::Acquire) >= self.total.load(Ordering::Acquire)
    }

    fn take(&self, into: &mut [u8]) -> usize {
        let mut bytes = self.bytes.lock();
        let count = into.len().min(bytes.len());
        for (place, byte) in into.iter_mut().zip(bytes.drain(..count)) {
            *place = byte;
        }
        count
    }

    /// Starts the thread that looks at the port, if that has not been done.
    fn start(&'static self) {
        if self.started.load(Ordering::Acquire) != 0
            || self.started.compare_exchange(0, 1, Ordering::AcqRel).is_err()
        {
            return;
        }
        if Bare::spawn(None, move || self.serve()).is_err() {
            self.started.store(0, Ordering::Release);
        }
    }

    /// The thread.
    fn serve(&self) -> ! {
        // Setting a port up throws away what is in it, so nothing is sent before this is said.
        if terminal().is_none() && Port::Second.is_there() && Port::Third.is_there() {
            log::info!("input is wanted");
        }
        let nobody: Atomic<u32, Bare> = Atomic::new(0);
        let mut looks = 0;
        loop {
            if self.look() {
                self.readers.wake();
                looks = LOOKS;
            }
            if looks > 0 {
                looks -= 1;
                Bare::yield_now();
            } else {
                nobody.sleep_until(0, Some(calendar::since_start() + PERIOD));
            }
        }
    }

    /// Takes what is there; whether there was anything.
    fn look(&self) -> bool {
        let mut bytes = [0; 64];
        let mut count = 0;
        let has_room = terminal().is_some() || self.bytes.lock().len() < MOST;
        while has_room
            && count < bytes.len()
            && let Some(byte) = read()
        {
            bytes[count] = byte;
            count += 1;
        }
        if let Some(terminal) = terminal() {
            terminal.receive(&bytes[..count]);
            return count > 0;
        }
        let mut waiting = self.bytes.lock();
        if waiting.try_reserve(count).is_ok() {
            waiting.extend(&bytes[..count]);
        }
        drop(waiting);
        self.came.fetch_add(count as u64, Ordering::AcqRel);
        count > 0 || self.look_for_end()
    }

    fn look_for_end(&self) -> bool {
        if self.total.load(Ordering::Relaxed) != u64::MAX || Port::Third.read() != Some(ENDED) {
            return false;
        }
        let mut total = [0; 8];
        for byte in &mut total {
            // The rest of the message is on its way.
            *byte = loop {
                match Port::Third.read() {
                    Some(byte) => break byte,
                    None => Bare::yield_now(),
                }
            };
        }
        self.total.store(u64::from_le_bytes(total), Ordering::Release);
        true
    }
}
