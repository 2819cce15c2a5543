//! Names: what is made, moved and removed, and what Linux says when it cannot be.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rumpvm_files::tree::{Owner, RenameFlags, Unmount, When, new_root};
use rumpvm_files::volume::{MountFlags, TMPFS};
use rumpvm_files::walk::Last;
use rumpvm_files::{Errno, OpenFlags, Rights, Sink};

use crate::world::{User, World};

fn rename(user: &User, old: &str, new: &str, flags: RenameFlags) -> Result<(), Errno> {
    user.walk().rename(old.as_bytes(), &user.walk(), new.as_bytes(), flags)
}

/// The names in a directory, in the order of getdents64.
fn names(user: &User, path: &str, piece: usize) -> Vec<String> {
    let open = user.open(path, OpenFlags::DIRECTORY).expect(path);
    let mut names = Vec::new();
    loop {
        let mut bytes = vec![0; piece];
        let count = open.list(&mut &mut bytes[..]).expect("a list");
        if count == 0 {
            return names;
        }
        let mut rest = &bytes[..count];
        while !rest.is_empty() {
            let length = usize::from(u16::from_le_bytes([rest[16], rest[17]]));
            let name = rest[19..length].split(|byte| *byte == 0).next().unwrap();
            names.push(String::from_utf8(name.to_vec()).unwrap());
            rest = &rest[length..];
        }
    }
}

#[test]
fn what_was_written_is_read_and_lives_on_after_its_name() {
    World::new().run(|user| {
        let file = user.create("/hello");
        assert_eq!(user.write(&file, b"hello, world"), Ok(12));
        assert_eq!(user.content("/hello").unwrap(), b"hello, world");
        assert_eq!(user.path(file.entry()), "/hello");

        user.walk().unlink(b"/hello").unwrap();

        assert_eq!(user.content("/hello"), Err(Errno::ENOENT));
        let mut bytes = [0; 5];
        assert_eq!(file.read_at(7, &mut &mut bytes[..], &user.waker), Ok(5));
        assert_eq!(&bytes, b"world");
        assert!(file.entry().is_removed());
        assert_eq!(file.node().attributes().links, 0);
    });
}

#[test]
fn a_rename_moves_directories_with_all_that_is_in_them() {
    World::new().run(|user| {
        for path in ["/a", "/a/b", "/c"] {
            user.mkdir(path).unwrap();
        }
        let file = user.create("/a/b/file");
        let rename = |old: &str, new: &str| rename(user, old, new, RenameFlags::empty());
        assert_eq!(rename("/a", "/a/b/into-itself"), Err(Errno::EINVAL));
        assert_eq!(rename("/a/b", "/c"), Ok(()), "an empty directory is replaced");
        assert_eq!(user.path(file.entry()), "/c/file");
        assert_eq!(rename("/a", "/c"), Err(Errno::ENOTEMPTY));
        assert_eq!(rename("/c/file", "/a"), Err(Errno::EISDIR));
        assert_eq!(rename("/a", "/c/file"), Err(Errno::ENOTDIR));
        assert_eq!(rename("/a/..", "/c"), Err(Errno::EBUSY));
        assert_eq!(rename("/c/file", "/c/file2/"), Err(Errno::ENOTDIR));
        assert_eq!(rename("/nothing", "/x"), Err(Errno::ENOENT));
        let links = |path: &str| user.find(path).unwrap().node().attributes().links;
        assert_eq!((links("/"), links("/a"), links("/c")), (4, 2, 2));
    });
}

#[test]
fn a_rename_replaces_refuses_or_exchanges_as_its_flags_say() {
    World::new().run(|user| {
        let (old, new) = (user.create("/old"), user.create("/new"));
        user.mkdir("/dir").unwrap();
        let no_replace = RenameFlags::NO_REPLACE;
        assert_eq!(rename(user, "/old", "/new", no_replace), Err(Errno::EEXIST));
        assert_eq!(rename(user, "/old", "/dir", RenameFlags::EXCHANGE), Ok(()));
        assert_eq!(user.path(old.entry()), "/dir");
        assert!(user.find("/old").unwrap().node().is_directory());
        assert_eq!(rename(user, "/dir", "/new", RenameFlags::empty()), Ok(()));
        assert!(new.entry().is_removed());
        assert_eq!(new.node().attributes().links, 0);
        let both = no_replace | RenameFlags::EXCHANGE;
        assert_eq!(rename(user, "/old", "/new", both), Err(Errno::EINVAL));
        assert_eq!(rename(user, "/old", "/x", RenameFlags::EXCHANGE), Err(Errno::ENOENT));
        assert_eq!(rename(user, "/old", "/old", RenameFlags::empty()), Ok(()));
    });
}

