//! poll and event counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rumpvm_files::event::Takes;
use rumpvm_files::poll::{Polled, poll};
use rumpvm_files::{Errno, OpenFlags, Ready};
use rumpvm_platform::Seam;

use crate::world::{Home, World};

#[test]
fn poll_sees_the_one_file_that_becomes_ready() {
    World::new().run(|user| {
        let pipes: Vec<_> =
            (0..5).map(|_| user.tree.pipe(OpenFlags::empty(), &user.who).unwrap()).collect();
        let writer = pipes[3][1].clone();
        let ask = |wanted| -> Vec<_> {
            pipes.iter().map(|[from, _]| Polled::new(Some(from.clone()), wanted)).collect()
        };
        let now = Some(Home::clock());
        assert_eq!(poll(&ask(Ready::IN), &user.waker, now), Ok(0), "the time is over at once");
        user.spawn(move |user| {
            user.write(&writer, b"x").unwrap();
        });
        let asked = ask(Ready::IN);
        assert_eq!(poll(&asked, &user.waker, None), Ok(1));
        let found: Vec<_> = asked.iter().map(Polled::found).collect();
        assert_eq!(found[3], Ready::IN);
        assert_eq!(found.iter().filter(|found| found.is_empty()).count(), 4);
        user.waker.interrupt();
        assert_eq!(poll(&ask(Ready::OUT), &user.waker, None), Err(Errno::EINTR));
        let none = [Polled::new(None, Ready::IN)];
        assert_eq!((poll(&none, &user.waker, None), none[0].found()), (Ok(1), Ready::INVALID));
    });
}

#[test]
fn what_nobody_asked_for_is_found_if_the_other_side_is_gone() {
    World::new().run(|user| {
        let [from, to] = user.tree.pipe(OpenFlags::empty(), &user.who).unwrap();
        drop(to);
        let asked = [Polled::new(Some(from), Ready::empty())];
        assert_eq!((poll(&asked, &user.waker, None), asked[0].found()), (Ok(1), Ready::HANG_UP));
        let file = [Polled::new(Some(user.create("/file")), Ready::IN | Ready::OUT)];
        assert_eq!(poll(&file, &user.waker, None), Ok(1));
        assert_eq!(file[0].found(), Ready::IN | Ready::OUT);
    });
}

#[test]
fn a_counter_adds_up_and_gives_all_or_one() {
    World::new().run(|user| {
        let all = user.tree.counter(3, Takes::All, OpenFlags::NONBLOCK, &user.who).unwrap();
        user.write(&all, &4_u64.to_le_bytes()).unwrap();
        assert_eq!(user.read(&all, 8).unwrap(), 7_u64.to_le_bytes());
        assert_eq!(user.read(&all, 8), Err(Errno::EAGAIN));
        assert_eq!(user.read(&all, 7), Err(Errno::EINVAL));
        assert_eq!(user.write(&all, &[1; 7]), Err(Errno::EINVAL));
        assert_eq!(user.write(&all, &u64::MAX.to_le_bytes()), Err(Errno::EINVAL));
        user.write(&all, &(u64::MAX - 1).to_le_bytes()).unwrap();
        assert_eq!(user.write(&all, &1_u64.to_le_bytes()), Err(Errno::EAGAIN));
        assert_eq!(all.ready(), Ready::IN | Ready::READ_NORMAL);

        let one = user.tree.counter(2, Takes::One, OpenFlags::NONBLOCK, &user.who).unwrap();
        for _ in 0..2 {
            assert_eq!(user.read(&one, 8).unwrap(), 1_u64.to_le_bytes());
        }
        assert_eq!(user.read(&one, 8), Err(Errno::EAGAIN));
    });
}

#[test]
fn a_counter_wakes_who_waits_for_it() {
    World::new().run(|user| {
        let counter = user.tree.counter(0, Takes::All, OpenFlags::empty(), &user.who).unwrap();
        let (theirs, seen) = (counter.clone(), Arc::new(AtomicU32::new(0)));
        let told = Arc::clone(&seen);
        user.spawn(move |user| {
            for _ in 0..50 {
                let bytes = user.read(&theirs, 8).unwrap();
                let count = u64::from_le_bytes(bytes.try_into().unwrap());
                if told.fetch_add(count as u32, Ordering::SeqCst) + count as u32 == 50 {
                    return;
                }
            }
        });
        for _ in 0..50 {
            user.write(&counter, &1_u64.to_le_bytes()).unwrap();
            user.home.yield_now();
        }
        while seen.load(Ordering::SeqCst) < 50 {
            user.home.yield_now();
        }
    });
}
