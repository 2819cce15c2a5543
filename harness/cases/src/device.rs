//! Device memory: frames that are mapped as they are, and never the component's to free.
//!
//! A case has no device. It takes frames for the host instead, which are mapped the same way; that they can also be
//! frames without a record is tested where the machine can hold some back.

use rumpvm::{Backing, CallError, FaultError, Inheritance, MapFlags, RemapFlags, Vm};
use rumpvm_arch::{Frame, Prot};
use rumpvm_platform::Platform;

use crate::program::BASE;
use crate::{PAGE, Program, cases};

cases! {
    stores_reach_the_devices_frames_and_loads_see_them,
    a_private_mapping_of_a_device_can_be_read_and_not_stored_to,
    a_device_ends_where_it_ends,
    a_device_moves_as_it_is_and_does_not_grow,
    a_device_is_never_copied_for_a_child,
    memory_of_the_components_is_no_device,
}

/// Two frames in a row that serve as a device, and come back when the case ends, well or not.
struct Frames<'v, P: Platform> {
    vm: &'v Vm<P>,
    first: Frame,
}

impl<P: Platform> Drop for Frames<'_, P> {
    fn drop(&mut self) {
        let phys = &self.vm.mmu.phys;
        for at in 0..2 {
            phys.give_back(Frame(self.first.0 + at)).unwrap();
        }
    }
}

/// Calls `work` with a device of two frames.
fn with_device<P: Platform>(vm: &Vm<P>, work: impl FnOnce(Frame)) {
    let phys = &vm.mmu.phys;
    let first = phys.take_frames(1).unwrap();
    for at in 0..2 {
        phys.write(Frame(first.0 + at), 0, &[0; PAGE as usize]);
    }
    let frames = Frames { vm, first };
    work(frames.first);
}

fn stores_reach_the_devices_frames_and_loads_see_them<P: Platform>(vm: &Vm<P>) {
    with_device(vm, |first| {
        let device = vm.device(first, 2).unwrap();
        let program = Program::new(vm);
        program.map_object(BASE, 2, MapFlags::SHARED, &device, 0);
        program.set(BASE + PAGE + 7, 42);
        let mut byte = [0];
        vm.mmu.phys.read(Frame(first.0 + 1), 7, &mut byte);
        assert_eq!(byte, [42]);
        vm.mmu.phys.write(first, 3, &[43]);
        assert_eq!(program.get(BASE + 3), 43);
        let child = program.fork();
        child.set(BASE, 1);
        assert_eq!(program.get(BASE), 1);
        drop((program, child));
        vm.close(&device).unwrap();
    });
}

fn a_private_mapping_of_a_device_can_be_read_and_not_stored_to<P: Platform>(vm: &Vm<P>) {
    with_device(vm, |first| {
        let device = vm.device(first, 2).unwrap();
        let program = Program::new(vm);
        let map = |prot| {
            let (flags, backing) = (MapFlags::PRIVATE | MapFlags::FIXED, Backing::Object(&device));
            program.mmap(vm, BASE, 2 * PAGE, prot, flags, backing, 0)
        };
        assert_eq!(map(Prot::RW), Err(CallError::Denied));
        assert_eq!(map(Prot::READ), Ok(BASE));
        vm.mmu.phys.write(first, 0, &[5]);
        assert_eq!(program.get(BASE), 5);
        assert_eq!(program.mprotect(vm, BASE, PAGE, Prot::RW), Err(CallError::Denied));
        drop(program);
        vm.close(&device).unwrap();
    });
}

fn a_device_ends_where_it_ends<P: Platform>(vm: &Vm<P>) {
    with_device(vm, |first| {
        let device = vm.device(first, 2).unwrap();
        let program = Program::new(vm);
        program.map_object(BASE, 3, MapFlags::SHARED, &device, 0);
        let at = BASE + 2 * PAGE;
        assert_eq!(program.load(at), Err(FaultError::BeyondEnd { at }));
        drop(program);
        vm.close(&device).unwrap();
    });
}

fn a_device_moves_as_it_is_and_does_not_grow<P: Platform>(vm: &Vm<P>) {
    with_device(vm, |first| {
        let device = vm.device(first, 2).unwrap();
        let program = Program::new(vm);
        program.map_object(BASE, 1, MapFlags::SHARED, &device, 0);
        program.set(BASE, 42);
        let flags = RemapFlags::MAYMOVE | RemapFlags::FIXED;
        let away = BASE + 16 * PAGE;
        assert_eq!(program.mremap(vm, BASE, PAGE, PAGE, flags, away), Ok(away));
        assert_eq!(program.get(away), 42);
        let grown = program.mremap(vm, away, PAGE, 2 * PAGE, RemapFlags::MAYMOVE, BASE);
        assert_eq!(grown, Err(CallError::BadAddress));
        drop(program);
        vm.close(&device).unwrap();
    });
}

fn a_device_is_never_copied_for_a_child<P: Platform>(vm: &Vm<P>) {
    with_device(vm, |first| {
        let device = vm.device(first, 2).unwrap();
        let program = Program::new(vm);
        program.map_object(BASE, 1, MapFlags::SHARED, &device, 0);
        let (flags, backing) = (MapFlags::PRIVATE | MapFlags::FIXED, Backing::Object(&device));
        let private = BASE + PAGE;
        assert_eq!(program.mmap(vm, private, PAGE, Prot::READ, flags, backing, PAGE), Ok(private));
        let copied = program.minherit(vm, BASE, 2 * PAGE, Inheritance::Copy);
        assert_eq!(copied, Err(CallError::Unsupported));
        // What is private cannot be stored to, so it is as good as a copy.
        assert_eq!(program.minherit(vm, private, PAGE, Inheritance::Copy), Ok(()));
        vm.mmu.phys.write(Frame(first.0 + 1), 0, &[5]);
        assert_eq!(program.fork().get(private), 5);
        assert_eq!(program.minherit(vm, BASE, PAGE, Inheritance::Share), Ok(()));
        assert_eq!(program.minherit(vm, BASE, 2 * PAGE, Inheritance::None), Ok(()));
        assert_eq!(program.fork().pages(), []);
        drop(program);
        vm.close(&device).unwrap();
    });
}

fn memory_of_the_components_is_no_device<P: Platform>(vm: &Vm<P>) {
    let program = Program::new(vm);
    let root = program.pmap().root();
    let refused = |first, frames| matches!(vm.device(first, frames), Err(CallError::Invalid));
    assert!(refused(root, 1));
    // Also if it is only the last of them, or the first, or far behind the first.
    assert!(refused(Frame(root.0 - 1), 2) && refused(root, 2) && refused(Frame(0), root.0 + 1));
    // Page tables cannot name what lies behind the last frame.
    assert!(refused(Frame(u32::MAX), 1) && refused(Frame(u32::MAX - 2), 3));
    with_device(vm, |first| vm.close(&vm.device(first, 2).unwrap()).unwrap());
    // Nothing can fail from here on, so the host's frames come back.
    let phys = &vm.mmu.phys;
    let first = phys.take_frames(1).unwrap();
    let second = Frame(first.0 + 1);
    phys.give_back(second).unwrap();
    let (both, one) = (refused(first, 2), refused(second, 1));
    phys.give_back(first).unwrap();
    assert!(both && one && refused(first, 1));
}
