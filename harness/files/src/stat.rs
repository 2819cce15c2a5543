//! stat, statx, statfs: what a file and its volume say of themselves, laid out as on x86-64.

use rumpvm_arch::PAGE_SIZE;
use rumpvm_platform::Platform;

use crate::layout::Layout;
use crate::node::{Attributes, Kind, Node};
use crate::open::Open;
use crate::services::{Time, device_parts};
use crate::volume::Volume;

/// Bytes of `struct stat`.
pub const STAT_BYTES: usize = 144;
/// Bytes of `struct statx`.
pub const STATX_BYTES: usize = 256;
/// Bytes of `struct statfs`.
pub const STATFS_BYTES: usize = 120;

/// The unit of `st_blocks`.
const BLOCK: u64 = 512;

/// What stat(2) says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stat {
    /// The volume's device.
    pub device: u64,
    /// The node.
    pub number: u64,
    /// Type and permissions.
    pub mode: u32,
    /// Links, owner, times.
    pub attributes: Attributes,
    /// The device that it is.
    pub is_device: u64,
    /// Bytes.
    pub size: u64,
    /// Units of 512 bytes in memory.
    pub blocks: u64,
}

impl Stat {
    /// Of a file, whether or not somebody has it open.
    pub fn of<P: Platform>(node: &Node<P>) -> Self {
        let attributes = node.attributes();
        let pages = |regular: &crate::node::Regular<P>| {
            regular.object().resident_pages(&node.services().vm.mmu)
        };
        // As Linux counts a directory in memory.
        const NAME: u64 = 20;
        let (size, blocks, is_device) = match node.kind() {
            Kind::File(regular) => (regular.size(), pages(regular) * (PAGE_SIZE / BLOCK), 0),
            Kind::Directory(names) => ((names.len() as u64 + 2) * NAME, 0, 0),
            Kind::Link(target) => (target.len() as u64, 0, 0),
            Kind::Device(number) => (0, 0, *number),
            Kind::Special(special) => (special.length(), 0, 0),
            Kind::Listing(_) | Kind::Jump(_) => (0, 0, 0),
        };
        let mode = node.file_type().bits() | attributes.mode;
        let (device, number) = (node.volume().device(), node.number());
        Self { device, number, mode, attributes, is_device, size, blocks }
    }

    /// `struct stat`.
    pub fn bytes(&self) -> [u8; STAT_BYTES] {
        let Attributes { links, user, group, accessed, modified, changed, .. } = self.attributes;
        let mut layout = Layout::new();
        layout.u64(0, self.device).u64(8, self.number).u64(16, u64::from(links));
        layout.u32(24, self.mode).u32(28, user).u32(32, group);
        layout.u64(40, self.is_device).u64(48, self.size).u64(56, PAGE_SIZE).u64(64, self.blocks);
        for (at, Time { seconds, nanoseconds }) in [(72, accessed), (88, modified), (104, changed)]
        {
            layout.u64(at, seconds as u64).u64(at + 8, u64::from(nanoseconds));
        }
        layout.done()
    }

    /// `struct statx`, with the basic fields and the time of birth.
    pub fn extended(&self) -> [u8; STATX_BYTES] {
        const BASIC_AND_BIRTH: u32 = 0xfff;
        let Attributes { links, user, group, accessed, modified, changed, born, .. } =
            self.attributes;
        let mut layout = Layout::new();
        layout.u32(0, BASIC_AND_BIRTH).u32(4, PAGE_SIZE as u32);
        layout.u32(16, links).u32(20, user).u32(24, group).u16(28, self.mode as u16);
        layout.u64(32, self.number).u64(40, self.size).u64(48, self.blocks);
        let times = [(64, accessed), (80, born), (96, changed), (112, modified)];
        for (at, Time { seconds, nanoseconds }) in times {
            layout.u64(at, seconds as u64).u32(at + 8, nanoseconds);
        }
        for (at, number) in [(128, self.is_device), (136, self.device)] {
            let (major, minor) = device_parts(number);
            layout.u32(at, major).u32(at + 4, minor);
        }
        layout.done()
    }
}

impl<P: Platform> Open<P> {
    /// fstat(2).
    pub fn stat(&self) -> Stat {
        Stat::of(self.node())
    }
}

impl<P: Platform> Volume<P> {
    /// `struct statfs`.
    pub fn statfs(&self) -> [u8; STATFS_BYTES] {
        const NAME_MAX: u64 = 255;
        /// `ST_VALID`, beside which the flags of mount(2) mean something.
        const VALID: u64 = 0x20;
        let phys = &self.services().vm.mmu.phys;
        let (all, free) = (phys.total_frames(), self.services().room());
        let nodes = all / 2;
        let mut layout = Layout::new();
        layout.u64(0, self.style().magic).u64(8, PAGE_SIZE);
        layout.u64(16, all).u64(24, free).u64(32, free);
        layout.u64(40, nodes).u64(48, nodes.saturating_sub(self.numbered()));
        layout.u64(56, self.device()).u64(64, NAME_MAX).u64(72, PAGE_SIZE);
        layout.u64(80, VALID | u64::from(self.flags().bits()));
        layout.done()
    }
}
