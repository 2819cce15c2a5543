//! 64 threads of Rust's standard library: mutexes, conditions, channels, storage of their own, and an allocator that
//! all of them press.
//!
//! Each thread makes blocks of many sizes, fills them with its mark, and sends every other one to its neighbour, who
//! compares and frees it; so blocks are freed by other threads than those that took them. At the end the sums agree.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Barrier, Condvar, Mutex, RwLock};
use std::thread;

const THREADS: u64 = 64;
const ROUNDS: u64 = 100;

/// What a neighbour gets: memory, and what must be in it.
struct Parcel {
    mark: u8,
    bytes: Vec<u8>,
}

/// What all threads use.
struct Shared {
    begin: Barrier,
    counts: Mutex<BTreeMap<u64, u64>>,
    latest: RwLock<u64>,
    received: AtomicU64,
    /// How many have ended, and a bell for it.
    ended: (Mutex<u64>, Condvar),
}

thread_local! {
    static SENT: Cell<u64> = const { Cell::new(0) };
}

fn main() {
    let shared = Shared {
        begin: Barrier::new(THREADS as usize),
        counts: Mutex::default(),
        latest: RwLock::new(0),
        received: AtomicU64::new(0),
        ended: (Mutex::new(0), Condvar::new()),
    };
    let (mut senders, receivers): (Vec<_>, Vec<_>) = (0..THREADS).map(|_| channel()).unzip();
    senders.rotate_left(1);
    thread::scope(|scope| {
        for (number, (sender, receiver)) in (0..).zip(senders.into_iter().zip(receivers)) {
            let shared = &shared;
            scope.spawn(move || work(shared, number, &sender, &receiver));
        }
        let (ended, bell) = &shared.ended;
        let all = bell.wait_while(ended.lock().expect("nobody panics"), |ended| *ended < THREADS);
        assert_eq!(*all.expect("nobody panics"), THREADS);
    });
    let counts = shared.counts.into_inner().expect("nobody panicked");
    let sent: u64 = counts.values().sum();
    assert_eq!(counts.len() as u64, THREADS, "each has told what it sent");
    assert_eq!(sent, THREADS * ROUNDS / 2);
    assert_eq!(shared.received.into_inner(), sent);
    assert_eq!(shared.latest.into_inner().expect("nobody panicked"), ROUNDS - 1);
    println!("crowd: {THREADS} threads, {sent} parcels");
}

fn work(shared: &Shared, number: u64, to: &Sender<Parcel>, from: &Receiver<Parcel>) {
    shared.begin.wait();
    let mut kept = Vec::new();
    for round in 0..ROUNDS {
        let (mark, bytes) = (mark(number, round), size(number, round));
        let parcel = Parcel { mark, bytes: vec![mark; bytes] };
        if round.is_multiple_of(2) {
            to.send(parcel).expect("the neighbour listens");
            SENT.set(SENT.get() + 1);
            receive(shared, from);
        } else {
            kept.push(parcel);
        }
        if kept.len() > 8 {
            kept.drain(..).for_each(|parcel| parcel.check());
        }
        let mut latest = shared.latest.write().expect("nobody panics");
        *latest = round.max(*latest);
    }
    kept.into_iter().for_each(|parcel| parcel.check());
    shared.counts.lock().expect("nobody panics").insert(number, SENT.get());
    let (ended, bell) = &shared.ended;
    *ended.lock().expect("nobody panics") += 1;
    bell.notify_one();
}

fn receive(shared: &Shared, from: &Receiver<Parcel>) {
    from.recv().expect("the neighbour sends as many").check();
    shared.received.fetch_add(1, Ordering::Relaxed);
}

impl Parcel {
    fn check(self) {
        let Self { mark, bytes } = self;
        assert!(bytes.iter().all(|byte| *byte == mark), "somebody else's bytes");
    }
}

fn mark(number: u64, round: u64) -> u8 {
    (number * 31 + round * 7) as u8
}

/// From a word to what the allocator maps by itself (glibc: 128 KiB and more).
fn size(number: u64, round: u64) -> usize {
    let mixed = (number * ROUNDS + round).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    let most = if round.is_multiple_of(50) { 200_000 } else { 4_000 };
    (mixed % most) as usize + 8
}
