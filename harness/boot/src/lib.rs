//! Everything around the boot image: building it, putting disks together, running it in an emulator.
//!
//! | module | what |
//! |---|---|
//! | [`image`] | the build for bare metal |
//! | [`ramdisk`] | initial ramdisks: of a folder, or of the host's busybox |
//! | [`disc`] | a disc from which GRUB starts it |
//! | [`emulator`] | one run in QEMU: a program's input and output are ours, and so is its exit status |
//! | [`hardware`] | the machine that QEMU is to be |
//! | [`linux`] | Linux in the same emulator, to be measured beside |
//! | [`guests`] | the programs of `harness/guest`, static |
//! | [`debian`], [`step`], [`workspace`] | what is missing on the host, commands, where things are |
//!
//! What the host lacks is set up where that is possible, and named with the command to type where it is not.

pub mod debian;
pub mod disc;
pub mod emulator;
pub mod guests;
pub mod hardware;
pub mod image;
pub mod linux;
pub mod ramdisk;
pub mod step;
pub mod workspace;
