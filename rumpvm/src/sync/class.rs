//! The lock table: every class of lock, outermost first. Who holds one may only wait for a later one.
//!
//! A home that checks it ([`Witness`](rumpvm_platform::Witness)) stops at the first step that breaks it, whether or not
//! that run would have ended in a deadlock. What each class guards is in DESIGN.md, section 3.

use rumpvm_platform::{LockClass, LockKind};

/// Rank of the outermost. The ranks below belong to who uses the component: his locks come before these.
pub const FIRST: u8 = 64;

/// The classes of the two locks of a radix tree.
#[derive(Debug)]
pub struct TreeLocks {
    /// Its structure.
    pub path: &'static LockClass,
    /// The slots of one node.
    pub node: &'static LockClass,
}

/// An amap's. Its leaf is locked while a fault looks for the page of an object, so they come first.
pub static AMAP: TreeLocks = TreeLocks { path: &AMAP_PATH, node: &AMAP_NODE };

/// An object's.
pub static OBJECT: TreeLocks = TreeLocks { path: &OBJECT_PATH, node: &OBJECT_NODE };

macro_rules! classes {
    ($($(#[$doc:meta])* $name:ident: $kind:ident $($nests:ident)?, $says:literal;)+) => {
        #[expect(non_camel_case_types, clippy::upper_case_acronyms, reason = "the list counts its entries")]
        #[repr(u8)]
        enum Rank { $($name),+ }
        $(
            $(#[$doc])*
            pub static $name: LockClass = LockClass {
                name: $says,
                rank: FIRST + Rank::$name as u8,
                kind: LockKind::$kind,
                nests: classes!(@nests $($nests)?),
            };
        )+
        /// All of them, by rank.
        pub static ALL: &[&LockClass] = &[$(&$name),+];
    };
    (@nests) => { false };
    (@nests nests) => { true };
}

classes! {
    /// The family tree.
    PROCESSES: Token, "processes";
    /// Space of a process, for a few instructions.
    PROCESS_SPACE: Sleep, "process space";
    /// Size of one object. First, because whoever shrinks an object goes through the spaces that map it.
    RESIZING: Sleep, "object size";
    /// Which spaces there are.
    SPACES: Sleep, "space list";
    /// Changes of one map. A fork holds the parent's and the child's, which nobody else knows yet.
    MAP: Sleep nests, "map";
    /// System V's segments.
    SEGMENTS: Sleep, "segments";
    /// Which objects there are.
    REGISTRY: Sleep, "object registry";
    /// Which maps have private areas of one object.
    MAPPERS: Sleep, "object mappers";
    /// Data behind a token, while somebody looks at it: as a spin lock, because nothing may sleep meanwhile.
    TOKEN_DATA: Spin, "token data";
    /// Memory is being added.
    ADDING: Spin, "adding memory";
    /// Structure of an amap's tree.
    AMAP_PATH: Spin, "amap path";
    /// Slots of an amap's node. A node's before those below it.
    AMAP_NODE: Spin nests, "amap node";
    /// Structure of an object's tree.
    OBJECT_PATH: Spin, "object path";
    /// Slots of an object's node. A node's before those below it.
    OBJECT_NODE: Spin nests, "object node";
    /// Entries and live count of a page table. Upper levels before lower ones.
    TABLE: Spin nests, "page table";
    /// The places that map one page.
    REVERSE: Spin, "reverse map";
    /// Which space a CPU translates through.
    CURRENT: Spin, "current space";
    /// Which pmaps a host has made for maps of its own.
    PMAPS: Spin, "pmaps";
    /// Flush requests to one CPU.
    MAILBOX: Spin, "mailbox";
    /// Segments of an arena.
    ARENA: Spin, "arena";
    /// Slabs and depot of a zone.
    ZONE: Spin, "zone";
    /// Who keeps frames at hand. Zones and arenas are tried under it.
    HOARDS: Spin, "hoards";
    /// Chains of free frames.
    DEPOT: Spin, "depot";
    /// Blocks of free frames.
    BUDDY: Spin, "buddy";
    /// The bootstrap heap.
    HEAP: Spin, "boot heap";
    /// State of a sleep lock, for a few instructions.
    INTERLOCK: Spin, "interlock";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rank_of_a_class_is_its_place_in_the_table() {
        for (at, class) in ALL.iter().enumerate() {
            assert_eq!(usize::from(class.rank - FIRST), at, "{}", class.name);
        }
    }
}
