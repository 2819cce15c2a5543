//! The kernel's own mappings: a window of kernel addresses, in every format, seen by every CPU.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use rumpvm::phys::PageKind;
use rumpvm::pmap::{Debt, Kernel, TlbScope, WindowError};
use rumpvm::{NoMemory, Vm};
use rumpvm_arch::{
    Access, Format, Frame, I386, PAGE_SIZE, Pae, PageFault, Prot, Pte, VirtAddr, VirtRange, X86_64,
    X86_64La57, kernel_half, span,
};
use rumpvm_harness::machine::Machine;
use rumpvm_hosted::Hosted;
use rumpvm_platform::{CpuId, Scarce};

/// Runs one promise in every format.
macro_rules! in_every_format {
    ($($name:ident)*) => { $(
        mod $name {
            use super::*;

            #[test]
            fn i386() { super::promises::$name::<I386>() }
            #[test]
            fn pae() { super::promises::$name::<Pae>() }
            #[test]
            fn x86_64() { super::promises::$name::<X86_64>() }
            #[test]
            fn x86_64_la57() { super::promises::$name::<X86_64La57>() }
        }
    )* };
}

in_every_format! {
    what_is_entered_is_seen_at_its_address_by_the_kernel_alone
    a_page_that_is_released_is_gone_on_every_cpu_before_its_frame_is_free
    a_frame_is_revoked_from_the_kernel_and_from_a_program
    a_frame_that_loses_rights_everywhere_stays_the_kernels_in_the_window
    a_device_is_mapped_where_nothing_is_and_its_frames_are_nobodys
    a_window_must_lie_in_the_kernels_half_and_there_is_one
    a_refused_allocation_leaves_no_trace
    random_changes_leave_what_a_list_of_pages_says
}

/// Pages of the window: more than one leaf table serves, in every format, and it begins in the middle of one.
const PAGES: u64 = 1500;

fn window<F: Format>() -> VirtRange {
    let start = kernel_half::<F>().start + 16 * span::<F>(2) + 300 * PAGE_SIZE;
    VirtRange::new(start, start + PAGES * PAGE_SIZE)
}

fn part<F: Format>(first: u64, pages: u64) -> VirtRange {
    let start = window::<F>().start + first * PAGE_SIZE;
    VirtRange::new(start, start + pages * PAGE_SIZE)
}

fn page<F: Format>(number: u64) -> VirtAddr {
    part::<F>(number, 1).start
}

fn open<F: Format>(vm: &Vm<Hosted<F>>, scope: TlbScope) -> &Kernel<Hosted<F>> {
    let hosted = vm.platform();
    let link = |link: rumpvm::pmap::Link| hosted.link_kernel(link.at, link.level, link.entry);
    vm.mmu.open_window(window::<F>(), scope, link).unwrap()
}

/// Fresh frames that belong to the window's owner from now on.
fn enter_fresh<F: Format>(
    vm: &Vm<Hosted<F>>,
    range: VirtRange,
    prot: Prot,
) -> Result<u64, NoMemory> {
    let kernel = vm.mmu.kernel().unwrap();
    let phys = &vm.mmu.phys;
    let mut frames = (0..range.pages()).map_while(|_| phys.alloc_zeroed().ok());
    kernel.enter_fresh(&vm.mmu, range, &mut frames, prot)
}

fn release<F: Format>(vm: &Vm<Hosted<F>>, range: VirtRange) {
    let kernel = vm.mmu.kernel().unwrap();
    let mut debt = Debt::new();
    kernel.release(&vm.mmu, range, &mut debt);
    kernel.pay(&vm.mmu, debt);
}

