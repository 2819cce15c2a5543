//! What goes wrong on purpose: whether the machine tells of it and ends.
//!
//! Flow:  bug -> trap or panic -> story on the console -> exit with the status of a panic.

/// A panic of the kernel's own.
pub(crate) fn panic() -> u8 {
    panic!("as asked for");
}

/// A kernel stack that runs over: nothing below it is mapped, and the double fault has a stack of its own.
pub(crate) fn overflow() -> u8 {
    deeper(1) as u8
}

#[inline(never)]
#[expect(unconditional_recursion, reason = "that is the point")]
fn deeper(depth: u64) -> u64 {
    let held = core::hint::black_box([depth; 64]);
    deeper(depth + 1) + held[(depth % 64) as usize]
}
