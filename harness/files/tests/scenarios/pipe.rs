//! Pipes: order, whole pieces, ends, names.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rumpvm_files::pipe::{PIPE_BUF, Pipe};
use rumpvm_files::{Errno, OpenFlags, Ready};

use crate::world::{File, Home, User, World};

fn pipe(user: &User, flags: OpenFlags) -> [File; 2] {
    user.tree.pipe(flags, &user.who).expect("a pipe")
}

/// Everything up to the end.
fn drain(user: &User, from: &File) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let piece = user.read(from, 7_000).expect("bytes");
        if piece.is_empty() {
            return all;
        }
        all.extend(piece);
    }
}

#[test]
fn bytes_come_out_in_order_and_the_end_is_seen() {
    World::new().run(|user| {
        let [from, to] = pipe(user, OpenFlags::empty());
        let sent: Vec<u8> = (0..300_000_u32).map(|n| (n % 253) as u8).collect();
        let expected = sent.clone();
        user.spawn(move |user| {
            assert_eq!(user.write(&to, &sent), Ok(sent.len()));
        });
        assert!(drain(user, &from) == expected);
        assert_eq!(from.ready(), Ready::HANG_UP);
    });
}

#[test]
fn small_writes_of_many_threads_are_whole() {
    const THREADS: u8 = 4;
    const PIECES: usize = 60;
    World::new().run(|user| {
        let [from, to] = pipe(user, OpenFlags::empty());
        for thread in 0..THREADS {
            let to = to.clone();
            user.spawn(move |user| {
                for _ in 0..PIECES {
                    assert_eq!(user.write(&to, &[thread; PIPE_BUF]), Ok(PIPE_BUF));
                }
            });
        }
        drop(to);
        let all = drain(user, &from);
        assert_eq!(all.len(), usize::from(THREADS) * PIECES * PIPE_BUF);
        assert!(all.chunks(PIPE_BUF).all(|piece| piece.iter().all(|byte| *byte == piece[0])));
    });
}

#[test]
fn whoever_does_not_wait_is_told_to_try_again() {
    World::new().run(|user| {
        let [from, to] = pipe(user, OpenFlags::NONBLOCK);
        assert_eq!(user.read(&from, 1), Err(Errno::EAGAIN));
        assert_eq!(user.read(&from, 0), Ok(vec![]));
        assert_eq!(user.write(&to, &[1; 100_000]), Ok(65_536), "as much as there is room for");
        assert_eq!(user.write(&to, &[1; 100_000]), Err(Errno::EAGAIN));
        assert_eq!(to.ready(), Ready::empty());
        assert_eq!(user.read(&from, 100).unwrap().len(), 100);
        assert_eq!(user.write(&to, &[1; PIPE_BUF]), Err(Errno::EAGAIN), "not whole");
        assert_eq!(user.write(&to, &[1; PIPE_BUF + 1]), Ok(100));
        let mut count = [0; 4];
        from.control(0x541b, &mut &mut count[..]).unwrap();
        assert_eq!(u32::from_le_bytes(count), 65_536);
        let pipe: &Pipe<Home> = from.special().unwrap();
        assert_eq!(pipe.set_capacity(4096), Err(Errno::EBUSY));
        assert_eq!((pipe.set_capacity(100_000), pipe.capacity()), (Ok(131_072), 131_072));
        assert_eq!(user.write(&to, &[1; 100_000]), Ok(65_536));
        assert_eq!(from.seek(0, rumpvm_files::open::Whence::Start), Err(Errno::ESPIPE));
        assert_eq!(to.write_at(0, &mut &b"x"[..], &user.waker), Err(Errno::ESPIPE));
    });
}

#[test]
fn a_pipe_without_readers_is_broken_also_for_who_waits() {
    World::new().run(|user| {
        let [from, to] = pipe(user, OpenFlags::empty());
        let ended = Arc::new(AtomicU32::new(0));
        let theirs = Arc::clone(&ended);
        let other = to.clone();
        user.spawn(move |user| {
            assert_eq!(user.write(&other, &[1; 65_536]), Ok(65_536));
            theirs.store(1, Ordering::SeqCst);
            assert_eq!(user.write(&other, &[1]), Err(Errno::EPIPE));
            theirs.store(2, Ordering::SeqCst);
        });
        while ended.load(Ordering::SeqCst) == 0 {
            user.home.yield_now();
        }
        drop(from);
        while ended.load(Ordering::SeqCst) == 1 {
            user.home.yield_now();
        }
        assert!(to.ready().contains(Ready::ERROR));
    });
}

#[test]
fn a_signal_interrupts_a_read_and_a_write_says_what_it_did() {
    World::new().run(|user| {
        let [from, to] = pipe(user, OpenFlags::empty());
        user.waker.interrupt();
        assert_eq!(user.read(&from, 1), Err(Errno::EINTR));
        assert_eq!(user.write(&to, &[1; 70_000]), Ok(65_536));
        assert_eq!(user.write(&to, &[1; 70_000]), Err(Errno::EINTR));
        assert_eq!(user.read(&from, 9).unwrap().len(), 9, "what is there is read");
    });
}

#[test]
fn a_named_pipe_is_opened_by_both_sides_together() {
    World::new().run(|user| {
        user.walk().mknod(b"/fifo", 0o010_644, 0).unwrap();
        let nonblocking = OpenFlags::WRITE_ONLY | OpenFlags::NONBLOCK;
        assert_eq!(user.open("/fifo", nonblocking).err(), Some(Errno::ENXIO));
        user.spawn(|user| {
            let to = user.open("/fifo", OpenFlags::WRITE_ONLY).unwrap();
            user.write(&to, b"through the name").unwrap();
        });
        let from = user.open("/fifo", OpenFlags::empty()).unwrap();
        assert_eq!(drain(user, &from), b"through the name");
        drop(from);
        let from = user.open("/fifo", OpenFlags::NONBLOCK).unwrap();
        let to = user.open("/fifo", nonblocking).unwrap();
        user.write(&to, b"lost").unwrap();
        drop((from, to));
        user.waker.interrupt();
        assert_eq!(user.open("/fifo", OpenFlags::empty()).err(), Some(Errno::EINTR));
        let both = user.open("/fifo", OpenFlags::READ_WRITE | OpenFlags::NONBLOCK).unwrap();
        assert_eq!(user.read(&both, 9), Err(Errno::EAGAIN), "what nobody could see is gone");
    });
}

#[test]
fn who_opens_a_side_of_a_pipe_once_more_waits_for_nobody() {
    World::new().run(|user| {
        let [from, to] = pipe(user, OpenFlags::empty());
        user.write(&to, b"left behind").unwrap();
        drop(to);
        let again = user
            .walk()
            .open_entry(from.entry(), OpenFlags::empty(), &user.waker)
            .expect("its side");
        drop(from);
        assert_eq!(drain(user, &again), b"left behind");
        let nonblocking = OpenFlags::WRITE_ONLY | OpenFlags::NONBLOCK;
        assert!(user.walk().open_entry(again.entry(), nonblocking, &user.waker).is_ok());
    });
}

#[test]
fn a_pipe_takes_memory_only_for_what_is_in_it() {
    World::new().run(|user| {
        let pipes: Vec<_> = (0..500).map(|_| pipe(user, OpenFlags::empty())).collect();
        assert_eq!(
            user.path(pipes[0][0].entry()),
            format!("pipe:[{}]", pipes[0][0].node().number())
        );
        assert_eq!(pipes[0][1].stat().mode, 0o010_600);
    });
}
