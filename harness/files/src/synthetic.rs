//! Files whose content is made when somebody looks: what `/proc` consists of.
//!
//! A [`Template`] says where such a node is and who owns it; its methods make one. A file's text is made by a read from its
//! beginning and kept for the reads that go on, as Linux does. While it is made only the open file's position is locked; see
//! `class` for the ranks of locks that may be taken.

use alloc::boxed::Box;
use alloc::vec::Vec;

use rumpvm::Hold;
use rumpvm::sync::{Mutex, try_box};
use rumpvm_platform::Platform;

use crate::access::{Credentials, Rights};
use crate::class;
use crate::entry::Entry;
use crate::errno::Errno;
use crate::name::{Name, Text};
use crate::node::{Call, FileType, Item, Jump, Kind, Listing, Node, Special};
use crate::transfer::{Sink, Source};
use crate::volume::Volume;

/// A node.
type Made<P> = Result<Hold<Node<P>, P>, Errno>;

/// What a node that is made up has in common with others.
pub struct Template<'a, P: Platform> {
    /// Where it is.
    pub volume: &'a Hold<Volume<P>, P>,
    /// Its number, if it is to have the same one whenever it is made.
    pub number: Option<u64>,
    /// Permissions.
    pub mode: u32,
    /// Whose it is.
    pub owner: &'a Credentials,
}

impl<P: Platform> Template<'_, P> {
    /// A file that `make` writes.
    pub fn file(
        &self,
        make: impl Fn(&mut Text<P>) -> Result<(), Errno> + Send + Sync + 'static,
    ) -> Made<P> {
        self.writable(make, |_| Err(Errno::EACCES))
    }

    /// A file that `make` writes, and `store` is told what a program writes to it, up to a page at a time.
    pub fn writable(
        &self,
        make: impl Fn(&mut Text<P>) -> Result<(), Errno> + Send + Sync + 'static,
        store: impl Fn(&[u8]) -> Result<(), Errno> + Send + Sync + 'static,
    ) -> Made<P> {
        let contents = Contents { make, store };
        let shared: Hold<_, P> = Hold::try_new(contents)?;
        let special: Box<dyn Special<P>> = try_box::<_, P>(File(shared))?;
        self.special(FileType::Regular, special)
    }

    /// A file with ways of its own to be read and written.
    pub fn special(&self, file_type: FileType, special: Box<dyn Special<P>>) -> Made<P> {
        self.node(Kind::Special(special), file_type)
    }

    /// A directory.
    pub fn directory(&self, listing: impl Listing<P> + 'static) -> Made<P> {
        let listing: Box<dyn Listing<P>> = try_box::<_, P>(listing)?;
        self.node(Kind::Listing(listing), FileType::Directory)
    }

    /// A directory of these names, each of which is made when it is looked up.
    pub fn table<T: Send + Sync + 'static>(&self, of: T, names: &'static [Named<P, T>]) -> Made<P> {
        self.directory(Table { of, names })
    }

    /// A link whose text is made.
    pub fn link(
        &self,
        make: impl Fn(&mut Text<P>) -> Result<(), Errno> + Send + Sync + 'static,
    ) -> Made<P> {
        self.jump(make, || Ok(None))
    }

    /// A link whose text is for readlink(2) only: walks go to what `target` says.
    pub fn jump(
        &self,
        make: impl Fn(&mut Text<P>) -> Result<(), Errno> + Send + Sync + 'static,
        target: impl Fn() -> Result<Option<Hold<Entry<P>, P>>, Errno> + Send + Sync + 'static,
    ) -> Made<P> {
        let jump: Box<dyn Jump<P>> = try_box::<_, P>(Link { make, target })?;
        self.node(Kind::Jump(jump), FileType::Link)
    }

    fn node(&self, kind: Kind<P>, file_type: FileType) -> Made<P> {
        let number = self.number.unwrap_or_else(|| self.volume.number());
        Ok(Node::numbered(number, self.volume, kind, file_type, self.mode, self.owner)?)
    }
}

/// What a file is made by.
struct Contents<M, S> {
    make: M,
    store: S,
}

/// A file that nobody has open.
struct File<M, S, P: Platform>(Hold<Contents<M, S>, P>);

/// An open file, with the text that its last read from the beginning has made.
struct OpenFile<M, S, P: Platform> {
    contents: Hold<Contents<M, S>, P>,
    text: Mutex<Vec<u8>, P>,
}

