//! The machine that QEMU is to be, whatever runs on it.

use std::process::Command;

/// A machine without anything to run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hardware<'a> {
    /// Machine type and CPU.
    pub machine: (&'a str, &'a str),
    /// Memory, as QEMU takes it.
    pub memory: &'a str,
    /// Number of CPUs.
    pub cpus: usize,
    /// One nanosecond for each instruction, and nothing by chance.
    pub counts_instructions: bool,
}

impl Hardware<'_> {
    /// QEMU as this machine, without ports and without a kernel.
    pub(crate) fn emulated(&self) -> Command {
        let Hardware { machine: (machine, cpu), memory: size, cpus, counts_instructions } = self;
        let mut command = Command::new("qemu-system-x86_64");
        let memory = format!("memory-backend-ram,id=ram,size={size},reserve=off");
        command.args(["-machine", &format!("{machine},memory-backend=ram")]);
        command.args(["-object", &memory, "-m", size, "-cpu", cpu, "-smp", &cpus.to_string()]);
        if *counts_instructions {
            command.args(["-accel", "tcg", "-icount", "shift=0,sleep=off"]);
            command.args(["-rtc", "base=2026-01-01T00:00:00,clock=vm"]);
        }
        command.args(["-nodefaults", "-no-reboot", "-display", "none"]);
        command.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4"]);
        command
    }
}
