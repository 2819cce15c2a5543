//! Open files: flags, positions, lengths, holes, times.

use rumpvm_files::executing::Executing;
use rumpvm_files::open::Whence;
use rumpvm_files::stat::Stat;
use rumpvm_files::{Errno, OpenFlags, Rights};

use crate::world::World;

#[test]
fn an_open_file_does_what_it_was_opened_for_and_no_more() {
    World::new().run(|user| {
        user.create("/file");
        let read = user.open("/file", OpenFlags::empty()).unwrap();
        let write = user.open("/file", OpenFlags::WRITE_ONLY).unwrap();
        assert_eq!(user.write(&read, b"x"), Err(Errno::EBADF));
        assert_eq!(user.read(&write, 1), Err(Errno::EBADF));
        assert_eq!(read.truncate(0), Err(Errno::EINVAL));
        let path = user.open("/file", OpenFlags::PATH).unwrap();
        assert_eq!(user.read(&path, 1), Err(Errno::EBADF));
        assert_eq!(path.stat().number, read.stat().number);
        assert_eq!(path.rights(), Rights::empty());
        assert_eq!(user.open("/", OpenFlags::WRITE_ONLY).err(), Some(Errno::EISDIR));
        assert_eq!(user.open("/file", OpenFlags::DIRECTORY).err(), Some(Errno::ENOTDIR));
        let directory = user.open("/", OpenFlags::DIRECTORY).unwrap();
        assert_eq!(user.read(&directory, 1), Err(Errno::EISDIR));
    });
}

#[test]
fn copies_of_a_descriptor_share_a_position_and_other_opens_do_not() {
    World::new().run(|user| {
        let one = user.create("/file");
        let (copy, other) = (one.clone(), user.create("/file"));
        user.write(&one, b"0123456789").unwrap();
        assert_eq!(copy.seek(-4, Whence::End), Ok(6));
        assert_eq!(user.read(&one, 2).unwrap(), b"67");
        assert_eq!(user.read(&other, 2).unwrap(), b"01");
        assert_eq!(one.seek(-9, Whence::Here), Err(Errno::EINVAL));
        assert_eq!(one.seek(100, Whence::Start), Ok(100));
        assert_eq!(user.read(&one, 2).unwrap(), b"");
        assert_eq!(one.seek(3, Whence::Hole), Ok(10));
        assert_eq!(one.seek(10, Whence::Data), Err(Errno::ENXIO));
        assert_eq!(one.seek(i64::MAX, Whence::End), Err(Errno::EINVAL));
    });
}

#[test]
fn who_appends_writes_at_the_end_wherever_he_stands() {
    World::new().run(|user| {
        let first = user.create("/log");
        let flags = OpenFlags::WRITE_ONLY | OpenFlags::APPEND;
        let append = user.open("/log", flags).unwrap();
        user.write(&first, b"one ").unwrap();
        user.write(&append, b"two ").unwrap();
        append.seek(0, Whence::Start).unwrap();
        user.write(&append, b"three").unwrap();
        assert_eq!(user.content("/log").unwrap(), b"one two three");
        append.set_flags(OpenFlags::empty());
        append.write_at(0, &mut &b"ONE"[..], &user.waker).unwrap();
        assert_eq!(user.content("/log").unwrap(), b"ONE two three");
        assert_eq!(append.flags() & OpenFlags::APPEND, OpenFlags::empty());
    });
}

#[test]
fn lines_that_threads_append_are_all_there_and_whole() {
    const LINES: usize = 200;
    World::new().run(|user| {
        let log = user.create("/log");
        for thread in 0..4 {
            let log = log.clone();
            user.spawn(move |user| {
                for _ in 0..LINES {
                    user.write(&log, &[b'a' + thread; 3000]).unwrap();
                }
            });
        }
        while log.size() < 4 * 3000 * LINES as u64 {
            user.home.yield_now();
        }
        let bytes = user.content("/log").unwrap();
        assert!(bytes.chunks(3000).all(|piece| piece.iter().all(|byte| *byte == piece[0])));
    });
}

#[test]
fn a_file_is_cut_off_extended_and_punched_and_reads_zeros_there() {
    World::new().run(|user| {
        let file = user.create("/file");
        user.write(&file, &[7; 10_000]).unwrap();
        file.truncate(5).unwrap();
        file.truncate(9_000).unwrap();
        let mut expected = vec![0; 9_000];
        expected[..5].fill(7);
        assert_eq!(user.content("/file").unwrap(), expected);
        file.write_at(0, &mut &[9; 9_000][..], &user.waker).unwrap();
        file.allocate(3, 4_096, 4_096).unwrap();
        let blocks = file.stat().blocks;
        expected.fill(9);
        expected[4_096..8_192].fill(0);
        assert_eq!(user.content("/file").unwrap(), expected);
        assert_eq!(blocks, 16, "two pages are left");
        file.allocate(0, 20_000, 10).unwrap();
        assert_eq!(file.size(), 20_010);
        file.allocate(1, 50_000, 10).unwrap();
        assert_eq!(file.size(), 20_010, "the size is kept");
        assert_eq!(file.allocate(8, 0, 4096), Err(Errno::EOPNOTSUPP));
        assert_eq!(file.allocate(0, 0, 0), Err(Errno::EINVAL));
        let truncate = OpenFlags::TRUNCATE | OpenFlags::WRITE_ONLY;
        assert_eq!(user.open("/file", truncate).unwrap().size(), 0);
        let end = i64::MAX as u64;
        assert_eq!(file.write_at(end, &mut &b"x"[..], &user.waker), Err(Errno::EFBIG));
    });
}

