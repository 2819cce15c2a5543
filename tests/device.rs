//! RAM that the component does not have: mapped as a device, or given to it while programs run.

use rumpvm::{Backing, FaultError, MapFlags, WaitFor};
use rumpvm_arch::{I386, PAGE_SIZE, PhysAddr, Prot, VirtAddr};
use rumpvm_harness::machine::{Machine, User};

const BASE: VirtAddr = VirtAddr(0x4000_0000);
const HELD_BACK: u64 = 4 << 20;

#[test]
fn frames_without_a_record_are_mapped_as_they_are_and_never_freed() {
    let machine = Machine::builder().memory(16 << 20).held_back(HELD_BACK).build();
    let end = machine.hosted().memory().1;
    let first = PhysAddr(end.0 - HELD_BACK).frame();
    let before = machine.vm().statistics().frames_total;
    machine.run(move |user| {
        let device = user.vm().device(first, 3).unwrap();
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        let map = |pages: u64, prot, page: u64| {
            let (length, offset) = (pages * PAGE_SIZE, page * PAGE_SIZE);
            user.mmap(BASE, length, prot, flags, Backing::Object(&device), offset).unwrap();
        };
        map(4, Prot::RW, 0);
        user.store_u64(BASE + 2 * PAGE_SIZE, 42).unwrap();
        let child = |user: &User| {
            user.store_u64(BASE, 43).unwrap();
            user.load_u64(BASE + 2 * PAGE_SIZE).unwrap() as i32
        };
        user.fork(child).unwrap();
        assert_eq!(user.wait(WaitFor::Any).unwrap().1, 42);
        assert_eq!(user.load_u64(BASE), Ok(43));
        let at = BASE + 3 * PAGE_SIZE;
        assert_eq!(user.load_u64(at), Err(FaultError::BeyondEnd { at }));

        // What was stored stays in the device when nobody maps it.
        user.munmap(BASE, 4 * PAGE_SIZE).unwrap();
        map(1, Prot::READ, 2);
        assert_eq!(user.load_u64(BASE), Ok(42));
        user.vm().close(&device).unwrap();
    });
    machine.check();
    assert_eq!(machine.vm().statistics().frames_total, before);
}

#[test]
fn memory_that_is_added_while_a_program_runs_is_used_by_it() {
    let machine =
        Machine::builder().format::<I386>().memory(8 << 20).held_back(HELD_BACK).cpus(1).build();
    let added = machine.clone();
    machine.run(move |user| {
        let pages = (6 << 20) / PAGE_SIZE;
        let flags = MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::NORESERVE;
        let length = pages * PAGE_SIZE;
        let at = user.mmap(BASE, length, Prot::RW, flags, Backing::Anonymous, 0).unwrap();
        let store = |page: u64| user.store_u64(at + page * PAGE_SIZE, page + 1);
        let full = (0..pages).find(|page| store(*page).is_err()).expect("4 MiB are not 6");
        added.add_held_back().unwrap();
        (full..pages).for_each(|page| store(page).unwrap());
        assert!((0..pages).all(|page| user.load_u64(at + page * PAGE_SIZE) == Ok(page + 1)));
    });
    machine.check();
}
