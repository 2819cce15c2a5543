//! A disk as a file: what is stored through one mapping is on the disk, and in the next one.
//!
//! Flow:  disk -> object -> mapping -> stores -> msync, close -> the disk itself -> a mapping again.
//! Sleep: for the disk.

use alloc::vec;

use rumpvm::{Backing, MapFlags, SyncFlags};
use rumpvm_arch::{PAGE_SIZE, Prot, VirtAddr};
use rumpvm_platform::File;

use crate::kernel::{self, HeapSize};

/// Pages that are stored to.
const PAGES: u64 = 64;
/// Exit status of a machine without a disk.
const NO_DISK: u8 = 3;

/// Numbers the pages of the first disk through a mapping, and looks for them on it.
pub(crate) fn run() -> u8 {
    let kernel = kernel::start(HeapSize::Grows);
    let disks = rumpvm_bare::find_disks();
    let Some(disk) = disks.first() else {
        log::error!("this machine has no disk");
        return NO_DISK;
    };
    log::info!("{} disks, the first of {} bytes", disks.len(), disk.length());
    let vm = &kernel.vm;
    let space = vm.new_space().expect("memory for a space");
    for round in 1..=2 {
        let file = vm.open_file(disk.clone()).expect("memory for an object");
        let (none, bytes) = (VirtAddr(0), PAGES * PAGE_SIZE);
        let backing = Backing::Object(&file);
        let at = space.mmap(vm, none, bytes, Prot::RW, MapFlags::SHARED, backing, 0).expect("room");
        for page in 0..PAGES {
            let mut word = [0; 8];
            let place = at + page * PAGE_SIZE;
            space.copy_in(vm, place, &mut word).expect("a page of the disk");
            assert_eq!(
                u64::from_le_bytes(word),
                (round - 1) * (page + 1),
                "round {round}, page {page}"
            );
            let word = (round * (page + 1)).to_le_bytes();
            space.copy_out(vm, place, &word).expect("a page of the disk");
        }
        assert_eq!(space.msync(vm, at, bytes, SyncFlags::SYNC), Ok(()));
        assert_eq!(space.munmap(vm, at, bytes), Ok(()));
        vm.close(&file).expect("a disk that can be written");
        let mut page = vec![0; PAGE_SIZE as usize];
        assert_eq!(disk.read((PAGES - 1) * PAGE_SIZE, &mut page), Ok(page.len()));
        assert_eq!(page[..8], (round * PAGES).to_le_bytes());
    }
    vm.leave_space(&space);
    if let Err(broken) = kernel.check() {
        panic!("{broken}");
    }
    log::info!("{PAGES} pages went to the disk and came back");
    0
}
