//! FPU state of programs: fresh, saved, loaded, and made such that the CPU takes it.
//!
//! Locks: none; who calls has masked interrupts where the CPU's own is meant.
//! Owns:  nothing: the state belongs to its program, and is in the CPU while that runs.

use alloc::vec::Vec;

use crate::cpu::features::features;

/// FPU state has to begin at a multiple of 64.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line([u8; 64]);

/// FPU state as a program finds it: all exceptions masked, everything else zero.
pub(crate) fn fresh() -> Vec<Line> {
    let mut fpu = alloc::vec![Line([0; 64]); features().fpu_bytes.div_ceil(64)];
    fpu[0].0[0..2].copy_from_slice(&0x37f_u16.to_le_bytes());
    fpu[0].0[24..28].copy_from_slice(&0x1f80_u32.to_le_bytes());
    fpu
}

/// Makes state of which a program wrote the first `count` bytes one that the CPU takes. Intel SDM vol. 1, 13.8 and 10.5.1.2.
pub(crate) fn repair(fpu: &mut [u8], count: usize) {
    /// `fxsave`'s part, and the header behind it.
    const PLAIN: usize = 512;
    const HEADER: usize = 64;
    /// What MXCSR may hold on the oldest CPUs.
    const MXCSR: u32 = 0xffbf;
    /// x87 and SSE, which are in the first part.
    const OLD_PARTS: u64 = 3;
    let control = u32::from_le_bytes([fpu[24], fpu[25], fpu[26], fpu[27]]);
    fpu[24..28].copy_from_slice(&(control & MXCSR).to_le_bytes());
    if let Some(header) = fpu.get_mut(PLAIN..PLAIN + HEADER) {
        let (parts, rest) = header.split_at_mut(8);
        let mut there = [0; 8];
        there.copy_from_slice(parts);
        let there = match count {
            ..=PLAIN => OLD_PARTS,
            _ => u64::from_le_bytes(there) & features().fpu_parts,
        };
        parts.copy_from_slice(&there.to_le_bytes());
        rest.fill(0);
    }
}

/// As bytes.
pub(crate) fn bytes(fpu: &mut [Line]) -> &mut [u8] {
    // SAFETY: a line is 64 bytes, any of which may hold anything.
    unsafe { core::slice::from_raw_parts_mut(fpu.as_mut_ptr().cast(), size_of_val(fpu)) }
}

/// Puts what is in the CPU there.
pub(crate) fn save(fpu: &mut [Line]) {
    let place = fpu.as_mut_ptr();
    // SAFETY: the place is as large as `features` says, and aligned; both instructions are there.
    unsafe {
        if features().xsave {
            core::arch::asm!("xsave64 [{}]", in(reg) place, in("eax") u32::MAX, in("edx") u32::MAX, options(nostack));
        } else {
            core::arch::asm!("fxsave64 [{}]", in(reg) place, options(nostack));
        }
    }
}

/// Puts it into the CPU.
pub(crate) fn load(fpu: &[Line]) {
    let place = fpu.as_ptr();
    // SAFETY: as in `save`; what is loaded was saved, or is `fresh`, whose parts without a bit in the header
    // become what they are after a reset.
    unsafe {
        if features().xsave {
            core::arch::asm!("xrstor64 [{}]", in(reg) place, in("eax") u32::MAX, in("edx") u32::MAX, options(nostack, readonly));
        } else {
            core::arch::asm!("fxrstor64 [{}]", in(reg) place, options(nostack, readonly));
        }
    }
}
