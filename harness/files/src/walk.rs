//! Walks: from a path to the entry that it names, as somebody who stands somewhere.
//!
//! Locks: one directory at a time.
//! Owns:  nothing; results hold what they name.
//!
//! The path is taken apart from its beginning. A symbolic link's text takes the link's place in the rest of the path,
//! so links within links need no stack.

use alloc::vec::Vec;

use rumpvm::Hold;
use rumpvm::sync::try_reserve;
use rumpvm_platform::{Platform, Seam};

use crate::access::{Credentials, Rights};
use crate::entry::Entry;
use crate::errno::Errno;
use crate::name::{Name, PATH_MAX};
use crate::node::{Directory, Kind};

/// Most links of one walk.
const LINKS: u32 = 40;

/// Somebody about to walk.
pub struct Walk<'a, P: Platform> {
    /// Where `/` leads, and above which `..` does not.
    pub root: &'a Hold<Entry<P>, P>,
    /// Where relative paths begin.
    pub from: &'a Hold<Entry<P>, P>,
    /// Who walks.
    pub who: &'a Credentials,
}

/// What becomes of a symbolic link at the very end of a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Last {
    /// It is followed.
    Follow,
    /// It is what was meant.
    Stay,
}

/// The last name of a path, and the directory that it is, or would be, in.
pub(crate) struct Spot<P: Platform> {
    /// The directory.
    pub(crate) parent: Hold<Entry<P>, P>,
    /// What is there.
    pub(crate) end: End,
    /// A slash follows the name.
    pub(crate) wants_directory: bool,
}

/// What a path ends with.
#[derive(Debug)]
pub(crate) enum End {
    /// A name.
    Name(Name),
    /// `.`, or nothing after the root.
    Here,
    /// `..`.
    Up,
}

/// How far a walk is to go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Aim {
    /// To what is named.
    Entry(Last),
    /// To the directory that it is in; a link at the end is followed if there is something else behind it.
    Spot(Last),
}

/// Where it has arrived.
enum Arrived<P: Platform> {
    Entry(Hold<Entry<P>, P>),
    Spot(Spot<P>),
}

impl<P: Platform> Walk<'_, P> {
    /// What `path` names. Errors are those of path_resolution(7): [`Errno::ENOENT`], [`Errno::ENOTDIR`],
    /// [`Errno::EACCES`], [`Errno::ELOOP`], [`Errno::ENAMETOOLONG`].
    pub fn find(&self, path: &[u8], last: Last) -> Result<Hold<Entry<P>, P>, Errno> {
        match self.go(path, Aim::Entry(last))? {
            Arrived::Entry(entry) => Ok(entry),
            Arrived::Spot(_) => Err(Errno::ENOENT),
        }
    }

    /// The place of the last name of `path`, whether or not there is anything.
    pub(crate) fn spot(&self, path: &[u8], last: Last) -> Result<Spot<P>, Errno> {
        match self.go(path, Aim::Spot(last))? {
            Arrived::Spot(spot) => Ok(spot),
            Arrived::Entry(parent) => Ok(Spot { parent, end: End::Here, wants_directory: true }),
        }
    }

    /// The same person in the same tree, who stands somewhere else.
    pub fn standing_at<'b>(&'b self, from: &'b Hold<Entry<P>, P>) -> Walk<'b, P> {
        Walk { root: self.root, from, who: self.who }
    }

    fn go(&self, path: &[u8], aim: Aim) -> Result<Arrived<P>, Errno> {
        let mut route = Route::new(path)?;
        let mut at = if route.begins_at_root() { self.root.clone() } else { self.from.clone() };
        let mut links = 0;
        loop {
            let Some(step) = route.next() else {
                if !at.node().is_directory() && route.wants_directory() {
                    return Err(Errno::ENOTDIR);
                }
                return Ok(Arrived::Entry(at));
            };
            if !at.node().is_directory() {
                return Err(Errno::ENOTDIR);
            }
            self.who.check(at.node(), Rights::EXECUTE)?;
            let name = route.bytes(step);
            let is_last = route.is_at_end();
            let wants_directory = route.wants_directory();
            if is_last && name.starts_with(b".") && matches!(aim, Aim::Spot(_)) {
                let end = match name {
                    b"." => Some(End::Here),
                    b".." => Some(End::Up),
                    _ => None,
                };
                if let Some(end) = end {
                    return Ok(Arrived::Spot(Spot { parent: at, end, wants_directory: true }));
                }
            }
            match name {
                b"." => continue,
                b".." => {
                    if !at.is(self.root) {
                        at = Entry::seen(&Entry::parent(&at));
                    }
                    continue;
                }
                _ => {}
            }
            let follows = match aim {
                _ if !is_last => true,
                Aim::Entry(last) => last == Last::Follow || wants_directory,
                // Nothing can be made there, whatever the link says.
                Aim::Spot(last) => last == Last::Follow && !wants_directory,
            };
            let child = match look_up(&at, name)? {
                Some(child) => child,
                None if is_last && matches!(aim, Aim::Spot(_)) => {
                    return spot(at, name, wants_directory);
                }
                None => return Err(Errno::ENOENT),
            };
            match (follows, child.node().kind()) {
                (true, Kind::Link(target)) => {
                    links = another(links)?;
                    if target.starts_with(b"/") {
                        at = self.root.clone();
                    }
                    route.splice::<P>(target)?;
                }
                (true, Kind::Jump(jump)) => {
                    links = another(links)?;
                    match jump.target()? {
                        Some(target) if is_last && matches!(aim, Aim::Spot(_)) => {
                            // There is no name to create or remove behind it.
                            return Ok(Arrived::Entry(target));
                        }
                        Some(target) => at = target,
                        None => {
                            let target = jump.text()?;
                            if target.starts_with(b"/") {
                                at = self.root.clone();
                            }
                            route.splice::<P>(&target)?;
                        }
                    }
                }
                _ if is_last && matches!(aim, Aim::Spot(_)) => {
                    return spot(at, name, wants_directory);
                }
                _ => at = Entry::seen(&child),
            }
        }
    }
}

