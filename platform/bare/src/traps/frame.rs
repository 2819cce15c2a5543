//! What a trap leaves: registers, and why.

use core::fmt;

/// Registers as `entry.s` saves them, then what the CPU pushes.
#[derive(Clone, Copy, Default, Debug)]
#[repr(C)]
#[expect(missing_docs, reason = "registers are known by their names")]
pub struct Frame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// Number of the trap; 256 stands for the instruction `syscall`.
    pub vector: u64,
    /// What the CPU says about it, or zero.
    pub error: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = [
            [("rip", self.rip), ("rsp", self.rsp), ("rflags", self.rflags), ("cs", self.cs)],
            [("rax", self.rax), ("rbx", self.rbx), ("rcx", self.rcx), ("rdx", self.rdx)],
            [("rsi", self.rsi), ("rdi", self.rdi), ("rbp", self.rbp), ("r8", self.r8)],
            [("r9", self.r9), ("r10", self.r10), ("r11", self.r11), ("r12", self.r12)],
            [("r13", self.r13), ("r14", self.r14), ("r15", self.r15), ("error", self.error)],
        ];
        for row in rows {
            for (name, value) in row {
                write!(f, "{name:>8} {value:016x}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