#[test]
fn a_second_name_is_the_same_file_and_directories_have_none() {
    World::new().run(|user| {
        let file = user.create("/one");
        user.mkdir("/dir").unwrap();
        let one = user.find("/one").unwrap();
        user.walk().link(&one, b"/dir/two").unwrap();
        user.write(&file, b"same").unwrap();
        assert_eq!(user.content("/dir/two").unwrap(), b"same");
        assert_eq!(one.node().attributes().links, 2);
        assert_eq!(user.walk().link(&one, b"/dir/two"), Err(Errno::EEXIST));
        assert_eq!(user.walk().link(&user.find("/dir").unwrap(), b"/d"), Err(Errno::EPERM));
        assert_eq!(rename(user, "/one", "/dir/two", RenameFlags::empty()), Ok(()));
        assert!(user.find("/one").is_ok(), "two names of one file: nothing happens");
        user.walk().unlink(b"/one").unwrap();
        user.walk().unlink(b"/dir/two").unwrap();
        assert_eq!(user.walk().link(&one, b"/again"), Err(Errno::ENOENT));
    });
}

#[test]
fn links_are_followed_in_the_middle_and_where_wanted_at_the_end() {
    World::new().run(|user| {
        user.mkdir("/usr").unwrap();
        user.mkdir("/usr/bin").unwrap();
        user.walk().symlink(b"usr/bin", b"/bin").unwrap();
        user.create("/bin/sh");
        user.walk().symlink(b"../bin/sh", b"/usr/shell").unwrap();
        assert_eq!(user.path(&user.find("/usr/shell").unwrap()), "/usr/bin/sh");
        assert_eq!(user.path(&user.find("/bin/../shell").unwrap()), "/usr/bin/sh");
        let link = user.walk().find(b"/usr/shell", Last::Stay).unwrap();
        assert_eq!(link.read_link(|text| text.to_vec()).unwrap(), b"../bin/sh");
        assert_eq!(user.open("/usr/shell", OpenFlags::NO_FOLLOW).err(), Some(Errno::ELOOP));

        user.walk().symlink(b"loop", b"/loop").unwrap();
        assert_eq!(user.find("/loop").err(), Some(Errno::ELOOP));
        user.walk().symlink(b"/made", b"/dangling").unwrap();
        assert_eq!(user.find("/dangling").err(), Some(Errno::ENOENT));
        let exclusive = OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
        assert_eq!(user.open("/dangling", exclusive).err(), Some(Errno::EEXIST));
        let made = user.open("/dangling", OpenFlags::CREATE).unwrap();
        assert_eq!(user.path(made.entry()), "/made");
        assert_eq!(user.mkdir("/dangling"), Err(Errno::EEXIST));
    });
}

#[test]
fn paths_that_are_wrong_get_linuxs_errors() {
    World::new().run(|user| {
        user.create("/file");
        user.mkdir("/dir").unwrap();
        let long = "n".repeat(256);
        let cases = [
            ("", Errno::ENOENT),
            ("/file/", Errno::ENOTDIR),
            ("/file/x", Errno::ENOTDIR),
            ("/file/..", Errno::ENOTDIR),
            ("/nothing/x", Errno::ENOENT),
            (long.as_str(), Errno::ENAMETOOLONG),
        ];
        for (path, error) in cases {
            assert_eq!(user.find(path).err(), Some(error), "{path}");
        }
        assert_eq!(user.find(&"/dir/..".repeat(700)).err(), Some(Errno::ENAMETOOLONG));
        assert_eq!(user.path(&user.find("/../../dir/.//").unwrap()), "/dir");
        let walk = user.walk();
        assert_eq!(walk.rmdir(b"/file"), Err(Errno::ENOTDIR));
        assert_eq!(walk.rmdir(b"/dir/."), Err(Errno::EINVAL));
        assert_eq!(walk.rmdir(b"/dir/.."), Err(Errno::ENOTEMPTY));
        assert_eq!(walk.rmdir(b"/"), Err(Errno::EBUSY));
        assert_eq!(walk.unlink(b"/dir"), Err(Errno::EISDIR));
        assert_eq!(walk.unlink(b"/file/"), Err(Errno::ENOTDIR));
        assert_eq!(user.mkdir("/"), Err(Errno::EEXIST));
        assert_eq!(user.mkdir("/dir/."), Err(Errno::EEXIST));
        assert_eq!(user.mkdir("/new/"), Ok(()));
        assert_eq!(user.mkdir("/not/there"), Err(Errno::ENOENT));
        assert_eq!(user.open("/x/", OpenFlags::CREATE).err(), Some(Errno::EISDIR));
        assert_eq!(walk.rmdir(b"/new"), Ok(()));
    });
}

