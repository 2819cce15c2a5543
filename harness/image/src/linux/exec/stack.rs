//! The first stack of a program: its words, and what the kernel tells it.
//!
//! ```text
//! pointer   number of arguments, their addresses, 0, addresses of the environment, 0, auxiliary vector
//!           16 bytes of chance, name of the platform
//! above     arguments, environment, path of the program, 8 bytes of zeros
//! ```
//!
//! System V ABI for x86-64, 3.4.1, and getauxval(3).

use alloc::vec::Vec;

use rumpvm::sync::try_reserve;
use rumpvm::{Backing, MapFlags};
use rumpvm_arch::{PAGE_SIZE, Prot, VirtAddr};
use rumpvm_bare::Bare;
use rumpvm_files::Errno;

use super::Ready;
use super::load::Loaded;
use crate::linux::chance;
use crate::linux::system::system;
use crate::linux::thread::Thread;

/// Stack that is there at once, beside what the words need; more comes as it is touched.
const ROOM: u64 = 128 << 10;

/// Where things are on it.
pub(super) struct Made {
    pub(super) pointer: VirtAddr,
    pub(super) arguments: (u64, u64),
    pub(super) environment: (u64, u64),
    pub(super) vector: (u64, u64),
}

/// Keys of the auxiliary vector.
mod key {
    pub(super) const PHDR: u64 = 3;
    pub(super) const PHENT: u64 = 4;
    pub(super) const PHNUM: u64 = 5;
    pub(super) const PAGESZ: u64 = 6;
    pub(super) const BASE: u64 = 7;
    pub(super) const FLAGS: u64 = 8;
    pub(super) const ENTRY: u64 = 9;
    pub(super) const UID: u64 = 11;
    pub(super) const EUID: u64 = 12;
    pub(super) const GID: u64 = 13;
    pub(super) const EGID: u64 = 14;
    pub(super) const PLATFORM: u64 = 15;
    pub(super) const CLKTCK: u64 = 17;
    pub(super) const SECURE: u64 = 23;
    pub(super) const RANDOM: u64 = 25;
    pub(super) const EXECFN: u64 = 31;
    pub(super) const MINSIGSTKSZ: u64 = 51;
}

const PLATFORM: &[u8] = b"x86_64\0";

/// Makes the stack below `top`.
pub(super) fn make(
    thread: &Thread,
    ready: &Ready,
    loaded: &Loaded,
    interpreter: Option<&Loaded>,
    top: VirtAddr,
) -> Result<Made, Errno> {
    let (arguments, environment) = (&ready.words.arguments, &ready.words.environment);
    let bytes_of = |words: &[Vec<u8>]| words.iter().map(|word| word.len() as u64 + 1).sum::<u64>();
    let called_at = top.0 - 8 - (ready.called.len() as u64 + 1);
    let environment_at = called_at - bytes_of(environment);
    let arguments_at = environment_at - bytes_of(arguments);
    let platform_at = arguments_at - PLATFORM.len() as u64;
    let random_at = platform_at - 16;
    let (ids, is_raised) = {
        let ids = thread.task.process.ids.lock();
        (ids.told(), ids.is_raised())
    };
    let vector = [
        (key::PHDR, loaded.headers_at),
        (key::PHENT, 56),
        (key::PHNUM, ready.program.header_count),
        (key::PAGESZ, PAGE_SIZE),
        (key::BASE, interpreter.map_or(0, |interpreter| interpreter.moved)),
        (key::FLAGS, 0),
        (key::ENTRY, loaded.entry.0),
        (key::UID, ids[0]),
        (key::EUID, ids[1]),
        (key::GID, ids[2]),
        (key::EGID, ids[3]),
        (key::PLATFORM, platform_at),
        (key::CLKTCK, 100),
        (key::SECURE, u64::from(is_raised)),
        (key::RANDOM, random_at),
        (key::EXECFN, called_at),
        (key::MINSIGSTKSZ, 3632),
        (0, 0),
    ];
    let words = 1 + arguments.len() + 1 + environment.len() + 1;
    let vector_bytes = 16 * vector.len() as u64;
    let pointer = (random_at - vector_bytes - 8 * words as u64) & !15;
    let vector_at = pointer + 8 * words as u64;
    let total = (top.0 - pointer) as usize;
    map(thread, ready, top, total as u64)?;

    let mut stack = Vec::new();
    try_reserve::<_, Bare>(&mut stack, total)?;
    let mut put = |word: u64| stack.extend_from_slice(&word.to_le_bytes());
    put(arguments.len() as u64);
    for (list, mut at) in [(arguments, arguments_at), (environment, environment_at)] {
        for word in list {
            put(at);
            at += word.len() as u64 + 1;
        }
        put(0);
    }
    for (key, value) in vector {
        put(key);
        put(value);
    }
    stack.resize((random_at - pointer) as usize, 0);
    for _ in 0..2 {
        stack.extend_from_slice(&chance::word().to_le_bytes());
    }
    stack.extend_from_slice(PLATFORM);
    for word in arguments.iter().chain(environment).chain([&ready.called]) {
        stack.extend_from_slice(word);
        stack.push(0);
    }
    stack.extend_from_slice(&[0; 8]);
    debug_assert_eq!(stack.len(), total);
    thread.user().write(VirtAddr(pointer), &stack)?;
    Ok(Made {
        pointer: VirtAddr(pointer),
        arguments: (arguments_at, environment_at),
        environment: (environment_at, called_at),
        vector: (vector_at, vector_at + vector_bytes),
    })
}

/// Maps the upper end of the stack.
fn map(thread: &Thread, ready: &Ready, top: VirtAddr, bytes: u64) -> Result<(), Errno> {
    let mut prot = Prot::RW;
    prot.set(Prot::EXEC, ready.program.executable_stack);
    let bytes = (bytes + ROOM).next_multiple_of(PAGE_SIZE);
    let flags = MapFlags::PRIVATE
        | MapFlags::ANONYMOUS
        | MapFlags::FIXED
        | MapFlags::GROWSDOWN
        | MapFlags::STACK;
    let at = VirtAddr(top.page_down().0 - bytes);
    let bytes = top.page_up().unwrap_or(top).0 - at.0;
    let vm = &system().kernel.vm;
    thread.space().mmap(vm, at, bytes, prot, flags, Backing::Anonymous, 0)?;
    Ok(())
}
