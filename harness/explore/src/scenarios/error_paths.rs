//! #2399, seed 000: an error path of a map call leaves a lock or a hold behind.
//!
//! The calls of the table below, with every allocation and every transfer failing in some schedule, while another
//! thread of the space stores to what the call changes. That every call, exec, vfork and wait among them, survives the
//! failure of each of its allocations, reads and writes is for `tests/out_of_memory.rs`: with one thread.

use std::ops::ControlFlow;

use rumpvm::{AreaFlags, CallError, FaultError, Hold, MapFlags, Object};
use rumpvm_arch::{PAGE_SIZE, Prot, VirtRange};
use rumpvm_hosted::explored::{Chance, Settings, Stage};

use crate::{Disk, Kernel, NEAR, Pc, Scenario, User};

const REPORT: &str = "seed 000, #2399";

/// One call of one thread.
type Call = fn(&User, &Hold<Object<Pc>, Pc>) -> Result<(), CallError>;

pub(super) fn table() -> Vec<Scenario> {
    let chances = Settings::USUAL.chances.with(Chance::NoFrame).with(Chance::NoHeap);
    let settings = Settings { chances: chances.with(Chance::Io), ..Settings::USUAL };
    let one = |name, says, setup| Scenario { settings, ..Scenario::new(name, REPORT, says, setup) };
    vec![
        one("failing-mmap", "mmap of a file over pages, as memory or I/O fail", |stage| {
            fails(stage, |user, file| user.map_object(SECOND, 2, file, MapFlags::SHARED).map(drop));
        }),
        one("failing-share", "mmap of shared memory, as memory fails", |stage| {
            fails(stage, |user, _| user.share(SECOND, 2).map(drop));
        }),
        one("failing-munmap", "munmap in the middle, as memory fails", |stage| {
            fails(stage, |user, _| user.unmap(SECOND, 1));
        }),
        one("failing-mprotect", "mprotect in the middle, as memory fails", |stage| {
            fails(stage, |user, _| user.protect(SECOND, 1, Prot::READ));
        }),
        one("failing-mremap", "mremap from the middle, as memory fails", |stage| {
            fails(stage, |user, _| user.relocate(SECOND, 2, NEAR + 8 * PAGE_SIZE).map(drop));
        }),
        one(
            "failing-madvise",
            "MADV_DONTNEED and MADV_DONTFORK in the middle, as memory fails",
            |stage| {
                fails(stage, |user, _| {
                    user.advise(SECOND, 1, DONTFORK)?;
                    user.forget(SECOND, 1)
                });
            },
        ),
        one("failing-mlock", "mlock and munlock in the middle, as memory fails", |stage| {
            fails(stage, |user, _| {
                user.space().mlock(user.vm(), SECOND, PAGE_SIZE)?;
                user.space().munlock(user.vm(), SECOND, PAGE_SIZE)
            });
        }),
        one(
            "failing-fork",
            "fork of a space of which a part is not inherited, as memory fails",
            |stage| {
                fails(stage, |user, _| {
                    user.advise(SECOND, 1, DONTFORK)?;
                    let child = user.fork()?;
                    let stored = child.store(NEAR, 9);
                    assert!(matches!(stored, Ok(()) | Err(FaultError::NoMemory { .. })));
                    Ok(())
                });
            },
        ),
        one(
            "failing-msync",
            "msync of a file that was stored to, as memory or I/O fail",
            |stage| {
                fails(stage, |user, file| {
                    let at = NEAR + 8 * PAGE_SIZE;
                    user.map_object(at, 1, file, MapFlags::SHARED)?;
                    if user.store(at, 9).is_ok() {
                        user.sync(at, 1)?;
                    }
                    user.unmap(at, 1)
                });
            },
        ),
        one("failing-brk", "brk up and down, as memory fails", |stage| {
            fails(stage, |user, _| {
                let (space, start) = (user.space(), user.space().brk_base());
                space.brk(user.vm(), start + 2 * PAGE_SIZE);
                let end = space.brk(user.vm(), start + PAGE_SIZE);
                assert!(end == start || end == start + PAGE_SIZE || end == start + 2 * PAGE_SIZE);
                Ok(())
            });
        }),
        one("failing-stack", "a stack grows, as memory fails", |stage| {
            fails(stage, |user, _| {
                let at = NEAR + 0x100 * PAGE_SIZE;
                let flags = MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::FIXED;
                let (vm, flags) = (user.vm(), flags | MapFlags::GROWSDOWN);
                user.space().mmap(
                    vm,
                    at,
                    PAGE_SIZE,
                    Prot::RW,
                    flags,
                    rumpvm::Backing::Anonymous,
                    0,
                )?;
                let below = at - PAGE_SIZE;
                let stored = user.store(below, 1);
                let short = matches!(
                    stored,
                    Err(FaultError::NoMemory { .. } | FaultError::Unmapped { .. })
                );
                assert!(stored.is_ok() || short, "{stored:?}");
                Ok(())
            });
        }),
    ]
}

const DONTFORK: i32 = 10;
const SECOND: rumpvm_arch::VirtAddr = rumpvm_arch::VirtAddr(NEAR.0 + PAGE_SIZE);

/// What the areas of a space are.
fn areas(user: &User) -> Vec<(VirtRange, Prot, AreaFlags, u64)> {
    let mut areas = Vec::new();
    let _: ControlFlow<()> = user.space().areas(user.vm(), |area| {
        areas.push((area.range, area.prot, area.flags, area.offset));
        ControlFlow::Continue(())
    });
    areas
}

/// One thread makes `call`, another one stores to the first two of four pages.
fn fails(stage: &Stage, call: Call) {
    let kernel = Kernel::boot(stage);
    let file = kernel.open_file(Disk::new(1, 2)).expect("memory");
    let user = kernel.user();
    user.map(NEAR, 4).expect("room");
    user.space().set_brk_base(NEAR + 0x40 * PAGE_SIZE);
    user.store(SECOND, 1).expect("memory");
    let twin = user.twin();
    kernel.keep(user.twin());
    let vm = kernel.clone();
    stage.actor(0, "call", move || {
        let before = areas(&user);
        match call(&user, &file) {
            Ok(()) => {}
            Err(CallError::NoMemory | CallError::Again | CallError::Io(_)) => {
                // Each call changes one thing; of those that make two, the first one may stay.
                let now = areas(&user);
                assert!(now.len() <= before.len() + 2, "{before:?} became {now:?}");
            }
            Err(other) => panic!("{other}"),
        }
        match vm.close(&file) {
            Ok(()) | Err(CallError::Io(_)) => {}
            Err(other) => panic!("{other}"),
        }
    });
    stage.actor(1, "store", move || {
        for at in [NEAR, SECOND] {
            match twin.store(at, 7) {
                Ok(()) | Err(FaultError::NoMemory { .. }) => {}
                Err(
                    FaultError::Unmapped { .. }
                    | FaultError::Denied { .. }
                    | FaultError::Pager { .. },
                ) if at == SECOND => {}
                Err(other) => panic!("{other:?}"),
            }
        }
    });
}