#[test]
fn a_directory_that_was_removed_under_somebody_takes_no_more_names() {
    World::new().run(|user| {
        user.mkdir("/gone").unwrap();
        let gone = user.find("/gone").unwrap();
        user.walk().rmdir(b"/gone").unwrap();
        let walk = user.walk();
        let inside = walk.standing_at(&gone);
        assert_eq!(inside.mkdir(b"x", 0o755).err(), Some(Errno::ENOENT));
        assert_eq!(inside.find(b"x", Last::Follow).err(), Some(Errno::ENOENT));
        assert!(inside.find(b"..", Last::Follow).unwrap().is(user.tree.root()));
        assert_eq!(user.path(&gone), "/gone");
    });
}

#[test]
fn a_directory_is_listed_whole_however_it_is_cut_and_changed() {
    World::new().run(|user| {
        user.mkdir("/d").unwrap();
        let made: Vec<String> = (0..500).map(|n| format!("file{n}")).collect();
        for name in &made {
            user.create(&format!("/d/{name}"));
        }
        for piece in [40, 4096, 1 << 16] {
            let names = names(user, "/d", piece);
            assert_eq!(names[..2], [".", ".."]);
            assert_eq!(names[2..], made);
        }
        let open = user.open("/d", OpenFlags::DIRECTORY).unwrap();
        assert_eq!(open.list(&mut &mut [0; 8][..]), Err(Errno::EINVAL));
        // As rm -r does: list a little, remove what was seen, go on.
        let mut bytes = [0; 512];
        let mut removed = 0;
        loop {
            let count = open.list(&mut &mut bytes[..]).unwrap();
            let mut rest = &bytes[..count];
            if count == 0 {
                break;
            }
            while !rest.is_empty() {
                let length = usize::from(u16::from_le_bytes([rest[16], rest[17]]));
                let name = rest[19..length].split(|byte| *byte == 0).next().unwrap();
                if !name.starts_with(b".") {
                    user.walk().unlink(&[b"/d/", name].concat()).unwrap();
                    removed += 1;
                }
                rest = &rest[length..];
            }
        }
        assert_eq!(removed, 500);
        assert_eq!(user.walk().rmdir(b"/d"), Ok(()));
        assert_eq!(open.list(&mut &mut bytes[..]), Err(Errno::ENOENT));
    });
}

