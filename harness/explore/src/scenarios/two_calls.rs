//! Two map calls of one space at once: which comes first is open, that one does is not.
//!
//! Flow: two threads of a space, a call each -> the space as one order or the other leaves it. What the calls count
//! is compared with what is mapped by the check at the end, for which a third user stays.

use rumpvm::{Backing, CallError, FaultError, Hold, Limits, MapFlags, Object};
use rumpvm_arch::{PAGE_SIZE, Prot, VirtAddr};
use rumpvm_hosted::explored::Stage;

use crate::{Disk, FAR, Kernel, NEAR, Pc, Scenario, User};

const REPORT: &str = "seed 004";

/// A file, as calls want it.
type File = Hold<Object<Pc>, Pc>;

/// One call of one thread.
type Call = fn(&User, &File) -> Result<(), CallError>;

/// The second and the third of the four pages at [`NEAR`].
const SECOND: VirtAddr = VirtAddr(NEAR.0 + PAGE_SIZE);
const THIRD: VirtAddr = VirtAddr(NEAR.0 + 2 * PAGE_SIZE);

/// Nothing is mapped there.
const FREE: VirtAddr = VirtAddr(NEAR.0 + 8 * PAGE_SIZE);

/// The heap, which is empty.
const HEAP: VirtAddr = VirtAddr(NEAR.0 + 0x40 * PAGE_SIZE);

pub(super) fn table() -> Vec<Scenario> {
    let one = |name, says, setup| Scenario::new(name, REPORT, says, setup);
    vec![
        one("two-brks", "two threads move the end of the heap", |stage| {
            both(stage, |user, _| brk(user, 2), |user, _| brk(user, 1));
        }),
        one("two-mmaps", "two threads map without saying where", |stage| {
            both(stage, anywhere, anywhere);
        }),
        one("mmap-against-munmap", "a thread maps over what another one unmaps", |stage| {
            both(stage, |user, _| user.map(SECOND, 2).map(drop), |user, _| user.unmap(NEAR, 2));
        }),
        one("forget-against-munmap", "a thread unmaps a page that another one forgets", |stage| {
            let kernel = Kernel::boot(stage);
            let user = kernel.user();
            user.map(NEAR, 2).expect("room");
            user.populate(NEAR, 2).expect("memory");
            let other = user.twin();
            stage.actor(0, "unmap", move || {
                user.store(SECOND, 2).expect("memory");
                user.unmap(SECOND, 1).expect("memory");
                assert_eq!(user.load(SECOND), Err(FaultError::Unmapped { at: SECOND }));
            });
            stage.actor(1, "forget", move || {
                let forgotten = other.forget(SECOND, 1);
                assert!(matches!(forgotten, Ok(()) | Err(CallError::Unmapped)), "{forgotten:?}");
            });
        }),
        one("two-mprotects", "two threads take rights from pages that overlap", |stage| {
            both(
                stage,
                |user, _| user.protect(NEAR, 2, Prot::READ),
                |user, _| user.protect(SECOND, 2, Prot::empty()),
            );
        }),
        one("two-mlocks", "a thread locks pages while another one unlocks some", |stage| {
            both(
                stage,
                |user, _| user.space().mlock(user.vm(), NEAR, 2 * PAGE_SIZE),
                |user, _| user.space().munlock(user.vm(), SECOND, 2 * PAGE_SIZE),
            );
        }),
        one("two-mremaps", "two threads move pages to one place", |stage| {
            both(
                stage,
                |user, _| user.relocate(NEAR, 1, FREE).map(drop),
                |user, _| user.relocate(THIRD, 1, FREE).map(drop),
            );
        }),
        one("two-madvises", "two threads keep overlapping pages from children", |stage| {
            both(
                stage,
                |user, _| user.advise(NEAR, 2, DONTFORK),
                |user, _| user.advise(SECOND, 2, DOFORK),
            );
        }),
        one(
            "mprotect-against-fork",
            "a thread takes rights from a page of a space that forks",
            |stage| {
                both(stage, |user, _| user.protect(SECOND, 1, Prot::READ), fork);
            },
        ),
        one("two-forks", "two threads fork their space", |stage| {
            both(stage, fork, fork);
        }),
        one("two-mappers", "two threads map one file, in one space", |stage| {
            both(
                stage,
                |user, file| user.map_object(FREE, 1, file, MapFlags::SHARED).map(drop),
                |user, file| user.map_object(FREE + PAGE_SIZE, 1, file, MapFlags::SHARED).map(drop),
            );
        }),
        one("two-stack-faults", "two threads grow their stack, one of them further", grow),
        one(
            "one-file-in-two-spaces",
            "two spaces map, change and unmap one page of a file",
            one_file,
        ),
        one("two-files", "two threads open and close a file each", two_files),
        one("two-memories", "two threads make shared memory and give it up", two_memories),
        one(
            "refused-against-unmap",
            "a thread is refused another mapping of a file that a second space unmaps",
            refused,
        ),
        one(
            "two-in-a-fresh-table",
            "two threads store where no page-table page is yet",
            fresh_table,
        ),
        one(
            "two-last-users",
            "two users of a space leave it at once, and no space is left",
            two_last_users,
        ),
    ]
}

const DONTFORK: i32 = 10;
const DOFORK: i32 = 11;

fn fork(user: &User, _: &File) -> Result<(), CallError> {
    let child = user.fork()?;
    assert_eq!(child.load(SECOND), Ok(1));
    Ok(())
}

fn brk(user: &User, pages: u64) -> Result<(), CallError> {
    assert_eq!(user.space().brk_base(), HEAP);
    let end = user.space().brk(user.vm(), HEAP + pages * PAGE_SIZE);
    assert!((HEAP..=HEAP + 2 * PAGE_SIZE).contains(&end), "the heap ends at {end}");
    Ok(())
}

