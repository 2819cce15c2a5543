//! Files whose content is made when somebody looks, as /proc's.

use std::fmt::Write;
use std::sync::atomic::{AtomicU32, Ordering};

use rumpvm::Hold;
use rumpvm_files::open::Whence;
use rumpvm_files::synthetic::{Named, Template, add};
use rumpvm_files::tree::new_root;
use rumpvm_files::volume::{MountFlags, PROC, Volume};
use rumpvm_files::walk::Last;
use rumpvm_files::{Credentials, Errno, FileType, Node, OpenFlags};

use crate::world::{Home, User, World};

static OWNER: Credentials = Credentials::root();
static READS: AtomicU32 = AtomicU32::new(0);

/// A process, of which only its number is known.
struct Process {
    volume: Hold<Volume<Home>, Home>,
    number: u32,
}

fn template(volume: &Hold<Volume<Home>, Home>, mode: u32) -> Template<'_, Home> {
    Template { volume, number: None, mode, owner: &OWNER }
}

fn status(process: &Process) -> Result<Hold<Node<Home>, Home>, Errno> {
    let number = process.number;
    template(&process.volume, 0o444).file(move |text| {
        let read = READS.fetch_add(1, Ordering::SeqCst);
        writeln!(text, "Pid:\t{number}\nRead:\t{read}").map_err(|_| Errno::ENOMEM)
    })
}

fn exe(process: &Process) -> Result<Hold<Node<Home>, Home>, Errno> {
    template(&process.volume, 0o777).link(|text| Ok(text.push(b"/bin/busybox")?))
}

static NAMES: [Named<Home, Process>; 2] = [
    Named { name: "status", file_type: FileType::Regular, make: status },
    Named { name: "exe", file_type: FileType::Link, make: exe },
];

fn mount(user: &User) -> Hold<Volume<Home>, Home> {
    user.mkdir("/proc").unwrap();
    let volume = user.tree.volume(PROC).unwrap();
    let root = new_root(&volume, 0o555).unwrap();
    let below = user.find("/proc").unwrap();
    user.tree.mount(&below, root, b"proc", MountFlags::empty()).unwrap();
    let process = Process { volume: volume.clone(), number: 7 };
    let node = template(&volume, 0o555).table(process, &NAMES).unwrap();
    add(&user.find("/proc").unwrap(), b"7", node).unwrap();
    volume
}

#[test]
fn a_made_up_file_is_made_by_each_read_from_its_beginning() {
    World::new().run(|user| {
        mount(user);
        let file = user.open("/proc/7/status", OpenFlags::empty()).unwrap();
        let first = user.read(&file, 10).unwrap();
        let rest = user.read(&file, 99).unwrap();
        let text = String::from_utf8([first, rest].concat()).unwrap();
        assert!(text.starts_with("Pid:\t7\nRead:\t"), "{text}");
        assert_eq!(user.read(&file, 9).unwrap(), b"");
        file.seek(0, Whence::Start).unwrap();
        assert_ne!(user.read(&file, 99).unwrap(), text.as_bytes(), "it is made again");
        assert_eq!(user.path(file.entry()), "/proc/7/status");
        assert_eq!(file.stat().mode, 0o100_444);
        assert_eq!(user.open("/proc/7/nothing", OpenFlags::CREATE).err(), Some(Errno::EPERM));
        assert_eq!(user.mkdir("/proc/7/new"), Err(Errno::EPERM));
        assert_eq!(user.walk().unlink(b"/proc/7/status"), Err(Errno::EPERM));
        let exe = user.walk().find(b"/proc/7/exe", Last::Stay).unwrap();
        assert_eq!(exe.read_link(|text| text.to_vec()).unwrap(), b"/bin/busybox");
        let list = user.open("/proc/7", OpenFlags::DIRECTORY).unwrap();
        assert_eq!(list.list(&mut &mut [0; 999][..]), Ok(24 + 24 + 32 + 24));
    });
}

#[test]
fn a_jump_leads_where_no_path_does_and_a_setting_is_told_what_was_written() {
    static SETTING: AtomicU32 = AtomicU32::new(60);
    World::new().run(|user| {
        let volume = mount(user);
        let root = user.find("/proc").unwrap();
        let setting = template(&volume, 0o644).writable(
            |text| writeln!(text, "{}", SETTING.load(Ordering::SeqCst)).map_err(|_| Errno::ENOMEM),
            |bytes| {
                let text = std::str::from_utf8(bytes).map_err(|_| Errno::EINVAL)?;
                let number = text.trim().parse().map_err(|_| Errno::EINVAL)?;
                SETTING.store(number, Ordering::SeqCst);
                Ok(())
            },
        );
        add(&root, b"swappiness", setting.unwrap()).unwrap();
        let open = user.open("/proc/swappiness", OpenFlags::READ_WRITE).unwrap();
        assert_eq!(user.write(&open, b"wrong"), Err(Errno::EINVAL));
        assert_eq!(user.write(&open, b"10\n"), Ok(3));
        assert_eq!(user.content("/proc/swappiness").unwrap(), b"10\n");

        let file = user.create("/file");
        user.write(&file, b"still there").unwrap();
        user.walk().unlink(b"/file").unwrap();
        let jump = template(&volume, 0o777).jump(|text| Ok(text.push(b"/file (deleted)")?), {
            let entry = file.entry().clone();
            move || Ok(Some(entry.clone()))
        });
        add(&root, b"fd", jump.unwrap()).unwrap();
        assert_eq!(user.content("/proc/fd").unwrap(), b"still there");
        let made = user.open("/proc/fd", OpenFlags::CREATE | OpenFlags::READ_WRITE).unwrap();
        assert_eq!(made.node().number(), file.node().number());
    });
}
