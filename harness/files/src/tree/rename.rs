//! rename(2), and renameat2(2) with its flags.

use bitflags::bitflags;
use rumpvm::Hold;
use rumpvm_platform::Platform;

use crate::access::Rights;
use crate::entry::Entry;
use crate::errno::Errno;
use crate::name::Name;
use crate::node::Node;
use crate::walk::{End, Last, Spot, Walk, changeable};

bitflags! {
    /// Flags of renameat2(2).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct RenameFlags: u32 {
        /// Nothing is replaced.
        const NO_REPLACE = 1;
        /// Both change places.
        const EXCHANGE = 2;
        /// Leave a mark for a lower layer, which there is none of.
        const WHITEOUT = 4;
    }
}

/// One side of a rename: a name, and what has it.
struct Side<'s, P: Platform> {
    parent: &'s Hold<Entry<P>, P>,
    name: &'s Name,
    entry: Hold<Entry<P>, P>,
}

impl<P: Platform> Walk<'_, P> {
    /// Moves what `old` names to `new`, which `to` walks: rename(2), renameat2(2).
    pub fn rename(
        &self,
        old: &[u8],
        to: &Walk<'_, P>,
        new: &[u8],
        flags: RenameFlags,
    ) -> Result<(), Errno> {
        let both = RenameFlags::EXCHANGE | RenameFlags::NO_REPLACE;
        if flags.contains(RenameFlags::WHITEOUT)
            || flags.bits() & !RenameFlags::all().bits() != 0
            || flags.contains(both)
        {
            return Err(Errno::EINVAL);
        }
        let from = self.spot(old, Last::Stay)?;
        let into = to.spot(new, Last::Stay)?;
        let volume = from.parent.node().volume();
        if !Hold::is(volume, into.parent.node().volume()) {
            return Err(Errno::EXDEV);
        }
        let End::Name(old) = &from.end else { return Err(Errno::EBUSY) };
        let End::Name(new) = &into.end else {
            let no_replace = flags.contains(RenameFlags::NO_REPLACE);
            return Err(if no_replace { Errno::EEXIST } else { Errno::EBUSY });
        };
        let source = changeable(&from.parent, old)?;
        let target = into.parent.node().directory().ok_or(Errno::EPERM)?;
        let changes = volume.changes().lock();
        let entry = source.get(old).ok_or(Errno::ENOENT)?;
        let moved = Side { parent: &from.parent, name: old, entry };
        let side = |entry| Side { parent: &into.parent, name: new, entry };
        let there = target.get(new).map(side);
        may_meet(&moved, there.as_ref(), [&from, &into], flags)?;
        // Two names of one file: nothing is to be done.
        if there.as_ref().is_some_and(|there| Hold::is(there.entry.node(), moved.entry.node())) {
            return Ok(());
        }
        let moved_is_directory = moved.entry.node().is_directory();
        match there {
            Some(other) if flags.contains(RenameFlags::EXCHANGE) => {
                let other_is_directory = other.entry.node().is_directory();
                self.may_go(&moved, moved_is_directory)?;
                self.may_go(&other, other_is_directory)?;
                self.may_change_parent(&moved, &into.parent)?;
                self.may_change_parent(&other, &from.parent)?;
                exchange(&moved, &other)
            }
            Some(other) => {
                self.may_go(&moved, moved_is_directory)?;
                self.may_go(&other, moved_is_directory)?;
                self.may_change_parent(&moved, &into.parent)?;
                if other.entry.node().directory().is_some_and(|names| !names.is_empty()) {
                    return Err(Errno::ENOTEMPTY);
                }
                replace(&moved, Some(&other), &into.parent, new)?;
                drop(changes);
                // What was replaced may end here.
                drop(other);
                Ok(())
            }
            None => {
                self.may_go(&moved, moved_is_directory)?;
                if into.parent.is_removed() {
                    return Err(Errno::ENOENT);
                }
                self.who.check(into.parent.node(), Rights::WRITE | Rights::EXECUTE)?;
                self.may_change_parent(&moved, &into.parent)?;
                replace(&moved, None, &into.parent, new)
            }
        }
    }

    /// Checks that the name of `side` may go, to or for something that is a directory or is none.
    fn may_go(&self, side: &Side<'_, P>, for_directory: bool) -> Result<(), Errno> {
        let node = side.entry.node();
        self.may_remove(side.parent.node(), node)?;
        match (for_directory, node.is_directory()) {
            (true, false) => return Err(Errno::ENOTDIR),
            (false, true) => return Err(Errno::EISDIR),
            _ => {}
        }
        if side.entry.is_covered() { Err(Errno::EBUSY) } else { Ok(()) }
    }

    /// Checks that the `..` of `side` may change, if it is a directory that comes into another one.
    fn may_change_parent(&self, side: &Side<'_, P>, into: &Hold<Entry<P>, P>) -> Result<(), Errno> {
        let node = side.entry.node();
        if node.is_directory() && !Hold::is(side.parent, into) {
            self.who.check(node, Rights::WRITE)?;
        }
        Ok(())
    }
}

