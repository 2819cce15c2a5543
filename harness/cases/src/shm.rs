//! System V shared memory.

use rumpvm::shm::{AttachFlags, Caller, PRIVATE, Rank, SegmentFlags, SegmentLimits};
use rumpvm::{CallError, Limits, RemapFlags, Vm};
use rumpvm_arch::{Prot, VirtAddr};
use rumpvm_platform::Platform;

use crate::program::BASE;
use crate::{PAGE, Program, cases};

cases! {
    a_key_finds_the_segment_that_was_made_with_it,
    sizes_and_limits_decide_whether_a_segment_is_made,
    spaces_that_attach_a_segment_see_each_others_stores,
    an_attachment_goes_where_the_address_says_or_nowhere,
    permissions_decide_who_attaches_and_how,
    only_owners_change_or_remove_a_segment,
    attachments_are_counted_across_fork_and_exit,
    a_removed_segment_lives_until_its_last_area_goes,
    detaching_finds_all_pieces_that_are_where_they_were,
    what_is_known_of_a_segment_changes_with_its_calls,
    numbers_are_not_used_again_soon,
}

const KEY: i32 = 77;
const MAKE: SegmentFlags = SegmentFlags::CREATE;
const NONE: AttachFlags = AttachFlags::empty();
const ANY: VirtAddr = VirtAddr(0);

fn user(uid: u32) -> Caller<'static> {
    Caller { uid, gid: uid, groups: &[], rank: Rank::Ordinary, pid: uid, now: 1000 }
}

const ROOT: Caller<'static> =
    Caller { uid: 0, gid: 0, groups: &[], rank: Rank::Administrator, pid: 1, now: 5 };

/// A new segment of `pages` pages for everybody.
fn make<P: Platform>(vm: &Vm<P>, pages: u64) -> i32 {
    vm.segments().get(vm, &ROOT, PRIVATE, pages * PAGE, MAKE, 0o666).unwrap()
}

fn attach<P: Platform>(vm: &Vm<P>, program: &Program<'_, P>, id: i32, at: VirtAddr) -> VirtAddr {
    vm.segments().attach(vm, &ROOT, program, id, at, NONE).unwrap()
}

fn attachments<P: Platform>(vm: &Vm<P>, id: i32) -> Result<u64, CallError> {
    vm.segments().status(&ROOT, id).map(|status| status.attachments)
}

fn a_key_finds_the_segment_that_was_made_with_it<P: Platform>(vm: &Vm<P>) {
    let get = |bytes, flags| vm.segments().get(vm, &ROOT, KEY, bytes, flags, 0o600);
    assert_eq!(get(PAGE, SegmentFlags::empty()), Err(CallError::NotFound));
    let id = get(PAGE + 1, MAKE | SegmentFlags::EXCLUSIVE).unwrap();
    assert_eq!(get(PAGE + 1, MAKE | SegmentFlags::EXCLUSIVE), Err(CallError::Exists));
    for (bytes, flags) in [(0, MAKE), (5, SegmentFlags::empty()), (1, SegmentFlags::EXCLUSIVE)] {
        assert_eq!(get(bytes, flags), Ok(id));
    }
    assert_eq!(get(PAGE + 2, MAKE), Err(CallError::Invalid));
    assert_ne!(make(vm, 1), make(vm, 1));
    let mut removed = 0;
    for place in 0..=vm.segments().totals(vm).highest {
        if let Ok(status) = vm.segments().status_of_any(place) {
            vm.segments().remove(vm, &ROOT, status.id).unwrap();
            removed += 1;
        }
    }
    assert_eq!(removed, 3);
    assert_eq!(get(PAGE, SegmentFlags::empty()), Err(CallError::NotFound));
}

fn sizes_and_limits_decide_whether_a_segment_is_made<P: Platform>(vm: &Vm<P>) {
    let get = |bytes| vm.segments().get(vm, &ROOT, PRIVATE, bytes, MAKE, 0o600);
    for bytes in [0, u64::MAX, 1 << 63] {
        assert_eq!(get(bytes), Err(CallError::Invalid), "{bytes:#x}");
    }
    assert_eq!(get(1 << 62), Err(CallError::NoMemory));
    let before = vm.segments().limits();
    vm.segments().set_limits(SegmentLimits { bytes: 4 * PAGE, segments: 2, pages: 5 });
    assert_eq!(get(4 * PAGE + 1), Err(CallError::Invalid));
    let one = get(3 * PAGE + 1).unwrap();
    assert_eq!(get(PAGE + 1), Err(CallError::NoSpace));
    let two = get(1).unwrap();
    vm.segments().set_limits(SegmentLimits { bytes: 4 * PAGE, segments: 2, pages: 50 });
    assert_eq!(get(1), Err(CallError::NoSpace));
    let totals = vm.segments().totals(vm);
    assert_eq!((totals.segments, totals.pages, totals.resident), (2, 5, 0));
    for id in [one, two] {
        vm.segments().remove(vm, &ROOT, id).unwrap();
    }
    vm.segments().set_limits(before);
    assert_eq!(vm.committed(), 0, "what was promised is given back");
}

