//! The calls of a random program: each with random arguments, compared with what the model answers.

use rand::RngExt;
use rumpvm::{Backing, CallError, FaultError, MapFlags, ProtFlags, RemapFlags, SyncFlags, WaitFor};
use rumpvm_arch::{Format, PAGE_SIZE, Prot, VirtAddr};

use super::{BASE, FILE, MEMORY, OBJECT_PAGES, PAGE, Running, WINDOW, World, address};

impl<F: Format> World<F> {
    pub(super) fn map(&mut self) {
        let ((at, length), prot) = (self.range(), self.prot());
        let (shared, populate) = (self.chance(2), self.chance(4));
        let from = self.random.random_range(0..OBJECT_PAGES);
        let which = self.random.random_range(0..4);
        let mut flags = MapFlags::FIXED;
        flags |= if shared { MapFlags::SHARED } else { MapFlags::PRIVATE };
        flags.set(MapFlags::ANONYMOUS, which > MEMORY);
        flags.set(MapFlags::POPULATE, populate);
        flags.set(MapFlags::GROWSDOWN, !shared && which > MEMORY && self.chance(4));
        flags.set(MapFlags::LOCKED, self.chance(16));
        self.log(format!("map {at} +{length} {prot:?} {flags:?}, {which} from {from}"));
        let offset = (from * PAGE) as u64;
        let (backing, source) = match self.shared.get(which) {
            Some(object) => (Backing::Object(object), Some((which, offset))),
            None => (Backing::Anonymous, None),
        };
        let (hint, bytes) = (address(at), length as u64 * PAGE_SIZE);
        let offset = source.map_or(0, |(_, offset)| offset);
        let mapped = self.space().mmap(self.vm(), hint, bytes, prot, flags, backing, offset);
        let (memory, objects) = self.model();
        assert_eq!(mapped, memory.mmap(objects, hint, bytes, prot, flags, source));
    }

    pub(super) fn map_anywhere(&mut self) {
        let bytes = self.random.random_range(1..=4) * PAGE_SIZE;
        self.log(format!("map and unmap {bytes} bytes"));
        let flags = MapFlags::PRIVATE | MapFlags::ANONYMOUS;
        let (space, vm) = (self.space(), self.vm());
        let backing = Backing::Anonymous;
        let at = space.mmap(vm, VirtAddr(0), bytes, Prot::RW, flags, backing, 0).unwrap();
        assert!(at + bytes <= BASE || at >= address(WINDOW), "{at} is taken");
        let last = at + bytes - 8;
        let mut seen = [1; 8];
        assert_eq!(self.access(|hosted| hosted.load(last, &mut seen)), Ok(()));
        assert_eq!(seen, [0; 8]);
        assert_eq!(self.access(|hosted| hosted.store(last, &[5; 8])), Ok(()));
        assert_eq!(self.access(|hosted| hosted.load(last, &mut seen)), Ok(()));
        assert_eq!(seen, [5; 8]);
        assert_eq!(space.munmap(vm, at, bytes), Ok(()));
        let after = self.access(|hosted| hosted.load(last, &mut seen));
        assert_eq!(after, Err(FaultError::Unmapped { at: last }));
    }

    pub(super) fn unmap(&mut self) {
        let (at, length) = self.range();
        self.log(format!("unmap {at} +{length}"));
        let (at, bytes) = (address(at), length as u64 * PAGE_SIZE);
        let unmapped = self.space().munmap(self.vm(), at, bytes);
        assert_eq!(unmapped, self.model().0.munmap(at, bytes));
    }

    pub(super) fn protect(&mut self) {
        let ((at, length), prot) = (self.range(), self.prot());
        let mut flags = ProtFlags::from(prot);
        flags.set(ProtFlags::GROWSDOWN, self.chance(8));
        flags.set(ProtFlags::SEM, self.chance(8));
        self.log(format!("protect {at} +{length} {flags:?}"));
        let (at, bytes) = (address(at), length as u64 * PAGE_SIZE);
        let protected = self.space().mprotect(self.vm(), at, bytes, flags);
        let (memory, objects) = self.model();
        assert_eq!(protected, memory.mprotect(objects, at, bytes, flags));
    }

