//! The hypercalls: what a host gives to `rumpvm_init`, and what holds where it gives nothing.
//!
//! Owns:  the host's table, copied, for good.
//!
//! | group | members | left out |
//! |---|---|---|
//! | all hosts | `panic`, `direct_map` | `panic` is needed; 0 is a direct map like any other |
//! | ring 0 | `kernel_root` | needed, unless the host sets the root itself (`tlb_activate`) |
//! | talk | `console`, `clock` | nothing is said; no wait ever times out |
//! | CPU | `intr_save`, `intr_restore`, `tlb_activate`, `tlb_invalidate` | the instructions of ring 0 |
//! | several CPUs | `cpu_count`, `cpu_id`, `tlb_ipi` | one CPU |
//! | waits | `relax` | `pause` |
//! | threads | `thread`, `sleep`, `wakeup`, `hold_cpu`, `release_cpu` | each CPU is one thread, and waits by spinning |

use core::ffi::{CStr, c_char};
use core::mem::offset_of;
use core::ptr;

use rumpvm_arch::PAGE_SIZE;
use rumpvm_platform::MAX_CPUS;
use spin::Once;

use crate::thread::Thread;
use crate::{cpu, format};

/// Version of this interface. A library serves hosts that were compiled against the same one.
pub const RUMPVM_VERSION: u32 = 1;

/// Words of 64 bits in a set of CPUs: CPU n is bit n % 64 of word n / 64.
pub const RUMPVM_CPU_WORDS: usize = 4;

/// In place of a moment: never.
pub const RUMPVM_NEVER: u64 = u64::MAX;

/// What a host does for rumpvm. Everything but `size` and `panic` may be left out, that is, be zero; what holds then is
/// said with each. All are called on the CPU and stack of whoever called rumpvm, none with a lock of rumpvm held but
/// where it says "under spin locks". None may call rumpvm unless it says so.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Hypercalls {
    /// Bytes in this table: sizeof(struct rumpvm_hypercalls).
    pub size: u64,
    /// Where the host sees physical address 0: physical address p is mapped at p + direct_map, readable and writable,
    /// for all p that are ever given by rumpvm_add_memory. A multiple of 4096; 0 for an identity mapping. On i386 the sum
    /// has 32 bits.
    pub direct_map: u64,
    /// Physical address of a root table whose last entries map the host in every space: 256 of them on x86-64 and on
    /// i386, one with PAE. Left out: the host must give tlb_activate.
    pub kernel_root: u64,
    /// Number of CPUs that may ever call rumpvm, at most 256. Left out: 1.
    pub cpu_count: u32,
    /// Zero.
    pub reserved: u32,
    /// An invariant of rumpvm broke: tells `story`, one line of ASCII that ends with a zero, and does not return.
    /// Under spin locks. Must be given.
    pub panic: Option<unsafe extern "C" fn(story: *const c_char)>,
    /// Prints `length` bytes: warnings, a line in each call. Left out: they are dropped.
    pub console: Option<unsafe extern "C" fn(bytes: *const c_char, length: usize)>,
    /// Nanoseconds since some moment; never goes back. Under spin locks. Left out: time stands still.
    pub clock: Option<unsafe extern "C" fn() -> u64>,
    /// Masks interrupts on this CPU and returns the state to go back to. Works from the first call of rumpvm on, on
    /// every CPU. Under spin locks. Left out, with intr_restore: pushf and cli.
    pub intr_save: Option<unsafe extern "C" fn() -> usize>,
    /// Goes back to the state that intr_save returned. Under spin locks. Given with intr_save.
    pub intr_restore: Option<unsafe extern "C" fn(state: usize)>,
    /// Makes this CPU translate user addresses through the root table at physical address `root`, of which rumpvm has all
    /// entries but the last ones (kernel_root); through none if `root` is 0. Drops the translations of the space that it
    /// leaves. With PAE also called for the same root, when an entry of it has changed: CPUs keep these in registers.
    /// Under spin locks. Left out, with tlb_invalidate: copies those last entries of kernel_root to `root`, and loads CR3
    /// with it.
    pub tlb_activate: Option<unsafe extern "C" fn(root: u64)>,
    /// Drops this CPU's translations of user addresses from `start` to `end`, multiples of 4096, those of the tables
    /// above the pages included. Under spin locks. Given with tlb_activate. Left out: invlpg, or a load of CR3.
    pub tlb_invalidate: Option<unsafe extern "C" fn(start: u64, end: u64)>,
    /// Number of this CPU, below cpu_count; the same as long as the caller stays there. Works from the first call of
    /// rumpvm on, on every CPU. Under spin locks. Left out: 0; needed for more than one CPU.
    pub cpu_id: Option<unsafe extern "C" fn() -> u32>,
    /// Has every CPU of the set `cpus` (RUMPVM_CPU_WORDS words) call rumpvm_tlb_interrupt soon; never names the
    /// caller's. Under spin locks. Left out: nobody is asked; needed for more than one CPU.
    pub tlb_ipi: Option<unsafe extern "C" fn(cpus: *const u64)>,
    /// The caller waits for another CPU to change a word, and will look again when this returns, soon. Under spin locks.
    /// Left out: the instruction `pause`, which is right where every CPU is real; a process yields here.
    pub relax: Option<unsafe extern "C" fn()>,
    /// What the host keeps of the calling thread for rumpvm: see rumpvm_thread_init. Never null, and works from the first
    /// rumpvm_add_memory on, on every CPU, in interrupts too (the thread that was interrupted). Under spin locks. Left out:
    /// each CPU is one thread, which is true only of a host that never switches threads inside a call of rumpvm, and no
    /// timer's interrupt does either. Needed with sleep, and with hold_cpu.
    pub thread: Option<unsafe extern "C" fn() -> *mut Thread>,
    /// Blocks the calling thread while *word == expected, as a futex does: the comparison and the decision to sleep
    /// are one step for wakeup. May return early, and does at the time `until` of the clock, unless that is
    /// RUMPVM_NEVER. Left out, with wakeup: the caller spins.
    pub sleep: Option<unsafe extern "C" fn(word: *const u32, expected: u32, until: u64)>,
    /// Wakes every thread that sleeps on `word`. Given with sleep.
    pub wakeup: Option<unsafe extern "C" fn(word: *const u32)>,
    /// Until release_cpu, this thread stays on this CPU and no other may run there; they nest. Works from the first
    /// rumpvm_add_memory on. Left out, with release_cpu: nothing is done, which is right for a host that switches threads
    /// only where they ask for it. A host whose timer switches them inside a call of rumpvm must give both, and thread.
    pub hold_cpu: Option<unsafe extern "C" fn()>,
    /// Undoes one hold_cpu. Under spin locks. Given with hold_cpu.
    pub release_cpu: Option<unsafe extern "C" fn()>,
}

