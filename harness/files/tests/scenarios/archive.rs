//! cpio archives: what an initial ramdisk brings.

use rumpvm_files::cpio::{Trouble, Unpacked, Why, unpack};
use rumpvm_files::walk::Last;
use rumpvm_files::{Errno, Kind};

use crate::world::World;

/// One entry as `cpio -o -H newc` writes it.
fn entry(number: u32, mode: u32, links: u32, device: u32, name: &str, data: &[u8]) -> Vec<u8> {
    let named = name.len() as u32 + 1;
    let fields = [
        number,
        mode,
        7,
        8,
        links,
        99,
        data.len() as u32,
        0,
        0,
        device >> 8,
        device & 255,
        named,
        0,
    ];
    let mut bytes = b"070701".to_vec();
    for field in fields {
        bytes.extend(format!("{field:08x}").bytes());
    }
    bytes.extend(name.bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn trailer() -> Vec<u8> {
    entry(0, 0, 1, 0, "TRAILER!!!", b"")
}

#[test]
fn an_archive_becomes_the_tree_that_it_was_made_from() {
    World::new().run(|user| {
        let archive = [
            entry(1, 0o040_755, 3, 0, ".", b""),
            entry(2, 0o040_711, 2, 0, "bin", b""),
            entry(3, 0o100_755, 2, 0, "bin/busybox", b""),
            entry(3, 0o100_755, 2, 0, "bin/sh", b"\x7fELF and so on"),
            entry(4, 0o120_777, 1, 0, "bin/ls", b"busybox"),
            entry(5, 0o020_666, 1, 0x103, "dev/null", b""),
            trailer(),
            vec![0; 512],
            entry(3, 0o100_644, 1, 0, "etc/motd", b"second archive\n"),
            trailer(),
        ]
        .concat();
        let unpacked = unpack(&archive, user.tree.root());
        assert_eq!(unpacked, Ok(Unpacked { entries: 7, bytes: 36 }));
        assert_eq!(user.content("/bin/ls").unwrap(), b"\x7fELF and so on");
        let shell = user.find("/bin/sh").unwrap();
        assert!(rumpvm::Hold::is(shell.node(), user.find("/bin/busybox").unwrap().node()));
        let attributes = shell.node().attributes();
        assert_eq!((attributes.mode, attributes.links, attributes.user), (0o755, 2, 7));
        assert_eq!(attributes.modified.seconds, 99);
        assert!(matches!(user.find("/dev/null").unwrap().node().kind(), Kind::Device(0x103)));
        assert_eq!(user.content("/etc/motd").unwrap(), b"second archive\n");
        assert_eq!(user.find("/").unwrap().node().attributes().group, 8);
    });
}

#[test]
fn no_name_leads_out_and_later_entries_replace_earlier_ones() {
    World::new().run(|user| {
        user.mkdir("/target").unwrap();
        let target = user.find("/target").unwrap();
        let archive = [
            entry(1, 0o100_644, 1, 0, "/../../escape", b"x"),
            entry(2, 0o120_777, 1, 0, "up", b"/.."),
            entry(3, 0o100_644, 1, 0, "up/file", b"y"),
            entry(4, 0o100_644, 1, 0, "up/file", b"replaced"),
            trailer(),
        ]
        .concat();
        unpack(&archive, &target).unwrap();
        assert_eq!(user.content("/target/escape").unwrap(), b"x");
        assert_eq!(user.content("/target/file").unwrap(), b"replaced");
        assert_eq!(user.walk().find(b"/escape", Last::Stay).err(), Some(Errno::ENOENT));
    });
}

#[test]
fn a_damaged_archive_is_told_where() {
    World::new().run(|user| {
        let good = entry(1, 0o100_644, 1, 0, "file", b"data");
        let root = user.tree.root();
        let trouble = |bytes: &[u8]| unpack(bytes, root).err();
        let at = good.len();
        let garbage = [good.clone(), b"garbage that is long enough".repeat(9)].concat();
        assert_eq!(trouble(&garbage), Some(Trouble { at, why: Why::Malformed }));
        for cut in [50, 112, good.len() - 3] {
            assert_eq!(trouble(&good[..cut]), Some(Trouble { at: 0, why: Why::Short }));
        }
        let mut huge = good.clone();
        huge[94..102].copy_from_slice(b"ffffffff");
        assert_eq!(trouble(&huge), Some(Trouble { at: 0, why: Why::Short }));
        let into_file = entry(2, 0o100_644, 1, 0, "file/x", b"");
        let why = Why::Refused(Errno::ENOTDIR);
        let both = [good, into_file].concat();
        assert_eq!(trouble(&both), Some(Trouble { at, why }));
    });
}
