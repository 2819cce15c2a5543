//! The calls of a random program: each with random arguments, compared with what the model answers.

use rand::RngExt;
use rumpvm::{Backing, CallError, FaultError, MapFlags, RemapFlags, SyncFlags, WaitFor};
use rumpvm_arch::{Access, Format, PAGE_SIZE, Prot, VirtAddr};

use super::model::{BASE, Contents, Page, WINDOW, address};
use super::{FILE, MEMORY, OBJECT_PAGES, PAGE, Running, World};

impl<F: Format> World<F> {
    pub(super) fn map(&mut self) {
        let ((at, length), prot) = (self.range(), self.prot());
        let (shared, populate) = (self.chance(2), self.chance(4));
        let from = self.random.random_range(0..OBJECT_PAGES);
        let which = self.random.random_range(0..4);
        let object = match which {
            FILE | MEMORY => Some((which, from)),
            // Anonymous memory that is shared is an object of its own.
            _ if shared => {
                let size = length * PAGE;
                self.objects.push(Contents { size, bytes: vec![0; size] });
                Some((self.objects.len() - 1, 0))
            }
            _ => None,
        };
        let page = Page { prot, shared, object, no_fork: false, private: None };
        self.log(format!("map {at} +{length} {page:?} populate {populate}"));
        let mut flags = MapFlags::FIXED;
        flags |= if shared { MapFlags::SHARED } else { MapFlags::PRIVATE };
        flags.set(MapFlags::ANONYMOUS, which > MEMORY);
        flags.set(MapFlags::POPULATE, populate);
        let (backing, offset) = match self.shared.get(which) {
            Some(object) => (Backing::Object(object), from * PAGE),
            None => (Backing::Anonymous, 0),
        };
        let (hint, bytes) = (address(at), length as u64 * PAGE_SIZE);
        let mapped = self.space().mmap(self.vm(), hint, bytes, prot, flags, backing, offset as u64);
        assert_eq!(mapped, Ok(hint));
        let (window, objects) = self.model();
        window.map(at, length, &page, populate, objects);
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
        let unmapped = self.space().munmap(self.vm(), address(at), length as u64 * PAGE_SIZE);
        assert_eq!(unmapped, Ok(()));
        self.model().0.unmap(at, length);
    }

    pub(super) fn protect(&mut self) {
        let ((at, length), prot) = (self.range(), self.prot());
        self.log(format!("protect {at} +{length} {prot:?}"));
        let bytes = length as u64 * PAGE_SIZE;
        let protected = self.space().mprotect(self.vm(), address(at), bytes, prot);
        assert_eq!(protected, self.model().0.protect(at, length, prot));
    }

    pub(super) fn advise(&mut self) {
        let (at, length) = self.range();
        // DONTNEED most of all, WILLNEED, FREE, DONTFORK, DOFORK, POPULATE_READ, POPULATE_WRITE.
        let advice = [4, 4, 4, 3, 8, 10, 11, 22, 23][self.random.random_range(0..9)];
        self.log(format!("advise {at} +{length} {advice}"));
        let bytes = length as u64 * PAGE_SIZE;
        let advised = self.space().madvise(self.vm(), address(at), bytes, advice);
        let (window, objects) = self.model();
        let expected = match advice {
            4 | 8 => window.drop_private(at, length, advice == 8),
            10 | 11 => window.mark_no_fork(at, length, advice == 10),
            22 => window.populate(objects, at, length, Access::Read),
            23 => window.populate(objects, at, length, Access::Write),
            _ => window.complete(at, length),
        };
        assert_eq!(advised, expected);
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
        let window = self.model().0;
        let expected = if moves {
            window.relocate((at, old), (to, new), keep)
        } else {
            window.resize(at, old, new)
        };
        assert_eq!(remapped, expected.map(address));
    }

    pub(super) fn sync(&mut self) {
        let (at, length) = self.range();
        self.log(format!("sync {at} +{length}"));
        let bytes = length as u64 * PAGE_SIZE;
        let synced = self.space().msync(self.vm(), address(at), bytes, SyncFlags::SYNC);
        let written = self.file.contents();
        let (window, objects) = self.model();
        assert_eq!(synced, window.complete(at, length));
        for page in window.pages[at..at + length].iter().flatten() {
            if let Some((FILE, index)) = page.object
                && page.shared
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
        self.vm().resize(&self.shared[which], size as u64);
        if which == FILE {
            self.file.resize(size);
        }
        self.objects[which].resize(size);
    }

    pub(super) fn fork(&mut self) {
        self.log("fork".to_owned());
        let parent = &self.processes[self.now];
        let process = parent.process.fork(self.vm()).unwrap();
        let space = process.space().unwrap();
        let window = parent.window.fork();
        self.processes.push(Running { process, space, window });
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