fn spot<P: Platform>(
    parent: Hold<Entry<P>, P>,
    name: &[u8],
    wants_directory: bool,
) -> Result<Arrived<P>, Errno> {
    let end = End::Name(Name::of_file::<P>(name)?);
    Ok(Arrived::Spot(Spot { parent, end, wants_directory }))
}

fn another(links: u32) -> Result<u32, Errno> {
    if links == LINKS { Err(Errno::ELOOP) } else { Ok(links + 1) }
}

/// The entry called `name` in the directory `at`; what is mounted there is not looked at.
pub(crate) fn look_up<P: Platform>(
    at: &Hold<Entry<P>, P>,
    name: &[u8],
) -> Result<Option<Hold<Entry<P>, P>>, Errno> {
    if name.len() > crate::name::NAME_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    match at.node().kind() {
        Kind::Directory(directory) => Ok(directory.get(name)),
        Kind::Listing(listing) => match listing.lookup(name)? {
            Some(node) => Ok(Some(Entry::child(at, Name::try_new::<P>(name)?, node)?)),
            None => Ok(None),
        },
        _ => Err(Errno::ENOTDIR),
    }
}

/// The directory in memory at `at`, in which `name` is to go or to change; what is made up does not change.
pub(crate) fn changeable<'e, P: Platform>(
    at: &'e Hold<Entry<P>, P>,
    name: &[u8],
) -> Result<&'e Directory<P>, Errno> {
    match at.node().kind() {
        Kind::Directory(directory) => Ok(directory),
        Kind::Listing(_) => match look_up(at, name)? {
            Some(_) => Err(Errno::EPERM),
            None => Err(Errno::ENOENT),
        },
        _ => Err(Errno::ENOTDIR),
    }
}

/// What is left of a path.
struct Route<'p> {
    given: &'p [u8],
    /// The rest once links have come in between; empty before.
    made: Vec<u8>,
    at: usize,
}

/// Where in the route a name is.
#[derive(Clone, Copy)]
struct Step {
    from: usize,
    to: usize,
}

impl<'p> Route<'p> {
    fn new(given: &'p [u8]) -> Result<Self, Errno> {
        match given.len() {
            0 => Err(Errno::ENOENT),
            PATH_MAX.. => Err(Errno::ENAMETOOLONG),
            _ => Ok(Self { given, made: Vec::new(), at: 0 }),
        }
    }

    fn all(&self) -> &[u8] {
        if self.made.is_empty() { self.given } else { &self.made }
    }

    fn begins_at_root(&self) -> bool {
        self.given.starts_with(b"/")
    }

    fn bytes(&self, step: Step) -> &[u8] {
        &self.all()[step.from..step.to]
    }

    /// The next name, if there is one.
    fn next(&mut self) -> Option<Step> {
        let all = self.all();
        let from = self.at + all[self.at..].iter().position(|byte| *byte != b'/')?;
        let to = all[from..].iter().position(|byte| *byte == b'/').map_or(all.len(), |n| from + n);
        self.at = to;
        Some(Step { from, to })
    }

    /// Whether no further name follows.
    fn is_at_end(&self) -> bool {
        self.all()[self.at..].iter().all(|byte| *byte == b'/')
    }

    /// Whether a slash follows the name that came last.
    fn wants_directory(&self) -> bool {
        self.all().get(self.at) == Some(&b'/')
    }

    /// Puts the text of a link before the rest.
    fn splice<S: Seam>(&mut self, target: &[u8]) -> Result<(), Errno> {
        let rest = &self.all()[self.at..];
        if target.is_empty() {
            return Err(Errno::ENOENT);
        }
        if target.len() + rest.len() >= PATH_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let mut made = Vec::new();
        try_reserve::<_, S>(&mut made, target.len() + rest.len())?;
        made.extend_from_slice(target);
        made.extend_from_slice(rest);
        (self.made, self.at) = (made, 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_falls_into_its_names_whatever_slashes_are_between() {
        let mut route = Route::new(b"//usr///bin/sh//").unwrap();
        let mut names = Vec::new();
        while let Some(step) = route.next() {
            names.push((route.bytes(step).to_vec(), route.is_at_end(), route.wants_directory()));
        }
        let expected = [(b"usr".to_vec(), false, true), (b"bin".to_vec(), false, true)];
        assert_eq!(names[..2], expected);
        assert_eq!(names[2], (b"sh".to_vec(), true, true));
        assert_eq!(Route::new(b"").err(), Some(Errno::ENOENT));
    }
}
