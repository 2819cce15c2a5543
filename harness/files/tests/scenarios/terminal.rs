//! Terminals: lines, echo, signals, settings, as a shell and an editor use them.

use std::sync::{Arc, Mutex};

use rumpvm::Hold;
use rumpvm_files::node::Call;
use rumpvm_files::tty::{Local, Settings, Terminal, Typed, Wire};
use rumpvm_files::{Errno, Ready, Rights, Special};

use crate::world::{Home, User, World};

/// What was shown, and the signals.
type Seen = (Vec<u8>, Vec<(u32, Typed)>);

/// Keeps that.
#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Seen>>);

impl Wire for Screen {
    fn send(&self, bytes: &[u8]) {
        self.0.lock().unwrap().0.extend(bytes);
    }
    fn signal(&self, group: u32, signal: Typed) {
        self.0.lock().unwrap().1.push((group, signal));
    }
}

impl Screen {
    fn shown(&self) -> String {
        String::from_utf8(std::mem::take(&mut self.0.lock().unwrap().0)).unwrap()
    }
}

type Console = Hold<Terminal<Home, Screen>, Home>;

fn terminal() -> (Console, Screen) {
    let screen = Screen::default();
    let terminal = Terminal::try_new(screen.clone()).unwrap();
    (Hold::try_new(terminal).unwrap(), screen)
}

fn read(user: &User, terminal: &Console, most: usize) -> Result<String, Errno> {
    let call = Call { waker: &user.waker, nonblocking: true };
    let mut bytes = vec![0; most];
    let count = terminal.read(&call, 0, &mut &mut bytes[..])?;
    bytes.truncate(count);
    Ok(String::from_utf8(bytes).unwrap())
}

fn ok(text: &str) -> Result<String, Errno> {
    Ok(text.to_string())
}

fn change(terminal: &Console, change: impl Fn(&mut Settings)) {
    let mut bytes = [0; 36];
    terminal.control(0x5401, &mut &mut bytes[..]).unwrap();
    let mut settings = Settings::default();
    settings.set(&bytes);
    change(&mut settings);
    terminal.control(0x5402, &mut &mut settings.bytes()[..]).unwrap();
}

#[test]
fn a_line_is_read_when_it_is_ended_as_it_was_edited() {
    World::new().run(|user| {
        let (terminal, screen) = terminal();
        terminal.receive(b"lx\x7fs -\xc3\xa4\x7fl");
        assert_eq!(read(user, &terminal, 99), Err(Errno::EAGAIN));
        assert!(!terminal.ready(Rights::READ).contains(Ready::IN));
        terminal.receive(b"\r");
        assert_eq!(screen.shown(), "lx\x08 \x08s -ä\x08 \x08l\r\n");
        assert_eq!(read(user, &terminal, 4), ok("ls -"));
        assert_eq!(read(user, &terminal, 99), ok("l\n"));
        terminal.receive(b"one word\x17x\nkilled\x15two\n\x7f\n");
        assert_eq!(read(user, &terminal, 99), ok("one x\n"));
        assert_eq!(read(user, &terminal, 99), ok("two\n"));
        assert_eq!(read(user, &terminal, 99), ok("\n"), "an ended line is not erased");
        terminal.receive(b"a\x16\x03b\n");
        assert_eq!(read(user, &terminal, 99), ok("a\x03b\n"), "a quoted ^C is a byte");
    });
}

#[test]
fn the_end_of_a_file_is_typed_as_control_d() {
    World::new().run(|user| {
        let (terminal, screen) = terminal();
        terminal.receive(b"\x04");
        assert_eq!(read(user, &terminal, 99), ok(""));
        assert_eq!(read(user, &terminal, 99), Err(Errno::EAGAIN));
        terminal.receive(b"half a line\x04");
        assert_eq!(read(user, &terminal, 99), ok("half a line"));
        assert_eq!(read(user, &terminal, 99), Err(Errno::EAGAIN), "that was no end of the file");
        terminal.receive(b"abc\x04");
        assert_eq!(read(user, &terminal, 3), ok("abc"));
        assert_eq!(read(user, &terminal, 3), Err(Errno::EAGAIN));
        assert_eq!(screen.shown(), "half a lineabc");
    });
}