impl<M, S, P: Platform> Special<P> for File<M, S, P>
where
    M: Fn(&mut Text<P>) -> Result<(), Errno> + Send + Sync + 'static,
    S: Fn(&[u8]) -> Result<(), Errno> + Send + Sync + 'static,
{
    fn opened(&self, _: &Call<'_, P>, _: Rights) -> Result<Option<Box<dyn Special<P>>>, Errno> {
        let text = Mutex::new(&class::STREAM, Vec::new());
        Ok(Some(try_box::<_, P>(OpenFile { contents: self.0.clone(), text })?))
    }
}

impl<M, S, P: Platform> Special<P> for OpenFile<M, S, P>
where
    M: Fn(&mut Text<P>) -> Result<(), Errno> + Send + Sync + 'static,
    S: Fn(&[u8]) -> Result<(), Errno> + Send + Sync + 'static,
{
    fn read(&self, _: &Call<'_, P>, at: u64, into: &mut dyn Sink) -> Result<usize, Errno> {
        if at == 0 {
            let mut text = Text::default();
            (self.contents.make)(&mut text)?;
            *self.text.lock() = text.into_bytes();
        }
        let text = self.text.lock();
        let rest = usize::try_from(at).ok().and_then(|at| text.get(at..)).unwrap_or_default();
        if rest.is_empty() || into.room() == 0 { Ok(0) } else { into.put(rest) }
    }

    fn write(&self, _: &Call<'_, P>, _: u64, from: &mut dyn Source) -> Result<usize, Errno> {
        from.take_with(usize::MAX, &mut |bytes| {
            (self.contents.store)(bytes)?;
            Ok(bytes.len())
        })
    }

    fn has_position(&self) -> bool {
        true
    }
}

/// One name of a [`Template::table`], what it is, and how it is made for the `T` whose table it is.
pub struct Named<P: Platform, T> {
    /// The name.
    pub name: &'static str,
    /// What it is.
    pub file_type: FileType,
    /// Makes it.
    pub make: fn(&T) -> Made<P>,
}

struct Table<P: Platform, T: 'static> {
    of: T,
    names: &'static [Named<P, T>],
}

impl<P: Platform, T: Send + Sync + 'static> Listing<P> for Table<P, T> {
    fn lookup(&self, name: &[u8]) -> Result<Option<Hold<Node<P>, P>>, Errno> {
        let named = self.names.iter().find(|named| named.name.as_bytes() == name);
        named.map(|named| (named.make)(&self.of)).transpose()
    }

    fn list(&self, after: u64, each: &mut dyn FnMut(Item<'_>) -> bool) -> Result<(), Errno> {
        for (cookie, named) in (1..).zip(self.names).skip(after as usize) {
            let Named { name, file_type, .. } = *named;
            // What has no node yet has no number; nobody looks at it but to see that it is not 0.
            if !each(Item { cookie, number: cookie, file_type, name: name.as_bytes() }) {
                break;
            }
        }
        Ok(())
    }
}

struct Link<M, T> {
    make: M,
    target: T,
}

impl<M, T, P: Platform> Jump<P> for Link<M, T>
where
    M: Fn(&mut Text<P>) -> Result<(), Errno> + Send + Sync,
    T: Fn() -> Result<Option<Hold<Entry<P>, P>>, Errno> + Send + Sync,
{
    fn text(&self) -> Result<Vec<u8>, Errno> {
        let mut text = Text::default();
        (self.make)(&mut text)?;
        Ok(text.into_bytes())
    }

    fn target(&self) -> Result<Option<Hold<Entry<P>, P>>, Errno> {
        (self.target)()
    }
}

/// A name and a node for whoever puts them into a directory in memory.
pub fn add<P: Platform>(
    directory: &Hold<Entry<P>, P>,
    name: &[u8],
    node: Hold<Node<P>, P>,
) -> Result<Hold<Entry<P>, P>, Errno> {
    let names = directory.node().directory().ok_or(Errno::ENOTDIR)?;
    let _changes = directory.node().volume().changes().lock();
    if names.get(name).is_some() {
        return Err(Errno::EEXIST);
    }
    names.reserve(1)?;
    let entry = Entry::child(directory, Name::of_file::<P>(name)?, node)?;
    names.add(entry.clone());
    Ok(entry)
}
