//! The calls of a random program: each with random arguments, compared with what the model answers.

use rumpvm::{
    Advised, Backing, CallError, FaultError, Inheritance, LockAllFlags, LockFlags, MapFlags,
    ProtFlags, RemapFlags, SyncFlags, WaitFor,
};
use rumpvm_arch::{Format, PAGE_SIZE, Prot, VirtAddr};

use super::{BASE, FILE, Leaves, MEMORY, OBJECT_PAGES, PAGE, Running, WINDOW, World, address};

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
        flags.set(MapFlags::LOCKED, !self.fails && self.chance(16));
        self.log(format!("map {at} +{length} {prot:?} {flags:?}, {which} from {from}"));
        let offset = (from * PAGE) as u64;
        let source = self.shared.get(which).map(|_| (which, offset));
        let (hint, bytes) = (address(at), length as u64 * PAGE_SIZE);
        let offset = source.map_or(0, |(_, offset)| offset);
        let mapped = self.call(Leaves::Nothing, |world| {
            let backing = world.shared.get(which).map_or(Backing::Anonymous, Backing::Object);
            world.space().mmap(world.vm(), hint, bytes, prot, flags, backing, offset)
        });
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
        let unmapped = self.call(Leaves::Nothing, |on| on.space().munmap(on.vm(), at, bytes));
        assert_eq!(unmapped, self.model().0.munmap(at, bytes));
    }

    pub(super) fn protect(&mut self) {
        let ((at, length), prot) = (self.range(), self.prot());
        let mut flags = ProtFlags::from(prot);
        flags.set(ProtFlags::GROWSDOWN, self.chance(8));
        flags.set(ProtFlags::SEM, self.chance(8));
        self.log(format!("protect {at} +{length} {flags:?}"));
        let (at, bytes) = (address(at), length as u64 * PAGE_SIZE);
        let protect = |on: &Self| on.space().mprotect(on.vm(), at, bytes, flags);
        let protected = self.call(Leaves::Nothing, protect);
        let (memory, objects) = self.model();
        assert_eq!(protected, memory.mprotect(objects, at, bytes, flags));
    }

    pub(super) fn advise(&mut self) {
        let (at, length) = self.range();
        // DONTNEED and guards most of all, and each other that shows.
        const ADVICE: [i32; 22] =
            [4, 4, 4, 3, 8, 9, 10, 11, 12, 18, 19, 20, 22, 23, 24, 25, 102, 102, 102, 103, 103, 1];
        let mut advice = ADVICE[self.random.random_range(0..ADVICE.len())];
        if self.fails && advice == 9 {
            // A hole that fails half-way leaves what it has made.
            advice = 4;
        }
        self.log(format!("advise {at} +{length} {advice}"));
        let (at, bytes) = (address(at), length as u64 * PAGE_SIZE);
        let leaves = if matches!(advice, 22 | 23) { Leaves::Pages } else { Leaves::Nothing };
        let advised = self.call(leaves, |on| on.space().madvise(on.vm(), at, bytes, advice));
        let (memory, objects) = self.model();
        assert_eq!(advised, memory.madvise(objects, at, bytes, advice));
    }

    pub(super) fn advise_list(&mut self) {
        let ranges: Vec<_> = (0..self.random.random_range(0..4))
            .map(|_| {
                let (at, length) = self.range();
                let length = if self.chance(8) { 0 } else { length as u64 * PAGE_SIZE };
                (address(at), length)
            })
            .collect();
        let advice = [3, 4, 20, 23, 102, 103][self.random.random_range(0..6)];
        let whose = if self.chance(4) { Advised::Others } else { Advised::Own };
        self.log(format!("advise {ranges:?} {advice} {whose:?}"));
        let advised = self.space().process_madvise(self.vm(), &ranges, advice, 0, whose);
        let (memory, objects) = self.model();
        assert_eq!(advised, memory.process_madvise(objects, &ranges, advice, whose));
    }

    pub(super) fn lock(&mut self) {
        let (at, length) = self.range();
        let which = self.random.random_range(0..16);
        self.log(format!("lock {at} +{length}, kind {which}"));
        let (at, bytes) = (address(at), length as u64 * PAGE_SIZE);
        let flags = LockFlags::from_bits_truncate(which & 1);
        let (space, machine) = (self.space().clone(), self.machine.clone());
        let vm = machine.vm();
        let (memory, objects) = self.model();
        match which {
            0..4 => {
                let expected = memory.mlock(objects, at, bytes, flags);
                assert_eq!(space.mlock2(vm, at, bytes, flags), expected);
            }
            4..12 => assert_eq!(space.munlock(vm, at, bytes), memory.munlock(at, bytes)),
            12 => {
                let flags = LockAllFlags::FUTURE;
                assert_eq!(space.mlockall(vm, flags), memory.mlockall(objects, flags));
            }
            13 => {
                let flags = LockAllFlags::all();
                assert_eq!(space.mlockall(vm, flags), memory.mlockall(objects, flags));
            }
            _ => {
                assert_eq!(space.munlockall(vm), Ok(()));
                memory.munlockall();
            }
        }
        assert_eq!(space.locked_bytes(), memory.locked());
    }

    pub(super) fn remap_file(&mut self) {
        let (at, length) = self.range();
        let page = self.random.random_range(0..OBJECT_PAGES as u64);
        self.log(format!("remap file pages {at} +{length} to {page}"));
        let (at, bytes) = (address(at), length as u64 * PAGE_SIZE);
        let flags = MapFlags::empty();
        let remapped = self.space().remap_file_pages(self.vm(), at, bytes, 0, page, flags);
        let (memory, objects) = self.model();
        assert_eq!(remapped, memory.remap_file_pages(objects, at, bytes, page));
    }

    pub(super) fn inherit(&mut self) {
        let (at, length) = self.range();
        let how = Inheritance::from_number(self.random.random_range(0..4)).unwrap();
        self.log(format!("inherit {at} +{length} {how:?}"));
        let (at, bytes) = (address(at), length as u64 * PAGE_SIZE);
        let said = self.space().minherit(self.vm(), at, bytes, how);
        assert_eq!(said, self.model().0.minherit(at, bytes, how));
    }

    pub(super) fn reserve(&mut self) {
        let (at, length) = self.range();
        self.log(format!("reserve {at} +{length}"));
        let (at, bytes) = (address(at), length as u64 * PAGE_SIZE);
        let flags = [MapFlags::FIXED, MapFlags::FIXED_NOREPLACE];
        let flags = flags[usize::from(self.chance(2))];
        let reserved = self.space().reserve(self.vm(), at, bytes, flags);
        assert_eq!(reserved, self.model().0.reserve(at, bytes, flags));
    }

    pub(super) fn remap(&mut self) {
        let ((at, mut old), (to, mut new)) = (self.range(), self.range());
        let moves = self.chance(2);
        // Areas move one after the other, and those that have moved stay so.
        let keep = !self.fails && moves && self.chance(4);
        if keep {
            new = old.min(WINDOW - to);
            old = new;
        } else if !moves {
            new = new.min(WINDOW - at);
        } else if self.chance(8) {
            old = 0;
        } else if !self.fails && self.chance(2) {
            // A move of whatever is there.
            new = old.min(WINDOW - to);
            old = new;
        }
        if self.fails && moves && old == new {
            new = if new > 1 { new - 1 } else { old.max(1) + usize::from(to + 1 < WINDOW) };
        }
        self.log(format!("remap {at} +{old} to {to} +{new}, moves {moves}, keeps {keep}"));
        let mut flags = RemapFlags::empty();
        flags.set(RemapFlags::MAYMOVE | RemapFlags::FIXED, moves);
        flags.set(RemapFlags::DONTUNMAP, keep);
        let (old_bytes, new_bytes) = (old as u64 * PAGE_SIZE, new as u64 * PAGE_SIZE);
        let (from, target) = (address(at), address(to));
        let leaves = if moves { Leaves::Gap(target, new_bytes) } else { Leaves::Nothing };
        let remapped = self.call(leaves, |world| {
            world.space().mremap(world.vm(), from, old_bytes, new_bytes, flags, target)
        });
        let (memory, objects) = self.model();
        let lengths = (old_bytes, new_bytes);
        assert_eq!(remapped, memory.mremap(objects, from, lengths, flags, target));
    }

    pub(super) fn sync(&mut self) {
        let (at, length) = self.range();
        self.log(format!("sync {at} +{length}"));
        let (at, bytes) = (address(at), length as u64 * PAGE_SIZE);
        let sync = |on: &Self| on.space().msync(on.vm(), at, bytes, SyncFlags::SYNC);
        let synced = self.call(Leaves::Nothing, sync);
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
        // It needs no memory, and files may fail.
        let resize = |on: &Self| on.vm().resize(&on.shared[which], size as u64);
        let resized = self.call(Leaves::Nothing, |on| on.without_memory(resize));
        assert_eq!(resized, Ok(()));
        self.objects[which].resize(size);
        for process in &mut self.processes {
            process.memory.cut_off(which, size);
        }
    }

    pub(super) fn fork(&mut self) {
        self.log("fork".to_owned());
        let fork = |on: &Self| on.processes[on.now].process.fork(on.vm());
        let process = self.call(Leaves::Nothing, fork).unwrap();
        let parent = &mut self.processes[self.now];
        let space = process.space().unwrap();
        let memory = parent.memory.fork(&mut self.objects);
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
        self.without_memory(|on| child.process.exit(on.vm(), on.tail.done as i32));
        vm.deactivate();
        assert_eq!(wait(), Ok(Some((pid, self.tail.done as i32))));
        assert_eq!(wait(), Err(CallError::NoChild));
        self.now = 0;
    }
}
