//! What the host says about the pages that are looked at: /proc/self/smaps, pagemap, mincore, every byte.
//!
//! Flow:  files of /proc -> one [`PageSeen`] for each page.
//! Owns:  nothing: the text is read into memory that is there already.

use crate::differ::{
    AREAS, BYTES, FILE, FLAG_NAMES, Look, MEMORY, PAGE, PageSeen, Present, RESIDENT, SEEN,
    SEEN_BASE, SEEN_END, Shown, address,
};

use super::{kernel, probe};

/// Why a look was in vain.
pub(super) enum Blind {
    /// A call was refused.
    Call(i32),
    /// A line of this place cannot be read.
    Form(usize),
}

impl From<i32> for Blind {
    fn from(errno: i32) -> Self {
        Self::Call(errno)
    }
}

/// Bits of a word of /proc/self/pagemap.
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const OF_FILE: u64 = 1 << 61;
const EXCLUSIVE: u64 = 1 << 56;

/// Fills in `look` with the `parts` that are wanted. `inodes` are those of the objects.
pub(super) fn look(
    look: &mut Look,
    parts: u64,
    inodes: [u64; 2],
    text: &mut [u8],
) -> Result<(), Blind> {
    if parts & (AREAS | RESIDENT) != 0 {
        areas(look, inodes, text)?;
    }
    if parts & RESIDENT != 0 {
        resident(look)?;
    }
    if parts & AREAS == 0 {
        look.iter_mut().for_each(|page| (page.area, page.index) = (0, 0));
    }
    if parts & BYTES != 0 {
        for (number, page) in look.iter_mut().enumerate() {
            match probe::page(address(number as u64)) {
                Ok(hash) => page.hash = hash,
                Err((signal, code)) => page.fault = PageSeen::fault_of(signal, code),
            }
        }
    }
    Ok(())
}

/// Reads smaps until it has come to the end of what is looked at. Nothing of a process lies below.
fn areas(look: &mut Look, inodes: [u64; 2], text: &mut [u8]) -> Result<(), Blind> {
    let file = kernel::open(c"/proc/self/smaps")?;
    let (mut held, mut here) = (0, None);
    loop {
        let read = kernel::read(file, &mut text[held..], None)?;
        held += read;
        let mut done = 0;
        while let Some(length) = text[done..held].iter().position(|byte| *byte == b'\n') {
            let line = &text[done..done + length];
            if line
                .first()
                .is_some_and(|first| first.is_ascii_digit() || first.is_ascii_lowercase())
            {
                let area = header(line, inodes).ok_or(Blind::Form(done))?;
                if area.start >= SEEN_END {
                    kernel::close(file);
                    return Ok(());
                }
                fill(look, &area);
                here = Some(area);
            } else if let (Some(area), Some(flags)) = (&here, line.strip_prefix(b"VmFlags:")) {
                mark(look, area, flags);
            }
            done += length + 1;
        }
        text.copy_within(done..held, 0);
        held -= done;
        if read == 0 {
            kernel::close(file);
            return Ok(());
        }
    }
}

/// The first line of an area.
struct Header {
    start: u64,
    end: u64,
    shown: Shown,
    /// Page of the object at `start`.
    index: u64,
}

fn header(line: &[u8], inodes: [u64; 2]) -> Option<Header> {
    let mut words = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let mut ends = words.next()?.split(|byte| *byte == b'-');
    let (start, end) = (number(ends.next()?, 16)?, number(ends.next()?, 16)?);
    let rights = words.next()?;
    let offset = number(words.next()?, 16)?;
    let (_device, inode) = (words.next()?, number(words.next()?, 10)?);
    // The inode of a segment is its number, which may be any, and 0 too.
    let segment = words.next().is_some_and(|name| name.starts_with(b"/SYSV"));
    let mut shown = Shown::MAPPED;
    for (letter, flag) in
        [(b'r', Shown::READ), (b'w', Shown::WRITE), (b'x', Shown::EXEC), (b's', Shown::SHARED)]
    {
        shown.set(flag, rights.contains(&letter));
    }
    shown |= match inode {
        _ if segment => Shown::NAMELESS,
        0 => Shown::empty(),
        _ if inode == inodes[FILE as usize] => Shown::FILE,
        _ if inode == inodes[MEMORY as usize] => Shown::MEMORY,
        _ => Shown::NAMELESS,
    };
    Some(Header { start, end, shown, index: offset / PAGE })
}

fn number(digits: &[u8], base: u32) -> Option<u64> {
    digits.iter().try_fold(0u64, |sum, digit| {
        let digit = char::from(*digit).to_digit(base)?;
        sum.checked_mul(u64::from(base))?.checked_add(u64::from(digit))
    })
}

/// The pages of an area that are looked at, by number.
fn pages(area: &Header) -> std::ops::Range<u64> {
    let page = |at: u64| at.clamp(SEEN_BASE, SEEN_END).wrapping_sub(SEEN_BASE) / PAGE;
    page(area.start)..page(area.end)
}

fn fill(look: &mut Look, area: &Header) {
    let objects = Shown::FILE | Shown::MEMORY | Shown::NAMELESS;
    for number in pages(area) {
        let page = &mut look[number as usize];
        page.area = area.shown.bits();
        if area.shown.intersects(objects) {
            page.index = (area.index + (address(number) - area.start) / PAGE) as u32;
        }
    }
}

/// Adds what `VmFlags` says.
fn mark(look: &mut Look, area: &Header, flags: &[u8]) {
    let mut marks = Shown::empty();
    for word in flags.split(|byte| *byte == b' ') {
        let known = FLAG_NAMES.iter().find(|(_, name)| name.as_bytes() == word);
        marks |= known.map_or(Shown::empty(), |(flag, _)| *flag);
    }
    for number in pages(area) {
        look[number as usize].area |= marks.bits();
    }
}

fn resident(look: &mut Look) -> Result<(), Blind> {
    let mut words = [0u8; SEEN * 8];
    let file = kernel::open(c"/proc/self/pagemap")?;
    let read = kernel::read(file, &mut words, Some(SEEN_BASE / PAGE * 8));
    kernel::close(file);
    if read? != words.len() {
        return Err(Blind::Form(0));
    }
    for (number, page) in look.iter_mut().enumerate() {
        if !page.shown().contains(Shown::MAPPED) {
            continue;
        }
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&words[number * 8..number * 8 + 8]);
        let word = u64::from_le_bytes(bytes);
        let mut present = Present::empty();
        let private = word & (PRESENT | SWAPPED) != 0 && word & OF_FILE == 0;
        // A page that is shared with other processes cannot be told from the zero page, nor one that was swapped
        // out from a guard.
        let sure = word & EXCLUSIVE != 0 && word & SWAPPED == 0;
        present.set(Present::PRIVATE, private && sure);
        present.set(Present::UNTOLD, private && !sure);
        present.set(Present::CORE, in_core(address(number as u64))?);
        page.present = present.bits();
    }
    Ok(())
}

fn in_core(at: u64) -> Result<bool, Blind> {
    let mut byte = 0u8;
    // SAFETY: the kernel writes one byte, for one page.
    unsafe { kernel::short(libc::SYS_mincore, at, PAGE, &raw mut byte as u64)? };
    Ok(byte & 1 != 0)
}