fn load<F: Format>(vm: &Vm<Hosted<F>>, at: VirtAddr) -> Result<u64, PageFault> {
    let mut bytes = [0; 8];
    vm.platform().load_kernel(at, &mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

fn store<F: Format>(vm: &Vm<Hosted<F>>, at: VirtAddr, value: u64) -> Result<(), PageFault> {
    vm.platform().store_kernel(at, &value.to_ne_bytes())
}

fn fault(at: VirtAddr, access: Access, present: bool, user: bool) -> PageFault {
    PageFault { at, access, present, user }
}

mod promises {
    use super::*;

    pub(super) fn what_is_entered_is_seen_at_its_address_by_the_kernel_alone<F: Format>() {
        let machine = Machine::builder().format::<F>().build();
        let at = page::<F>(700);
        machine.on_cpu(move |vm| {
            let kernel = open(vm, TlbScope::Global);
            assert_eq!(load(vm, at), Err(fault(at, Access::Read, false, false)));
            assert_eq!(enter_fresh(vm, part::<F>(699, 3), Prot::RW), Ok(3));
            store(vm, at, 42).unwrap();
            let entry = kernel.query(&vm.mmu, at).unwrap();
            let wanted = Pte::W | Pte::A | Pte::D | Pte::G;
            assert_eq!(entry.0 & (wanted | Pte::U), wanted);
            let mut bytes = [0; 8];
            vm.mmu.phys.read(entry.frame(), 0, &mut bytes);
            assert_eq!(u64::from_ne_bytes(bytes), 42);
            assert_eq!(kernel.resident(&vm.mmu), 3);
            assert!(kernel.query(&vm.mmu, page::<F>(702)).is_none(), "nothing is there");

            // Rights go, on this CPU at once.
            let mut debt = Debt::new();
            kernel.protect(&vm.mmu, part::<F>(700, 1), Prot::READ, &mut debt);
            kernel.pay(&vm.mmu, debt);
            assert_eq!(store(vm, at, 43), Err(fault(at, Access::Write, true, false)));
            store(vm, page::<F>(701), 1).unwrap();
        });
        machine.run(move |user| {
            // A program faults there, whatever is mapped.
            assert!(user.load_u64(at).is_err());
            assert_eq!(load(user.vm(), at), Ok(42));
        });
        machine.check();
        machine.on_cpu(move |vm| {
            release(vm, window::<F>());
            assert_eq!(vm.mmu.kernel().unwrap().resident(&vm.mmu), 0);
        });
        machine.check();
    }

    pub(super) fn a_page_that_is_released_is_gone_on_every_cpu_before_its_frame_is_free<
        F: Format,
    >() {
        const CPUS: usize = 3;
        let machine = Machine::builder().format::<F>().cpus(CPUS).build();
        machine.on_cpu(|vm| {
            open(vm, TlbScope::Global);
        });
        let word = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        for turn in 1..=50 {
            let first = turn * 7;
            machine.on_cpu(move |vm| {
                assert_eq!(enter_fresh(vm, part::<F>(first, 4), Prot::RW), Ok(4));
                store(vm, page::<F>(first + 3), turn).unwrap();
            });
            // Every CPU has it in its TLB.
            for cpu in 0..CPUS {
                let vm = machine.clone();
                let seen = machine.hosted().run(Some(CpuId(cpu as u32)), move || {
                    vm.vm().mmu.attach_cpu();
                    load(vm.vm(), page::<F>(first + 3))
                });
                assert_eq!(seen, Ok(turn));
            }
            let (begun, started) = (word.clone(), word.clone());
            let reader = machine.clone();
            let twin = machine.clone();
            machine.hosted().run(Some(CpuId(1)), move || {
                let hosted = reader.hosted().clone();
                hosted.spawn(Some(CpuId(0)), move || {
                    while begun.load(std::sync::atomic::Ordering::SeqCst) != turn {
                        twin.hosted().yield_now();
                    }
                    release(twin.vm(), part::<F>(first, 4));
                    // The frames have new owners at once.
                    assert_eq!(enter_fresh(twin.vm(), part::<F>(first + 4, 3), Prot::RW), Ok(3));
                    store(twin.vm(), page::<F>(first + 4), u64::MAX).unwrap();
                    release(twin.vm(), part::<F>(first + 4, 3));
                });
                // The machine stops at the first use of a translation to a frame that was freed.
                let at = page::<F>(first + 3);
                while let Ok(value) = load(reader.vm(), at) {
                    assert_eq!(value, turn);
                    started.store(turn, std::sync::atomic::Ordering::SeqCst);
                    hosted.yield_now();
                }
            });
        }
        machine.check();
        let flushes = machine.vm().statistics().flushes_remote;
        assert!(flushes >= 100, "{flushes} flushes on other CPUs");
    }

    pub(super) fn a_frame_is_revoked_from_the_kernel_and_from_a_program<F: Format>() {
        let machine = Machine::builder().format::<F>().build();
        machine.on_cpu(|vm| {
            let kernel = open(vm, TlbScope::Space);
            let phys = &vm.mmu.phys;
            let frame = phys.give(phys.alloc_zeroed().unwrap(), PageKind::Kernel);
            let mut debt = Debt::new();
            for number in [3, 4, 900] {
                let range = part::<F>(number, 1);
                kernel.enter(&vm.mmu, range, [frame], Prot::RW, &mut debt).unwrap();
            }
            kernel.pay(&vm.mmu, debt);
            store(vm, page::<F>(3), 7).unwrap();
            assert_eq!(load(vm, page::<F>(900)), Ok(7));
            assert_eq!(vm.mmu.mappings(frame), 3);
            assert!(kernel.query(&vm.mmu, page::<F>(3)).unwrap().0 & Pte::G == 0);
            vm.check().unwrap();

            let mut debt = Debt::new();
            let pin = phys.epoch.pin();
            vm.mmu.revoke(&pin, frame, &mut debt);
            drop(pin);
            debt.pay_everywhere(&vm.mmu);
            for number in [3, 4, 900] {
                assert!(load(vm, page::<F>(number)).is_err());
            }
            phys.free(phys.take(frame));
            assert_eq!(kernel.resident(&vm.mmu), 0);
        });
        machine.check();
    }

    pub(super) fn a_frame_that_loses_rights_everywhere_stays_the_kernels_in_the_window<
        F: Format,
    >() {
        let machine = Machine::builder().format::<F>().build();
        machine.on_cpu(|vm| {
            let kernel = open(vm, TlbScope::Global);
            let phys = &vm.mmu.phys;
            let frame = phys.give(phys.alloc_zeroed().unwrap(), PageKind::Kernel);
            let (at, range) = (page::<F>(3), part::<F>(3, 1));
            let mut debt = Debt::new();
            let all = Prot::RW | Prot::EXEC;
            kernel.enter(&vm.mmu, range, [frame], all, &mut debt).unwrap();
            kernel.pay(&vm.mmu, debt);
            store(vm, at, 7).unwrap();
            let before = kernel.query(&vm.mmu, at).unwrap();
            let no_exec = if F::HAS_NX { Pte::NX } else { 0 };
            // One right after the other.
            for (left, set) in [(Prot::READ | Prot::EXEC, 0), (Prot::READ, no_exec)] {
                let mut debt = Debt::new();
                let pin = phys.epoch.pin();
                vm.mmu.restrict_frame(&pin, frame, left, &mut debt);
                drop(pin);
                debt.pay_everywhere(&vm.mmu);
                let after = kernel.query(&vm.mmu, at).unwrap();
                assert_eq!(after.0, before.0 & !Pte::W | set, "and nothing else has changed");
            }
            assert_eq!(store(vm, at, 8), Err(fault(at, Access::Write, true, false)));
            assert_eq!(load(vm, at), Ok(7));
            release(vm, range);
        });
        machine.check();
    }

    pub(super) fn a_device_is_mapped_where_nothing_is_and_its_frames_are_nobodys<F: Format>() {
        let machine = Machine::builder().format::<F>().build();
        machine.on_cpu(|vm| {
            let kernel = open(vm, TlbScope::Global);
            // Frames that were never added, across two leaf tables.
            let first = span::<F>(2) / PAGE_SIZE - 300 - 2;
            let range = part::<F>(first, 5);
            assert_eq!(kernel.enter_device(&vm.mmu, range, Frame(3), Prot::RW), Ok(5));
            assert_eq!(kernel.enter_device(&vm.mmu, range, Frame(30), Prot::RW), Ok(0));
            for number in 0..5 {
                let entry = kernel.query(&vm.mmu, page::<F>(first + number)).unwrap();
                assert_eq!(entry.frame(), Frame(3 + number as u32));
                assert_eq!(entry.0 & (Pte::W | Pte::U), Pte::W);
            }
            assert_eq!(kernel.resident(&vm.mmu), 5);
            vm.check().unwrap();
            release(vm, range);
            assert_eq!(kernel.resident(&vm.mmu), 0);
        });
        machine.check();
    }

    pub(super) fn a_window_must_lie_in_the_kernels_half_and_there_is_one<F: Format>() {
        // One CPU: another one that idles would hold frames in its hand while they are counted.
        let machine = Machine::builder().cpus(1).format::<F>().build();
        machine.on_cpu(|vm| {
            let half = kernel_half::<F>();
            let try_open = |start: u64, end: u64| {
                let range = VirtRange { start: VirtAddr(start), end: VirtAddr(end) };
                let opened = vm.mmu.open_window(range, TlbScope::Global, |_| ());
                opened.err()
            };
            let invalid = Some(WindowError::Invalid);
            assert!(vm.mmu.kernel().is_none());
            let (start, end) = (half.start.0, half.end.0);
            assert_eq!(try_open(start, start), invalid);
            assert_eq!(try_open(start + 1, start + PAGE_SIZE), invalid);
            assert_eq!(try_open(start, start + PAGE_SIZE + 1), invalid);
            assert_eq!(try_open(start - PAGE_SIZE, start + PAGE_SIZE), invalid);
            assert_eq!(try_open(end - PAGE_SIZE, end.wrapping_add(PAGE_SIZE)), invalid);
            let free = || {
                while vm.idle() {}
                vm.statistics().frames_free
            };
            let before = free();
            // The last pages of all: the links end where addresses do.
            assert_eq!(try_open(end - 2 * PAGE_SIZE, end), None);
            let last = VirtRange::new(VirtAddr(end - PAGE_SIZE), VirtAddr(end));
            assert_eq!(enter_fresh(vm, last, Prot::RW), Ok(1));
            assert!(vm.mmu.kernel().unwrap().query(&vm.mmu, last.start).is_some());
            vm.check().unwrap();
            release(vm, last);
            let taken = before - free();
            assert_eq!(try_open(start, start + PAGE_SIZE), Some(WindowError::Taken));
            assert_eq!(before - free(), taken, "nothing is kept of the other");
            assert_eq!(vm.mmu.kernel().unwrap().tables(&vm.mmu), taken);
        });
        machine.check();
    }

    pub(super) fn a_refused_allocation_leaves_no_trace<F: Format>() {
        for what in [Scarce::Frame, Scarce::Heap] {
            for nth in 0.. {
                let machine = Machine::builder().format::<F>().memory(4 << 20).cpus(1).build();
                let was_refused = machine.on_cpu(move |vm| {
                    let failures = vm.platform().failures();
                    let phys = &vm.mmu.phys;
                    let frame = phys.give(phys.alloc_zeroed().unwrap(), PageKind::Kernel);
                    failures.fail_nth(what, nth);
                    let opened = vm.mmu.open_window(window::<F>(), TlbScope::Global, |_| ());
                    let done = opened.map_err(|error| assert_eq!(error, WindowError::NoMemory));
                    let done = done.and_then(|kernel| {
                        let range = part::<F>(0, 800);
                        kernel.prepare(&vm.mmu, range).map_err(|NoMemory| ())?;
                        // Where there are tables, only the list of the places of one frame needs memory.
                        let mut debt = Debt::new();
                        let entered =
                            kernel.enter(&vm.mmu, range, [frame; 5], Prot::READ, &mut debt);
                        kernel.pay(&vm.mmu, debt);
                        let there = kernel.resident(&vm.mmu);
                        assert_eq!(there, vm.mmu.mappings(frame));
                        assert!(entered.is_err() || there == 5);
                        vm.check().unwrap();
                        release_all(vm);
                        entered.map(|_| ()).map_err(|NoMemory| ())
                    });
                    assert!(done.is_ok() || !failures.is_pending(what), "refused for no reason");
                    phys.free(phys.take(frame));
                    vm.check().unwrap();
                    !failures.is_pending(what)
                });
                machine.check();
                if !was_refused {
                    assert!(nth > 1, "there is something that can be refused");
                    break;
                }
            }
        }
    }

    /// Removes what the owner of a frame entered himself, and keeps the frame.
    fn release_all<F: Format>(vm: &Vm<Hosted<F>>) {
        let kernel = vm.mmu.kernel().unwrap();
        let mut debt = Debt::new();
        kernel.remove(&vm.mmu, window::<F>(), &mut debt, |_, _| ());
        kernel.pay(&vm.mmu, debt);
    }

    /// What the model knows of a page: the frame if it is shared by several, what was stored, whether stores pass.
    #[derive(Clone, Copy, PartialEq, Debug)]
    struct Known {
        shared: Option<Frame>,
        value: u64,
        writable: bool,
    }

    pub(super) fn random_changes_leave_what_a_list_of_pages_says<F: Format>() {
        const SEED: u64 = 20_221_122;
        let machine = Machine::builder().format::<F>().cpus(2).build();
        machine.on_cpu(|vm| {
            open(vm, TlbScope::Global);
        });
        let script = machine.clone();
        machine.hosted().run(Some(CpuId(0)), move || {
            let vm = script.vm();
            let kernel = vm.mmu.kernel().unwrap();
            let phys = &vm.mmu.phys;
            let mut random = Xoshiro256PlusPlus::seed_from_u64(SEED);
            let mut model: Vec<Option<Known>> = vec![None; PAGES as usize];
            let shared = phys.give(phys.alloc_zeroed().unwrap(), PageKind::Wired);
            let mut shared_value = 0;
            for step in 1..=1500u64 {
                let first = random.random_range(0..PAGES);
                let pages = random.random_range(1..=40).min(PAGES - first);
                let range = part::<F>(first, pages);
                let slots = first as usize..(first + pages) as usize;
                let mut debt = Debt::new();
                match random.random_range(0..6) {
                    0 | 1 => {
                        let entered = enter_fresh(vm, range, Prot::RW).unwrap();
                        let free = model[slots.clone()].iter().position(Option::is_some);
                        assert_eq!(entered, free.map_or(pages, |free| free as u64), "step {step}");
                        let fresh = Known { shared: None, value: 0, writable: true };
                        model[slots][..entered as usize].fill(Some(fresh));
                    }
                    2 => {
                        // Frames that are not the kernel's stay their owner's.
                        release(vm, range);
                        model[slots].fill(None);
                    }
                    3 => {
                        kernel.protect(&vm.mmu, range, Prot::READ, &mut debt);
                        model[slots.clone()]
                            .iter_mut()
                            .flatten()
                            .for_each(|it| it.writable = false);
                    }
                    4 if model[first as usize].is_none() => {
                        let range = part::<F>(first, 1);
                        kernel.enter(&vm.mmu, range, [shared], Prot::RW, &mut debt).unwrap();
                        model[first as usize] = Some(Known {
                            shared: Some(shared),
                            value: shared_value,
                            writable: true,
                        });
                    }
                    _ => {
                        let stored = store(vm, page::<F>(first), step);
                        let known = &mut model[first as usize];
                        assert_eq!(stored.is_ok(), known.is_some_and(|it| it.writable));
                        if let (Ok(()), Some(it)) = (stored, known) {
                            it.value = step;
                            if it.shared.is_some() {
                                shared_value = step;
                            }
                        }
                    }
                }
                kernel.pay(&vm.mmu, debt);
                let at = random.random_range(0..PAGES);
                let expected = model[at as usize]
                    .map(|it| if it.shared.is_some() { shared_value } else { it.value });
                assert_eq!(load(vm, page::<F>(at)).ok(), expected, "page {at} after step {step}");
            }
            let there = model.iter().flatten().count() as u64;
            assert_eq!(kernel.resident(&vm.mmu), there);
            vm.check().unwrap();
            release(vm, window::<F>());
            assert_eq!(kernel.resident(&vm.mmu), 0);
            phys.free(phys.take(shared));
        });
        machine.check();
    }
}
