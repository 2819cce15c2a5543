//! memfd_create(2): files without a name.

use rumpvm::{Hold, MemoryFlags, Seals};
use rumpvm_platform::Platform;

use crate::access::{Credentials, Rights};
use crate::entry::Entry;
use crate::errno::Errno;
use crate::name::Name;
use crate::node::{FileType, Kind, Node, Regular};
use crate::open::{Open, OpenFlags};
use crate::tree::Tree;

/// Longest name: `memfd:` and the end come to it.
const NAME: usize = 249;

impl<P: Platform> Tree<P> {
    /// A new memory file, open for reading and writing. The descriptor is the caller's to make.
    pub fn memory_file(
        &self,
        name: &[u8],
        flags: MemoryFlags,
        who: &Credentials,
    ) -> Result<Hold<Open<P>, P>, Errno> {
        if name.len() > NAME {
            return Err(Errno::EINVAL);
        }
        let regular = Regular::sealable(self.services(), flags)?;
        let mode = if flags.contains(MemoryFlags::NOEXEC_SEAL) { 0o666 } else { 0o777 };
        let kind = Kind::File(regular);
        let node = Node::try_new(self.unnamed(), kind, FileType::Regular, mode, who)?;
        node.change(|attributes| attributes.links = 0);
        let mut label = alloc::vec::Vec::new();
        rumpvm::sync::try_reserve::<_, P>(&mut label, name.len() + 32)?;
        label.extend_from_slice(b"/memfd:");
        label.extend_from_slice(name);
        label.extend_from_slice(b" (deleted)");
        let entry = Entry::unnamed(node, Name::try_new::<P>(&label)?)?;
        Open::opened(entry, OpenFlags::READ_WRITE | OpenFlags::LARGE, who)
    }
}

impl<P: Platform> Open<P> {
    /// `F_GET_SEALS`.
    pub fn seals(&self) -> Result<Seals, Errno> {
        let regular = self.node().regular().ok_or(Errno::EINVAL)?;
        regular.object().seals().ok_or(Errno::EINVAL)
    }

    /// `F_ADD_SEALS`.
    pub fn add_seals(&self, seals: Seals) -> Result<(), Errno> {
        let regular = self.node().regular().ok_or(Errno::EINVAL)?;
        if !self.rights().contains(Rights::WRITE) {
            return Err(Errno::EPERM);
        }
        Ok(self.node().services().vm.add_seals(regular.object(), seals)?)
    }
}
