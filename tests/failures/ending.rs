//! Ends whatever a case left, and looks whether anything is lost.
//!
//! Flow:  processes exit -> spaces are left -> objects are closed, each after a look at its pages, which must be
//!        in the file afterwards -> nothing is there any more.

use rumpvm::shm::{Caller, Rank, SegmentLimits};
use rumpvm::{Backing, CallError, CommitPolicy, Hold, MapFlags, Object, State, Vm};
use rumpvm_arch::{Format, PAGE_SIZE, Prot, VirtAddr};
use rumpvm_hosted::Hosted;
use rumpvm_platform::{File, FileId, IoError};

/// Who may remove any segment.
const ROOT: Caller<'static> =
    Caller { uid: 0, gid: 0, groups: &[], rank: Rank::Administrator, pid: 1, now: 0 };

const PAGE: usize = PAGE_SIZE as usize;

/// Where objects are looked at.
const AT: VirtAddr = VirtAddr(0x4000_0000);

/// Pages of an object that are looked at; cases use the first few.
const LOOKED_AT: u64 = 64;

/// Pages that are touched to see zeros: those kept zeroed, those just freed, and some more.
const TOUCHED: u64 = 70;

type Held<T, F> = Hold<T, Hosted<F>>;

/// Ends everything; says whether that was possible. A file of which a case has ordered that it fails stays.
pub(crate) fn end<F: Format>(vm: &Vm<Hosted<F>>, what: &str) -> bool {
    vm.deactivate();
    vm.set_commit_policy(CommitPolicy::default());
    vm.segments().set_limits(SegmentLimits::default());
    for place in 0..=vm.segments().totals(vm).highest {
        if let Ok(status) = vm.segments().status_of_any(place) {
            vm.segments().remove(vm, &ROOT, status.id).expect("whoever owns it, it is removed");
        }
    }
    let mut processes = vec![];
    vm.for_each_process(|process| processes.push(process.clone()));
    for process in processes {
        if process.state() == State::Running {
            process.exit(vm, 0);
        }
    }
    let mut spaces = vec![];
    vm.for_each_space(|space| spaces.push(space.clone()));
    for space in spaces {
        (0..space.users()).for_each(|_| vm.leave_space(&space));
    }
    let mut objects = vec![];
    vm.objects.for_each(|object| objects.push(object.clone()));
    let mut ended = true;
    for object in &objects {
        ended &= close(vm, object, what);
    }
    // Segments whose memory is gone by now are forgotten with the next look at the table.
    vm.segments().totals(vm);
    ended
}

/// The last users of `object` leave. What its pages held is in the file then (12), or kept if that fails.
fn close<F: Format>(vm: &Vm<Hosted<F>>, object: &Held<Object<Hosted<F>>, F>, what: &str) -> bool {
    let id = object.file_id();
    if object.users() == 0 {
        // It could not be written when its last user left.
        let id = id.unwrap_or_else(|| panic!("{what}: an object without file and user is left"));
        let again = vm.open_file(Named(id)).expect("memory to open a file");
        assert!(again.is(object), "{what}: one file has two objects");
    }
    let held = if id.is_some() { pages(vm, object) } else { vec![] };
    let size = object.size();
    let mut closed = Ok(());
    while object.users() > 0 {
        closed = vm.close(object);
    }
    match closed {
        Ok(()) => held.iter().zip(0..).for_each(|(bytes, page)| {
            let written = in_file(object, page, size);
            let same = |written: Vec<u8>| written == bytes[..written.len()];
            assert!(written.is_none_or(same), "{what}: page {page} of a file was not written");
        }),
        Err(CallError::Io(_)) => {}
        Err(error) => panic!("{what}: {error}"),
    }
    closed.is_ok()
}

