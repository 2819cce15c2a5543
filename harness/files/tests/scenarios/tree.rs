//! Names: what is made, moved and removed, and what Linux says when it cannot be.

use rumpvm_files::tree::RenameFlags;
use rumpvm_files::{Errno, OpenFlags, Rights};

use crate::world::World;

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
        let rename = |old: &str, new: &str| {
            user.walk().rename(old.as_bytes(), &user.walk(), new.as_bytes(), RenameFlags::empty())
        };
        assert_eq!(rename("/a", "/a/b/into-itself"), Err(Errno::EINVAL));
        assert_eq!(rename("/a/b", "/c"), Ok(()), "an empty directory is replaced");
        assert_eq!(user.path(file.entry()), "/c/file");
        assert_eq!(rename("/a", "/c"), Err(Errno::ENOTEMPTY));
        assert_eq!(rename("/c/file", "/a"), Err(Errno::EISDIR));
        assert_eq!(rename("/a", "/c/file"), Err(Errno::ENOTDIR));
        assert_eq!(rename("/a/..", "/c"), Err(Errno::EBUSY));
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
        assert_eq!(file.entry().chmod(&other.who, 0o666), Err(Errno::EPERM));
    });
}