fn spaces_that_attach_a_segment_see_each_others_stores<P: Platform>(vm: &Vm<P>) {
    let id = make(vm, 3);
    let (one, two) = (Program::new(vm), Program::new(vm));
    let (first, second) = (attach(vm, &one, id, ANY), attach(vm, &two, id, BASE));
    one.number(first, 3);
    assert_eq!((two.numbers(second, 3), second), (alloc::vec![1, 2, 3], BASE));
    vm.segments().remove(vm, &ROOT, id).unwrap();
}

fn an_attachment_goes_where_the_address_says_or_nowhere<P: Platform>(vm: &Vm<P>) {
    let id = make(vm, 2);
    let program = Program::new(vm);
    let attach = |id, at, flags| vm.segments().attach(vm, &ROOT, &program, id, at, flags);
    let (rnd, remap) = (AttachFlags::RND, AttachFlags::REMAP);
    assert_eq!(attach(id, BASE, NONE), Ok(BASE));
    let table = [
        (id, BASE, NONE),
        (id, BASE + PAGE, rnd),
        (id, BASE + 8 * PAGE + 1, NONE),
        (id, ANY, remap),
        (id, VirtAddr(8), rnd | remap),
        (-1, ANY, NONE),
        (id + 1, ANY, NONE),
    ];
    for (id, at, flags) in table {
        assert_eq!(attach(id, at, flags), Err(CallError::Invalid), "{id} {at} {flags:?}");
    }
    assert_eq!(attach(id, BASE + PAGE + 5, rnd | remap), Ok(BASE + PAGE));
    assert_eq!(attach(id, BASE + 8 * PAGE + 5, rnd), Ok(BASE + 8 * PAGE));
    vm.segments().remove(vm, &ROOT, id).unwrap();
}

fn permissions_decide_who_attaches_and_how<P: Platform>(vm: &Vm<P>) {
    let get = |caller: &Caller<'_>, mode| vm.segments().get(vm, caller, KEY, 0, MAKE, mode);
    let id = vm.segments().get(vm, &user(7), KEY, PAGE, MAKE, 0o640).unwrap();
    let program = Program::new(vm);
    let try_as = |caller: &Caller<'_>, flags| {
        vm.segments().attach(vm, caller, &program, id, ANY, flags).map(drop)
    };
    let group = Caller { groups: &[3, 7], ..user(8) };
    let denied = Err(CallError::Denied);
    let (load, exec) = (AttachFlags::RDONLY, AttachFlags::EXEC);
    assert_eq!((try_as(&user(7), NONE), try_as(&user(7), exec)), (Ok(()), denied));
    assert_eq!((try_as(&group, NONE), try_as(&group, load)), (denied, Ok(())));
    assert_eq!((try_as(&user(8), load), try_as(&ROOT, exec)), (denied, Ok(())));
    assert_eq!((get(&user(8), 0), get(&user(8), 0o004)), (Ok(id), Err(CallError::Denied)));
    assert_eq!(vm.segments().status(&user(8), id).map(drop), denied);
    let at = vm.segments().attach(vm, &group, &program, id, ANY, load).unwrap();
    assert_eq!(program.mprotect(vm, at, PAGE, Prot::RW), denied);
    vm.segments().remove(vm, &user(7), id).unwrap();
}

fn only_owners_change_or_remove_a_segment<P: Platform>(vm: &Vm<P>) {
    let id = vm.segments().get(vm, &user(7), KEY, PAGE, MAKE, 0o666).unwrap();
    let (segments, other) = (vm.segments(), user(8));
    let refused = Err(CallError::NotPermitted);
    let limits = Limits::default();
    assert_eq!(segments.set(&other, id, (8, 8), 0o777), refused);
    assert_eq!(segments.remove(vm, &other, id), refused);
    assert_eq!(segments.set_locked(&other, &limits, id, true), refused);
    assert_eq!(segments.set(&user(7), id, (8, 9), 0o1777), Ok(()));
    let status = segments.status(&other, id).unwrap();
    assert_eq!((status.uid, status.gid, status.creator_uid, status.mode), (8, 9, 7, 0o777));
    assert_eq!(segments.set_locked(&other, &limits, id, true), Ok(()));
    assert_eq!(segments.status(&other, id).unwrap().mode, 0o2777);
    assert_eq!(segments.set_locked(&user(7), &limits, id, false), Ok(()));
    assert_eq!(segments.remove(vm, &other, id), Ok(()));
    assert_eq!(segments.status(&other, id).map(drop), Err(CallError::Invalid));
}