/// Checks what flags, slashes and the shape of the tree say, in Linux's order.
fn may_meet<P: Platform>(
    moved: &Side<'_, P>,
    there: Option<&Side<'_, P>>,
    [from, into]: [&Spot<P>; 2],
    flags: RenameFlags,
) -> Result<(), Errno> {
    let exchanges = flags.contains(RenameFlags::EXCHANGE);
    let is_directory = |side: &Side<'_, P>| side.entry.node().is_directory();
    match there {
        Some(_) if flags.contains(RenameFlags::NO_REPLACE) => return Err(Errno::EEXIST),
        None if exchanges => return Err(Errno::ENOENT),
        Some(other) if exchanges && into.wants_directory && !is_directory(other) => {
            return Err(Errno::ENOTDIR);
        }
        _ => {}
    }
    let is_slashed = from.wants_directory || (into.wants_directory && !exchanges);
    if is_slashed && !is_directory(moved) {
        return Err(Errno::ENOTDIR);
    }
    // Neither can be put below itself.
    if is_directory(moved) && Entry::is_below(&into.parent, &moved.entry) {
        return Err(Errno::EINVAL);
    }
    match there {
        Some(other) if is_directory(other) && Entry::is_below(&from.parent, &other.entry) => {
            Err(if exchanges { Errno::EINVAL } else { Errno::ENOTEMPTY })
        }
        _ => Ok(()),
    }
}

/// Moves `moved` to `name` in `parent`, where `other` is now.
fn replace<P: Platform>(
    moved: &Side<'_, P>,
    other: Option<&Side<'_, P>>,
    parent: &Hold<Entry<P>, P>,
    name: &Name,
) -> Result<(), Errno> {
    let (from, into) = directories(moved.parent, parent)?;
    let name = Name::try_new::<P>(name)?;
    into.reserve(1)?;
    from.change_both(into, |names| {
        if other.is_some() {
            drop(names.second().remove(&name));
        }
        drop(names.first().remove(moved.name));
        moved.entry.move_to(parent, name);
        names.second().add(moved.entry.clone());
    });
    let is_directory = moved.entry.node().is_directory();
    if let Some(other) = other {
        other.entry.mark_removed();
        let node = other.entry.node();
        node.change(|attributes| {
            attributes.links = if is_directory { 0 } else { attributes.links.saturating_sub(1) };
        });
        if is_directory {
            parent.node().change(|attributes| attributes.links -= 1);
        }
    }
    if is_directory {
        moved.parent.node().change(|attributes| attributes.links -= 1);
        parent.node().change(|attributes| attributes.links += 1);
    }
    note(moved.entry.node(), &[moved.parent, parent]);
    Ok(())
}

/// Has two entries change places.
fn exchange<P: Platform>(one: &Side<'_, P>, other: &Side<'_, P>) -> Result<(), Errno> {
    let (first, second) = directories(one.parent, other.parent)?;
    let names = (Name::try_new::<P>(one.name)?, Name::try_new::<P>(other.name)?);
    // Each leaves before another comes, so there is room.
    first.reserve(2)?;
    second.reserve(2)?;
    first.change_both(second, |both| {
        drop(both.first().remove(one.name));
        drop(both.second().remove(other.name));
        one.entry.move_to(other.parent, names.1);
        other.entry.move_to(one.parent, names.0);
        both.second().add(one.entry.clone());
        both.first().add(other.entry.clone());
    });
    let links = |side: &Side<'_, P>| u32::from(side.entry.node().is_directory());
    let (mine, its) = (links(one), links(other));
    one.parent.node().change(|attributes| attributes.links = attributes.links - mine + its);
    other.parent.node().change(|attributes| attributes.links = attributes.links - its + mine);
    note(one.entry.node(), &[one.parent, other.parent]);
    other.entry.node().change(|_| ());
    Ok(())
}

type Names<'e, P> = &'e crate::node::Directory<P>;

fn directories<'e, P: Platform>(
    one: &'e Entry<P>,
    other: &'e Entry<P>,
) -> Result<(Names<'e, P>, Names<'e, P>), Errno> {
    let directory = |entry: &'e Entry<P>| entry.node().directory().ok_or(Errno::EPERM);
    Ok((directory(one)?, directory(other)?))
}

fn note<P: Platform>(node: &Node<P>, parents: &[&Hold<Entry<P>, P>]) {
    node.change(|_| ());
    for parent in parents {
        parent.node().note_change();
    }
}
