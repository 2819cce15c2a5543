//! futex(2).

use rumpvm_arch::VirtAddr;
use rumpvm_files::Errno;

use super::{Answer, Args, time};
use crate::linux::futex::{ANY, Key, Scope};
use crate::linux::system::system;
use crate::linux::thread::Thread;

/// Operations.
mod operation {
    pub(super) const WAIT: u32 = 0;
    pub(super) const WAKE: u32 = 1;
    pub(super) const REQUEUE: u32 = 3;
    pub(super) const CMP_REQUEUE: u32 = 4;
    pub(super) const WAKE_OP: u32 = 5;
    pub(super) const WAIT_BITSET: u32 = 9;
    pub(super) const WAKE_BITSET: u32 = 10;
    pub(super) const PRIVATE: u32 = 128;
    pub(super) const REALTIME: u32 = 256;
}

pub(super) fn futex(thread: &mut Thread, args: Args) -> Answer {
    let (at, word, value) = (args.at(0), args.half(1), args.half(2));
    let private = word & operation::PRIVATE != 0;
    let scope = if private { Scope::Private } else { Scope::Shared };
    let real = word & operation::REALTIME != 0;
    let futexes = &system().futexes;
    let key = |at: VirtAddr| Key::of(thread.user(), at, scope);
    match word & !(operation::PRIVATE | operation::REALTIME) {
        operation::WAIT if real => Err(Errno::ENOSYS),
        operation::WAIT => {
            let until = time::deadline_at(thread, args.at(3))?;
            futexes.wait(thread, (at, scope), value, ANY, until).map(|()| 0)
        }
        operation::WAIT_BITSET => {
            let until = match args.word(3) {
                0 => None,
                _ => Some(time::moment_at(thread, args.at(3), real)?),
            };
            let bits = bits(args.half(5))?;
            futexes.wait(thread, (at, scope), value, bits, until).map(|()| 0)
        }
        operation::WAKE => Ok(u64::from(futexes.wake(key(at)?, at_most(value), ANY))),
        operation::WAKE_BITSET => {
            let bits = bits(args.half(5))?;
            Ok(u64::from(futexes.wake(key(at)?, at_most(value), bits)))
        }
        operation @ (operation::REQUEUE | operation::CMP_REQUEUE) => {
            let (from, to) = (key(at)?, key(args.at(4))?);
            if value.cast_signed() < 0 || args.int(3) < 0 {
                return Err(Errno::EINVAL);
            }
            let compares = operation == operation::CMP_REQUEUE;
            if compares && thread.user().half(at)? != args.half(5) {
                return Err(Errno::EAGAIN);
            }
            let (woken, moved) = futexes.requeue(from, to, value, args.half(3));
            Ok(u64::from(if compares { woken + moved } else { woken }))
        }
        operation::WAKE_OP => wake_op(thread, args, scope),
        _ => Err(Errno::ENOSYS),
    }
}

/// At least one, as Linux has it.
fn at_most(count: u32) -> u32 {
    if count.cast_signed() < 1 { 1 } else { count }
}

fn bits(bits: u32) -> Result<u32, Errno> {
    if bits == 0 { Err(Errno::EINVAL) } else { Ok(bits) }
}

/// Changes a second word in one step, wakes who waits for the first, and perhaps who waits for the second.
fn wake_op(thread: &Thread, args: Args, scope: Scope) -> Answer {
    let (first, second) = (args.at(0), args.at(4));
    let (first_key, second_key) =
        (Key::of(thread.user(), first, scope)?, Key::of(thread.user(), second, scope)?);
    let code = args.half(5);
    let signed = |shift: u32| ((code >> shift) << 20).cast_signed() >> 20;
    let (mut operand, compared) = (signed(12).cast_unsigned(), signed(0));
    const SHIFT: u32 = 8;
    if code >> 28 & SHIFT != 0 {
        operand = 1_u32.wrapping_shl(operand);
    }
    let change: fn(u32, u32) -> u32 = match code >> 28 & 7 {
        0 => |_, operand| operand,
        1 => u32::wrapping_add,
        2 => |old, operand| old | operand,
        3 => |old, operand| old & !operand,
        4 => |old, operand| old ^ operand,
        _ => return Err(Errno::ENOSYS),
    };
    let old = thread.user().change_half(second, |old| Some(change(old, operand)))?;
    let old = old.cast_signed();
    let also = match code >> 24 & 15 {
        0 => old == compared,
        1 => old != compared,
        2 => old < compared,
        3 => old <= compared,
        4 => old > compared,
        5 => old >= compared,
        _ => return Err(Errno::ENOSYS),
    };
    let futexes = &system().futexes;
    let mut woken = futexes.wake(first_key, at_most(args.half(2)), ANY);
    if also {
        woken += futexes.wake(second_key, at_most(args.half(3)), ANY);
    }
    Ok(u64::from(woken))
}
