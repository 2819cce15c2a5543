//! fd and fdinfo: what a process has open.

use rumpvm::Hold;
use rumpvm_bare::Bare;
use rumpvm_files::node::{Item, Listing};
use rumpvm_files::open::Whence;
use rumpvm_files::{Errno, FileType, Node, Open};

use super::process::About;
use super::{Made, Out, decimal, number, put, template};
use crate::linux::process::Process;
use crate::linux::system::system;

/// What is shown of each.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Link,
    Info,
}

struct Descriptors(About, What);

pub(super) fn links(about: &About) -> Made {
    template(&about.volume, 0o500).directory(Descriptors(about.clone(), What::Link))
}

pub(super) fn infos(about: &About) -> Made {
    template(&about.volume, 0o500).directory(Descriptors(about.clone(), What::Info))
}

/// The open file of that number.
fn open(process: &Process, number: u32) -> Result<Hold<Open<Bare>, Bare>, Errno> {
    let table = process.files.lock().clone().ok_or(Errno::ENOENT)?;
    table.get(number).map_err(|_| Errno::ENOENT)
}

fn link(about: &About, number: u32) -> Made {
    let (process, same) = (about.process.clone(), about.process.clone());
    let text = move |out: &mut Out| {
        let open = open(&process, number)?;
        Ok(out.push(&system().path_of(open.entry())?)?)
    };
    let target = move || Ok(Some(open(&same, number)?.entry().clone()));
    template(&about.volume, 0o700).jump(text, target)
}

fn info(about: &About, number: u32) -> Made {
    let process = about.process.clone();
    super::file(&about.volume, move |out| {
        let open = open(&process, number)?;
        let at = open.seek(0, Whence::Here).unwrap_or(0);
        put(out, format_args!("pos:\t{at}\nflags:\t0{:o}\nmnt_id:\t1\n", open.flags().bits()))
    })
}

impl Listing<Bare> for Descriptors {
    fn lookup(&self, name: &[u8]) -> Result<Option<Hold<Node<Bare>, Bare>>, Errno> {
        let wanted = if name == b"0" { Some(0) } else { number(name) };
        let Some(number) = wanted else { return Ok(None) };
        if open(&self.0.process, number).is_err() {
            return Ok(None);
        }
        match self.1 {
            What::Link => link(&self.0, number).map(Some),
            What::Info => info(&self.0, number).map(Some),
        }
    }

    fn list(&self, after: u64, each: &mut dyn FnMut(Item<'_>) -> bool) -> Result<(), Errno> {
        let Some(table) = self.0.process.files.lock().clone() else { return Ok(()) };
        let mut from = after as u32;
        while let Some((number, _)) = table.next(from) {
            from = number + 1;
            let mut digits = [0; 10];
            let file_type = if self.1 == What::Link { FileType::Link } else { FileType::Regular };
            let name = decimal(number, &mut digits);
            if !each(Item { cookie: u64::from(from), number: u64::from(from), file_type, name }) {
                break;
            }
        }
        Ok(())
    }
}