/// The first pages of `object` as a program sees them; none where one cannot be read.
fn pages<F: Format>(vm: &Vm<Hosted<F>>, object: &Held<Object<Hosted<F>>, F>) -> Vec<Vec<u8>> {
    let count = object.size().div_ceil(PAGE_SIZE).min(LOOKED_AT);
    let space = vm.new_space().expect("memory for a space");
    let flags = MapFlags::PRIVATE | MapFlags::FIXED;
    let backing = Backing::Object(object);
    let length = count.max(1) * PAGE_SIZE;
    space.mmap(vm, AT, length, Prot::READ, flags, backing, 0).expect("memory for a mapping");
    let read = |page| {
        let mut bytes = vec![0; PAGE];
        space.copy_in(vm, AT + page * PAGE_SIZE, &mut bytes).map(|()| bytes)
    };
    let pages = (0..count).map(read).collect::<Result<_, _>>().unwrap_or_default();
    vm.leave_space(&space);
    pages
}

/// What the file has of a page; none if it cannot be read.
fn in_file<F: Format>(object: &Object<Hosted<F>>, page: u64, size: u64) -> Option<Vec<u8>> {
    let start = page * PAGE_SIZE;
    let mut bytes = vec![0; (size - start).min(PAGE_SIZE) as usize];
    let read = object.file()?.read(start, &mut bytes).ok()?;
    bytes.truncate(read);
    Some(bytes)
}

/// Everything is sound, and nothing is left.
pub(crate) fn check<F: Format>(vm: &Vm<Hosted<F>>, what: &str) {
    touch(vm, what);
    // Records and frames that readers might still have looked at.
    vm.mmu.squeeze();
    for _ in 0..4 {
        vm.idle();
    }
    vm.mmu.squeeze();
    vm.check().unwrap_or_else(|broken| panic!("{what}: {broken}"));
    vm.platform().verify_tlbs().unwrap_or_else(|story| panic!("{what}: {story}"));
    let (mut processes, mut spaces, mut objects) = (0, 0, 0);
    vm.for_each_process(|_| processes += 1);
    vm.for_each_space(|_| spaces += 1);
    vm.objects.for_each(|_| objects += 1);
    let now = vm.statistics();
    // One frame is the page of zeros.
    let used = now.frames_total - now.frames_free - now.frames_records - 1;
    let left = (processes, spaces, objects, used);
    assert_eq!(left, (0, 0, 0, 0), "{what}: processes, spaces, objects, frames are left");
    let tables = now.tables_made - now.tables_freed;
    let nodes = now.nodes_made - now.nodes_freed;
    assert_eq!((tables, nodes), (0, 0), "{what}: tables and nodes are left");
}

/// Memory is zero on first touch, whatever was in its frames (11).
fn touch<F: Format>(vm: &Vm<Hosted<F>>, what: &str) {
    let space = vm.new_space().expect("memory for a space");
    let flags = MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::FIXED;
    let length = TOUCHED * PAGE_SIZE;
    space.mmap(vm, AT, length, Prot::RW, flags, Backing::Anonymous, 0).expect("a mapping");
    for page in 0..TOUCHED {
        let (at, mut bytes) = (AT + page * PAGE_SIZE, [1; PAGE]);
        space.copy_out(vm, at, &[0]).expect("memory for a page");
        space.copy_in(vm, at, &mut bytes).expect("a page that is there");
        assert!(bytes == [0; PAGE], "{what}: page {page} is not zero on first touch");
    }
    vm.leave_space(&space);
}

/// A file of that identity: enough to open it once more.
struct Named(FileId);

impl File for Named {
    fn id(&self) -> FileId {
        self.0
    }

    fn length(&self) -> u64 {
        0
    }

    fn read(&self, _: u64, _: &mut [u8]) -> Result<usize, IoError> {
        unreachable!("the file is open already")
    }

    fn write(&self, _: u64, _: &[u8]) -> Result<(), IoError> {
        unreachable!("the file is open already")
    }

    fn set_length(&self, _: u64) -> Result<(), IoError> {
        unreachable!("the file is open already")
    }

    fn sync(&self) -> Result<(), IoError> {
        unreachable!("the file is open already")
    }
}
