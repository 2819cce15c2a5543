//! Settings of a terminal: termios(3), with Linux's bits and layout.

use bitflags::bitflags;

use crate::layout::Layout;

/// Bytes of the kernel's `struct termios`.
pub(super) const TERMIOS_BYTES: usize = 36;
/// Control characters in it.
const CONTROLS: usize = 19;

bitflags! {
    /// What becomes of input.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Input: u32 {
        /// New line becomes carriage return.
        const NL_TO_CR = 0o100;
        /// Carriage returns are dropped.
        const IGNORE_CR = 0o200;
        /// Carriage return becomes new line.
        const CR_TO_NL = 0o400;
        /// Stop and start characters are not input.
        const FLOW = 0o2000;
        /// Erasing takes whole characters of UTF-8.
        const UTF8 = 0o40_000;
        /// Others, which are kept.
        const _ = !0;
    }
}

bitflags! {
    /// What becomes of output.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Output: u32 {
        /// Anything at all.
        const PROCESSED = 1;
        /// New line becomes carriage return and new line.
        const NL_TO_CR_NL = 4;
        /// Others, which are kept.
        const _ = !0;
    }
}

bitflags! {
    /// Who does what.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Local: u32 {
        /// Some characters are signals.
        const SIGNALS = 0o1;
        /// Input comes in lines that can be edited.
        const CANONICAL = 0o2;
        /// What is typed is shown.
        const ECHO = 0o10;
        /// What is erased vanishes.
        const ECHO_ERASE = 0o20;
        /// A new line follows an erased line.
        const ECHO_KILL = 0o40;
        /// New lines are shown in any case.
        const ECHO_NL = 0o100;
        /// Signals leave the input.
        const NO_FLUSH = 0o200;
        /// Who writes in the background is stopped.
        const STOP_OUTPUT = 0o400;
        /// Control characters are shown with a hat.
        const ECHO_CONTROL = 0o1000;
        /// An erased line vanishes.
        const ECHO_KILL_ERASE = 0o4000;
        /// Words can be erased, and characters quoted.
        const EXTENDED = 0o100_000;
        /// Others, which are kept.
        const _ = !0;
    }
}

/// Places of the control characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Control {
    /// ^C.
    Interrupt = 0,
    /// ^\.
    Quit = 1,
    /// Backspace.
    Erase = 2,
    /// ^U.
    Kill = 3,
    /// ^D.
    EndOfFile = 4,
    /// Tenths of a second.
    Time = 5,
    /// Number of bytes.
    Minimum = 6,
    /// ^Q.
    Start = 8,
    /// ^S.
    Stop = 9,
    /// ^Z.
    Suspend = 10,
    /// Another end of a line.
    EndOfLine = 11,
    /// ^W.
    WordErase = 14,
    /// ^V.
    Quote = 15,
    /// One more.
    SecondEndOfLine = 16,
}

/// termios(3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Input.
    pub input: Input,
    /// Output.
    pub output: Output,
    /// The wire; means nothing here.
    pub control: u32,
    /// Who does what.
    pub local: Local,
    discipline: u8,
    characters: [u8; CONTROLS],
}

impl Default for Settings {
    /// As Linux begins.
    fn default() -> Self {
        /// 38400 baud, 8 bits, readable, hang up at the end.
        const CONTROL: u32 = 0o15 | 0o60 | 0o200 | 0o2000;
        let mut characters = [0; CONTROLS];
        characters[..17]
            .copy_from_slice(&[3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0]);
        let extras = Local::ECHO_CONTROL | Local::ECHO_KILL_ERASE | Local::EXTENDED;
        let echo = Local::ECHO | Local::ECHO_ERASE | Local::ECHO_KILL;
        Self {
            input: Input::CR_TO_NL | Input::FLOW | Input::UTF8,
            output: Output::PROCESSED | Output::NL_TO_CR_NL,
            control: CONTROL,
            local: Local::SIGNALS | Local::CANONICAL | echo | extras,
            discipline: 0,
            characters,
        }
    }
}

impl Settings {
    /// `struct termios`.
    pub fn bytes(&self) -> [u8; TERMIOS_BYTES] {
        let mut layout = Layout::new();
        layout.u32(0, self.input.bits()).u32(4, self.output.bits());
        layout.u32(8, self.control).u32(12, self.local.bits());
        layout.bytes(16, &[self.discipline]).bytes(17, &self.characters);
        layout.done()
    }

    /// What a `struct termios` says.
    pub fn set(&mut self, bytes: &[u8; TERMIOS_BYTES]) {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        self.input = Input::from_bits_retain(word(0));
        self.output = Output::from_bits_retain(word(4));
        self.control = word(8);
        self.local = Local::from_bits_retain(word(12));
        self.discipline = bytes[16];
        self.characters.copy_from_slice(&bytes[17..]);
    }

    /// Whether `byte` is that control character. 0 switches one off.
    pub(super) fn is(&self, byte: u8, control: Control) -> bool {
        byte != 0 && self.characters[control as usize] == byte
    }

    pub(super) fn character(&self, control: Control) -> u8 {
        self.characters[control as usize]
    }

    pub(super) fn minimum(&self) -> u8 {
        self.character(Control::Minimum)
    }

    pub(super) fn time(&self) -> u8 {
        self.character(Control::Time)
    }

    /// Passes what is to be shown for `bytes` on to `send`.
    pub(super) fn show(&self, bytes: &[u8], send: impl Fn(&[u8])) {
        let both = Output::PROCESSED | Output::NL_TO_CR_NL;
        if !self.output.contains(both) {
            send(bytes);
            return;
        }
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            match part.strip_suffix(b"\n") {
                Some(text) => {
                    if !text.is_empty() {
                        send(text);
                    }
                    send(b"\r\n");
                }
                None => send(part),
            }
        }
    }
}
