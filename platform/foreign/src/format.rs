//! The page-table format that this library is for: one, so that a walk compiles to the shifts and masks of it.
//!
//! | compiled for | feature | format | the host's part of a root |
//! |---|---|---|---|
//! | x86-64 | | four levels | the upper half: 256 entries |
//! | i386 | | classic: two levels | the last 256 of 1,024 entries |
//! | i386 | `pae` | PAE: three levels | the last of four entries |

use core::ffi::CStr;

use rumpvm_arch::{Format, PAGE_SIZE, user_entries};
use x86::controlregs::{self, Cr0, Cr4};
use x86::msr;

use crate::cpu;

#[cfg(all(target_arch = "x86", not(feature = "pae")))]
pub(crate) use rumpvm_arch::I386 as Tables;
#[cfg(all(target_arch = "x86", feature = "pae"))]
pub(crate) use rumpvm_arch::Pae as Tables;
#[cfg(target_arch = "x86_64")]
pub(crate) use rumpvm_arch::X86_64Lower as Tables;

#[cfg(target_arch = "x86")]
use core::arch::x86::__cpuid;
#[cfg(target_arch = "x86_64")]
use core::arch::x86_64::__cpuid;

/// Bytes of a whole root: PAE's has four entries, all others fill a page.
pub(crate) const ROOT_BYTES: usize = if Tables::LEVELS == 3 { 32 } else { PAGE_SIZE as usize };
/// Where the host's part of a root begins.
pub(crate) const HOST_BYTES: usize =
    user_entries::<Tables>(Tables::LEVELS) * if Tables::WIDE { 8 } else { 4 };

/// Bit of EFER: the no-execute bit of entries is not reserved.
const NXE: u64 = 1 << 11;
/// First of CPUID's extended leaves, which says what the last one is; and the one with features.
const EXTENDED: (u32, u32) = (0x8000_0000, 0x8000_0001);
/// In its EDX: there is a no-execute bit, hence EFER.
const NX: u32 = 1 << 20;

/// Whether this CPU is set up for tables as the component makes them. In ring 0.
pub(crate) fn is_walked() -> Result<(), &'static CStr> {
    if !cpu::is_ring_0() {
        return Ok(());
    }
    // SAFETY: reading them changes nothing; every CPU since the Pentium has them.
    let (cr0, cr4) = unsafe { (controlregs::cr0(), controlregs::cr4()) };
    if !cr0.contains(Cr0::CR0_ENABLE_PAGING) {
        return Err(c"paging is off");
    }
    match (cr4.contains(Cr4::CR4_ENABLE_PAE), Tables::WIDE) {
        (true, false) => return Err(c"CR4.PAE is on: link the library for i386-pae"),
        (false, true) => return Err(c"CR4.PAE is off: link the library for i386"),
        _ => {}
    }
    if cr4.contains(Cr4::CR4_ENABLE_LA57) {
        return Err(c"this CPU walks five levels: give tlb_activate");
    }
    if Tables::HAS_NX && !has_no_execute() {
        return Err(c"EFER.NXE is off: no-execute bits would be reserved bits");
    }
    Ok(())
}

fn has_no_execute() -> bool {
    if __cpuid(EXTENDED.0).eax < EXTENDED.1 || __cpuid(EXTENDED.1).edx & NX == 0 {
        return false;
    }
    // SAFETY: it is there, and reading it changes nothing.
    unsafe { msr::rdmsr(msr::IA32_EFER) & NXE != 0 }
}