/// Maps a page wherever there is room; nobody else may get the same one.
fn anywhere(user: &User, _: &File) -> Result<(), CallError> {
    let flags = MapFlags::PRIVATE | MapFlags::ANONYMOUS;
    let backing = Backing::Anonymous;
    let at = user.space().mmap(user.vm(), VirtAddr(0), PAGE_SIZE, Prot::RW, flags, backing, 0)?;
    assert_eq!(user.load(at), Ok(0), "somebody else has {at}");
    user.store(at, 1).expect("memory");
    assert_eq!(user.load(at), Ok(1));
    Ok(())
}

/// Two threads of a space with four pages, of which one is in memory, make a call each.
fn both(stage: &Stage, first: Call, second: Call) {
    let kernel = Kernel::boot(stage);
    let file = kernel.open_file(Disk::new(1, 1)).expect("memory");
    let user = kernel.user();
    user.map(NEAR, 4).expect("room");
    user.store(SECOND, 1).expect("memory");
    user.space().set_brk_base(HEAP);
    let twin = user.twin();
    kernel.keep(user.twin());
    let vm = kernel.clone();
    let other = file.clone();
    kernel.at_end(move |_| vm.close(&file).expect("it can be written"));
    for (cpu, name, user, file, call) in
        [(0, "first", user, other.clone(), first), (1, "second", twin, other, second)]
    {
        stage.actor(cpu, name, move || match call(&user, &file) {
            // What the other one unmapped or moved is not there any more.
            Ok(()) | Err(CallError::Unmapped) => {}
            Err(other) => panic!("{other}"),
        });
    }
}

/// Two threads store below the stack, one of them further.
fn grow(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let user = kernel.user();
    let flags = MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::FIXED | MapFlags::GROWSDOWN;
    let (backing, at) = (Backing::Anonymous, NEAR + 8 * PAGE_SIZE);
    user.space().mmap(user.vm(), at, PAGE_SIZE, Prot::RW, flags, backing, 0).expect("room");
    let twin = user.twin();
    kernel.keep(user.twin());
    for (cpu, name, user, pages) in [(0, "first", user, 1), (1, "second", twin, 2)] {
        stage.actor(cpu, name, move || {
            let below = at - pages * PAGE_SIZE;
            user.store(below, 1).expect("it is the stack");
            assert_eq!(user.load(below), Ok(1));
        });
    }
}

/// Two spaces, each with a thread, map one file and store to its page.
fn one_file(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let file = kernel.open_file(Disk::new(1, 1)).expect("memory");
    for (cpu, name) in [(0, "first"), (1, "second")] {
        let (user, file) = (kernel.user(), file.clone());
        stage.actor(cpu, name, move || {
            user.map_object(NEAR, 1, &file, MapFlags::SHARED).expect("room");
            user.store(NEAR, 1).expect("memory");
            assert_eq!(user.load(NEAR), Ok(1));
            user.unmap(NEAR, 1).expect("it is mapped");
        });
    }
    kernel.at_end(move |kernel| kernel.close(&file).expect("it can be written"));
}

/// Two threads open a file of their own and close it.
fn two_files(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    for (cpu, name) in [(0, "first"), (1, "second")] {
        let kernel = kernel.clone();
        stage.actor(cpu, name, move || {
            let file = kernel.open_file(Disk::new(1, 1)).expect("memory");
            kernel.close(&file).expect("nothing was stored");
        });
    }
}

fn two_memories(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    for (cpu, name) in [(0, "first"), (1, "second")] {
        let kernel = kernel.clone();
        stage.actor(cpu, name, move || {
            let memory = kernel.shared_memory(PAGE_SIZE).expect("memory");
            kernel.close(&memory).expect("it has no file");
        });
    }
}

/// What a refused call counted as users of the file is taken back.
fn refused(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let file = kernel.open_file(Disk::new(1, 1)).expect("memory");
    let (user, other) = (kernel.user(), kernel.user());
    other.map_object(NEAR, 1, &file, MapFlags::SHARED).expect("room");
    let limits = Limits { address_space: 0, ..user.space().limits() };
    user.space().set_limits(limits);
    let vm = kernel.clone();
    let last = file.clone();
    kernel.at_end(move |_| vm.close(&last).expect("nothing was stored"));
    stage.actor(0, "refused", move || {
        for _ in 0..2 {
            let mapped = user.map_object(NEAR, 1, &file, MapFlags::SHARED);
            assert!(matches!(mapped, Err(CallError::NoMemory)), "{mapped:?}");
        }
    });
    stage.actor(1, "unmap", move || {
        other.unmap(NEAR, 1).expect("memory");
    });
}

/// Two threads store below a page-table page that neither finds there.
fn fresh_table(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let user = kernel.user();
    user.map(FAR, 2).expect("room");
    let twin = user.twin();
    kernel.keep(user.twin());
    for (cpu, name, user, at) in [(0, "first", user, FAR), (1, "second", twin, FAR + PAGE_SIZE)] {
        stage.actor(cpu, name, move || {
            user.store(at, 1).expect("memory");
            assert_eq!(user.load(at), Ok(1));
        });
    }
}

fn two_last_users(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let user = kernel.user();
    user.map(NEAR, 1).expect("room");
    user.store(NEAR, 1).expect("memory");
    let twin = user.twin();
    for (cpu, name, user) in [(0, "first", user), (1, "second", twin)] {
        stage.actor(cpu, name, move || assert_eq!(user.load(NEAR), Ok(1)));
    }
}
