//! Two CPUs that fault in disjoint parts of one space write no common cache line.
//!
//! Shown by counting: a home that carries out every step on a shared word itself notes which CPU wrote to which
//! line. One host thread plays both CPUs, one after the other, since what is written does not depend on when.

#[path = "sharing/home.rs"]
mod home;

use rumpvm::{Backing, Hold, MapFlags, Space, Vm};
use rumpvm_arch::{Access, PAGE_SIZE, Prot, VirtAddr};

use home::{Line, Recorded};

type Shared = Hold<Space<Recorded>, Recorded>;

/// Two places that have no table and no node below the root in common.
const PARTS: [VirtAddr; 2] = [VirtAddr(0x40_0000_0000), VirtAddr(0x80_0000_0000)];
const BYTES: u64 = 16 << 20;

fn with_space(test: impl FnOnce(&Vm<Recorded>, &Shared)) {
    let vm = Vm::new(Recorded::new(64 << 20)).unwrap();
    let (start, end) = vm.platform().memory();
    vm.add_memory(start, end).unwrap();
    let space = vm.new_space().unwrap();
    let flags = MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::FIXED;
    for at in PARTS {
        let mapped = space.mmap(&vm, at, BYTES, Prot::RW, flags, Backing::Anonymous, 0);
        assert_eq!(mapped, Ok(at));
    }
    test(&vm, &space);
    vm.leave_space(&space);
}

/// Stores to the pages `from..to` of each CPU's part, by that CPU.
fn fault(vm: &Vm<Recorded>, space: &Shared, parts: [VirtAddr; 2], from: u64, to: u64) {
    for (cpu, part) in parts.into_iter().enumerate() {
        home::be(cpu);
        for page in from..to {
            vm.fault(space, part + page * PAGE_SIZE, Access::Write).unwrap();
        }
    }
    home::be(0);
}

fn written_by_both(
    vm: &Vm<Recorded>,
    space: &Shared,
    parts: [VirtAddr; 2],
    first: u64,
) -> Vec<Line> {
    fault(vm, space, parts, first, first + 8);
    home::record();
    fault(vm, space, parts, first + 8, first + 9);
    home::written_by_both()
}

#[test]
fn two_warm_faults_in_disjoint_parts_write_no_common_line() {
    with_space(|vm, space| {
        let common = written_by_both(vm, space, PARTS, 0);
        assert!(common.is_empty(), "{common:#?}");
    });
}

#[test]
fn a_line_that_one_of_them_writes_the_other_does_not_even_read() {
    with_space(|vm, space| {
        written_by_both(vm, space, PARTS, 0);
        let common = home::written_by_one_and_read_by_the_other();
        assert!(common.is_empty(), "{common:#?}");
    });
}

#[test]
fn two_warm_faults_below_one_table_do_write_common_lines() {
    with_space(|vm, space| {
        let near = [PARTS[0], PARTS[0] + 64 * PAGE_SIZE];
        let common = written_by_both(vm, space, near, 0);
        assert!(!common.is_empty(), "the lock of their table is one that both write");
    });
}
