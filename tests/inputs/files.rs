//! Bytes that become files: archives, and programs.
//!
//! Flow:  bytes -> a fresh volume on a machine that stays -> reader -> what it promises, and nothing left behind.

use std::sync::{Arc, OnceLock};

use rumpvm::{Hold, Vm};
use rumpvm_arch::{Format, PAGE_SIZE, X86_64};
use rumpvm_files::elf::{Program, read_head};
use rumpvm_files::tree::{Unmount, new_root};
use rumpvm_files::volume::{MountFlags, TMPFS};
use rumpvm_files::walk::Last;
use rumpvm_files::{Credentials, Entry, Errno, OpenFlags, Services, Time, Tree, Waker, Walk, cpio};
use rumpvm_hosted::{Hosted, Power, Upcalls};
use rumpvm_platform::CpuId;

/// Enough for an input of some thousands of bytes, each of them a file of its own.
const MEMORY: u64 = 4 << 20;
/// Below the root, so that an archive that leads out of its target is seen.
const TARGET: &[u8] = b"/target";

/// An initial ramdisk, unpacked twice: nothing comes to lie outside of the target, and both say the same of it.
pub fn archive(bytes: &[u8]) {
    let bytes = bytes.to_vec();
    in_a_volume(move |walk, waker| {
        let target = walk.find(TARGET, Last::Follow).expect("what is mounted");
        let first = unpack(&bytes, &target);
        assert_eq!(names(walk, waker), [".", "..", "target"]);
        let second = unpack(&bytes, &target);
        if let (Ok(first), Ok(second)) = (first, second) {
            assert_eq!(first, second);
        }
        assert_eq!(names(walk, waker), [".", "..", "target"]);
    });
}

/// Unpacks; what is said about it fits the archive.
fn unpack(bytes: &[u8], target: &Hold<Entry<Hosted>, Hosted>) -> Result<cpio::Unpacked, Errno> {
    match cpio::unpack(bytes, target) {
        Ok(unpacked) => {
            assert!(unpacked.bytes <= bytes.len() as u64, "{unpacked:?} of {}", bytes.len());
            Ok(unpacked)
        }
        Err(trouble) => {
            assert!(trouble.at < bytes.len(), "{trouble}");
            Err(match trouble.why {
                cpio::Why::Refused(errno) => errno,
                cpio::Why::Malformed | cpio::Why::Short => Errno::EINVAL,
            })
        }
    }
}

/// What is in the root.
fn names(walk: &Walk<'_, Hosted>, waker: &Hold<Waker<Hosted>, Hosted>) -> Vec<String> {
    let open = walk.open(b"/", OpenFlags::DIRECTORY, 0, waker).expect("a root");
    let mut bytes = [0; PAGE_SIZE as usize];
    let count = open.list(&mut &mut bytes[..]).expect("a list");
    let mut rest = &bytes[..count];
    let mut names = Vec::new();
    while !rest.is_empty() {
        let length = usize::from(u16::from_le_bytes([rest[16], rest[17]]));
        let name = rest[19..length].split(|byte| *byte == 0).next().expect("a name");
        names.push(String::from_utf8_lossy(name).into_owned());
        rest = &rest[length..];
    }
    names.sort();
    names
}

/// A file that somebody wants to run: every segment can be mapped where it says.
pub fn program(bytes: &[u8]) {
    let bytes = bytes.to_vec();
    in_a_volume(move |walk, waker| {
        let flags = OpenFlags::CREATE | OpenFlags::READ_WRITE;
        let open = walk.open(b"/target/program", flags, 0o755, waker).expect("memory for a file");
        let written = open.write(&mut &bytes[..], waker);
        assert_eq!(written, Ok(bytes.len()));
        let head = read_head(open.entry()).expect("a regular file");
        assert_eq!(head, bytes[..bytes.len().min(PAGE_SIZE as usize)]);
        let end = X86_64::USER_END.0;
        match Program::read(open.entry(), &head, end) {
            Ok(program) => check(&program, end),
            Err(error) => assert!(matches!(error, Errno::ENOEXEC | Errno::EIO), "{error}"),
        }
    });
}

