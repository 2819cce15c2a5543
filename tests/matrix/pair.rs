//! The component and the model side by side: whatever is done is done in both, and must be answered alike.
//!
//! Flow:  a step -> the component's answer and the model's -> nothing, or a story with both.
//! Owns:  the processes of one cell, and the objects that they map.

use std::fmt::Debug;
use std::sync::{Arc, LazyLock};

use rumpvm::{
    Backing, CallError, Hold, Inheritance, Limits, LockAllFlags, LockFlags, MapFlags, Object,
    Process, ProtFlags, RemapFlags, Space, SyncFlags, Vm,
};
use rumpvm_arch::{Format, PAGE_SIZE, Prot, VirtAddr};
use rumpvm_harness::machine::Machine;
use rumpvm_hosted::{Hosted, MemoryFile};
use rumpvm_tests::model::{Computer, Contents, Memory};

use super::alignments::{BELOW, OBJECT_BYTES, Span};

/// Nothing, or what was answered and what should have been.
pub(crate) type Verdict = Result<(), String>;

/// What is mapped.
#[derive(Clone, Copy)]
pub(crate) enum What {
    /// Zeros.
    Zeros,
    /// One of the objects of every cell, from a page on.
    Of(usize, u64),
}

/// The file of a cell, by its place in the model.
pub(crate) const FILE: usize = 0;
/// Its shared memory.
pub(crate) const MEMORY: usize = 1;

pub(crate) struct Running<F: Format> {
    process: Hold<Process<Hosted<F>>, Hosted<F>>,
    pub(crate) space: Hold<Space<Hosted<F>>, Hosted<F>>,
    pub(crate) memory: Memory,
}

pub(crate) struct Pair<'m, F: Format> {
    pub(crate) machine: &'m Machine<F>,
    file: Arc<MemoryFile>,
    shared: [Hold<Object<Hosted<F>>, Hosted<F>>; 2],
    pub(crate) objects: Vec<Contents>,
    pub(crate) processes: Vec<Running<F>>,
    /// Who acts.
    pub(crate) now: usize,
    /// What was stored last.
    pub(crate) value: u8,
}

/// The two answers must be the same.
pub(crate) fn agree<T: PartialEq + Debug>(what: &str, seen: T, expected: T) -> Verdict {
    if seen == expected {
        return Ok(());
    }
    Err(format!("{what}: the component says {seen:?}, the model {expected:?}"))
}

impl<'m, F: Format> Pair<'m, F> {
    /// One process with nothing mapped.
    pub(crate) fn new(machine: &'m Machine<F>) -> Self {
        let vm = machine.vm();
        static BYTES: LazyLock<Vec<u8>> =
            LazyLock::new(|| (0..OBJECT_BYTES).map(|at| (at / 7 % 251) as u8).collect());
        let bytes = &*BYTES;
        let file = Arc::new(MemoryFile::new(bytes.clone()));
        let opened = vm.open_file(Arc::clone(&file)).expect("memory for a file");
        let made = vm.shared_memory(bytes.len() as u64).expect("memory for an object");
        let process = vm.first_process().expect("memory for a process");
        let space = process.space().expect("a space, as it runs");
        let frames = vm.mmu.phys.total_frames();
        let memory = Memory::new(Computer { has_nx: F::HAS_NX, end: F::USER_END, frames });
        let objects = vec![Contents::file(bytes), Contents::memory(bytes.len())];
        let processes = vec![Running { process, space, memory }];
        let shared = [opened, made];
        let mut pair = Self { machine, file, shared, objects, processes, now: 0, value: 0 };
        pair.begin_heap(BELOW);
        pair
    }

