//! Files as memory: mappings see what calls write, and the other way round.

use rumpvm::{Backing, MapFlags, MemoryFlags, Seals};
use rumpvm_arch::{Access, Prot, VirtAddr};
use rumpvm_files::node::Memory;
use rumpvm_files::{Errno, OpenFlags};

use crate::world::World;

const AT: VirtAddr = VirtAddr(0x10_0000);
const LENGTH: u64 = 3 * 4096;

#[test]
fn a_shared_mapping_and_the_calls_see_each_other_also_after_the_name_is_gone() {
    World::new().run(|user| {
        let vm = user.tree.services().vm;
        let file = user.create("/shared");
        file.truncate(LENGTH).unwrap();
        let space = vm.new_space().unwrap();
        let Ok(Memory::Object(object)) = file.memory() else { panic!("a file can be mapped") };
        let backing = Backing::Opened(&object, file.mappable());
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        space.mmap(vm, AT, LENGTH, Prot::RW, flags, backing, 0).unwrap();
        drop(object);

        space.copy_out(vm, AT + 4090, b"across a page").unwrap();
        assert_eq!(&user.content("/shared").unwrap()[4090..4103], b"across a page");
        user.walk().unlink(b"/shared").unwrap();
        file.write_at(8192, &mut &b"written"[..], &user.waker).unwrap();
        drop(file);
        let mut bytes = [0; 7];
        space.copy_in(vm, AT + 8192, &mut bytes).unwrap();
        assert_eq!(&bytes, b"written", "the mapping keeps the file's bytes");
        assert!(vm.fault(&space, AT, Access::Write).is_ok());
        vm.leave_space(&space);
    });
}

#[test]
fn what_was_opened_for_reading_cannot_be_mapped_to_be_shared_and_stored_to() {
    World::new().run(|user| {
        let vm = user.tree.services().vm;
        user.create("/file").truncate(LENGTH).unwrap();
        let file = user.open("/file", OpenFlags::empty()).unwrap();
        let space = vm.new_space().unwrap();
        let Ok(Memory::Object(object)) = file.memory() else { panic!("a file can be mapped") };
        let map = |flags| {
            let backing = Backing::Opened(&object, file.mappable());
            let mapped = space.mmap(vm, AT, LENGTH, Prot::RW, flags | MapFlags::FIXED, backing, 0);
            mapped.map(drop).map_err(Errno::from)
        };
        assert_eq!(map(MapFlags::SHARED), Err(Errno::EACCES));
        assert_eq!(map(MapFlags::PRIVATE), Ok(()));
        vm.leave_space(&space);
        let directory = user.open("/", OpenFlags::DIRECTORY).unwrap();
        assert_eq!(directory.memory().err(), Some(Errno::ENODEV));
    });
}

#[test]
fn seals_keep_a_memory_file_as_it_is() {
    World::new().run(|user| {
        let file = user.tree.memory_file(b"name", MemoryFlags::ALLOW_SEALING, &user.who).unwrap();
        assert_eq!(user.path(file.entry()), "/memfd:name (deleted)");
        user.write(&file, b"content").unwrap();
        file.add_seals(Seals::SHRINK | Seals::GROW).unwrap();
        assert_eq!((file.truncate(3), file.truncate(9)), (Err(Errno::EPERM), Err(Errno::EPERM)));
        assert_eq!(file.write_at(0, &mut &b"CONTENTS"[..], &user.waker), Err(Errno::EPERM));
        assert_eq!(file.write_at(0, &mut &b"CONTENT"[..], &user.waker), Ok(7));
        file.add_seals(Seals::WRITE | Seals::SEAL).unwrap();
        assert_eq!(user.write(&file, b"x"), Err(Errno::EPERM));
        assert_eq!(file.add_seals(Seals::EXEC), Err(Errno::EPERM));
        let plain = user.create("/plain");
        assert_eq!(
            (plain.seals(), plain.add_seals(Seals::GROW)),
            (Ok(Seals::SEAL), Err(Errno::EPERM))
        );
        let long = user.tree.memory_file(&[b'n'; 250], MemoryFlags::empty(), &user.who);
        assert_eq!(long.err(), Some(Errno::EINVAL));
    });
}
