//! Archives in cpio's `newc` format, which is what initial ramdisks are: unpacked into a tree.
//!
//! Archives may follow each other, with zeros in between. Directories that are missing are made. What is there already is
//! replaced, but for directories, which get new attributes. Names are walked with the target as root, so that none leads
//! out of it.

use alloc::vec::Vec;
use core::fmt;

use rumpvm::Hold;
use rumpvm::sync::try_push;
use rumpvm_platform::Platform;

use crate::access::Credentials;
use crate::entry::Entry;
use crate::errno::Errno;
use crate::node::FileType;
use crate::services::{Time, device_number};
use crate::walk::{Last, Walk};

/// Bytes of a header.
const HEADER: usize = 110;
/// Everything begins at a multiple of it.
const ALIGN: usize = 4;
/// The name of the last entry.
const TRAILER: &[u8] = b"TRAILER!!!";

/// What was unpacked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Unpacked {
    /// Entries.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
}

/// Why an archive could not be unpacked; what came before is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trouble {
    /// Where in the archive.
    pub at: usize,
    /// What.
    pub why: Why,
}

/// What can go wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// It is no such archive, or damaged.
    Malformed,
    /// It ends in the middle.
    Short,
    /// The tree refuses it.
    Refused(Errno),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.why {
            Why::Malformed => write!(f, "no cpio header of kind newc at byte {:#x}", self.at),
            Why::Short => {
                write!(f, "the archive ends in the middle of byte {:#x}'s entry", self.at)
            }
            Why::Refused(error) => write!(f, "the entry at byte {:#x}: {error}", self.at),
        }
    }
}

/// One entry of an archive.
struct Packed<'a> {
    number: u64,
    mode: u32,
    user: u32,
    group: u32,
    links: u32,
    modified: u32,
    device: (u32, u32),
    is_device: (u32, u32),
    name: &'a [u8],
    data: &'a [u8],
    /// Where the next one begins.
    end: usize,
}

/// Entries that may come again under another name: which file of the archive, and where it is.
type Linked<P> = Vec<((u64, (u32, u32)), Hold<Entry<P>, P>)>;

/// Unpacks `archive` below `root`.
pub fn unpack<P: Platform>(archive: &[u8], root: &Hold<Entry<P>, P>) -> Result<Unpacked, Trouble> {
    let who = Credentials::root();
    let walk = Walk { root, from: root, who: &who };
    let mut unpacked = Unpacked::default();
    let mut linked = Linked::new();
    let mut at = 0;
    while let Some(next) = archive[at..].iter().position(|byte| *byte != 0) {
        at += next;
        let packed = entry(archive, at).map_err(|why| Trouble { at, why })?;
        if packed.name == TRAILER {
            linked.clear();
        } else {
            place(&walk, &packed, &mut linked)
                .map_err(|error| Trouble { at, why: Why::Refused(error) })?;
            unpacked.entries += 1;
            unpacked.bytes += packed.data.len() as u64;
        }
        at = packed.end.min(archive.len());
    }
    Ok(unpacked)
}

/// Reads the entry at `at`.
fn entry(archive: &[u8], at: usize) -> Result<Packed<'_>, Why> {
    let rest = &archive[at..];
    let header = rest.get(..HEADER).ok_or(Why::Short)?;
    if !header.starts_with(b"070701") && !header.starts_with(b"070702") {
        return Err(Why::Malformed);
    }
    let mut fields = [0; 13];
    for (field, digits) in fields.iter_mut().zip(header[6..].chunks_exact(8)) {
        let text = core::str::from_utf8(digits).map_err(|_| Why::Malformed)?;
        *field = u32::from_str_radix(text, 16).map_err(|_| Why::Malformed)?;
    }
    let [number, mode, user, group, links, modified, size, major, minor, rmajor, rminor, named, _] =
        fields;
    let begin = (at + HEADER + named as usize).next_multiple_of(ALIGN);
    let name = rest.get(HEADER..HEADER + named as usize).ok_or(Why::Short)?;
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    let stop = begin + size as usize;
    let data = archive.get(begin..stop).ok_or(Why::Short)?;
    Ok(Packed {
        number: u64::from(number),
        mode,
        user,
        group,
        links,
        modified,
        device: (major, minor),
        is_device: (rmajor, rminor),
        name,
        data,
        end: stop.next_multiple_of(ALIGN),
    })
}

/// Puts one entry into the tree.
fn place<P: Platform>(
    walk: &Walk<'_, P>,
    packed: &Packed<'_>,
    linked: &mut Linked<P>,
) -> Result<(), Errno> {
    let file_type = FileType::of_mode(packed.mode).ok_or(Errno::EINVAL)?;
    let id = (packed.number, packed.device);
    make_parents(walk, packed.name)?;
    let first = linked.iter().find(|(other, _)| *other == id).map(|(_, entry)| entry.clone());
    let entry = match first {
        Some(first) if file_type != FileType::Directory => {
            vacate(walk, packed.name)?;
            walk.link(&first, packed.name)?;
            first
        }
        _ => {
            let entry = make(walk, packed, file_type)?;
            if packed.links > 1 && file_type != FileType::Directory {
                try_push::<_, P>(linked, (id, entry.clone()))?;
            }
            entry
        }
    };
    let node = entry.node();
    // Of a file with several names the bytes come with one of them.
    if let Some(regular) = node.regular()
        && !packed.data.is_empty()
        && regular.write(0, &mut &packed.data[..])? < packed.data.len()
    {
        return Err(Errno::ENOSPC);
    }
    let modified = Time { seconds: i64::from(packed.modified), nanoseconds: 0 };
    node.change(|attributes| {
        attributes.mode = packed.mode & 0o7777;
        (attributes.user, attributes.group) = (packed.user, packed.group);
        (attributes.modified, attributes.accessed) = (modified, modified);
    });
    Ok(())
}

fn make<P: Platform>(
    walk: &Walk<'_, P>,
    packed: &Packed<'_>,
    file_type: FileType,
) -> Result<Hold<Entry<P>, P>, Errno> {
    let device = device_number(packed.is_device.0, packed.is_device.1);
    match file_type {
        FileType::Directory => match walk.mkdir(packed.name, packed.mode & 0o7777) {
            Err(Errno::EEXIST) => walk.find(packed.name, Last::Follow),
            outcome => outcome,
        },
        FileType::Link => {
            vacate(walk, packed.name)?;
            walk.symlink(packed.data, packed.name)
        }
        _ => {
            vacate(walk, packed.name)?;
            walk.mknod(packed.name, packed.mode, device)
        }
    }
}

/// Removes what has the name already.
fn vacate<P: Platform>(walk: &Walk<'_, P>, name: &[u8]) -> Result<(), Errno> {
    match walk.unlink(name) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes the directories above `name` that are missing.
fn make_parents<P: Platform>(walk: &Walk<'_, P>, name: &[u8]) -> Result<(), Errno> {
    for (at, _) in name.iter().enumerate().filter(|(at, byte)| *at > 0 && **byte == b'/') {
        match walk.mkdir(&name[..at], 0o755) {
            Ok(_) | Err(Errno::EEXIST) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
