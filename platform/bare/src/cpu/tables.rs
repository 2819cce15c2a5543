//! Descriptor tables of one CPU: segments, the task state with its trap stacks, and the way to the gates.
//!
//! X1. The trap stacks are the CPU's own: a double fault, an NMI and a machine check find a stack whatever the
//!     stack pointer is at that moment.

use x86::Ring;
use x86::bits64::segmentation::load_cs;
use x86::bits64::task::TaskStateSegment;
use x86::dtables::{DescriptorTablePointer, lgdt};
use x86::segmentation::{SegmentSelector, load_ds, load_es, load_ss};
use x86::task::load_tr;

/// Selectors, in the order that `syscall` and `sysret` want: they take the next one for the stack.
pub(crate) const KERNEL_CODE: u16 = 1 << 3;
pub(crate) const KERNEL_DATA: u16 = 2 << 3;
pub(crate) const USER_BASE: u16 = 3 << 3 | 3;
pub(crate) const USER_DATA: u16 = 4 << 3 | 3;
pub(crate) const USER_CODE: u16 = 5 << 3 | 3;
const TASK: u16 = 6;

/// Numbers of the trap stacks, as gates name them.
pub(crate) const DOUBLE_FAULT_STACK: u8 = 1;
pub(crate) const NMI_STACK: u8 = 2;
pub(crate) const MACHINE_CHECK_STACK: u8 = 3;

/// A handler on one of these prints a story, which formats a good deal.
const STACK: usize = 8192;

#[repr(C, align(16))]
struct TrapStack([u8; STACK]);

/// The tables.
#[repr(C)]
pub(crate) struct Tables {
    pub(crate) task: TaskStateSegment,
    segments: [u64; 8],
    stacks: [TrapStack; 3],
}

impl Tables {
    pub(crate) const fn new() -> Self {
        Self {
            task: TaskStateSegment::new(),
            segments: [
                0,
                0x00af_9b00_0000_ffff, // code of the kernel
                0x00cf_9300_0000_ffff, // data of the kernel
                0x00cf_fb00_0000_ffff, // 32-bit code of programs: only `sysret`'s arithmetic needs its place
                0x00cf_f300_0000_ffff, // data of programs
                0x00af_fb00_0000_ffff, // code of programs
                0,                     // task state, two words
                0,
            ],
            stacks: [const { TrapStack([0; STACK]) }; 3],
        }
    }

    /// Makes the CPU that runs use them.
    ///
    /// # Safety
    /// They stay where they are for good, and no other CPU uses them.
    pub(crate) unsafe fn load(&mut self) {
        let ends = self.stacks.each_ref().map(|stack| (&raw const stack.0) as u64 + STACK as u64);
        for (number, end) in ends.into_iter().enumerate() {
            self.task.set_ist(number, end);
        }
        // No port is open to programs: the map of ports would begin after the segment's end.
        self.task.iomap_base = size_of::<TaskStateSegment>() as u16;
        let (low, high) = task_descriptor(&raw const self.task as u64);
        self.segments[usize::from(TASK)] = low;
        self.segments[usize::from(TASK) + 1] = high;
        // SAFETY: the tables stay, by the caller's promise; the selectors name what `new` put there, which are
        // flat segments as the ones in use.
        unsafe {
            lgdt(&DescriptorTablePointer::new_from_slice(&self.segments));
            load_cs(SegmentSelector::from_raw(KERNEL_CODE));
            load_ss(SegmentSelector::from_raw(KERNEL_DATA));
            load_ds(SegmentSelector::from_raw(0));
            load_es(SegmentSelector::from_raw(0));
            load_tr(SegmentSelector::new(TASK, Ring::Ring0));
        }
        crate::traps::load_gates();
    }
}

/// The descriptor of a 64-bit task state at `base`: present, available, its exact length.
fn task_descriptor(base: u64) -> (u64, u64) {
    const AVAILABLE: u64 = 0x89 << 40;
    let limit = size_of::<TaskStateSegment>() as u64 - 1;
    let low = limit | (base & 0xff_ffff) << 16 | AVAILABLE | (base >> 24 & 0xff) << 56;
    (low, base >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_descriptor_holds_the_whole_address() {
        let (low, high) = task_descriptor(0xffff_8123_4567_89ab);
        assert_eq!(low >> 16 & 0xff_ffff, 0x67_89ab);
        assert_eq!(low >> 56, 0x45);
        assert_eq!(high, 0xffff_8123);
        assert_eq!(low & 0xffff, 103);
    }
}
