//! Terminals: the line discipline between a wire, which brings and takes bytes, and programs.
//!
//! | file | what |
//! |---|---|
//! | `settings` | termios, with Linux's bits |
//! | `line` | what becomes of a byte that comes in: edited, echoed, or a signal |
//!
//! Flow:  wire -> [`Terminal::receive`] -> line -> read(2); write(2) -> wire.
//! Locks: `state`, for a few instructions; the wire is called without it.
//! Sleep: readers for a line.
//! Owns:  what was typed and not read yet.

mod line;
mod settings;

use core::any::Any;

use rumpvm::NoMemory;
use rumpvm::sync::{Atomic, Ordering, Spin};
use rumpvm_platform::{Platform, Seam};

pub use line::Typed;
pub use settings::{Control, Input, Local, Output, Settings};

use line::Line;
use settings::TERMIOS_BYTES;

use crate::access::Rights;
use crate::class;
use crate::errno::Errno;
use crate::node::{Call, Ready, Special, partly};
use crate::pipe::FIONREAD;
use crate::transfer::{Exchange, Sink, Source};
use crate::wait::Queue;

/// What a terminal is connected to.
pub trait Wire: Send + Sync {
    /// Shows bytes. Must not sleep for long; may be called by several at once.
    fn send(&self, bytes: &[u8]);

    /// Somebody typed what means this signal to the processes of `group`.
    fn signal(&self, group: u32, signal: Typed);
}

/// A terminal.
pub struct Terminal<P: Platform, W: Wire> {
    wire: W,
    state: Spin<State, P>,
    readers: Queue<P>,
    /// The session whose terminal it is, by number; 0 is none.
    session: Atomic<u32, P>,
    /// The group of processes that may read it, and gets its signals.
    foreground: Atomic<u32, P>,
}

struct State {
    settings: Settings,
    line: Line,
    /// Rows, columns, and the same in points.
    size: [u16; 4],
}

/// Bytes that are carried at a time.
const PIECE: usize = 256;

const TCGETS: u32 = 0x5401;
const TCSETS: u32 = 0x5402;
const TCSETSW: u32 = 0x5403;
const TCSETSF: u32 = 0x5404;
const TCSBRK: u32 = 0x5409;
const TCXONC: u32 = 0x540a;
const TCFLSH: u32 = 0x540b;
const TIOCGPGRP: u32 = 0x540f;
const TIOCSPGRP: u32 = 0x5410;
const TIOCOUTQ: u32 = 0x5411;
const TIOCGWINSZ: u32 = 0x5413;
const TIOCSWINSZ: u32 = 0x5414;
const TCSBRKP: u32 = 0x5425;
const TIOCGSID: u32 = 0x5429;

impl<P: Platform, W: Wire> Terminal<P, W> {
    /// A terminal of 24 rows and 80 columns.
    pub fn try_new(wire: W) -> Result<Self, NoMemory> {
        let line = Line::try_new::<P>()?;
        let state = State { settings: Settings::default(), line, size: [24, 80, 0, 0] };
        Ok(Self {
            wire,
            state: Spin::new(&class::TERMINAL, state),
            readers: Queue::new(),
            session: Atomic::new(0),
            foreground: Atomic::new(0),
        })
    }

    /// Bytes have come in. Called from wherever the wire is looked at; does not sleep.
    pub fn receive(&self, bytes: &[u8]) {
        for byte in bytes {
            let mut state = self.state.lock();
            let State { settings, line, .. } = &mut *state;
            let outcome = line.receive(settings, *byte);
            drop(state);
            if !outcome.echo().is_empty() {
                self.wire.send(outcome.echo());
            }
            if let Some(signal) = outcome.signal {
                self.wire.signal(self.foreground(), signal);
            }
        }
        self.readers.wake();
    }

    /// Another size; programs are told by a signal.
    pub fn set_size(&self, rows: u16, columns: u16) {
        self.resize([rows, columns, 0, 0]);
    }

    fn resize(&self, size: [u16; 4]) {
        let mut state = self.state.lock();
        let before = core::mem::replace(&mut state.size, size);
        drop(state);
        if before != size {
            self.wire.signal(self.foreground(), Typed::Resized);
        }
    }

    /// Which processes may read it, and get its signals: `TIOCGPGRP`.
    pub fn foreground(&self) -> u32 {
        self.foreground.load(Ordering::Acquire)
    }

    /// Hands it to other processes; whether they may have it is the caller's to check.
    pub fn set_foreground(&self, group: u32) {
        self.foreground.store(group, Ordering::Release);
    }

    /// Whose terminal it is: `TIOCGSID`.
    pub fn session(&self) -> u32 {
        self.session.load(Ordering::Acquire)
    }

    /// Makes it the terminal of a session: `TIOCSCTTY`.
    pub fn set_session(&self, session: u32) {
        self.session.store(session, Ordering::Release);
    }

    /// Whether who writes without being in the foreground is stopped: `TOSTOP`.
    pub fn stops_output(&self) -> bool {
        self.state.lock().settings.local.contains(Local::STOP_OUTPUT)
    }

    /// Whether this request of ioctl(2) changes something for others: who is not in the foreground may not make it.
    pub fn is_change(request: u32) -> bool {
        const CHANGES: [u32; 8] =
            [TCSETS, TCSETSW, TCSETSF, TCSBRK, TCSBRKP, TCXONC, TCFLSH, TIOCSPGRP];
        CHANGES.contains(&request)
    }

