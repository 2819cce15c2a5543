//! The programs' console: the second serial port, and the third for errors.
//!
//! Flow:  a program's bytes -> port; port -> bytes, looked for by a thread that begins with the first who reads.
//! Locks: what has come in, for a few instructions.
//!
//! As a stream it hands bytes on as they are. The byte [`ENDED`] on the third port says that nothing more will come.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::any::Any;

use rumpvm::sync::{Atomic, Ordering, Spin, try_box};
use rumpvm_bare::serial::Port;
use rumpvm_bare::{Bare, calendar};
use rumpvm_files::node::Call;
use rumpvm_files::services::device_number;
use rumpvm_files::{Errno, Open, Queue, Ready, Rights, Sink, Source, Special, Walk};
use spin::Once;

use super::class;

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

/// Says, on the third port, that the second has come to its end.
const ENDED: u8 = 4;
/// Between two looks at the port.
const PERIOD: u64 = 5_000_000;
/// Bytes that wait for a reader.
const MOST: usize = 64 << 10;

struct Input {
    bytes: Spin<VecDeque<u8>, Bare>,
    readers: Queue<Bare>,
    ended: Atomic<u32, Bare>,
    started: Atomic<u32, Bare>,
}

fn input() -> &'static Input {
    static INPUT: Once<Input> = Once::new();
    INPUT.call_once(|| Input {
        bytes: Spin::new(&class::CONSOLE, VecDeque::new()),
        readers: Queue::new(),
        ended: Atomic::new(0),
        started: Atomic::new(0),
    })
}

static MANNER: Once<Manner> = Once::new();

/// Offers the console so.
pub(crate) fn start(manner: Manner) {
    MANNER.call_once(|| manner);
}

fn manner() -> Manner {
    MANNER.get().copied().unwrap_or_default()
}

/// What the first program has as its standard files.
pub(crate) fn standard_files() -> [&'static [u8]; 3] {
    match manner() {
        Manner::Terminal => [b"/dev/console"; 3],
        Manner::Stream => [b"/dev/stdstream", b"/dev/stdstream", b"/dev/errstream"],
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
    let way = match number {
        OUTPUT | CONSOLE | TTY => Way::Output,
        ERRORS => Way::Errors,
        _ => return Err(Errno::ENXIO),
    };
    Ok(try_box::<_, Bare>(Stream(way))?)
}

/// Whether `open` is the terminal.
pub(crate) fn is_terminal(open: &Open<Bare>) -> bool {
    manner() == Manner::Terminal && open.special::<Stream>().is_some()
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
        let port = if self.0 == Way::Errors { Port::Third } else { Port::Second };
        let mut done = 0;
        while from.left() > 0 {
            let mut bytes = [0; 512];
            match from.take(&mut bytes) {
                Ok(0) => break,
                Ok(count) => {
                    port.write(&bytes[..count]);
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

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl Input {
    fn has_news(&self) -> bool {
        !self.bytes.lock().is_empty() || self.ended.load(Ordering::Acquire) != 0
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

    fn serve(&self) {
        let nobody: Atomic<u32, Bare> = Atomic::new(0);
        loop {
            let mut came = false;
            while let Some(byte) = Port::Second.read() {
                came = true;
                let mut bytes = self.bytes.lock();
                // Who types faster than anybody reads loses what does not fit.
                if bytes.len() < MOST && bytes.try_reserve(1).is_ok() {
                    bytes.push_back(byte);
                }
            }
            if !came && Port::Third.read() == Some(ENDED) {
                self.ended.store(1, Ordering::Release);
                came = true;
            }
            if came {
                self.readers.wake();
            }
            nobody.sleep_until(0, Some(calendar::since_start() + PERIOD));
        }
    }
}