// What a C compiler makes of the header, on either width; `tests/link/kernel.h` asserts the same in C.
const _: () = assert!(size_of::<Hypercalls>() == 32 + 15 * size_of::<usize>());
const _: () = assert!(offset_of!(Hypercalls, panic) == 32);

/// The table, and its call for panics, which is there for sure.
#[derive(Clone, Copy)]
pub(crate) struct Host {
    pub(crate) calls: Hypercalls,
    pub(crate) panic: unsafe extern "C" fn(*const c_char),
}

static HOST: Once<Host> = Once::new();

/// The host, once it has called `rumpvm_init`.
#[inline]
pub(crate) fn host() -> Option<&'static Host> {
    HOST.get()
}

/// The hypercalls. Whatever calls one was called by the host behind `rumpvm_init`.
#[inline]
pub(crate) fn calls() -> &'static Hypercalls {
    &HOST.get().expect("rumpvm_init comes first").calls
}

/// Where a host with that direct map sees physical address `at`: modulo the width of a pointer.
#[inline]
pub(crate) const fn seen(direct_map: u64, at: u64) -> usize {
    (direct_map as usize).wrapping_add(at as usize)
}

/// Takes a table over; why not, if so.
///
/// # Safety
/// `table` is null or points to a table of the size that it begins with; what it names may be called for good.
pub(crate) unsafe fn accept(version: u32, table: *const Hypercalls) -> Result<(), &'static CStr> {
    if version != RUMPVM_VERSION {
        return Err(c"the host was compiled against another version of rumpvm.h");
    }
    if table.is_null() {
        return Err(c"there is no table");
    }
    // SAFETY: by the caller's promise.
    let host = unsafe { read(table) }.and_then(|calls| check(calls, cpu::is_ring_0()))?;
    let mut is_first = false;
    HOST.call_once(|| {
        is_first = true;
        host
    });
    if is_first { Ok(()) } else { Err(c"rumpvm_init was called before") }
}

