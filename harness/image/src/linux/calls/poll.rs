//! poll(2), select(2), and their forms with a mask of signals.

use alloc::vec::Vec;

use rumpvm::sync::{try_push, try_reserve};
use rumpvm_arch::VirtAddr;
use rumpvm_bare::{Bare, calendar};
use rumpvm_files::poll::{Polled, poll as poll_files};
use rumpvm_files::{Errno, Ready};

use super::{Answer, Args, files, signal, time};
use crate::linux::thread::Thread;

/// Bytes of a `pollfd`.
const ENTRY: u64 = 8;

fn poll_until(thread: &Thread, at: VirtAddr, count: u64, until: Option<u64>) -> Answer {
    let table = files::table(thread)?;
    if count > thread.task.process.limits.lock().files() {
        return Err(Errno::EINVAL);
    }
    let place = |number: u64| VirtAddr(at.0.saturating_add(ENTRY * number));
    let (mut asked, mut places) = (Vec::new(), Vec::new());
    try_reserve::<_, Bare>(&mut asked, count as usize)?;
    try_reserve::<_, Bare>(&mut places, count as usize)?;
    for number in 0..count {
        let entry = thread.user().word(place(number))?;
        let (descriptor, wanted) = (entry as u32, (entry >> 32) as u32 & 0xffff);
        thread.user().write(VirtAddr(place(number).0.saturating_add(6)), &[0; 2])?;
        // A negative one is left out.
        if descriptor.cast_signed() >= 0 {
            asked.push(Polled::new(table.get(descriptor).ok(), Ready::from_bits_retain(wanted)));
            places.push(place(number));
        }
    }
    let found = poll_files(&asked, &thread.task.waker, until)?;
    for (polled, place) in asked.iter().zip(places) {
        let found = polled.found().bits() as u16;
        thread.user().write(VirtAddr(place.0.saturating_add(6)), &found.to_le_bytes())?;
    }
    Ok(found as u64)
}

pub(super) fn poll(thread: &mut Thread, args: Args) -> Answer {
    let until = match args.int(2) {
        limit if limit < 0 => None,
        limit => Some(calendar::since_start() + u64::from(limit.unsigned_abs()) * 1_000_000),
    };
    poll_until(thread, args.at(0), args.word(1), until)
}

pub(super) fn ppoll(thread: &mut Thread, args: Args) -> Answer {
    let until = time::deadline_at(thread, args.at(2))?;
    signal::mask_meanwhile(thread, args.at(3), args.word(4))?;
    let outcome = poll_until(thread, args.at(0), args.word(1), until);
    signal::mask_again(thread, &outcome);
    if let Some(until) = until {
        time::put_left(thread, args.at(2), until, 1).ok();
    }
    outcome
}

/// What the three sets of select(2) ask for, and what of poll's answers they mean.
const SETS: [(Ready, Ready); 3] = [
    (Ready::IN, Ready::IN.union(Ready::READ_NORMAL).union(Ready::HANG_UP).union(Ready::ERROR)),
    (Ready::OUT, Ready::OUT.union(Ready::WRITE_NORMAL).union(Ready::ERROR)),
    (Ready::PRIORITY, Ready::PRIORITY),
];

fn select_until(thread: &Thread, count: u32, sets: [VirtAddr; 3], until: Option<u64>) -> Answer {
    /// Most descriptors of a set.
    const MOST: u32 = 1024;
    if count.cast_signed() < 0 {
        return Err(Errno::EINVAL);
    }
    let table = files::table(thread)?;
    let count = count.min(MOST);
    let bytes = count.div_ceil(64) as usize * 8;
    let mut wanted = [[0; MOST as usize / 8]; 3];
    for (set, at) in wanted.iter_mut().zip(sets).filter(|(_, at)| at.0 != 0) {
        thread.user().read(at, &mut set[..bytes])?;
    }
    let is_in = |set: &[u8], number: u32| set[number as usize / 8] >> (number % 8) & 1 != 0;
    let (mut asked, mut numbers) = (Vec::new(), Vec::new());
    for number in 0..count {
        let mut ready = Ready::empty();
        for (set, (asks, _)) in wanted.iter().zip(SETS) {
            ready.set(asks, is_in(set, number));
        }
        if !ready.is_empty() {
            try_push::<_, Bare>(&mut asked, Polled::new(Some(table.get(number)?), ready))?;
            try_push::<_, Bare>(&mut numbers, number)?;
        }
    }
    poll_files(&asked, &thread.task.waker, until)?;
    let mut total = 0;
    for ((set, at), (_, means)) in wanted.iter_mut().zip(sets).zip(SETS) {
        let mut found = [0; MOST as usize / 8];
        for (polled, number) in asked.iter().zip(&numbers) {
            if is_in(set, *number) && polled.found().intersects(means) {
                found[*number as usize / 8] |= 1 << (number % 8);
                total += 1;
            }
        }
        if at.0 != 0 {
            thread.user().write(at, &found[..bytes])?;
        }
    }
    Ok(total)
}

pub(super) fn select(thread: &mut Thread, args: Args) -> Answer {
    let until = time::deadline_at_micro(thread, args.at(4))?;
    let sets = [args.at(1), args.at(2), args.at(3)];
    let outcome = select_until(thread, args.half(0), sets, until);
    if let Some(until) = until {
        time::put_left(thread, args.at(4), until, 1000).ok();
    }
    outcome
}

pub(super) fn pselect6(thread: &mut Thread, args: Args) -> Answer {
    let until = time::deadline_at(thread, args.at(4))?;
    if args.word(5) != 0 {
        let [mask, bytes] = thread.user().words(args.at(5))?;
        signal::mask_meanwhile(thread, VirtAddr(mask), bytes)?;
    }
    let sets = [args.at(1), args.at(2), args.at(3)];
    let outcome = select_until(thread, args.half(0), sets, until);
    signal::mask_again(thread, &outcome);
    if let Some(until) = until {
        time::put_left(thread, args.at(4), until, 1).ok();
    }
    outcome
}
