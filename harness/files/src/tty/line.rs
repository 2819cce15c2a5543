//! What becomes of a byte that is typed: part of a line, a change of it, its end, or a signal.
//!
//! L1. Room for the whole buffer is made at the beginning, so that receiving cannot fail; what does not fit is dropped,
//!     but for the end of a line, for which one place is kept.

use alloc::collections::VecDeque;

use rumpvm::NoMemory;
use rumpvm_platform::{Scarce, Seam};

use super::settings::{Control, Input, Local, Output, Settings};

/// As on Linux.
const CAPACITY: usize = 4096;

/// What somebody did at the keyboard that is news for processes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Typed {
    /// `SIGINT`.
    Interrupt = 2,
    /// `SIGQUIT`.
    Quit = 3,
    /// `SIGTSTP`.
    Suspend = 20,
    /// `SIGWINCH`.
    Resized = 28,
}

/// What was typed and is not read yet.
pub(super) struct Line {
    keys: VecDeque<Key>,
    /// So many at the end belong to a line that can be edited still.
    editing: usize,
    /// The next byte means itself.
    is_quoted: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    Byte(u8),
    /// The last byte of a line.
    End(u8),
    /// The end of the file: a line's end without a byte.
    Eof,
}

/// What a byte leads to.
pub(super) struct Outcome {
    echo: [u8; ECHO],
    echoed: usize,
    pub(super) signal: Option<Typed>,
}

/// The longest echo is that of a line that vanishes; more than a screen's width is cut.
const ECHO: usize = 512;

impl Outcome {
    const fn nothing() -> Self {
        Self { echo: [0; ECHO], echoed: 0, signal: None }
    }

    /// What is to be shown.
    pub(super) fn echo(&self) -> &[u8] {
        &self.echo[..self.echoed]
    }

    fn show(&mut self, bytes: &[u8]) {
        if let Some(room) = self.echo.get_mut(self.echoed..self.echoed + bytes.len()) {
            room.copy_from_slice(bytes);
            self.echoed += bytes.len();
        }
    }

    /// Shows a byte that was typed.
    fn show_key(&mut self, settings: &Settings, byte: u8) {
        let both = Output::PROCESSED | Output::NL_TO_CR_NL;
        match byte {
            b'\n' if settings.output.contains(both) => self.show(b"\r\n"),
            _ if is_hatted(settings, byte) => self.show(&[b'^', byte ^ 0x40]),
            _ => self.show(&[byte]),
        }
    }

    /// Takes a byte that was shown off the screen again.
    fn rub_out(&mut self, settings: &Settings, byte: u8) {
        if is_continuation(settings, byte) {
            return;
        }
        for _ in 0..if is_hatted(settings, byte) { 2 } else { 1 } {
            self.show(b"\x08 \x08");
        }
    }
}

/// Whether it is shown as a hat and a letter.
fn is_hatted(settings: &Settings, byte: u8) -> bool {
    let is_control = (byte < 0x20 && !matches!(byte, b'\t' | b'\n')) || byte == 0x7f;
    is_control && settings.local.contains(Local::ECHO_CONTROL)
}

/// Whether it is a later byte of a character.
fn is_continuation(settings: &Settings, byte: u8) -> bool {
    settings.input.contains(Input::UTF8) && byte & 0xc0 == 0x80
}

impl Line {
    pub(super) fn try_new<S: Seam>() -> Result<Self, NoMemory> {
        let mut keys = VecDeque::new();
        if S::fails(Scarce::Heap, core::panic::Location::caller()) {
            return Err(NoMemory);
        }
        keys.try_reserve_exact(CAPACITY).map_err(|_| NoMemory)?;
        Ok(Self { keys, editing: 0, is_quoted: false })
    }

    /// A byte has been typed.
    pub(super) fn receive(&mut self, settings: &Settings, byte: u8) -> Outcome {
        let mut outcome = Outcome::nothing();
        let (local, is_quoted) = (settings.local, core::mem::take(&mut self.is_quoted));
        let byte = match byte {
            _ if is_quoted => byte,
            b'\r' if settings.input.contains(Input::IGNORE_CR) => return outcome,
            b'\r' if settings.input.contains(Input::CR_TO_NL) => b'\n',
            b'\n' if settings.input.contains(Input::NL_TO_CR) => b'\r',
            _ => byte,
        };
        if is_quoted {
            self.add(settings, Key::Byte(byte), &mut outcome);
            return outcome;
        }
        let flow = [Control::Start, Control::Stop];
        if settings.input.contains(Input::FLOW) && flow.iter().any(|key| settings.is(byte, *key)) {
            return outcome;
        }
        if local.contains(Local::SIGNALS)
            && let Some(signal) = signal(settings, byte)
        {
            if !local.contains(Local::NO_FLUSH) {
                self.flush();
            }
            if local.contains(Local::ECHO) {
                outcome.show_key(settings, byte);
            }
            outcome.signal = Some(signal);
            return outcome;
        }
        if local.contains(Local::CANONICAL) {
            self.edit(settings, byte, &mut outcome);
        } else {
            self.add(settings, Key::Byte(byte), &mut outcome);
        }
        outcome
    }