/// The table, with zeros for what lies beyond its size.
///
/// # Safety
/// `table` points to as many bytes as it says.
unsafe fn read(table: *const Hypercalls) -> Result<Hypercalls, &'static CStr> {
    const LEAST: usize = offset_of!(Hypercalls, panic) + size_of::<usize>();
    // SAFETY: the size comes first.
    let size = unsafe { table.cast::<u64>().read() };
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if size < LEAST {
        return Err(c"the table ends before panic");
    }
    if size > size_of::<Hypercalls>() {
        return Err(c"the table is larger than this version's");
    }
    // SAFETY: zero is a number, and no function for an optional one.
    let mut whole: Hypercalls = unsafe { core::mem::zeroed() };
    // SAFETY: both have at least `size` bytes, and do not overlap.
    unsafe {
        ptr::copy_nonoverlapping(table.cast::<u8>(), ptr::from_mut(&mut whole).cast::<u8>(), size);
    }
    Ok(whole)
}

/// Whether the table is complete, on a CPU in ring 0 or not.
fn check(calls: Hypercalls, is_ring_0: bool) -> Result<Host, &'static CStr> {
    let panic = calls.panic.ok_or(c"panic is left out")?;
    if calls.reserved != 0 {
        return Err(c"reserved is not zero");
    }
    let aligned = |at: u64| at.is_multiple_of(PAGE_SIZE);
    if !aligned(calls.direct_map) || !aligned(calls.kernel_root) {
        return Err(c"direct_map and kernel_root must be multiples of 4096");
    }
    for (one, other, story) in [
        (
            calls.intr_save.is_some(),
            calls.intr_restore.is_some(),
            c"one of intr_save and intr_restore is left out",
        ),
        (
            calls.tlb_activate.is_some(),
            calls.tlb_invalidate.is_some(),
            c"one of tlb_activate and tlb_invalidate is left out",
        ),
        (calls.sleep.is_some(), calls.wakeup.is_some(), c"one of sleep and wakeup is left out"),
        (
            calls.hold_cpu.is_some(),
            calls.release_cpu.is_some(),
            c"one of hold_cpu and release_cpu is left out",
        ),
    ] {
        if one != other {
            return Err(story);
        }
    }
    if calls.sleep.is_some() && calls.thread.is_none() {
        return Err(c"a host with sleep must tell its threads apart: thread is left out");
    }
    if calls.hold_cpu.is_some() && calls.thread.is_none() {
        return Err(
            c"a host that switches threads inside a call must tell them apart: thread is left out",
        );
    }
    if calls.cpu_count as usize > MAX_CPUS {
        return Err(c"cpu_count is more than 256");
    }
    if calls.cpu_count > 1 && (calls.cpu_id.is_none() || calls.tlb_ipi.is_none()) {
        return Err(c"with more than one CPU cpu_id and tlb_ipi are needed");
    }
    if !is_ring_0 && calls.intr_save.is_none() {
        return Err(c"this is not ring 0: intr_save and intr_restore are needed");
    }
    if calls.tlb_activate.is_none() {
        if !is_ring_0 {
            return Err(c"this is not ring 0: tlb_activate and tlb_invalidate are needed");
        }
        if calls.kernel_root == 0 {
            return Err(c"without tlb_activate a kernel_root is needed");
        }
        if usize::try_from(calls.kernel_root).is_err() {
            return Err(c"kernel_root is above 4 GiB, where CR3 does not reach");
        }
        format::is_walked()?;
    }
    Ok(Host { calls, panic })
}

/// Makes a table the host's in which each thread is a CPU, for tests of what stands on it.
#[cfg(test)]
pub(crate) fn pretend() {
    HOST.call_once(|| check(tests::with_cpus(), false).unwrap_or_else(|story| panic!("{story:?}")));
}

#[cfg(test)]
mod tests {
    extern crate std;

