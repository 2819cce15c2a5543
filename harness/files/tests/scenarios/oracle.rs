//! Linux is the oracle: random calls on names, on a file system in memory of this host and on ours, give the same results
//! and error numbers, and leave the same tree.
//!
//! No path leads out of the folder that the host's side is given: `..` comes only after a name, and links lead down.

use std::ffi::OsString;
use std::fmt::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rumpvm_files::open::Whence;
use rumpvm_files::stat::Stat;
use rumpvm_files::tree::RenameFlags;
use rumpvm_files::walk::Last;
use rumpvm_files::{Errno, OpenFlags};
use rustix::fs::{self, AtFlags, Dir, Mode, OFlags, SeekFrom};

use crate::world::{User, World};

const PROGRAMS: u64 = 1_000;
const STEPS: u32 = 120;

/// What a call gave: a few words, or an error number.
type Given = Result<String, i32>;

/// Both sides do what it says.
#[derive(Clone, Debug)]
enum Step {
    Mkdir(String),
    Rmdir(String),
    Unlink(String),
    Link(String, String),
    Symlink(&'static str, String),
    Rename(String, String, u32),
    Open(String, u32, u8, usize),
    Truncate(String, u64),
    Mkfifo(String),
    Stat(String, bool),
    Readlink(String),
    List(String),
    Read(String, u64),
}

struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn path(&mut self) -> String {
        const NAMES: [&str; 4] = ["a", "b", "c", "d"];
        let mut path = String::new();
        for depth in 0..=self.below(3) {
            if depth > 0 {
                path += ["/", "/", "//", "/./"][self.below(4) as usize];
            }
            path += NAMES[self.below(4) as usize];
        }
        path + ["", "", "", "", "", "", "/", "/.", "/.."][self.below(9) as usize]
    }

    fn step(&mut self) -> Step {
        const TARGETS: [&str; 6] = ["a", "b", "c/d", "./b", "a/b/", "nothing"];
        // As open(2) has them: create, exclusive, truncate, append, directory, no follow, write, both.
        const FLAGS: [u32; 8] = [0o100, 0o300, 0o1000, 0o2000, 0o200_000, 0o400_000, 1, 2];
        match self.below(20) {
            0..3 => Step::Mkdir(self.path()),
            3 => Step::Rmdir(self.path()),
            4 => Step::Unlink(self.path()),
            5 => Step::Link(self.path(), self.path()),
            6 => Step::Symlink(TARGETS[self.below(6) as usize], self.path()),
            7..10 => {
                let flags = [0, 0, 0, 1, 2, 3][self.below(6) as usize];
                Step::Rename(self.path(), self.path(), flags)
            }
            10..14 => {
                let flags = (0..3).fold(0, |flags, _| flags | FLAGS[self.below(8) as usize]);
                let length = self.below(9_000) as usize;
                Step::Open(self.path(), flags, self.below(256) as u8, length)
            }
            14 => Step::Truncate(self.path(), self.below(20_000)),
            15 => Step::Mkfifo(self.path()),
            16 => Step::Stat(self.path(), self.below(2) == 0),
            17 => Step::Readlink(self.path()),
            18 => Step::List(self.path()),
            _ => Step::Read(self.path(), self.below(10_000)),
        }
    }
}

/// The host's side.
struct Host {
    at: OwnedFd,
}

impl Host {
    fn open(&self, path: &str, flags: u32) -> rustix::io::Result<OwnedFd> {
        // What a pipe's other side does not do must not stop us.
        let flags = OFlags::from_bits_retain(flags) | OFlags::NONBLOCK | OFlags::CLOEXEC;
        fs::openat(&self.at, path, flags, Mode::from(0o644))
    }

