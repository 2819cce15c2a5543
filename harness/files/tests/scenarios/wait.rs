//! Waiting: wake-ups, interrupts and deadlines.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rumpvm_files::{Errno, Queue, wait};
use rumpvm_platform::Seam;

use crate::world::{Home, World};

#[test]
fn no_wake_up_is_lost_between_two_threads_that_wait_for_each_other() {
    const ROUNDS: u32 = 2_000;
    World::new().run(|user| {
        let shared = Arc::new(([Queue::<Home>::new(), Queue::new()], AtomicU32::new(0)));
        for side in 0..2 {
            let shared = Arc::clone(&shared);
            user.spawn(move |user| {
                let (queues, turn) = &*shared;
                for round in 0..ROUNDS {
                    let mine = || (turn.load(Ordering::SeqCst) == 2 * round + side).then_some(());
                    wait(&user.waker, &[&queues[side as usize]], None, mine).unwrap();
                    turn.fetch_add(1, Ordering::SeqCst);
                    queues[1 - side as usize].wake();
                }
            });
        }
    });
}

#[test]
fn an_interrupt_ends_a_wait_and_the_next_one_until_it_is_cleared() {
    World::new().run(|user| {
        let queue = Arc::new(Queue::<Home>::new());
        let (own, seen) = (Arc::clone(&queue), Arc::new(AtomicU32::new(0)));
        let theirs = Arc::clone(&seen);
        let waker = user.spawn(move |user| {
            let never = || None::<()>;
            assert_eq!(wait(&user.waker, &[&own], None, never), Err(Errno::EINTR));
            assert_eq!(wait(&user.waker, &[&own], None, never), Err(Errno::EINTR));
            assert_eq!(wait(&user.waker, &[&own], None, || Some(7)), Ok(7), "an answer goes first");
            user.waker.clear();
            let soon = Some(Home::clock() + 1);
            assert_eq!(wait(&user.waker, &[&own], soon, never), Err(Errno::ETIMEDOUT));
            theirs.store(1, Ordering::SeqCst);
        });
        waker.interrupt();
        while seen.load(Ordering::SeqCst) == 0 {
            queue.wake();
            user.home.yield_now();
        }
    });
}

#[test]
fn one_of_several_queues_is_enough() {
    World::new().run(|user| {
        let shared = Arc::new(([Queue::<Home>::new(), Queue::new()], AtomicU32::new(0)));
        let theirs = Arc::clone(&shared);
        user.spawn(move |user| {
            let (queues, word) = &*theirs;
            let both = [&queues[0], &queues[1]];
            let look = || (word.load(Ordering::SeqCst) != 0).then_some(());
            assert_eq!(wait(&user.waker, &both, None, look), Ok(()));
            word.store(2, Ordering::SeqCst);
        });
        user.home.yield_now();
        shared.1.store(1, Ordering::SeqCst);
        shared.0[1].wake();
        while shared.1.load(Ordering::SeqCst) != 2 {
            user.home.yield_now();
        }
    });
}