#[test]
fn control_c_is_a_signal_for_the_foreground_and_empties_the_line() {
    World::new().run(|user| {
        let (terminal, screen) = terminal();
        terminal.control(0x5410, &mut &mut 42_u32.to_le_bytes()[..]).unwrap();
        terminal.receive(b"half\x03\x1a\x1cline\n");
        assert_eq!(screen.shown(), "half^C^Z^\\line\r\n");
        assert_eq!(read(user, &terminal, 99), ok("line\n"));
        terminal.set_size(50, 132);
        terminal.set_size(50, 132);
        let signals = [Typed::Interrupt, Typed::Suspend, Typed::Quit, Typed::Resized];
        assert_eq!(screen.0.lock().unwrap().1, signals.map(|signal| (42, signal)));
        let mut size = [0; 8];
        terminal.control(0x5413, &mut &mut size[..]).unwrap();
        assert_eq!(size, [50, 0, 132, 0, 0, 0, 0, 0]);
    });
}

#[test]
fn an_editor_gets_every_key_at_once_and_shows_what_it_likes() {
    World::new().run(|user| {
        let (terminal, screen) = terminal();
        terminal.receive(b"typed ahead");
        change(&terminal, |settings| {
            let cooked = Local::CANONICAL | Local::ECHO | Local::SIGNALS;
            settings.local.remove(cooked);
        });
        screen.shown();
        assert_eq!(read(user, &terminal, 99), ok("typed ahead"));
        assert_eq!(read(user, &terminal, 99), Err(Errno::EAGAIN));
        terminal.receive(b"\x1b[A\x03");
        assert!(terminal.ready(Rights::READ).contains(Ready::IN));
        assert_eq!(read(user, &terminal, 2), ok("\x1b["));
        assert_eq!(read(user, &terminal, 9), ok("A\x03"));
        let call = Call { waker: &user.waker, nonblocking: false };
        assert_eq!(terminal.write(&call, 0, &mut &b"a\nb\n"[..]), Ok(4));
        assert_eq!(screen.shown(), "a\r\nb\r\n");
        change(&terminal, |settings| settings.output = rumpvm_files::tty::Output::empty());
        terminal.write(&call, 0, &mut &b"a\nb\n"[..]).unwrap();
        assert_eq!(screen.shown(), "a\nb\n");
    });
}

#[test]
fn more_than_fits_is_dropped_but_the_line_can_be_ended() {
    World::new().run(|user| {
        let (terminal, _) = terminal();
        terminal.receive(&[b'x'; 10_000]);
        terminal.receive(b"\n");
        let line = read(user, &terminal, 10_000).unwrap();
        assert_eq!((line.len(), line.ends_with('\n')), (4096, true));
    });
}

#[test]
fn a_reader_wakes_for_the_line_that_is_typed_later() {
    World::new().run(|user| {
        let (terminal, _) = terminal();
        let (theirs, seen) = (terminal.clone(), Arc::new(Mutex::new(Vec::<u8>::new())));
        let told = Arc::clone(&seen);
        user.spawn(move |user| {
            let call = Call { waker: &user.waker, nonblocking: false };
            let mut bytes = [0; 9];
            let count = theirs.read(&call, 0, &mut &mut bytes[..]).unwrap();
            told.lock().unwrap().extend(&bytes[..count]);
        });
        for byte in b"later\n" {
            user.home.yield_now();
            terminal.receive(&[*byte]);
        }
        while seen.lock().unwrap().is_empty() {
            user.home.yield_now();
        }
        assert_eq!(*seen.lock().unwrap(), b"later\n");
    });
}