    fn carry_out(&self, step: &Step) -> rustix::io::Result<String> {
        let at = &self.at;
        let nothing = String::new();
        Ok(match step {
            Step::Mkdir(path) => fs::mkdirat(at, path, Mode::from(0o755)).map(|()| nothing)?,
            Step::Rmdir(path) => fs::unlinkat(at, path, AtFlags::REMOVEDIR).map(|()| nothing)?,
            Step::Unlink(path) => fs::unlinkat(at, path, AtFlags::empty()).map(|()| nothing)?,
            Step::Link(old, new) => {
                fs::linkat(at, old, at, new, AtFlags::empty()).map(|()| nothing)?
            }
            Step::Symlink(target, path) => fs::symlinkat(*target, at, path).map(|()| nothing)?,
            Step::Rename(old, new, flags) => {
                let flags = fs::RenameFlags::from_bits_retain(*flags);
                fs::renameat_with(at, old, at, new, flags).map(|()| nothing)?
            }
            Step::Open(path, flags, byte, length) => {
                let file = self.open(path, *flags)?;
                let wrote = rustix::io::write(&file, &vec![*byte; *length])?;
                let here = fs::seek(&file, SeekFrom::Current(0))?;
                format!("wrote {wrote}, at {here}")
            }
            Step::Truncate(path, bytes) => {
                fs::ftruncate(self.open(path, 2)?, *bytes).map(|()| nothing)?
            }
            Step::Mkfifo(path) => {
                let mode = Mode::from(0o600);
                fs::mknodat(at, path, fs::FileType::Fifo, mode, 0).map(|()| nothing)?
            }
            Step::Stat(path, follows) => {
                let flags = if *follows { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
                let stat = fs::statat(at, path, flags)?;
                described(stat.st_mode, stat.st_nlink as u64, stat.st_size as u64)
            }
            Step::Readlink(path) => {
                let text = fs::readlinkat(at, path, Vec::new())?;
                text.into_string().expect("a link of ours")
            }
            Step::List(path) => {
                let directory = Dir::new(self.open(path, 0o200_000)?)?;
                let names = directory.map(|entry| Ok(entry?.file_name().to_bytes().to_vec()));
                listed(names.collect::<rustix::io::Result<_>>()?)
            }
            Step::Read(path, offset) => {
                let mut bytes = vec![0; 5_000];
                let count = rustix::io::pread(self.open(path, 0)?, &mut bytes, *offset)?;
                read(&bytes[..count])
            }
        })
    }
}

/// Ours.
fn carry_out(user: &User, step: &Step) -> Result<String, Errno> {
    let walk = user.walk();
    let nothing = String::new();
    let open = |path: &str, flags: u32| {
        let flags = OpenFlags::from_bits_retain(flags) | OpenFlags::NONBLOCK;
        walk.open(path.as_bytes(), flags, 0o644, &user.waker)
    };
    Ok(match step {
        Step::Mkdir(path) => walk.mkdir(path.as_bytes(), 0o755).map(|_| nothing)?,
        Step::Rmdir(path) => walk.rmdir(path.as_bytes()).map(|()| nothing)?,
        Step::Unlink(path) => walk.unlink(path.as_bytes()).map(|()| nothing)?,
        Step::Link(old, new) => {
            let old = walk.find(old.as_bytes(), Last::Stay)?;
            walk.link(&old, new.as_bytes()).map(|()| nothing)?
        }
        Step::Symlink(target, path) => {
            walk.symlink(target.as_bytes(), path.as_bytes()).map(|_| nothing)?
        }
        Step::Rename(old, new, flags) => {
            let flags = RenameFlags::from_bits_retain(*flags);
            walk.rename(old.as_bytes(), &walk, new.as_bytes(), flags).map(|()| nothing)?
        }
        Step::Open(path, flags, byte, length) => {
            let file = open(path, *flags)?;
            let wrote = user.write(&file, &vec![*byte; *length])?;
            let here = file.seek(0, Whence::Here)?;
            format!("wrote {wrote}, at {here}")
        }
        Step::Truncate(path, bytes) => open(path, 2)?.truncate(*bytes).map(|()| nothing)?,
        Step::Mkfifo(path) => walk.mknod(path.as_bytes(), 0o010_600, 0).map(|_| nothing)?,
        Step::Stat(path, follows) => {
            let last = if *follows { Last::Follow } else { Last::Stay };
            let stat = Stat::of(walk.find(path.as_bytes(), last)?.node());
            described(stat.mode, u64::from(stat.attributes.links), stat.size)
        }
        Step::Readlink(path) => {
            let entry = walk.find(path.as_bytes(), Last::Stay)?;
            entry.read_link(|text| String::from_utf8_lossy(text).into_owned())?
        }
        Step::List(path) => {
            let file = open(path, 0o200_000)?;
            let mut bytes = vec![0; 1 << 15];
            let count = file.list(&mut &mut bytes[..])?;
            let (mut rest, mut names) = (&bytes[..count], Vec::new());
            while !rest.is_empty() {
                let length = usize::from(u16::from_le_bytes([rest[16], rest[17]]));
                let name = rest[19..length].split(|byte| *byte == 0).next();
                names.push(name.expect("a name").to_vec());
                rest = &rest[length..];
            }
            listed(names)
        }
        Step::Read(path, offset) => {
            let mut bytes = vec![0; 5_000];
            let count = open(path, 0)?.read_at(*offset, &mut &mut bytes[..], &user.waker)?;
            read(&bytes[..count])
        }
    })
}

/// Not the size of a directory, which is each file system's own.
fn described(mode: u32, links: u64, size: u64) -> String {
    let is_directory = mode & 0o170_000 == 0o040_000;
    format!("{mode:o}, {links} links, {} bytes", if is_directory { 0 } else { size })
}

fn listed(mut names: Vec<Vec<u8>>) -> String {
    names.sort();
    let names: Vec<_> = names.into_iter().map(OsString::from_vec).collect();
    format!("{names:?}")
}

fn read(bytes: &[u8]) -> String {
    let sum = bytes.iter().fold(7_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(*byte));
    format!("{} bytes, sum {sum}", bytes.len())
}

#[test]
fn random_calls_on_names_end_as_on_linux() {
    let memory = Path::new("/dev/shm");
    let is_in_memory = fs::statfs(memory).is_ok_and(|statfs| statfs.f_type == 0x0102_1994);
    if !is_in_memory {
        // Other file systems count links, and refuse flags, in their own ways.
        println!("this host has no file system in memory at {memory:?}: nothing is compared");
        return;
    }
    for seed in 0..PROGRAMS {
        let folder = tempfile::tempdir_in(memory).expect("a folder in memory");
        let at = std::fs::File::open(folder.path()).expect("the folder");
        let host = Host { at: at.into() };
        World::with_memory(8 << 20).run(move |user| {
            let mut chance = Chance(seed);
            let mut story = String::new();
            for _ in 0..STEPS {
                let step = chance.step();
                let theirs: Given = host.carry_out(&step).map_err(|error| error.raw_os_error());
                let ours: Given = carry_out(user, &step).map_err(Errno::number);
                if ours.is_ok() {
                    writeln!(story, "{step:?}").expect("memory for a story");
                }
                assert_eq!(ours, theirs, "seed {seed}, {step:?}, after\n{story}");
            }
        });
    }
}