    use core::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    unsafe extern "C" fn panic(_: *const c_char) {}
    unsafe extern "C" fn save() -> usize {
        0
    }
    unsafe extern "C" fn restore(_: usize) {}
    unsafe extern "C" fn activate(_: u64) {}
    unsafe extern "C" fn invalidate(_: u64, _: u64) {}
    /// A number for each thread that asks; there are fewer than CPUs in all tests together.
    unsafe extern "C" fn id() -> u32 {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        std::thread_local! {
            static ID: u32 = NEXT.fetch_add(1, Ordering::Relaxed);
        }
        ID.with(|id| *id)
    }
    unsafe extern "C" fn ipi(_: *const u64) {}
    unsafe extern "C" fn hold() {}
    unsafe extern "C" fn sleep(_: *const u32, _: u32, _: u64) {}
    unsafe extern "C" fn wake(_: *const u32) {}

    /// The least that a program can give.
    fn least() -> Hypercalls {
        // SAFETY: as in `read`.
        let nothing: Hypercalls = unsafe { core::mem::zeroed() };
        Hypercalls {
            size: size_of::<Hypercalls>() as u64,
            panic: Some(panic),
            intr_save: Some(save),
            intr_restore: Some(restore),
            tlb_activate: Some(activate),
            tlb_invalidate: Some(invalidate),
            ..nothing
        }
    }

    /// The same for as many CPUs as there can be.
    pub(super) fn with_cpus() -> Hypercalls {
        let cpu_count = MAX_CPUS as u32;
        Hypercalls { cpu_count, cpu_id: Some(id), tlb_ipi: Some(ipi), ..least() }
    }

    fn refusal(calls: Hypercalls) -> Option<&'static str> {
        check(calls, false).err().map(|story| story.to_str().unwrap())
    }

    #[test]
    fn the_least_table_of_a_program_is_accepted_and_each_gap_is_named() {
        assert_eq!(refusal(least()), None);
        let gaps = [
            (Hypercalls { panic: None, ..least() }, "panic"),
            (Hypercalls { reserved: 1, ..least() }, "reserved"),
            (Hypercalls { direct_map: 8, ..least() }, "multiples"),
            (Hypercalls { intr_restore: None, ..least() }, "intr_restore"),
            (Hypercalls { intr_save: None, intr_restore: None, ..least() }, "not ring 0"),
            (Hypercalls { tlb_activate: None, tlb_invalidate: None, ..least() }, "not ring 0"),
            (Hypercalls { cpu_count: 2, ..least() }, "more than one CPU"),
            (Hypercalls { cpu_count: 2, cpu_id: Some(id), ..least() }, "more than one CPU"),
            (Hypercalls { cpu_count: 257, ..least() }, "256"),
            (Hypercalls { hold_cpu: Some(hold), ..least() }, "release_cpu"),
            (
                Hypercalls { hold_cpu: Some(hold), release_cpu: Some(hold), ..least() },
                "inside a call must tell them apart",
            ),
            (
                Hypercalls { sleep: Some(sleep), wakeup: Some(wake), ..least() },
                "sleep must tell its threads apart",
            ),
        ];
        for (calls, word) in gaps {
            let story = refusal(calls).expect(word);
            assert!(story.contains(word), "{story}");
        }
    }

    #[test]
    fn in_ring_0_a_root_is_needed_only_if_rumpvm_is_to_load_it() {
        let calls = Hypercalls { tlb_activate: None, tlb_invalidate: None, ..least() };
        let story = check(calls, true).err().expect("no root");
        assert!(story.to_str().unwrap().contains("kernel_root"));
        let calls = Hypercalls { intr_save: None, intr_restore: None, ..least() };
        assert!(check(calls, true).is_ok());
    }

    #[test]
    fn a_table_may_be_short_but_not_too_short_nor_long() {
        let with_size = |size| {
            let calls = Hypercalls { size, console: None, ..least() };
            // SAFETY: no more is read than there is: larger sizes are refused.
            unsafe { read(&raw const calls) }
        };
        let up_to_panic = offset_of!(Hypercalls, console) as u64;
        let short = with_size(up_to_panic).unwrap();
        assert!(short.panic.is_some() && short.intr_save.is_none());
        assert!(with_size(up_to_panic - 1).is_err());
        assert!(with_size(size_of::<Hypercalls>() as u64 + 8).is_err());
    }
}
