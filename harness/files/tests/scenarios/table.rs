//! Descriptors: the lowest number, copies, exec, limits.

use rumpvm_files::table::OnExec::{Close, Keep};
use rumpvm_files::{Errno, Table};

use crate::world::World;

#[test]
fn the_lowest_free_number_is_given_and_limits_are_kept() {
    World::new().run(|user| {
        let table = Table::new();
        let file = user.create("/file");
        let add = |least| table.add(file.clone(), least, 8, Keep);
        assert_eq!((add(0), add(0), add(5), add(0)), (Ok(0), Ok(1), Ok(5), Ok(2)));
        drop(table.close(1).unwrap());
        assert_eq!((add(0), add(0), add(0), add(0)), (Ok(1), Ok(3), Ok(4), Ok(6)));
        assert_eq!((add(0), add(0)), (Ok(7), Err(Errno::EMFILE)));
        assert_eq!(table.close(8).err(), Some(Errno::EBADF));
        assert_eq!(table.get(u32::MAX).err(), Some(Errno::EBADF));
        assert_eq!(table.put(file.clone(), 8, 8, Keep).err(), Some(Errno::EBADF));
        assert!(table.put(file.clone(), 7, 8, Keep).unwrap().is_some());
        drop(table.close(7).unwrap());
        assert!(table.put(file.clone(), 7, 8, Keep).unwrap().is_none());
        drop(table.close(3).unwrap());
        let pair = table.add_pair([file.clone(), file.clone()], 8, Keep);
        assert_eq!(pair, Err(Errno::EMFILE));
        assert_eq!(table.get(3).err(), Some(Errno::EBADF), "neither of the two stays");
        assert_eq!(add(0), Ok(3));
    });
}

#[test]
fn exec_closes_what_asked_for_it_and_a_copy_has_its_own_numbers() {
    World::new().run(|user| {
        let table = Table::new();
        let file = user.create("/file");
        for on_exec in [Keep, Close, Keep, Close] {
            table.add(file.clone(), 0, 99, on_exec).unwrap();
        }
        let copy = table.try_clone().unwrap();
        table.set_on_exec(1, Keep).unwrap();
        table.exec();
        copy.exec();
        let numbers = |table: &Table<_>| {
            let mut found = Vec::new();
            while let Some((number, _)) = table.next(found.last().map_or(0, |last| last + 1)) {
                found.push(number);
            }
            found
        };
        assert_eq!((numbers(&table), numbers(&copy)), (vec![0, 1, 2], vec![0, 2]));
        table.set_range_on_exec(1, u32::MAX, Close);
        table.close_range(0, 0);
        assert_eq!((numbers(&table), table.on_exec(2)), (vec![1, 2], Ok(Close)));
        table.close_all();
        assert_eq!(table.add(file.clone(), 0, 99, Keep), Ok(0));
        assert_eq!(file.count(), 4, "two of the copy, one of the table, and ours");
    });
}