    pub(crate) fn vm(&self) -> &'m Vm<Hosted<F>> {
        self.machine.vm()
    }

    pub(crate) fn space(&self) -> &Space<Hosted<F>> {
        &self.processes[self.now].space
    }

    pub(crate) fn model(&mut self) -> (&mut Memory, &mut Vec<Contents>) {
        (&mut self.processes[self.now].memory, &mut self.objects)
    }

    pub(crate) fn map(&mut self, span: Span, prot: Prot, flags: MapFlags, what: What) -> Verdict {
        let (backing, source) = match what {
            What::Zeros => (Backing::Anonymous, None),
            What::Of(which, page) => {
                (Backing::Object(&self.shared[which]), Some((which, page * PAGE_SIZE)))
            }
        };
        let Span { at, length } = span;
        let flags = if source.is_none() { flags | MapFlags::ANONYMOUS } else { flags };
        let offset = source.map_or(0, |(_, offset)| offset);
        let seen = self.space().mmap(self.vm(), at, length, prot, flags, backing, offset);
        let (memory, objects) = self.model();
        agree("mmap", seen, memory.mmap(objects, at, length, prot, flags, source))
    }

    pub(crate) fn unmap(&mut self, Span { at, length }: Span) -> Verdict {
        let seen = self.space().munmap(self.vm(), at, length);
        agree("munmap", seen, self.model().0.munmap(at, length))
    }

    pub(crate) fn protect(
        &mut self,
        Span { at, length }: Span,
        flags: impl Into<ProtFlags>,
    ) -> Verdict {
        let flags = flags.into();
        let seen = self.space().mprotect(self.vm(), at, length, flags);
        let (memory, objects) = self.model();
        agree("mprotect", seen, memory.mprotect(objects, at, length, flags))
    }

    pub(crate) fn protect_with_key(&mut self, Span { at, length }: Span, key: i32) -> Verdict {
        let flags = ProtFlags::READ;
        let seen = self.space().pkey_mprotect(self.vm(), at, length, flags, key);
        let (memory, objects) = self.model();
        agree("pkey_mprotect", seen, memory.pkey_mprotect(objects, at, length, flags, key))
    }

    pub(crate) fn advise(&mut self, Span { at, length }: Span, advice: i32) -> Verdict {
        let seen = self.space().madvise(self.vm(), at, length, advice);
        let (memory, objects) = self.model();
        agree("madvise", seen, memory.madvise(objects, at, length, advice))
    }

    pub(crate) fn remap(
        &mut self,
        Span { at, length }: Span,
        new: u64,
        flags: RemapFlags,
        to: VirtAddr,
    ) -> Verdict {
        let seen = self.space().mremap(self.vm(), at, length, new, flags, to);
        let (memory, objects) = self.model();
        agree("mremap", seen, memory.mremap(objects, at, (length, new), flags, to))
    }

    pub(crate) fn sync(&mut self, Span { at, length }: Span, flags: SyncFlags) -> Verdict {
        let seen = self.space().msync(self.vm(), at, length, flags);
        agree("msync", seen, self.model().0.msync(at, length, flags))?;
        // A range that wraps is nothing.
        let end = at.0.checked_add(length).filter(|_| flags.contains(SyncFlags::SYNC));
        let Some(end) = end.filter(|_| seen.is_ok()) else { return Ok(()) };
        let written = self.file.contents();
        let (memory, objects) = self.model();
        let (first, last) = (at.page(), end.div_ceil(PAGE_SIZE));
        for page in memory.pages.range(first..last).map(|(_, page)| page) {
            let Some((FILE, index)) = page.object.filter(|_| page.is_shared()) else { continue };
            let Contents { size, bytes, .. } = &objects[FILE];
            let end = (*size).min((index + 1) * PAGE_SIZE as usize);
            let start = end.min(index * PAGE_SIZE as usize);
            if written[start..end] != bytes[start..end] {
                return Err(format!("msync: page {index} of the file was not written"));
            }
        }
        Ok(())
    }

    /// Where both know whether a page is in memory they must agree.
    pub(crate) fn mincore(&mut self, Span { at, length }: Span) -> Verdict {
        let most = (length / PAGE_SIZE + 1).min(4096) as usize;
        let mut resident = vec![2; most];
        let seen = self.space().mincore(self.vm(), at, length, &mut resident);
        let (memory, objects) = self.model();
        let expected = memory.mincore(objects, at, length);
        agree("mincore", seen, expected.as_ref().map(drop).map_err(|error| *error))?;
        for (page, known) in expected.unwrap_or_default().into_iter().enumerate() {
            if let Some(known) = known
                && resident[page] != u8::from(known)
            {
                let seen = resident[page];
                return Err(format!("mincore of page {page}: {seen}, and not {known}"));
            }
        }
        Ok(())
    }

    pub(crate) fn lock(&mut self, Span { at, length }: Span) -> Verdict {
        self.lock_with(Span { at, length }, LockFlags::empty())
    }

    pub(crate) fn lock_with(&mut self, Span { at, length }: Span, flags: LockFlags) -> Verdict {
        let seen = self.space().mlock2(self.vm(), at, length, flags);
        let (memory, objects) = self.model();
        agree("mlock2", seen, memory.mlock(objects, at, length, flags))
    }

    pub(crate) fn lock_all(&mut self, flags: LockAllFlags) -> Verdict {
        let seen = self.space().mlockall(self.vm(), flags);
        let (memory, objects) = self.model();
        agree("mlockall", seen, memory.mlockall(objects, flags))
    }

    pub(crate) fn unlock_all(&mut self) -> Verdict {
        let seen = self.space().munlockall(self.vm());
        self.model().0.munlockall();
        agree("munlockall", seen, Ok(()))
    }

    pub(crate) fn remap_file(&mut self, Span { at, length }: Span, page: u64) -> Verdict {
        let flags = MapFlags::empty();
        let seen = self.space().remap_file_pages(self.vm(), at, length, 0, page, flags);
        let (memory, objects) = self.model();
        agree("remap_file_pages", seen, memory.remap_file_pages(objects, at, length, page))
    }

    pub(crate) fn inherit(&mut self, Span { at, length }: Span, how: Inheritance) -> Verdict {
        let seen = self.space().minherit(self.vm(), at, length, how);
        agree("minherit", seen, self.model().0.minherit(at, length, how))
    }

    pub(crate) fn reserve(&mut self, Span { at, length }: Span, flags: MapFlags) -> Verdict {
        let seen = self.space().reserve(self.vm(), at, length, flags);
        agree("reserve", seen, self.model().0.reserve(at, length, flags))
    }

    pub(crate) fn unlock(&mut self, Span { at, length }: Span) -> Verdict {
        let seen = self.space().munlock(self.vm(), at, length);
        agree("munlock", seen, self.model().0.munlock(at, length))
    }

    pub(crate) fn limit_locks(&mut self, bytes: u64) {
        let limits = self.space().limits();
        self.space().set_limits(Limits { locked: bytes, ..limits });
        self.model().0.lock_limit = bytes;
    }

    /// An empty heap.
    pub(crate) fn begin_heap(&mut self, at: VirtAddr) {
        self.space().set_brk_base(at);
        self.model().0.heap = (at, at);
    }

    pub(crate) fn brk(&mut self, at: VirtAddr) -> Verdict {
        let seen = self.space().brk(self.vm(), at);
        let (memory, objects) = self.model();
        agree("brk", seen, memory.brk(objects, at))
    }

    pub(crate) fn resize(&mut self, which: usize, size: u64) {
        self.vm().resize(&self.shared[which], size).expect("a file that can be resized");
        self.objects[which].resize(size as usize);
        for process in &mut self.processes {
            process.memory.cut_off(which, size as usize);
        }
    }

    /// The child is the last process; who acts stays the same.
    pub(crate) fn fork(&mut self) -> Verdict {
        let vm = self.vm();
        let parent = &mut self.processes[self.now];
        let process = parent.process.fork(vm).map_err(|error| format!("fork: {error}"))?;
        let space = process.space().ok_or("fork: a child without a space")?;
        let memory = parent.memory.fork(&mut self.objects);
        self.processes.push(Running { process, space, memory });
        Ok(())
    }

    pub(crate) fn exec(&mut self) -> Verdict {
        let running = &mut self.processes[self.now];
        running.process.exec(self.machine.vm()).map_err(|error| format!("exec: {error}"))?;
        running.space = running.process.space().ok_or("exec: no space")?;
        running.memory = Memory::new(running.memory.computer);
        Ok(())
    }

    /// Whoever acts ends; the first that is left acts from then on, if there is one.
    pub(crate) fn exit(&mut self) {
        let gone = self.processes.remove(self.now);
        gone.process.exit(self.vm(), 0);
        self.vm().deactivate();
        self.now = 0;
    }

    /// Everybody ends. What was stored must be in the file then.
    pub(crate) fn end(mut self) -> Verdict {
        while !self.processes.is_empty() {
            self.now = self.processes.len() - 1;
            self.exit();
        }
        for object in &self.shared {
            self.vm().close(object).map_err(|error: CallError| format!("close: {error}"))?;
        }
        let Contents { size, bytes, .. } = &self.objects[FILE];
        if self.file.contents() != bytes[..*size] {
            return Err("the file is not what was stored".to_owned());
        }
        Ok(())
    }
}
