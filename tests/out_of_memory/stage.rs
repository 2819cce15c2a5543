//! The stage on which an operation acts, and a picture of all that it could change.

use super::operations::MOVE_TO;
use super::*;

/// One process, or a parent and its child, with every kind of mapping.
pub(super) struct Stage<'v> {
    pub(super) vm: &'v Vm<Hosted>,
    pub(super) process: Held<Process<Hosted>>,
    pub(super) space: Held<Space<Hosted>>,
    /// What the file mappings map.
    pub(super) file: Arc<MemoryFile>,
    /// Objects that an operation opened; closed in the end.
    pub(super) opened: std::cell::RefCell<Vec<Held<Object<Hosted>>>>,
}

/// What programs can see of one area.
pub(super) type AreaSeen = (VirtRange, Prot, Prot, AreaFlags, u64, Option<(u64, u64)>);

/// What programs can see of one process.
#[derive(PartialEq, Eq)]
pub(super) struct ProcessSeen {
    pub(super) has_parent: bool,
    pub(super) state: State,
    pub(super) areas: Vec<AreaSeen>,
    pub(super) pages: Vec<(VirtAddr, Result<Vec<u8>, FaultError>)>,
    pub(super) bytes: (u64, u64),
    pub(super) heap: VirtAddr,
}

/// What all programs of the machine can see, and how many spaces and objects in use there are. A file that
/// could not be written is not in use any more, but stays.
#[derive(PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) processes: Vec<ProcessSeen>,
    pub(super) objects: Vec<(u64, u64)>,
    pub(super) spaces: u64,
}

impl Picture {
    pub(super) fn take(vm: &Vm<Hosted>) -> Self {
        let (mut held, mut objects, mut spaces) = (vec![], vec![], 0);
        vm.for_each_process(|process| held.push(process.clone()));
        vm.objects.for_each(|object| objects.push((object.size(), object.users())));
        objects.retain(|(_, users)| *users > 0);
        vm.for_each_space(|_| spaces += 1);
        let processes = held.iter().map(|process| ProcessSeen::take(vm, process)).collect();
        Self { processes, objects, spaces }
    }

    /// The first difference, in words.
    pub(super) fn difference(&self, other: &Self) -> Option<String> {
        if self.processes.len() != other.processes.len() || self.spaces != other.spaces {
            return Some("numbers of processes or spaces".to_string());
        }
        if self.objects != other.objects {
            return Some(format!("objects {:?}, {:?}", self.objects, other.objects));
        }
        let both = self.processes.iter().zip(&other.processes).enumerate();
        both.filter(|(_, (one, two))| one != two).map(|(at, (one, two))| one.tell(two, at)).next()
    }
}

impl ProcessSeen {
    pub(super) fn take(vm: &Vm<Hosted>, process: &Held<Process<Hosted>>) -> Self {
        let (has_parent, state) = (process.parent().is_some(), process.state());
        let (mut areas, mut pages) = (vec![], vec![]);
        let (mut bytes, mut heap) = ((0, 0), VirtAddr(0));
        if let Some(space) = process.space() {
            let _: ControlFlow<()> = space.areas(vm, |area| {
                let object = area.object.as_ref().map(|object| (object.size(), object.users()));
                areas.push((area.range, area.prot, area.max_prot, area.flags, area.offset, object));
                ControlFlow::Continue(())
            });
            for (range, ..) in &areas {
                pages.extend((0..range.pages()).map(|page| {
                    let at = range.start + page * PAGE;
                    let mut bytes = vec![0; PAGE as usize];
                    (at, space.copy_in(vm, at, &mut bytes).map(|()| bytes))
                }));
            }
            bytes = (space.mapped_bytes(), space.locked_bytes());
            // An end that nothing can be moved to: the call only tells.
            heap = space.brk(vm, VirtAddr(0));
        }
        Self { has_parent, state, areas, pages, bytes, heap }
    }

    pub(super) fn tell(&self, other: &Self, at: usize) -> String {
        let differ = |one: &VirtAddr, two: &VirtAddr| format!("page {one} or {two}");
        let page = self.pages.iter().zip(&other.pages).find(|(one, two)| one != two);
        let page = page.map(|((one, _), (two, _))| differ(one, two));
        format!(
            "process {at}, {page:?}: {:?} {:?} {:?} {:?}; {:?} {:?} {:?} {:?}",
            self.state,
            self.bytes,
            self.heap,
            self.areas,
            other.state,
            other.bytes,
            other.heap,
            other.areas
        )
    }
}

impl<'v> Stage<'v> {
    pub(super) fn new(vm: &'v Vm<Hosted>) -> Self {
        let process = vm.first_process().expect("memory for a process");
        let space = process.space().expect("a space, as it runs");
        let contents: Vec<u8> = (0..8 * PAGE).map(|byte| (byte / PAGE) as u8 + 0x80).collect();
        let file = Arc::new(MemoryFile::new(contents));
        let stage = Self { vm, process, space, file, opened: std::cell::RefCell::default() };
        stage.fill().expect("memory for the mappings");
        stage
    }

