//! The frame of a signal handler: what it finds on its stack, and what rt_sigreturn(2) takes back from there.
//!
//! ```text
//! frame                     return address, ucontext (registers, mask, stack), siginfo   440 bytes
//! frame + 440 ... above     FPU state, at a multiple of 64, as xsave has it, and a magic number behind it
//! ```
//!
//! Linux, arch/x86/include/uapi/asm/sigcontext.h and ucontext.h.

use rumpvm_arch::VirtAddr;
use rumpvm_bare::{Frame, Program};
use rumpvm_files::Errno;

use super::actions::{Action, flags};
use super::{Info, Set};
use crate::linux::thread::{AltStack, Thread};

const BYTES: usize = 440;
/// Places in it.
const CONTEXT: usize = 8;
const STACK: usize = CONTEXT + 16;
const REGISTERS: usize = CONTEXT + 40;
const SEGMENTS: usize = REGISTERS + 18 * 8;
const ERROR: usize = SEGMENTS + 8;
const TRAP: usize = ERROR + 8;
const OLD_MASK: usize = TRAP + 8;
const FAULT_ADDRESS: usize = OLD_MASK + 8;
const FPU: usize = FAULT_ADDRESS + 8;
const MASK: usize = REGISTERS + 256;
const INFO: usize = MASK + 8;

/// `UC_FP_XSTATE`, `UC_SIGCONTEXT_SS`, `UC_STRICT_RESTORE_SS`.
const CONTEXT_FLAGS: u64 = 7;
/// What the ABI lets a function use below its stack pointer.
const RED_ZONE: u64 = 128;

/// Bytes of `fxsave`'s part, the place in it that is for software, and the magic numbers there and behind it all.
const PLAIN: usize = 512;
const SOFTWARE: usize = 464;
const MAGIC: u32 = 0x4650_5853;
const MAGIC_END: u32 = 0x4650_5845;

/// The general registers, in the order of `struct sigcontext`.
fn registers(frame: &mut Frame) -> [&mut u64; 18] {
    [
        &mut frame.r8,
        &mut frame.r9,
        &mut frame.r10,
        &mut frame.r11,
        &mut frame.r12,
        &mut frame.r13,
        &mut frame.r14,
        &mut frame.r15,
        &mut frame.rdi,
        &mut frame.rsi,
        &mut frame.rbp,
        &mut frame.rbx,
        &mut frame.rdx,
        &mut frame.rax,
        &mut frame.rcx,
        &mut frame.rsp,
        &mut frame.rip,
        &mut frame.rflags,
    ]
}

/// A place above `at`, which a program chose: it may be no address at all.
fn above(at: u64, offset: usize) -> VirtAddr {
    VirtAddr(at.wrapping_add(offset as u64))
}

fn put(bytes: &mut [u8], at: usize, word: u64) {
    bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
}