fn attachments_are_counted_across_fork_and_exit<P: Platform>(vm: &Vm<P>) {
    let id = make(vm, 4);
    let program = Program::new(vm);
    let at = attach(vm, &program, id, ANY);
    attach(vm, &program, id, ANY);
    assert_eq!(attachments(vm, id), Ok(2));
    let child = program.fork();
    assert_eq!(attachments(vm, id), Ok(4));
    child.unmap(at + PAGE, 1);
    assert_eq!(attachments(vm, id), Ok(5), "each piece counts");
    drop(child);
    assert_eq!(attachments(vm, id), Ok(2));
    drop(program);
    assert_eq!(attachments(vm, id), Ok(0));
    vm.segments().remove(vm, &ROOT, id).unwrap();
}

fn a_removed_segment_lives_until_its_last_area_goes<P: Platform>(vm: &Vm<P>) {
    let id = vm.segments().get(vm, &ROOT, KEY, PAGE, MAKE, 0o600).unwrap();
    let program = Program::new(vm);
    let at = attach(vm, &program, id, ANY);
    program.set(at, 5);
    vm.segments().remove(vm, &ROOT, id).unwrap();
    vm.segments().remove(vm, &ROOT, id).unwrap();
    let status = vm.segments().status(&ROOT, id).unwrap();
    assert_eq!((status.mode, status.key, status.attachments), (0o1600, PRIVATE, 1));
    let found = vm.segments().get(vm, &ROOT, KEY, 0, SegmentFlags::empty(), 0);
    assert_eq!(found, Err(CallError::NotFound));
    let again = attach(vm, &program, id, ANY);
    assert_eq!((program.get(again), attachments(vm, id)), (5, Ok(2)));
    program.unmap(at, 1);
    assert_eq!(vm.segments().detach(vm, &ROOT, &program, again), Ok(()));
    assert_eq!(attachments(vm, id), Err(CallError::Invalid));
    let mut left = 0;
    vm.objects.for_each(|_| left += 1);
    assert_eq!(left, 0);
}

fn detaching_finds_all_pieces_that_are_where_they_were<P: Platform>(vm: &Vm<P>) {
    let id = make(vm, 8);
    let program = Program::new(vm);
    let detach = |at| vm.segments().detach(vm, &ROOT, &program, at);
    let at = attach(vm, &program, id, BASE);
    program.protect(at + 2 * PAGE, 1, Prot::READ);
    program.unmap(at + 4 * PAGE, 1);
    let (away, flags) = (at + 20 * PAGE, RemapFlags::MAYMOVE | RemapFlags::FIXED);
    assert_eq!(program.mremap(vm, at + 6 * PAGE, PAGE, PAGE, flags, away), Ok(away));
    for wrong in [at + 1, at + 2 * PAGE, at - PAGE, away] {
        assert_eq!(detach(wrong), Err(CallError::Invalid), "{wrong}");
    }
    assert_eq!((detach(at), program.pages()), (Ok(()), alloc::vec![(20, 21)]));
    assert_eq!(detach(at), Err(CallError::Invalid));
    assert_eq!(detach(away - 6 * PAGE), Ok(()), "as if it had been attached there");
    assert_eq!((program.area_count(), attachments(vm, id)), (0, Ok(0)));
    attach(vm, &program, id, at);
    program.unmap(at, 3);
    assert_eq!((detach(at), program.area_count()), (Ok(()), 0));
    vm.segments().remove(vm, &ROOT, id).unwrap();
    let odd = vm.segments().get(vm, &ROOT, PRIVATE, 2 * PAGE + 5, MAKE, 0o666).unwrap();
    attach(vm, &program, odd, at);
    program.madvise(vm, at, PAGE, 10).unwrap();
    assert_eq!((detach(at), program.area_count()), (Ok(()), 0), "its last page is not a whole one");
    vm.segments().remove(vm, &ROOT, odd).unwrap();
}

fn what_is_known_of_a_segment_changes_with_its_calls<P: Platform>(vm: &Vm<P>) {
    let id = vm.segments().get(vm, &user(7), KEY, PAGE + 1, MAKE, 0o600).unwrap();
    let program = Program::new(vm);
    let later = Caller { now: 2000, pid: 9, ..user(7) };
    let at = vm.segments().attach(vm, &later, &program, id, ANY, NONE).unwrap();
    let status = vm.segments().status(&user(7), id).unwrap();
    assert_eq!((status.bytes, status.creator, status.last), (PAGE + 1, 7, 9));
    assert_eq!((status.attached, status.detached, status.changed), (2000, 0, 1000));
    let end = Caller { now: 3000, pid: 10, ..user(7) };
    vm.segments().detach(vm, &end, &program, at).unwrap();
    let status = vm.segments().status(&user(7), id).unwrap();
    assert_eq!((status.attached, status.detached, status.last), (2000, 3000, 10));
    vm.segments().remove(vm, &ROOT, id).unwrap();
}

fn numbers_are_not_used_again_soon<P: Platform>(vm: &Vm<P>) {
    let mut last = -1;
    for _ in 0..200 {
        let id = make(vm, 1);
        assert!(id > last, "{id} after {last}");
        last = id;
        vm.segments().remove(vm, &ROOT, id).unwrap();
    }
}
