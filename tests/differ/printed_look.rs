// What Linux answers to the last step, and what rumpvm does:
//   Linux:  page 0x1000001000: r--s memory page 1
//   rumpvm: page 0x1000001000: rw-s memory page 1
use rumpvm::{Backing, MapFlags, ProtFlags};
use rumpvm_arch::{Prot, VirtAddr};
use rumpvm_harness::differ::{OBJECT_PAGES, PAGE, Stage, page_told};
use rumpvm_harness::machine::Machine;

#[test]
fn rumpvm_answers_as_linux_does() {
    let machine = Machine::builder().cpus(1).build();
    machine.on_cpu(|vm| {
        let stage = Stage::new(vm).unwrap();
        let memory = vm.shared_memory(OBJECT_PAGES * PAGE).unwrap();
        let _ = stage.at(0).space.mmap(vm, VirtAddr(0x1000000000), 0x3000, Prot::from_bits_truncate(0x3), MapFlags::from_bits_retain(0x11), Backing::Object(&memory), 0x0);
        let _ = stage.at(0).space.mprotect(vm, VirtAddr(0x1000000000), 0x2000, ProtFlags::from_bits_retain(0x1));
        let answer = page_told(&stage, 0, [None, Some(&memory)], 1, 0x1000001000);
        assert_eq!(answer, "r--s memory page 1");
        stage.end();
    });
}
