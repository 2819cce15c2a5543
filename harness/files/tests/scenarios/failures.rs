//! No memory: every call that makes something is refused at each of its allocations, and has changed nothing then.

use rumpvm::{Hold, MemoryFlags};
use rumpvm_files::event::Takes;
use rumpvm_files::poll::{Polled, poll};
use rumpvm_files::socket::Manner;
use rumpvm_files::table::OnExec::Keep;
use rumpvm_files::tree::RenameFlags;
use rumpvm_files::{Entry, Errno, OpenFlags, Ready, Table, cpio};
use rumpvm_platform::Scarce;

use crate::world::{Home, User, World};

/// What a directory and all below it look like.
fn picture(user: &User, path: &str, into: &mut Vec<String>) {
    let open = user.open(path, OpenFlags::DIRECTORY).expect("a directory");
    let mut bytes = vec![0; 1 << 15];
    let count = open.list(&mut &mut bytes[..]).expect("a list");
    let mut rest = &bytes[..count];
    while !rest.is_empty() {
        let length = usize::from(u16::from_le_bytes([rest[16], rest[17]]));
        let name = rest[19..length].split(|byte| *byte == 0).next().expect("a name");
        if !name.starts_with(b".") {
            let path = format!("{path}/{}", String::from_utf8_lossy(name));
            let stat = user.walk().find(path.as_bytes(), rumpvm_files::walk::Last::Stay);
            let node = Hold::clone(stat.expect("what is listed").node());
            let attributes = node.attributes();
            into.push(format!("{path} {:o} {}", attributes.mode, attributes.links));
            if node.is_directory() {
                picture(user, &path, into);
            }
        }
        rest = &rest[length..];
    }
}

fn stage(user: &User) {
    for path in ["/d", "/e"] {
        user.mkdir(path).unwrap();
    }
    for path in ["/d/one", "/e/two"] {
        user.write(&user.create(path), b"content").unwrap();
    }
}

/// Does `act` with the first, the second, ... allocation failing, until none does.
fn refused_everywhere(act: fn(&User) -> Result<(), Errno>) {
    for scarce in [Scarce::Heap, Scarce::Frame] {
        for nth in 1.. {
            let was_refused = World::with_memory(8 << 20).run(move |user| {
                stage(user);
                let mut before = Vec::new();
                picture(user, "/", &mut before);
                let failures = user.home.failures();
                failures.fail_nth(scarce, nth);
                let outcome = act(user);
                let is_over = failures.is_pending(scarce);
                failures.fail_nth(scarce, 0);
                if let Err(error) = outcome {
                    let shortage = [Errno::ENOMEM, Errno::ENOSPC, Errno::EINTR];
                    assert!(shortage.contains(&error), "{error} at {scarce:?} {nth}");
                    let mut after = Vec::new();
                    picture(user, "/", &mut after);
                    assert_eq!(before, after, "{scarce:?} {nth}");
                    assert_eq!(act(user), Ok(()), "with memory it works");
                }
                !is_over
            });
            assert!(nth < 200, "an end of failures");
            if !was_refused {
                break;
            }
        }
    }
}

#[test]
fn names_are_made_and_moved_as_a_whole_or_not_at_all() {
    refused_everywhere(|user| user.mkdir("/d/new"));
    refused_everywhere(|user| user.walk().symlink(b"/d/one", b"/e/link").map(drop));
    refused_everywhere(|user| user.walk().link(&user.find("/d/one")?, b"/e/link"));
    refused_everywhere(|user| user.walk().mknod(b"/d/fifo", 0o010_644, 0).map(drop));
    refused_everywhere(|user| {
        user.walk().rename(b"/d/one", &user.walk(), b"/e/moved", RenameFlags::empty())
    });
    refused_everywhere(|user| {
        user.walk().rename(b"/d/one", &user.walk(), b"/e/two", RenameFlags::EXCHANGE)
    });
}

#[test]
fn what_is_opened_without_memory_is_not_left_half_open() {
    refused_everywhere(|user| user.open("/d/one", OpenFlags::READ_WRITE).map(drop));
    refused_everywhere(|user| {
        let pair = user.tree.pipe(OpenFlags::NONBLOCK, &user.who)?;
        user.write(&pair[1], b"through")?;
        assert_eq!(user.read(&pair[0], 9)?, b"through");
        Ok(())
    });
    refused_everywhere(|user| {
        let pair = user.tree.socket_pair(Manner::Packets, OpenFlags::NONBLOCK, &user.who)?;
        user.write(&pair[1], b"through")?;
        assert_eq!(user.read(&pair[0], 9)?, b"through");
        Ok(())
    });
    refused_everywhere(|user| {
        user.tree.counter(1, Takes::All, OpenFlags::empty(), &user.who).map(drop)
    });
    refused_everywhere(|user| {
        user.tree.memory_file(b"m", MemoryFlags::empty(), &user.who).map(drop)
    });
    refused_everywhere(|user| {
        let table = Table::new();
        table.add(user.open("/d/one", OpenFlags::empty())?, 5, 9, Keep)?;
        table.try_clone()?.get(5).map(drop)
    });
}

#[test]
fn waiting_and_naming_without_memory_are_errors_too() {
    refused_everywhere(|user| {
        let [from, _to] = user.tree.pipe(OpenFlags::empty(), &user.who)?;
        let asked = [Polled::new(Some(from), Ready::IN)];
        poll(&asked, &user.waker, Some(0)).map(drop)
    });
    refused_everywhere(|user| {
        let mut text = Vec::new();
        Entry::<Home>::path(&user.find("/d/one")?, user.tree.root(), &mut text)?;
        assert_eq!(text, b"/d/one");
        Ok(())
    });
}

#[test]
fn a_write_without_memory_writes_what_it_can() {
    for nth in 1..40 {
        World::with_memory(8 << 20).run(move |user| {
            let file = user.create("/file");
            user.home.failures().fail_nth(Scarce::Frame, nth);
            let bytes = vec![7; 100_000];
            let written = match user.write(&file, &bytes) {
                Ok(count) => count,
                Err(error) => {
                    assert_eq!(error, Errno::ENOSPC);
                    0
                }
            };
            user.home.failures().fail_nth(Scarce::Frame, 0);
            let content = user.content("/file").unwrap();
            assert!(content.len() >= written && content[..written].iter().all(|byte| *byte == 7));
            assert!(content[written..].iter().all(|byte| matches!(byte, 0 | 7)));
        });
    }
}

#[test]
fn an_archive_without_memory_says_so() {
    World::with_memory(8 << 20).run(|user| {
        let size = 12 << 20;
        let mut archive = b"070701".to_vec();
        for field in [1, 0o100_644, 0, 0, 1, 0, size, 0, 0, 0, 0, 5, 0] {
            archive.extend(format!("{field:08x}").bytes());
        }
        archive.extend(b"huge\0\0");
        archive.resize(archive.len() + size, 1);
        let trouble = cpio::unpack(&archive, user.tree.root()).unwrap_err();
        assert_eq!(trouble.why, cpio::Why::Refused(Errno::ENOSPC));
    });
}