    fn set(&self, argument: &mut dyn Exchange, flushes: bool) -> Result<u64, Errno> {
        let mut bytes = [0; TERMIOS_BYTES];
        argument.load(&mut bytes)?;
        let mut state = self.state.lock();
        let State { settings, line, .. } = &mut *state;
        settings.set(&bytes);
        if flushes {
            line.flush();
        }
        if !settings.local.contains(Local::CANONICAL) {
            line.release();
        }
        drop(state);
        self.readers.wake();
        Ok(0)
    }

    /// How long a read that is not of lines waits: for how many bytes, and how many tenths of a second.
    fn patience(&self) -> Option<(usize, u8)> {
        let state = self.state.lock();
        let settings = &state.settings;
        let is_canonical = settings.local.contains(Local::CANONICAL);
        (!is_canonical).then(|| (usize::from(settings.minimum()), settings.time()))
    }
}

impl<P: Platform, W: Wire + 'static> Special<P> for Terminal<P, W> {
    fn read(&self, call: &Call<'_, P>, _: u64, into: &mut dyn Sink) -> Result<usize, Errno> {
        const TENTH: u64 = 100_000_000;
        if into.room() == 0 {
            return Ok(0);
        }
        let (least, until) = match self.patience() {
            None => (1, None),
            Some((least, 0)) => (least, None),
            // A time without a number is for the first byte; the time between two is taken for that of all.
            Some((least, time)) => {
                if least > 0 {
                    let any = || (self.state.lock().line.available() > 0).then_some(());
                    call.wait(&self.readers, any)?;
                }
                (least.max(1), Some(<P as Seam>::clock() + u64::from(time) * TENTH))
            }
        };
        let least = least.min(into.room());
        let ready = || {
            let state = self.state.lock();
            let line = &state.line;
            (line.is_complete(&state.settings) || line.available() >= least).then_some(())
        };
        match call.wait_until(&self.readers, until, ready) {
            Ok(()) | Err(Errno::ETIMEDOUT) => {}
            Err(error) => return Err(error),
        }
        let mut done = 0;
        loop {
            let mut bytes = [0; PIECE];
            let most = into.room().min(PIECE);
            let mut state = self.state.lock();
            let State { settings, line, .. } = &mut *state;
            let (count, ended) = line.take(settings, &mut bytes[..most]);
            drop(state);
            if count > 0 {
                match into.put(&bytes[..count]) {
                    Ok(put) => done += put,
                    Err(error) => return partly(done, error),
                }
            }
            if ended || count == 0 || into.room() == 0 {
                return Ok(done);
            }
        }
    }

    fn write(&self, _: &Call<'_, P>, _: u64, from: &mut dyn Source) -> Result<usize, Errno> {
        let mut done = 0;
        while from.left() > 0 {
            let settings = self.state.lock().settings;
            let mut bytes = [0; PIECE];
            match from.take(&mut bytes) {
                Ok(0) => break,
                Ok(count) => {
                    settings.show(&bytes[..count], |shown| self.wire.send(shown));
                    done += count;
                }
                Err(error) => return partly(done, error),
            }
        }
        Ok(done)
    }

    fn ready(&self, rights: Rights) -> Ready {
        let state = self.state.lock();
        let mut ready = Ready::OUT | Ready::WRITE_NORMAL;
        let line = &state.line;
        let any = !state.settings.local.contains(Local::CANONICAL) && line.available() > 0;
        if rights.contains(Rights::READ) && (any || line.is_complete(&state.settings)) {
            ready |= Ready::IN | Ready::READ_NORMAL;
        }
        ready
    }

    fn queues(&self) -> [Option<&Queue<P>>; 2] {
        [Some(&self.readers), None]
    }

    /// What takes a process to answer (`TIOCSCTTY`, and whether it may do `TIOCSPGRP`) is the caller's.
    fn control(&self, request: u32, argument: &mut dyn Exchange) -> Result<u64, Errno> {
        match request {
            TCGETS => {
                let settings = self.state.lock().settings;
                argument.store(&settings.bytes())?;
            }
            TCSETS | TCSETSW => return self.set(argument, false),
            TCSETSF => return self.set(argument, true),
            TCFLSH => self.state.lock().line.flush(),
            TCSBRK | TCSBRKP | TCXONC => {}
            TIOCGPGRP => argument.store(&self.foreground().to_le_bytes())?,
            TIOCSPGRP => {
                let mut group = [0; 4];
                argument.load(&mut group)?;
                self.set_foreground(u32::from_le_bytes(group));
            }
            TIOCGSID => argument.store(&self.session().to_le_bytes())?,
            TIOCOUTQ => argument.store(&0_u32.to_le_bytes())?,
            FIONREAD => {
                let count = self.state.lock().line.available() as u32;
                argument.store(&count.to_le_bytes())?;
            }
            TIOCGWINSZ => {
                let [rows, columns, x, y] = self.state.lock().size.map(u16::to_le_bytes);
                argument.store([rows, columns, x, y].as_flattened())?;
            }
            TIOCSWINSZ => {
                let mut bytes = [0; 8];
                argument.load(&mut bytes)?;
                let part = |at: usize| u16::from_le_bytes([bytes[2 * at], bytes[2 * at + 1]]);
                self.resize([part(0), part(1), part(2), part(3)]);
            }
            _ => return Err(Errno::ENOTTY),
        }
        Ok(0)
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}
