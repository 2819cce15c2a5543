//! getdents64(2): the names of a directory as records.
//!
//! The position in a directory is 0 before `.`, 1 before `..`, and after each other name its cookie and 2, so it means the
//! same whatever comes and goes meanwhile.

use alloc::vec::Vec;

use rumpvm::Hold;
use rumpvm::sync::try_reserve;
use rumpvm_platform::Platform;

use crate::access::Rights;
use crate::entry::Entry;
use crate::errno::Errno;
use crate::layout::Layout;
use crate::name::NAME_MAX;
use crate::node::{FileType, Item, Kind};
use crate::open::Open;
use crate::transfer::Sink;

/// Bytes before the name.
const HEAD: usize = 19;
/// Most bytes of records made at a time; what libraries ask for is no more.
const MOST: usize = 32 << 10;
/// `.` and `..`.
const DOTS: u64 = 2;

/// Records, for which room was made beforehand.
struct Records {
    bytes: Vec<u8>,
    room: usize,
    position: u64,
}

impl Records {
    /// Appends one; false if there is no room for it.
    fn push(&mut self, item: Item<'_>) -> bool {
        let length = (HEAD + item.name.len() + 1).next_multiple_of(8);
        if item.name.len() > NAME_MAX || self.bytes.len() + length > self.room {
            return false;
        }
        let mut head = Layout::<HEAD>::new();
        head.u64(0, item.number).u64(8, item.cookie).u16(16, length as u16);
        head.bytes(18, &[item.file_type.record()]);
        let end = self.bytes.len() + length;
        self.bytes.extend_from_slice(&head.done());
        self.bytes.extend_from_slice(item.name);
        self.bytes.resize(end, 0);
        self.position = item.cookie;
        true
    }
}

impl<P: Platform> Open<P> {
    /// Lists the directory from the position on; 0 at its end. [`Errno::EINVAL`] if not even one record has room.
    pub fn list(&self, into: &mut dyn Sink) -> Result<usize, Errno> {
        if !self.rights().contains(Rights::READ) {
            return Err(Errno::EBADF);
        }
        if !self.node().is_directory() {
            return Err(Errno::ENOTDIR);
        }
        if self.entry().is_removed() {
            return Err(Errno::ENOENT);
        }
        let mut bytes = Vec::new();
        let room = into.room().min(MOST);
        try_reserve::<_, P>(&mut bytes, room)?;
        let mut position = self.position().lock();
        let mut records = Records { bytes, room, position: *position };
        let is_whole = records.dots(self.entry()) && records.names(self)?;
        if records.bytes.is_empty() && !is_whole {
            return Err(Errno::EINVAL);
        }
        if !records.bytes.is_empty() {
            let count = into.put(&records.bytes)?;
            if count < records.bytes.len() {
                return Err(Errno::EFAULT);
            }
        }
        *position = records.position;
        self.node().note_access();
        Ok(records.bytes.len())
    }
}

impl Records {
    /// The two that every directory has; false if there is no room.
    fn dots<P: Platform>(&mut self, entry: &Hold<Entry<P>, P>) -> bool {
        let parent = Entry::parent(entry);
        for (at, entry) in [entry, &parent].into_iter().enumerate().skip(self.position as usize) {
            let (number, file_type) = (entry.node().number(), FileType::Directory);
            let name = if at == 0 { &b"."[..] } else { b".." };
            if !self.push(Item { cookie: at as u64 + 1, number, file_type, name }) {
                return false;
            }
        }
        true
    }

    /// The others; false if there is no room for all.
    fn names<P: Platform>(&mut self, open: &Open<P>) -> Result<bool, Errno> {
        let after = self.position - DOTS;
        let mut is_whole = true;
        let mut each = |item: Item<'_>| {
            is_whole = self.push(Item { cookie: item.cookie + DOTS, ..item });
            is_whole
        };
        match open.node().kind() {
            Kind::Directory(directory) => directory.list(after, each),
            Kind::Listing(listing) => listing.list(after, &mut each)?,
            _ => {}
        }
        Ok(is_whole)
    }
}
