//! What the CPU says about a page fault. Intel SDM vol. 3A, 4.7.

use x86::irq::PageFaultError;

use crate::{Access, VirtAddr};

/// A page fault, decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageFault {
    /// The address that was used (CR2).
    pub at: VirtAddr,
    /// What was attempted.
    pub access: Access,
    /// A translation was there and lacked the right; otherwise there was none.
    pub present: bool,
    /// The CPU was in user mode.
    pub user: bool,
}

impl PageFault {
    /// Decodes the error code that the CPU pushed; `None` if it reports a reserved bit set in a page
    /// table, which is never the program's fault but a broken table.
    pub fn decode(at: VirtAddr, code: u32) -> Option<Self> {
        let code = PageFaultError::from_bits_truncate(code);
        if code.contains(PageFaultError::RSVD) {
            return None;
        }
        let access = if code.contains(PageFaultError::ID) {
            Access::Execute
        } else if code.contains(PageFaultError::WR) {
            Access::Write
        } else {
            Access::Read
        };
        let present = code.contains(PageFaultError::P);
        Some(Self { at, access, present, user: code.contains(PageFaultError::US) })
    }

    /// The error code that a CPU would push for this fault.
    pub fn code(self) -> u32 {
        let mut code = PageFaultError::empty();
        code.set(PageFaultError::P, self.present);
        code.set(PageFaultError::WR, self.access == Access::Write);
        code.set(PageFaultError::US, self.user);
        code.set(PageFaultError::ID, self.access == Access::Execute);
        code.bits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_undoes_encoding_and_refuses_a_broken_table() {
        for access in [Access::Read, Access::Write, Access::Execute] {
            for (present, user) in [(false, true), (true, true), (true, false)] {
                let fault = PageFault { at: VirtAddr(0x1234), access, present, user };
                assert_eq!(PageFault::decode(fault.at, fault.code()), Some(fault));
            }
        }
        assert_eq!(PageFault::decode(VirtAddr(0), 1 << 3), None);
    }
}
