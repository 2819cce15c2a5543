//! A hosted machine with a tree of files on it, and somebody who uses them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use rumpvm::{Hold, Vm};
use rumpvm_files::{
    Credentials, Entry, Errno, Open, OpenFlags, Services, Time, Tree, Waker, Walk, walk::Last,
};
use rumpvm_hosted::{Hosted, Power, Upcalls};
use rumpvm_platform::CpuId;

/// The home of these tests.
pub(crate) type Home = Hosted;
/// An open file of it.
pub(crate) type File = Hold<Open<Home>, Home>;

/// The machine. Its component lives as long as the process: files refer to it.
pub(crate) struct World {
    pub(crate) home: Home,
    pub(crate) vm: &'static Vm<Home>,
    _power: Power,
    _served: Arc<Served>,
}

struct Served(&'static Vm<Home>);

impl Upcalls for Served {
    fn tlb_interrupt(&self) {
        self.0.tlb_interrupt();
    }
    fn idle(&self) -> bool {
        self.0.idle()
    }
}

/// A moment later than all before.
fn tick() -> Time {
    static NOW: AtomicI64 = AtomicI64::new(1_000);
    Time { seconds: NOW.fetch_add(1, Ordering::SeqCst), nanoseconds: 5 }
}

fn by_chance(into: &mut [u8]) {
    static STATE: AtomicI64 = AtomicI64::new(1);
    for byte in into {
        let next = |state: i64| Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        *byte = (STATE.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).unwrap() >> 56) as u8;
    }
}

impl World {
    /// With 16 MiB of memory and two CPUs.
    pub(crate) fn new() -> Self {
        Self::with_memory(16 << 20)
    }

    /// With so much memory.
    pub(crate) fn with_memory(bytes: u64) -> Self {
        let (home, power) = Hosted::power_on(bytes, 2).expect("a host with memory");
        let (start, end) = home.memory();
        let own = home.clone();
        let vm: &'static Vm<Home> = home.run(Some(CpuId(0)), move || {
            let vm = Vm::new(own).expect("memory for the first records");
            vm.add_memory(start, end).expect("memory that can be used");
            &*Box::leak(Box::new(vm))
        });
        let served = Arc::new(Served(vm));
        let upcalls = Arc::downgrade(&served);
        home.connect(upcalls);
        Self { home, vm, _power: power, _served: served }
    }

    /// Runs `body` with a user of a new tree, and checks the component afterwards.
    pub(crate) fn run<R: Send + 'static>(
        &self,
        body: impl FnOnce(&User) -> R + Send + 'static,
    ) -> R {
        let (home, vm) = (self.home.clone(), self.vm);
        let result = self.home.run(None, move || {
            let services = Services {
                vm,
                now: tick,
                random: by_chance,
                more_memory: || false,
                device: |_, _| Err(Errno::ENXIO),
            };
            let tree = Tree::try_new(services).expect("memory for a tree");
            let user = User::new(home, Box::leak(Box::new(tree)));
            body(&user)
        });
        let vm = self.vm;
        let checked = self.home.run(None, move || vm.check().map_err(|broken| broken.to_string()));
        checked.expect("every invariant holds");
        result
    }
}

/// A thread with a waker, somewhere in the tree.
pub(crate) struct User {
    pub(crate) home: Home,
    pub(crate) tree: &'static Tree<Home>,
    pub(crate) who: Credentials,
    pub(crate) at: Hold<Entry<Home>, Home>,
    pub(crate) waker: Hold<Waker<Home>, Home>,
}

impl User {
    fn new(home: Home, tree: &'static Tree<Home>) -> Self {
        let waker = Waker::try_new().expect("memory for a waker");
        Self { home, tree, who: Credentials::root(), at: tree.root().clone(), waker }
    }

    /// The same place, seen by an ordinary user.
    pub(crate) fn ordinary(&self, user: u32) -> Self {
        let mut other = Self::new(self.home.clone(), self.tree);
        (other.who, other.at) = (Credentials::of_user(user, user), self.at.clone());
        other
    }

    /// Starts a thread of the same machine and tree; its waker is returned.
    pub(crate) fn spawn(
        &self,
        body: impl FnOnce(&Self) + Send + 'static,
    ) -> Hold<Waker<Home>, Home> {
        let mut user = Self::new(self.home.clone(), self.tree);
        user.at = self.at.clone();
        let waker = user.waker.clone();
        self.home.spawn(None, move || body(&user));
        waker
    }

    /// Frames that nobody has, once what was given back has come back.
    pub(crate) fn free_frames(&self) -> u64 {
        let vm = self.tree.services().vm;
        for _ in 0..50 {
            vm.idle();
            self.home.yield_now();
        }
        vm.mmu.phys.free_frames()
    }

    pub(crate) fn walk(&self) -> Walk<'_, Home> {
        Walk { root: self.tree.root(), from: &self.at, who: &self.who }
    }

    pub(crate) fn open(&self, path: &str, flags: OpenFlags) -> Result<File, Errno> {
        self.walk().open(path.as_bytes(), flags, 0o644, &self.waker)
    }

    /// Opens for writing, making it.
    pub(crate) fn create(&self, path: &str) -> File {
        self.open(path, OpenFlags::CREATE | OpenFlags::READ_WRITE).expect(path)
    }

    pub(crate) fn find(&self, path: &str) -> Result<Hold<Entry<Home>, Home>, Errno> {
        self.walk().find(path.as_bytes(), Last::Follow)
    }

    pub(crate) fn mkdir(&self, path: &str) -> Result<(), Errno> {
        self.walk().mkdir(path.as_bytes(), 0o755).map(drop)
    }

    pub(crate) fn write(&self, file: &File, bytes: &[u8]) -> Result<usize, Errno> {
        file.write(&mut &bytes[..], &self.waker)
    }

    /// Reads up to `most` bytes.
    pub(crate) fn read(&self, file: &File, most: usize) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0; most];
        let count = file.read(&mut &mut bytes[..], &self.waker)?;
        bytes.truncate(count);
        Ok(bytes)
    }

    /// The whole content of a file.
    pub(crate) fn content(&self, path: &str) -> Result<Vec<u8>, Errno> {
        let file = self.open(path, OpenFlags::empty())?;
        let mut all = Vec::new();
        loop {
            let piece = self.read(&file, 1000)?;
            if piece.is_empty() {
                return Ok(all);
            }
            all.extend(piece);
        }
    }

    /// The path of an entry, from the root of the tree.
    pub(crate) fn path(&self, entry: &Hold<Entry<Home>, Home>) -> String {
        let mut text = Vec::new();
        Entry::path(entry, self.tree.root(), &mut text).expect("memory for a path");
        String::from_utf8(text).expect("a path of these tests")
    }
}