#[test]
fn who_is_not_the_administrator_is_refused_what_the_mode_does_not_give() {
    World::new().run(|user| {
        user.mkdir("/private").unwrap();
        let file = user.create("/private/file");
        let other = user.ordinary(1000);
        assert_eq!(other.open("/private/new", OpenFlags::CREATE).err(), Some(Errno::EACCES));
        assert_eq!(other.open("/private/file", OpenFlags::READ_WRITE).err(), Some(Errno::EACCES));
        assert!(other.open("/private/file", OpenFlags::empty()).is_ok());
        assert_eq!(file.entry().access(&other.who, Rights::READ), Ok(()));
        assert_eq!(file.entry().access(&other.who, Rights::EXECUTE), Err(Errno::EACCES));
        assert_eq!(file.entry().access(&user.who, Rights::EXECUTE), Err(Errno::EACCES));
        assert_eq!(file.entry().chmod(&other.who, 0o666), Err(Errno::EPERM));
        user.find("/private").unwrap().chmod(&user.who, 0o700).unwrap();
        assert_eq!(other.find("/private/file").err(), Some(Errno::EACCES));
        let to = Owner { user: Some(1000), group: Some(1000) };
        assert_eq!(file.entry().chown(&other.who, to), Err(Errno::EPERM));
        file.entry().chown(&user.who, to).unwrap();
        assert_eq!(file.entry().chmod(&other.who, 0o4755), Ok(()));
        assert_eq!(file.entry().set_times(&other.who, When::Now, When::Same), Ok(()));
        let third = user.ordinary(1001);
        assert_eq!(file.entry().set_times(&third.who, When::Now, When::Now), Err(Errno::EACCES));
        assert_eq!(file.entry().truncate(&third.who, 0), Err(Errno::EACCES));
        // A write takes the right to become somebody else away.
        let open = other.walk().open_entry(file.entry(), OpenFlags::WRITE_ONLY, &other.waker);
        other.write(&open.unwrap(), b"x").unwrap();
        assert_eq!(file.node().attributes().mode, 0o755);
    });
}

#[test]
fn in_a_sticky_directory_only_owners_remove() {
    World::new().run(|user| {
        user.mkdir("/tmp").unwrap();
        user.find("/tmp").unwrap().chmod(&user.who, 0o1777).unwrap();
        let (one, two) = (user.ordinary(1000), user.ordinary(1001));
        one.create("/tmp/mine");
        assert_eq!(two.walk().unlink(b"/tmp/mine"), Err(Errno::EPERM));
        assert_eq!(rename(&two, "/tmp/mine", "/tmp/its", RenameFlags::empty()), Err(Errno::EPERM));
        assert_eq!(one.walk().unlink(b"/tmp/mine"), Ok(()));
    });
}

#[test]
fn a_mounted_volume_covers_its_directory_and_dots_lead_out_of_it() {
    World::new().run(|user| {
        user.mkdir("/mnt").unwrap();
        user.create("/mnt/hidden");
        let volume = user.tree.volume(TMPFS).unwrap();
        let below = user.find("/mnt").unwrap();
        let root = new_root(&volume, 0o755).unwrap();
        user.tree.mount(&below, root, b"none", MountFlags::empty()).unwrap();
        assert_eq!(user.find("/mnt/hidden").err(), Some(Errno::ENOENT));
        let inside = user.create("/mnt/inside");
        assert_eq!(user.path(inside.entry()), "/mnt/inside");
        assert!(user.find("/mnt/..").unwrap().is(user.tree.root()));
        assert_eq!(rename(user, "/mnt/inside", "/x", RenameFlags::empty()), Err(Errno::EXDEV));
        assert_eq!(user.walk().rmdir(b"/mnt"), Err(Errno::EBUSY));
        assert_ne!(inside.stat().device, user.find("/").unwrap().node().volume().device());

        let unmount = |how| user.tree.unmount(&user.find("/mnt").unwrap(), how);
        assert_eq!(unmount(Unmount::IfIdle), Err(Errno::EBUSY), "a file is open");
        drop(inside);
        volume.set_flags(MountFlags::READ_ONLY);
        assert_eq!(user.open("/mnt/new", OpenFlags::CREATE).err(), Some(Errno::EROFS));
        assert_eq!(user.walk().unlink(b"/mnt/inside"), Err(Errno::EROFS));
        assert_eq!(unmount(Unmount::IfIdle), Ok(()));
        assert!(user.find("/mnt/hidden").is_ok());
        assert_eq!(unmount(Unmount::IfIdle), Err(Errno::EINVAL), "it is none");
    });
}