fn check(program: &Program, end: u64) {
    assert!(!program.segments.is_empty());
    let (first, last) = program.extent();
    assert!(first % PAGE_SIZE == 0 && last % PAGE_SIZE == 0, "{program:?}");
    assert!(first < last && last <= end, "{program:?}");
    for segment in &program.segments {
        assert!(segment.at % PAGE_SIZE == segment.offset % PAGE_SIZE, "{segment:?}");
        assert!(segment.file_bytes <= segment.memory_bytes, "{segment:?}");
        assert!(segment.offset.checked_add(segment.file_bytes).is_some(), "{segment:?}");
        let after = segment.at.checked_add(segment.memory_bytes);
        assert!(segment.at >= first && after.is_some_and(|after| after <= last), "{segment:?}");
    }
    let interpreter = program.interpreter.as_deref();
    assert!(interpreter.is_none_or(|path| !path.is_empty() && path.len() < 4096), "{program:?}");
}

/// The machine, its component, and what answers its calls.
struct Machine {
    home: Hosted,
    vm: &'static Vm<Hosted>,
    tree: &'static Tree<Hosted>,
    _power: Power,
    _served: Arc<Served>,
}

struct Served(&'static Vm<Hosted>);

impl Upcalls for Served {
    fn tlb_interrupt(&self) {
        self.0.tlb_interrupt();
    }
    fn idle(&self) -> bool {
        self.0.idle()
    }
}

impl Machine {
    fn new() -> Self {
        let (home, power) = Hosted::power_on(MEMORY, 1).expect("a host with memory");
        let (start, end) = home.memory();
        let own = home.clone();
        let (vm, tree) = home.run(Some(CpuId(0)), move || {
            let vm = Vm::new(own).expect("memory for the first records");
            vm.add_memory(start, end).expect("memory that can be used");
            let vm: &'static Vm<Hosted> = Box::leak(Box::new(vm));
            let services = Services {
                vm,
                now: || Time { seconds: 1_000, nanoseconds: 5 },
                random: |into| into.fill(4),
                more_memory: || false,
                device: |_, _| Err(Errno::ENXIO),
            };
            let tree = Tree::try_new(services).expect("memory for a tree");
            let who = Credentials::root();
            let walk = Walk { root: tree.root(), from: tree.root(), who: &who };
            walk.mkdir(TARGET, 0o755).expect("memory for a directory");
            (vm, &*Box::leak(Box::new(tree)))
        });
        let served = Arc::new(Served(vm));
        let upcalls = Arc::downgrade(&served);
        home.connect(upcalls);
        Self { home, vm, tree, _power: power, _served: served }
    }

    /// Mounts a volume on the target, and takes it away after `body`, which kept nothing of it.
    fn in_a_volume(&self, body: impl Fn(&Walk<'_, Hosted>, &Hold<Waker<Hosted>, Hosted>)) {
        let waker = Waker::try_new().expect("memory for a waker");
        let volume = self.tree.volume(TMPFS).expect("memory for a volume");
        let root = new_root(&volume, 0o755).expect("memory for a directory");
        let who = Credentials::root();
        let walk = Walk { root: self.tree.root(), from: self.tree.root(), who: &who };
        let below = walk.find(TARGET, Last::Follow).expect("what was made");
        let flags = MountFlags::empty();
        self.tree.mount(&below, root.clone(), b"none", flags).expect("memory for a mount");
        drop(below);
        body(&walk, &waker);
        self.tree.unmount(&root, Unmount::IfIdle).expect("nothing is in use");
    }

    /// Frames that nobody has, once what was given back has come back.
    fn free_frames(&self) -> u64 {
        while self.vm.idle() {
            self.home.yield_now();
        }
        self.vm.mmu.phys.free_frames()
    }
}

/// Runs `body` twice, each time in a fresh volume that is gone afterwards: the second time needs no more frames than the
/// first, whose records may have made room that stays.
fn in_a_volume(body: impl Fn(&Walk<'_, Hosted>, &Hold<Waker<Hosted>, Hosted>) + Send + 'static) {
    static MACHINE: OnceLock<Machine> = OnceLock::new();
    let machine = MACHINE.get_or_init(Machine::new);
    machine.home.run(None, move || {
        let [first, second] = [(); 2].map(|()| {
            machine.in_a_volume(&body);
            machine.vm.check().expect("every invariant holds");
            machine.free_frames()
        });
        assert_eq!(first, second, "a volume left frames behind");
    });
}
