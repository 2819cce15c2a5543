//! Counts: a record's two ends come once, in their order, after all that was done with it.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::Arc;

use rumpvm::sync::{Hold, Left, Uses};

use crate::home::{Home, Watched, model, on};

/// A record that counts its two ends.
struct Record {
    uses: Uses<Home>,
    /// What it stands for; stage one takes it apart.
    stands_for: Watched,
    /// Its memory; stage two takes it apart.
    memory: Watched,
    ends: Arc<[AtomicU32; 2]>,
}

impl Record {
    fn leave(&self) {
        if self.uses.leave() == Left::Last {
            self.stands_for.change();
            assert_eq!(self.ends[0].fetch_add(1, Relaxed), 0, "stage one runs once");
        }
        self.memory.look();
    }

    fn visit(&self) {
        if self.uses.try_add() {
            self.stands_for.look();
            self.leave();
        }
        self.memory.look();
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.memory.change();
        self.ends[1].fetch_add(1, Relaxed);
    }
}

#[test]
fn stage_one_and_stage_two_run_once_after_all_who_used_and_held() {
    model(|| {
        let ends = Arc::new([const { AtomicU32::new(0) }; 2]);
        let (stands_for, memory) = (Watched::new(), Watched::new());
        let record = Record { uses: Uses::one(), stands_for, memory, ends: Arc::clone(&ends) };
        let hold = Hold::<_, Home>::try_new(record).unwrap();
        let visitors = [1, 2].map(|cpu| {
            let hold = hold.clone();
            on(cpu, move || hold.visit())
        });
        hold.leave();
        drop(hold);
        for visitor in visitors {
            visitor.join().unwrap();
        }
        assert_eq!([0, 1].map(|stage| ends[stage].load(Relaxed)), [1, 1]);
    });
}
