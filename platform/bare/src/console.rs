//! The console: the first serial port.
//!
//! Flow:  bytes -> lines with carriage returns -> port 0x3f8. A machine without the port writes nowhere.
//! Locks: its own, for one call, so that lines of two CPUs do not mix.

use core::fmt::{self, Write};

use log::{Level, LevelFilter, Log, Metadata, Record};
use uart_16550::backend::PioBackend;
use uart_16550::{Config, Uart16550};

use crate::lock::Lock;

const FIRST_PORT: u16 = 0x3f8;

/// The port, once it has been found.
struct Console {
    port: Option<Uart16550<PioBackend>>,
}

static CONSOLE: Lock<Console> = Lock::new(Console { port: None });

/// Sends what `log`'s macros are given to the console.
struct Logger;

/// Looks for the port and sets it up; from then on `log` writes to it.
pub(crate) fn start() {
    // SAFETY: port 0x3f8 is the first serial port or nothing on every PC, and nobody else uses it.
    let port = unsafe { Uart16550::new_port(FIRST_PORT) };
    if let Ok(mut port) = port
        && port.init(Config::default()).is_ok()
    {
        CONSOLE.lock().port = Some(port);
    }
    // A second logger would be refused, and there is none.
    log::set_logger(&Logger).ok();
    log::set_max_level(LevelFilter::Info);
}

/// Writes `bytes`; a line feed also returns the carriage.
pub fn write(bytes: &[u8]) {
    CONSOLE.lock().write(bytes);
}

/// The next byte that was typed, if there is one.
pub fn read() -> Option<u8> {
    CONSOLE.lock().port.as_mut()?.try_receive_byte().ok()
}

/// As [`write`], for a CPU in trouble: another one, or this one, may have stopped in the middle of a line.
pub(crate) fn write_in_trouble(text: fmt::Arguments<'_>) {
    for _ in 0..1_000_000 {
        if let Some(mut console) = CONSOLE.try_lock() {
            console.write_fmt(text).ok();
            return;
        }
        core::hint::spin_loop();
    }
    // SAFETY: whoever holds the lock has stopped, or will be stopped with the rest of the machine soon.
    if let Ok(port) = unsafe { Uart16550::new_port(FIRST_PORT) } {
        Console { port: Some(port) }.write_fmt(text).ok();
    }
}

impl Console {
    fn write(&mut self, bytes: &[u8]) {
        let Some(port) = &mut self.port else { return };
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            match line.split_last() {
                Some((b'\n', text)) => {
                    port.send_bytes_exact(text);
                    port.send_bytes_exact(b"\r\n");
                }
                _ => port.send_bytes_exact(line),
            }
        }
    }
}

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.write(text.as_bytes());
        Ok(())
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Info
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let mut console = CONSOLE.lock();
            writeln!(console, "rumpvm: {}", record.args()).ok();
        }
    }

    fn flush(&self) {}
}
