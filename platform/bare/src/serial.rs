//! The serial ports behind the first, which is the console's: for programs.
//!
//! Flow:  bytes -> port, and port -> bytes, as they are. A machine without the port writes nowhere.
//! Locks: one for each port, for a piece of a write, so that interrupts wait for no long one.

use uart_16550::backend::PioBackend;
use uart_16550::{Config, Uart16550};

use crate::lock::Lock;

/// Which port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Port {
    /// The second of a PC.
    Second,
    /// The third.
    Third,
}

/// Bytes that are written with interrupts masked.
const PIECE: usize = 64;

type Uart = Lock<State>;

enum State {
    Unknown,
    Absent,
    Found(Uart16550<PioBackend>),
}

static SECOND: Uart = Lock::new(State::Unknown);
static THIRD: Uart = Lock::new(State::Unknown);

impl Port {
    fn place(self) -> (&'static Uart, u16) {
        match self {
            Self::Second => (&SECOND, 0x2f8),
            Self::Third => (&THIRD, 0x3e8),
        }
    }

    fn with<T>(self, work: impl FnOnce(&mut Uart16550<PioBackend>) -> T) -> Option<T> {
        let (uart, base) = self.place();
        let mut state = uart.lock();
        if let State::Unknown = *state {
            *state = open(base);
        }
        match &mut *state {
            State::Found(uart) => Some(work(uart)),
            State::Unknown | State::Absent => None,
        }
    }

    /// Whether the machine has it.
    pub fn is_there(self) -> bool {
        self.with(|_| ()).is_some()
    }

    /// Writes `bytes`.
    pub fn write(self, bytes: &[u8]) {
        for piece in bytes.chunks(PIECE) {
            if self.with(|uart| uart.send_bytes_exact(piece)).is_none() {
                return;
            }
        }
    }

    /// The next byte that came in, if there is one.
    pub fn read(self) -> Option<u8> {
        self.with(|uart| uart.try_receive_byte().ok()).flatten()
    }
}

fn open(base: u16) -> State {
    // SAFETY: the place of a serial port or of nothing on every PC, and nobody else uses it.
    let Ok(mut uart) = (unsafe { Uart16550::new_port(base) }) else { return State::Absent };
    if uart.init(Config::default()).is_ok() { State::Found(uart) } else { State::Absent }
}