    pub(super) fn advise(&mut self) {
        let (at, length) = self.range();
        // DONTNEED most of all, WILLNEED, FREE, DONTFORK, DOFORK, POPULATE_READ, POPULATE_WRITE.
        let advice = [4, 4, 4, 3, 8, 10, 11, 22, 23][self.random.random_range(0..9)];
        self.log(format!("advise {at} +{length} {advice}"));
        let (at, bytes) = (address(at), length as u64 * PAGE_SIZE);
        let advised = self.space().madvise(self.vm(), at, bytes, advice);
        let (memory, objects) = self.model();
        assert_eq!(advised, memory.madvise(objects, at, bytes, advice));
    }

    pub(super) fn remap(&mut self) {
        let ((at, mut old), (to, mut new)) = (self.range(), self.range());
        let moves = self.chance(2);
        let keep = moves && self.chance(4);
        if keep {
            new = old.min(WINDOW - to);
            old = new;
        } else if !moves {
            new = new.min(WINDOW - at);
        } else if self.chance(8) {
            old = 0;
        }
        self.log(format!("remap {at} +{old} to {to} +{new}, moves {moves}, keeps {keep}"));
        let mut flags = RemapFlags::empty();
        flags.set(RemapFlags::MAYMOVE | RemapFlags::FIXED, moves);
        flags.set(RemapFlags::DONTUNMAP, keep);
        let (old_bytes, new_bytes) = (old as u64 * PAGE_SIZE, new as u64 * PAGE_SIZE);
        let (from, target) = (address(at), address(to));
        let remapped = self.space().mremap(self.vm(), from, old_bytes, new_bytes, flags, target);
        let (memory, objects) = self.model();
        let lengths = (old_bytes, new_bytes);
        assert_eq!(remapped, memory.mremap(objects, from, lengths, flags, target));
    }

    pub(super) fn sync(&mut self) {
        let (at, length) = self.range();
        self.log(format!("sync {at} +{length}"));
        let (at, bytes) = (address(at), length as u64 * PAGE_SIZE);
        let synced = self.space().msync(self.vm(), at, bytes, SyncFlags::SYNC);
        let written = self.file.contents();
        let (memory, objects) = self.model();
        assert_eq!(synced, memory.msync(at, bytes, SyncFlags::SYNC));
        let first = at.page();
        for (_, page) in memory.pages.range(first..first + length as u64) {
            if let Some((FILE, index)) = page.object
                && page.is_shared()
            {
                let end = objects[FILE].size.min((index + 1) * PAGE);
                let start = end.min(index * PAGE);
                assert!(written[start..end] == objects[FILE].bytes[start..end], "page {index}");
            }
        }
    }

    pub(super) fn resize_object(&mut self) {
        let which = self.random.random_range(FILE..=MEMORY);
        let size = self.random.random_range(0..=2 * OBJECT_PAGES) * PAGE / 2;
        self.log(format!("resize object {which} to {size}"));
        assert_eq!(self.vm().resize(&self.shared[which], size as u64), Ok(()));
        self.objects[which].resize(size);
        for process in &mut self.processes {
            process.memory.cut_off(which, size);
        }
    }

    pub(super) fn fork(&mut self) {
        self.log("fork".to_owned());
        let parent = &self.processes[self.now];
        let process = parent.process.fork(self.vm()).unwrap();
        let space = process.space().unwrap();
        let memory = parent.memory.fork();
        self.processes.push(Running { process, space, memory });
    }

    /// The process that runs ends, and its parent, or the first one if that is gone, waits for it.
    pub(super) fn exit(&mut self) {
        self.log("exit".to_owned());
        let child = self.processes.remove(self.now);
        let (pid, parent) = (child.process.pid(), child.process.parent());
        let of = |running: &&Running<F>| Some(running.process.pid()) == parent;
        let parent = self.processes.iter().find(of).expect("parents that are gone are replaced");
        let (vm, whom) = (self.vm(), WaitFor::Pid(pid));
        let wait = || parent.process.wait(vm, whom, true);
        assert_eq!(wait(), Ok(None));
        child.process.exit(vm, self.tail.done as i32);
        vm.deactivate();
        assert_eq!(wait(), Ok(Some((pid, self.tail.done as i32))));
        assert_eq!(wait(), Err(CallError::NoChild));
        self.now = 0;
    }
}