    pub(super) fn fill(&self) -> Outcome {
        let space = &self.space;
        self.map(ANON, 16, MapFlags::PRIVATE)?;
        self.map(SHARED, 4, MapFlags::SHARED)?;
        self.map(STACK, 2, MapFlags::PRIVATE | MapFlags::GROWSDOWN)?;
        space.set_brk_base(HEAP);
        assert_eq!(space.brk(self.vm, HEAP + PAGE), HEAP + PAGE);
        let file = self.open()?;
        self.map_file(PRIVATE_FILE, MapFlags::PRIVATE, &file, 0)?;
        self.map_file(SHARED_FILE, MapFlags::SHARED, &file, 4 * PAGE)?;
        self.vm.close(&file)?;
        for page in (0..6).chain(10..16) {
            self.store(ANON + page * PAGE)?;
        }
        for at in [SHARED, PRIVATE_FILE, SHARED_FILE].map(|at| at + PAGE) {
            self.store(at)?;
        }
        self.store(STACK)?;
        self.store(HEAP)
    }

    pub(super) fn map(&self, at: VirtAddr, pages: u64, flags: MapFlags) -> Outcome {
        let flags = flags | MapFlags::ANONYMOUS | MapFlags::FIXED;
        self.space.mmap(self.vm, at, pages * PAGE, Prot::RW, flags, Backing::Anonymous, 0)?;
        Ok(())
    }

    pub(super) fn map_file(
        &self,
        at: VirtAddr,
        flags: MapFlags,
        file: &Held<Object<Hosted>>,
        offset: u64,
    ) -> Outcome {
        let flags = flags | MapFlags::FIXED;
        let backing = Backing::Object(file);
        self.space.mmap(self.vm, at, 4 * PAGE, Prot::RW, flags, backing, offset)?;
        Ok(())
    }

    /// Maps the shared object nine times more, each time below another leaf table.
    pub(super) fn map_object_often(&self) -> Outcome {
        (0..9).try_for_each(|number| {
            self.remap(SHARED, (0, 1), MOVE_TO, AWAY + (2 * number + 1) * LEAF)
        })
    }

    /// Opens the file once more.
    pub(super) fn open(&self) -> Result<Held<Object<Hosted>>, CallError> {
        self.vm.open_file(StageFile::new(Arc::clone(&self.file)))
    }

    pub(super) fn object_at(&self, at: VirtAddr) -> Held<Object<Hosted>> {
        let mut found = None;
        let _: ControlFlow<()> = self.space.areas(self.vm, |area| {
            if area.range.contains(at) {
                found = area.object.clone();
            }
            ControlFlow::Continue(())
        });
        found.expect("a mapping of an object")
    }

    pub(super) fn is_mapped(&self, at: VirtAddr) -> bool {
        let found = self.space.areas(self.vm, |area| {
            if area.range.contains(at) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        found.is_break()
    }

    /// Stores a word that tells the address.
    pub(super) fn store(&self, at: VirtAddr) -> Outcome {
        Ok(self.space.copy_out(self.vm, at + 8, &at.0.to_le_bytes())?)
    }

    pub(super) fn load(&self, at: VirtAddr) -> Outcome {
        Ok(self.vm.fault(&self.space, at, Access::Read)?)
    }

    pub(super) fn unmap(&self, at: VirtAddr, pages: u64) -> Outcome {
        Ok(self.space.munmap(self.vm, at, pages * PAGE)?)
    }

    pub(super) fn protect(&self, at: VirtAddr, pages: u64, prot: Prot) -> Outcome {
        Ok(self.space.mprotect(self.vm, at, pages * PAGE, prot)?)
    }

    pub(super) fn advise(&self, at: VirtAddr, pages: u64, advice: i32) -> Outcome {
        Ok(self.space.madvise(self.vm, at, pages * PAGE, advice)?)
    }

    pub(super) fn remap(
        &self,
        at: VirtAddr,
        pages: (u64, u64),
        flags: RemapFlags,
        to: VirtAddr,
    ) -> Outcome {
        self.space.mremap(self.vm, at, pages.0 * PAGE, pages.1 * PAGE, flags, to)?;
        Ok(())
    }

    pub(super) fn keep(&self, object: Result<Held<Object<Hosted>>, CallError>) -> Outcome {
        self.opened.borrow_mut().push(object?);
        Ok(())
    }

    /// Every process that runs exits.
    pub(super) fn end(&self) {
        let mut all = vec![];
        self.vm.for_each_process(|process| all.push(process.clone()));
        for process in all {
            if process.state() == State::Running {
                process.exit(self.vm, 0);
            }
        }
    }

    /// Runs the process's pages through the TLB of this CPU, so that missing flushes show.
    pub(super) fn warm(&self) {
        self.vm.activate(&self.space);
        let _ = Picture::take(self.vm);
        let _: ControlFlow<()> = self.space.areas(self.vm, |area| {
            for page in 0..area.range.pages() {
                let mut byte = [0];
                let _ = self.vm.platform().load(area.range.start + page * PAGE, &mut byte);
            }
            ControlFlow::Continue(())
        });
    }
}

/// Every process ends, those too that an operation made.
impl Drop for Stage<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.end();
        for object in self.opened.take() {
            self.vm.close(&object).expect("a file that can be written");
        }
        self.vm.deactivate();
    }
}