#[test]
fn a_file_that_does_not_fit_is_no_space_and_keeps_what_did() {
    World::with_memory(8 << 20).run(|user| {
        let free = user.free_frames();
        let file = user.create("/big");
        let piece = vec![1; 1 << 20];
        let mut written = 0;
        let error = loop {
            match user.write(&file, &piece) {
                Ok(count) => written += count as u64,
                Err(error) => break error,
            }
        };
        assert_eq!(error, Errno::ENOSPC);
        assert_eq!(file.size(), written);
        assert!(written > 6 << 20, "{written}");
        assert!(user.free_frames() > 0, "some memory is left to programs");
        assert_eq!(file.allocate(0, 0, 1 << 30), Err(Errno::ENOSPC));
        user.walk().unlink(b"/big").unwrap();
        drop(file);
        assert_eq!(user.free_frames(), free);
        assert_eq!(user.write(&user.create("/small"), b"fits"), Ok(4));
    });
}

#[test]
fn stat_is_laid_out_as_linux_has_it() {
    World::new().run(|user| {
        let file = user.create("/file");
        user.write(&file, &[1; 5_000]).unwrap();
        file.entry().chmod(&user.who, 0o640).unwrap();
        let stat = file.stat();
        let bytes = stat.bytes();
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let half = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!((word(0), word(8), word(16)), (1, stat.number, 1));
        assert_eq!((half(24), half(28), half(32)), (0o100_640, 0, 0));
        assert_eq!((word(48), word(56), word(64)), (5_000, 4_096, 16));
        assert_eq!(word(72) as i64, stat.attributes.accessed.seconds);
        assert_eq!((word(88) as i64, word(96)), (stat.attributes.modified.seconds, 5));
        assert!(word(104) > word(88), "chmod came later");
        let more = stat.extended();
        assert_eq!(u16::from_le_bytes([more[28], more[29]]), 0o100_640);
        assert_eq!(u64::from_le_bytes(more[40..48].try_into().unwrap()), 5_000);
        user.walk().mknod(b"/null", 0o020_666, 0x103).unwrap();
        let null = Stat::of(user.find("/null").unwrap().node());
        assert_eq!((null.is_device, null.mode), (0x103, 0o020_666));
        let statfs = file.node().volume().statfs();
        assert_eq!(statfs[..8], 0x0102_1994_u64.to_le_bytes());
    });
}

#[test]
fn the_devices_of_memory_do_what_their_names_say() {
    World::new().run(|user| {
        for (name, number) in [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("none", 99)] {
            let path = format!("/{name}");
            user.walk().mknod(path.as_bytes(), 0o020_666, 0x100 | number).unwrap();
        }
        let open = |path: &str| user.open(path, OpenFlags::READ_WRITE);
        let (null, zero, full) = (open("/null").unwrap(), open("/zero").unwrap(), open("/full"));
        let full = full.unwrap();
        assert_eq!((user.write(&null, &[1; 99]), user.read(&null, 9).unwrap().len()), (Ok(99), 0));
        assert_eq!(user.read(&zero, 10_000).unwrap(), [0; 10_000]);
        assert_eq!(user.write(&full, b"x"), Err(Errno::ENOSPC));
        assert_eq!(user.read(&full, 5).unwrap(), [0; 5]);
        assert_ne!(user.read(&open("/random").unwrap(), 64).unwrap(), [0; 64]);
        assert_eq!(open("/none").err(), Some(Errno::ENXIO));
        user.walk().mknod(b"/blocks", 0o060_666, 0x103).unwrap();
        assert_eq!(
            open("/blocks").err(),
            Some(Errno::ENXIO),
            "the number of null, of another kind"
        );
        assert_eq!(null.control(0x5401, &mut 0_u64), Err(Errno::ENOTTY));
        let other = user.ordinary(1000);
        assert_eq!(other.walk().mknod(b"/mine", 0o020_666, 0x103).err(), Some(Errno::EPERM));
    });
}

#[test]
fn a_temporary_file_has_no_name_and_is_gone_with_its_descriptor() {
    World::new().run(|user| {
        let free = user.free_frames();
        let flags = OpenFlags::TEMPORARY | OpenFlags::DIRECTORY | OpenFlags::READ_WRITE;
        let file = user.open("/", flags).unwrap();
        user.write(&file, &[1; 50_000]).unwrap();
        assert_eq!(file.node().attributes().links, 0);
        assert!(user.free_frames() < free);
        drop(file);
        assert_eq!(user.free_frames(), free);
    });
}

#[test]
fn a_file_is_written_or_executed_but_not_both() {
    World::new().run(|user| {
        let file = user.create("/program");
        let entry = file.entry().clone();
        assert_eq!(Executing::begin(&entry).err(), Some(Errno::ETXTBSY));
        drop(file);
        let programs = [Executing::begin(&entry).unwrap(), Executing::begin(&entry).unwrap()];
        let open = |flags| user.open("/program", flags).err();
        assert_eq!(open(OpenFlags::WRITE_ONLY), Some(Errno::ETXTBSY));
        assert_eq!(entry.truncate(&user.who, 0), Err(Errno::ETXTBSY));
        assert_eq!(open(OpenFlags::empty()), None);
        let [first, second] = programs;
        drop(first);
        assert_eq!(open(OpenFlags::READ_WRITE), Some(Errno::ETXTBSY));
        drop(second);
        assert_eq!(open(OpenFlags::READ_WRITE), None);
        assert_eq!(Executing::begin(user.tree.root()).err(), Some(Errno::EACCES));
    });
}
