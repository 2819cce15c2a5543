// What Linux answers to the last step, and what rumpvm does:
//   Linux:  SIGBUS (BUS_ADRERR) at 0x1000001000
//   rumpvm: 0x1212121212121212
use rumpvm::{Backing, Limits, MapFlags, Signal};
use rumpvm_arch::{Prot, VirtAddr};
use rumpvm_harness::differ::{OBJECT_PAGES, PAGE, SEEN, Stage, address, file_byte};
use rumpvm_harness::machine::Machine;
use rumpvm_hosted::MemoryFile;

#[test]
fn rumpvm_answers_as_linux_does() {
    let machine = Machine::builder().cpus(1).build();
    machine.on_cpu(|vm| {
        let mut stage = Stage::new(vm).unwrap();
        let file = vm.open_file(MemoryFile::new((0..OBJECT_PAGES * PAGE).map(file_byte).collect::<Vec<u8>>())).unwrap();
        let space = &stage.at(0).space;
        space.set_limits(Limits { locked: 0x10000, ..space.limits() });
        let _ = stage.at(0).space.mmap(vm, VirtAddr(0x1000000000), 0x3000, Prot::from_bits_truncate(0x3), MapFlags::from_bits_retain(0x12), Backing::Object(&file), 0x1000);
        for page in 0..SEEN as u64 {
            let _ = stage.load_u64(0, VirtAddr(address(page)));
        }
        let _ = stage.fork(0, 1);
        stage.exit(1);
        let _ = vm.resize(&file, 0x2000);
        let answer = stage.load_u64(0, VirtAddr(0x1000001000));
        assert_eq!(answer.map_err(|error| (error.signal(), error.at())), Err((Signal::Bus, VirtAddr(0x1000001000))));
        stage.end();
    });
}
