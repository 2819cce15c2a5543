//! What a compiler asks for by itself, where the target would have it from a libc: the i386 target that comes compiled.

use core::arch::naked_asm;

use crate::home;

/// Copies; the two do not overlap.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
    // Words, then what is left. The direction flag is clear by the ABI.
    naked_asm!(
        "push esi",
        "push edi",
        "mov edi, [esp + 12]",
        "mov esi, [esp + 16]",
        "mov edx, [esp + 20]",
        "mov eax, edi",
        "mov ecx, edx",
        "shr ecx, 2",
        "rep movsd",
        "mov ecx, edx",
        "and ecx, 3",
        "rep movsb",
        "pop edi",
        "pop esi",
        "ret",
    )
}

/// Copies; the two may overlap.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
    // Upwards, unless `to` begins inside of what is copied: then from the last byte on.
    naked_asm!(
        "mov eax, [esp + 4]",
        "sub eax, [esp + 8]",
        "cmp eax, [esp + 12]",
        "jae {upwards}",
        "push esi",
        "push edi",
        "mov eax, [esp + 12]",
        "mov esi, [esp + 16]",
        "mov ecx, [esp + 20]",
        "lea edi, [eax + ecx - 1]",
        "lea esi, [esi + ecx - 1]",
        "std",
        "rep movsb",
        "cld",
        "pop edi",
        "pop esi",
        "ret",
        upwards = sym memcpy,
    )
}

/// Fills with the low byte of `value`.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn memset(at: *mut u8, value: i32, bytes: usize) -> *mut u8 {
    naked_asm!(
        "push edi",
        "mov edi, [esp + 8]",
        "movzx eax, byte ptr [esp + 12]",
        "imul eax, eax, 0x01010101",
        "mov edx, [esp + 16]",
        "mov ecx, edx",
        "shr ecx, 2",
        "rep stosd",
        "mov ecx, edx",
        "and ecx, 3",
        "rep stosb",
        "mov eax, [esp + 8]",
        "pop edi",
        "ret",
    )
}

/// Compares, as numbers from 0 to 255.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, bytes: usize) -> i32 {
    for at in 0..bytes {
        // SAFETY: by the caller's promise.
        let (one, other) = unsafe { (one.add(at).read(), other.add(at).read()) };
        if one != other {
            return i32::from(one) - i32::from(other);
        }
    }
    0
}

/// Whether the two differ.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, bytes: usize) -> i32 {
    // SAFETY: by the caller's promise.
    unsafe { memcmp(one, other, bytes) }
}

/// Bytes before the first zero.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut length = 0;
    // SAFETY: by the caller's promise there is a zero, and everything up to it can be read. A volatile load keeps the loop
    // from being taken for a call of this function.
    while unsafe { text.add(length).read_volatile() } != 0 {
        length += 1;
    }
    length
}

/// Where landing pads end, of which the compiled `alloc` has some. Nothing here unwinds, so nobody comes by.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    home::panic("rumpvm: something unwinds")
}
