//! Accesses that may end in a signal, and what the signal said.
//!
//! Flow:  [`load`], [`store`], [`fetch`] -> one instruction -> fault -> `on_fault` sends it on to the end.
//! Owns:  the handlers of SIGSEGV, SIGBUS and SIGTRAP in the processes that carry programs out, which have one
//!        thread each.
//!
//! B1. A fault anywhere else is a fault of this tool: the process ends by it, and that is told.

use std::arch::global_asm;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::differ::Outcome;

// Each of the first two faults at its first instruction or not at all. The third stops at `int3`; the handler
// sends it to the address in rdi, with the trap flag, so that it stops again after one instruction.
global_asm!(
    ".globl rumpvm_probe_load",
    "rumpvm_probe_load:",
    "mov rax, [rdi]",
    "xor edx, edx",
    "ret",
    ".globl rumpvm_probe_store",
    "rumpvm_probe_store:",
    "mov [rdi], rsi",
    "xor edx, edx",
    "ret",
    ".globl rumpvm_probe_fetch",
    "rumpvm_probe_fetch:",
    "mov rax, rsi",
    "int3",
    ".globl rumpvm_probe_armed",
    "rumpvm_probe_armed:",
    "xor edx, edx",
    "ret",
    ".globl rumpvm_probe_failed",
    "rumpvm_probe_failed:",
    "mov edx, 1",
    "ret",
);

/// What a probe returns, in two registers.
#[repr(C)]
struct Probed {
    value: u64,
    failed: u64,
}

unsafe extern "C" {
    fn rumpvm_probe_load(at: u64) -> Probed;
    fn rumpvm_probe_store(at: u64, value: u64) -> Probed;
    /// What is fetched may be `add [rax], al`, as zeros are: then `scratch` is changed.
    fn rumpvm_probe_fetch(at: u64, scratch: *mut u8) -> Probed;
    fn rumpvm_probe_armed();
    fn rumpvm_probe_failed();
}

/// The trap flag.
const SINGLE_STEP: i64 = 0x100;

// What the last signal said.
static NUMBER: AtomicU64 = AtomicU64::new(0);
static CODE: AtomicU64 = AtomicU64::new(0);
static AT: AtomicU64 = AtomicU64::new(0);
/// Where a fetch is under way; 0 for none.
static FETCHING: AtomicU64 = AtomicU64::new(0);

fn outcome(probed: &Probed) -> Outcome {
    if probed.failed == 0 {
        return Outcome::Done(probed.value);
    }
    let last = |word: &AtomicU64| word.load(Ordering::Relaxed);
    Outcome::Signal { number: last(&NUMBER) as i32, code: last(&CODE) as i32, at: last(&AT) }
}

/// Loads eight bytes.
pub(super) fn load(at: u64) -> Outcome {
    // SAFETY: an address that cannot be loaded from is an outcome; `at` is none of Rust's memory.
    outcome(&unsafe { rumpvm_probe_load(at) })
}

/// Stores eight bytes.
///
/// # Safety
/// Rust knows nothing of the memory at `at`.
pub(super) unsafe fn store(at: u64, value: u64) -> Outcome {
    // SAFETY: an address that cannot be stored to is an outcome; the rest is the caller's promise.
    match outcome(&unsafe { rumpvm_probe_store(at, value) }) {
        Outcome::Done(_) => Outcome::Done(0),
        other => other,
    }
}

/// Fetches one instruction.
///
/// # Safety
/// There are zeros at `at`, or an instruction that does nothing.
pub(super) unsafe fn fetch(at: u64) -> Outcome {
    let mut scratch = 0u8;
    FETCHING.store(at, Ordering::Relaxed);
    // SAFETY: the one instruction does nothing, or changes `scratch`.
    let probed = unsafe { rumpvm_probe_fetch(at, &raw mut scratch) };
    FETCHING.store(0, Ordering::Relaxed);
    match outcome(&probed) {
        Outcome::Done(_) => Outcome::Done(0),
        other => other,
    }
}

/// Whether a page can be loaded from, and the hash of its bytes; or the fault.
pub(super) fn page(at: u64) -> Result<u64, (i32, i32)> {
    match load(at) {
        Outcome::Signal { number, code, .. } => Err((number, code)),
        _ => {
            let first = at as *const u64;
            // SAFETY: the first word could be loaded, so the page can; nobody else runs meanwhile.
            let word = |place| unsafe { ptr::read_volatile(first.add(place)) };
            Ok(crate::differ::hash((0..512).map(word)))
        }
    }
}

/// Sends a fault of a probe to its end.
extern "C" fn on_fault(number: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel gives a handler with SA_SIGINFO both, for as long as it runs.
    let (info, context) = unsafe { (&*info, &mut *context.cast::<libc::ucontext_t>()) };
    let registers = &mut context.uc_mcontext.gregs;
    let place = registers[libc::REG_RIP as usize] as u64;
    let fetching = FETCHING.load(Ordering::Relaxed);
    let stepping = registers[libc::REG_EFL as usize] & SINGLE_STEP != 0;
    let label = |label: unsafe extern "C" fn()| label as usize as i64;
    let (load, store) =
        (rumpvm_probe_load as *const () as u64, rumpvm_probe_store as *const () as u64);
    if number == libc::SIGTRAP && fetching != 0 {
        let next = if stepping { label(rumpvm_probe_armed) } else { fetching as i64 };
        registers[libc::REG_EFL as usize] ^= SINGLE_STEP;
        registers[libc::REG_RIP as usize] = next;
    } else if place == load || place == store || (place == fetching && fetching != 0) {
        NUMBER.store(number as u64, Ordering::Relaxed);
        CODE.store(info.si_code as u64, Ordering::Relaxed);
        // SAFETY: both signals have an address.
        AT.store(unsafe { info.si_addr() } as u64, Ordering::Relaxed);
        registers[libc::REG_EFL as usize] &= !SINGLE_STEP;
        registers[libc::REG_RIP as usize] = label(rumpvm_probe_failed);
    } else {
        // B1: the same instruction again, with nobody to catch it.
        // SAFETY: a default action needs nothing.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
}

/// Installs the handlers.
///
/// # Safety
/// The process has no other use for the three signals.
pub(super) unsafe fn install() {
    // SAFETY: all zeros is a valid action; the handler has the form that SA_SIGINFO asks for, and calls nothing
    // that a handler may not call.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_fault as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
        for number in [libc::SIGSEGV, libc::SIGBUS, libc::SIGTRAP] {
            libc::sigaction(number, &raw const action, ptr::null_mut());
        }
    }
}