    fn edit(&mut self, settings: &Settings, byte: u8, outcome: &mut Outcome) {
        let is = |control| settings.is(byte, control);
        let is_extended = settings.local.contains(Local::EXTENDED);
        match byte {
            _ if is(Control::Erase) => self.erase(settings, outcome),
            _ if is(Control::Kill) => {
                while self.editing > 0 {
                    self.erase(settings, outcome);
                }
            }
            _ if is(Control::WordErase) && is_extended => self.erase_word(settings, outcome),
            _ if is(Control::Quote) && is_extended => {
                self.is_quoted = true;
                if settings.local.contains(Local::ECHO) {
                    outcome.show(b"^\x08");
                }
            }
            _ if is(Control::EndOfFile) => {
                self.push(Key::Eof, 0);
                self.editing = 0;
            }
            b'\n' => self.end(settings, byte, outcome),
            _ if is(Control::EndOfLine) || is(Control::SecondEndOfLine) => {
                self.end(settings, byte, outcome);
            }
            _ => self.add(settings, Key::Byte(byte), outcome),
        }
    }

    fn end(&mut self, settings: &Settings, byte: u8, outcome: &mut Outcome) {
        let local = settings.local;
        self.push(Key::End(byte), 0);
        self.editing = 0;
        let shows_nl = byte == b'\n' && local.contains(Local::ECHO_NL);
        if local.contains(Local::ECHO) || shows_nl {
            outcome.show_key(settings, byte);
        }
    }

    fn add(&mut self, settings: &Settings, key: Key, outcome: &mut Outcome) {
        let Key::Byte(byte) = key else { return };
        if !self.push(key, 1) {
            return;
        }
        if settings.local.contains(Local::CANONICAL) {
            self.editing += 1;
        }
        if settings.local.contains(Local::ECHO) {
            outcome.show_key(settings, byte);
        }
    }

    /// Appends, if so many places are left beside it (L1).
    fn push(&mut self, key: Key, kept: usize) -> bool {
        let has_room = self.keys.len() + kept < CAPACITY;
        if has_room {
            self.keys.push_back(key);
        }
        has_room
    }

    /// Erases one character of the line.
    fn erase(&mut self, settings: &Settings, outcome: &mut Outcome) {
        while self.editing > 0 {
            let Some(Key::Byte(byte)) = self.keys.pop_back() else { return };
            self.editing -= 1;
            let echoes = Local::ECHO | Local::ECHO_ERASE;
            if settings.local.contains(echoes) {
                outcome.rub_out(settings, byte);
            }
            if !is_continuation(settings, byte) {
                return;
            }
        }
    }

    fn erase_word(&mut self, settings: &Settings, outcome: &mut Outcome) {
        let is_blank = |line: &Self| matches!(line.keys.back(), Some(Key::Byte(b' ' | b'\t')));
        while self.editing > 0 && is_blank(self) {
            self.erase(settings, outcome);
        }
        while self.editing > 0 && !is_blank(self) {
            self.erase(settings, outcome);
        }
    }

    /// Forgets everything.
    pub(super) fn flush(&mut self) {
        self.keys.clear();
        (self.editing, self.is_quoted) = (0, false);
    }

    /// What is being edited can be read as it is: lines do not matter any more.
    pub(super) fn release(&mut self) {
        self.editing = 0;
    }

    /// Keys that can be read.
    pub(super) fn available(&self) -> usize {
        self.keys.len() - self.editing
    }

    /// Whether there is a line to be read; there are only such in front of what is edited.
    pub(super) fn is_complete(&self, settings: &Settings) -> bool {
        settings.local.contains(Local::CANONICAL) && self.available() > 0
    }

    /// Takes bytes out, of one line at most if there are lines; says how many, and whether the line is over.
    pub(super) fn take(&mut self, settings: &Settings, into: &mut [u8]) -> (usize, bool) {
        let is_canonical = settings.local.contains(Local::CANONICAL);
        let mut count = 0;
        while count < into.len() && self.available() > 0 {
            let Some(key) = self.keys.pop_front() else { break };
            match key {
                Key::Byte(byte) | Key::End(byte) => {
                    into[count] = byte;
                    count += 1;
                }
                Key::Eof if !is_canonical => {}
                Key::Eof => return (count, true),
            }
            if is_canonical && matches!(key, Key::End(_)) {
                return (count, true);
            }
        }
        // An end of the file right behind what there was room for belongs to that.
        if is_canonical && count > 0 && self.available() > 0 && self.keys.front() == Some(&Key::Eof)
        {
            self.keys.pop_front();
            return (count, true);
        }
        (count, false)
    }
}

fn signal(settings: &Settings, byte: u8) -> Option<Typed> {
    let of = [
        (Control::Interrupt, Typed::Interrupt),
        (Control::Quit, Typed::Quit),
        (Control::Suspend, Typed::Suspend),
    ];
    of.into_iter().find(|(control, _)| settings.is(byte, *control)).map(|(_, signal)| signal)
}