#[test]
fn a_detached_volume_gives_its_memory_back_and_leaves_open_files_alone() {
    World::new().run(|user| {
        user.mkdir("/mnt").unwrap();
        let volume = user.tree.volume(TMPFS).unwrap();
        let root = new_root(&volume, 0o755).unwrap();
        let below = user.find("/mnt").unwrap();
        user.tree.mount(&below, root, b"none", MountFlags::empty()).unwrap();
        let free = user.free_frames();
        let mut path = String::from("/mnt");
        for depth in 0..200 {
            path += "/d";
            user.mkdir(&path).unwrap();
            let file = user.create(&format!("{path}/file{depth}"));
            user.write(&file, &[1; 5000]).unwrap();
        }
        let open = user.open("/mnt/d/file0", OpenFlags::empty()).unwrap();
        assert!(user.free_frames() + 400 <= free);
        let root = user.find("/mnt").unwrap();
        user.tree.unmount(&root, Unmount::Detach).unwrap();
        assert_eq!(user.read(&open, 9000).unwrap(), [1; 5000]);
        drop(open);
        assert_eq!(user.free_frames(), free);
    });
}

#[test]
fn a_long_chain_of_removed_directories_comes_apart_without_a_deep_stack() {
    World::new().run(|user| {
        let mut at = user.tree.root().clone();
        let mut all = Vec::new();
        for _ in 0..20_000 {
            let walk = user.walk();
            let next = walk.standing_at(&at).mkdir(b"d", 0o755).unwrap();
            all.push(std::mem::replace(&mut at, next));
        }
        while let Some(parent) = all.pop() {
            let walk = user.walk();
            walk.standing_at(&parent).rmdir(b"d").unwrap();
        }
        // The innermost one holds all others.
        drop(at);
    });
}

#[test]
fn threads_that_make_move_and_remove_names_leave_a_whole_tree() {
    const THREADS: u64 = 4;
    const ROUNDS: u64 = 300;
    let world = World::new();
    world.run(|user| {
        for directory in ["/a", "/b"] {
            user.mkdir(directory).unwrap();
        }
        for thread in 0..THREADS {
            user.spawn(move |user| {
                let mut state = thread + 1;
                for _ in 0..ROUNDS {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
                    let name = |bits: u64| {
                        let parent = if bits & 8 == 0 { "/a" } else { "/b" };
                        format!("{parent}/{}", bits & 7)
                    };
                    let (one, two) = (name(state >> 40), name(state >> 50));
                    match state >> 61 {
                        0 | 1 => drop(user.open(&one, OpenFlags::CREATE | OpenFlags::READ_WRITE)),
                        2 => drop(user.mkdir(&one)),
                        3 => drop(user.walk().unlink(one.as_bytes())),
                        4 => drop(user.walk().rmdir(one.as_bytes())),
                        5 => drop(rename(user, &one, &two, RenameFlags::EXCHANGE)),
                        6 => drop(rename(user, &one, &two, RenameFlags::empty())),
                        _ => {
                            let found = user.find(&one);
                            found.and_then(|found| user.walk().link(&found, two.as_bytes())).ok();
                        }
                    }
                    user.home.yield_now();
                }
            });
        }
    });
}

#[test]
fn records_of_a_directory_do_not_go_beyond_the_room_that_was_given() {
    World::new().run(|user| {
        user.mkdir("/d").unwrap();
        user.create("/d/name");
        let open = user.open("/d", OpenFlags::DIRECTORY).unwrap();
        let mut bytes = [0xaa; 80];
        let mut sink = &mut bytes[..72];
        let count = open.list(&mut sink).unwrap();
        assert_eq!((count, sink.room()), (72, 0), "24 bytes each");
        assert_eq!(bytes[72..], [0xaa; 8]);
        assert_eq!((bytes[18], bytes[24 + 18], bytes[48 + 18]), (4, 4, 8));
    });
}

#[test]
fn a_name_that_is_replaced_is_there_all_the_while() {
    const ROUNDS: u32 = 500;
    World::new().run(|user| {
        user.mkdir("/d").unwrap();
        user.create("/d/target");
        let is_done = Arc::new(AtomicBool::new(false));
        for _ in 0..2 {
            let is_done = Arc::clone(&is_done);
            user.spawn(move |user| {
                while !is_done.load(Ordering::SeqCst) {
                    assert!(user.find("/d/target").is_ok());
                    user.home.yield_now();
                }
            });
        }
        for _ in 0..ROUNDS {
            user.create("/next");
            assert_eq!(rename(user, "/next", "/d/target", RenameFlags::empty()), Ok(()));
            user.home.yield_now();
        }
        is_done.store(true, Ordering::SeqCst);
        assert_eq!(names(user, "/d", 4096).len(), 3);
    });
}