fn get(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// Puts a frame on the stack of the handler of `action` and makes the program begin there.
pub(crate) fn push(
    thread: &mut Thread,
    info: &Info,
    action: &Action,
    mask: Set,
) -> Result<(), Errno> {
    if action.flags & flags::RESTORER == 0 {
        return Err(Errno::EFAULT);
    }
    let at = thread.program.registers().rsp;
    let mut top = at.wrapping_sub(RED_ZONE);
    let alt = thread.alt_stack;
    if action.flags & flags::ONSTACK != 0 && alt.is_enabled() && !alt.contains(at) {
        top = alt.top();
    }
    let fpu_at = push_fpu(thread, top)?;
    let at = (fpu_at.wrapping_sub(BYTES as u64) & !15).wrapping_sub(8);
    let mut frame = [0; BYTES];
    put(&mut frame, 0, action.restorer);
    put(&mut frame, CONTEXT, CONTEXT_FLAGS);
    frame[STACK..STACK + AltStack::BYTES].copy_from_slice(&alt.to_bytes(at));
    let program = thread.program.registers();
    for (number, register) in registers(program).into_iter().enumerate() {
        put(&mut frame, REGISTERS + 8 * number, *register);
    }
    // Code, and in the last place the stack's, as 16 bits each.
    put(&mut frame, SEGMENTS, (program.cs & 0xffff) | (program.ss & 0xffff) << 48);
    put(&mut frame, ERROR, thread.last_fault.error);
    put(&mut frame, TRAP, thread.last_fault.trap);
    put(&mut frame, OLD_MASK, mask);
    put(&mut frame, FAULT_ADDRESS, thread.last_fault.address);
    put(&mut frame, FPU, fpu_at);
    put(&mut frame, MASK, mask);
    frame[INFO..INFO + Info::BYTES].copy_from_slice(&info.to_bytes());
    thread.memory().write(VirtAddr(at), &frame)?;
    /// Direction, single step and resumption are off in a handler.
    const OFF: u64 = 0x1_0500;
    let program = thread.program.registers();
    program.rflags &= !OFF;
    program.rip = action.handler;
    program.rsp = at;
    program.rdi = u64::from(info.signal.number());
    program.rsi = above(at, INFO).0;
    program.rdx = above(at, CONTEXT).0;
    program.rax = 0;
    Ok(())
}

/// Puts the FPU's state below `top`, and says where.
fn push_fpu(thread: &mut Thread, top: u64) -> Result<u64, Errno> {
    let parts = Program::fpu_parts();
    let memory = thread.memory();
    let fpu = thread.program.fpu();
    let has_more = parts != 0;
    let room = if has_more { fpu.len() + 4 } else { PLAIN };
    let at = top.wrapping_sub(room as u64) & !63;
    let mut software = [0; PLAIN - SOFTWARE];
    if has_more {
        software[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        software[4..8].copy_from_slice(&(room as u32).to_le_bytes());
        software[8..16].copy_from_slice(&parts.to_le_bytes());
        software[16..20].copy_from_slice(&(fpu.len() as u32).to_le_bytes());
        memory.write(above(at, fpu.len()), &MAGIC_END.to_le_bytes())?;
    }
    memory.write(VirtAddr(at), &fpu[..SOFTWARE])?;
    memory.write(above(at, SOFTWARE), &software)?;
    memory.write(above(at, PLAIN), &fpu[PLAIN..])?;
    Ok(at)
}

/// Takes the frame at the stack pointer back; returns the first register, which a call would overwrite.
pub(crate) fn pop(thread: &mut Thread) -> Result<u64, Errno> {
    // The return address has been taken off.
    let at = thread.program.registers().rsp.wrapping_sub(8);
    let mut frame = [0; BYTES];
    thread.memory().read(VirtAddr(at), &mut frame)?;
    pop_fpu(thread, get(&frame, FPU))?;
    let program = thread.program.registers();
    for (number, register) in registers(program).into_iter().enumerate() {
        *register = get(&frame, REGISTERS + 8 * number);
    }
    let first = program.rax;
    thread.set_mask(get(&frame, MASK));
    if let Ok(stack) = AltStack::from_bytes(&frame[STACK..STACK + AltStack::BYTES]) {
        thread.alt_stack = stack;
    }
    thread.restart = None;
    Ok(first)
}

fn pop_fpu(thread: &mut Thread, at: u64) -> Result<(), Errno> {
    if at == 0 {
        thread.program.set_fpu(&[]);
        return Ok(());
    }
    let memory = thread.memory();
    let mut bytes = [0; LONGEST];
    memory.read(VirtAddr(at), &mut bytes[..PLAIN])?;
    let has_more = get(&bytes, SOFTWARE) as u32 == MAGIC;
    let size = (get(&bytes, SOFTWARE + 16) as u32 as usize).min(LONGEST);
    let mut count = PLAIN;
    if has_more && size > PLAIN {
        memory.read(above(at, PLAIN), &mut bytes[PLAIN..size])?;
        count = size;
    }
    thread.program.set_fpu(&bytes[..count]);
    Ok(())
}

/// As much as AVX-512 makes it.
const LONGEST: usize = 2816;
