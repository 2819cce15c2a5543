//! The order in which locks were taken while others were held, over one run: a cycle in it is a deadlock in some
//! other run, even if this one came out right (as FreeBSD's WITNESS and Linux's lockdep do for classes; here it is
//! each lock by itself, because ranks look after the classes).

use rumpvm_platform::{LockKind, LockUse};
use rustc_hash::FxHashMap;

/// Who was held when whom was wanted, by the names of their words.
#[derive(Default)]
pub(super) struct LockOrder {
    after: FxHashMap<u64, Vec<After>>,
}

/// What was wanted while something was held: by its name, and both with the places where that was seen first.
struct After {
    name: u64,
    wanted: LockUse,
    held: LockUse,
}

impl LockOrder {
    pub(super) fn reset(&mut self) {
        self.after.clear();
    }

    /// `wanted` is about to be waited for with `held` held, all of one rank; the cycle, if that closes one.
    pub(super) fn wants(
        &mut self,
        held: &[(u64, LockUse)],
        (name, wanted): (u64, LockUse),
    ) -> Option<String> {
        if wanted.class.kind == LockKind::Token {
            return None;
        }
        for (before, held) in held {
            if *before == name {
                continue;
            }
            let known = self.after.entry(*before).or_default();
            if known.iter().any(|after| after.name == name) {
                continue;
            }
            known.push(After { name, wanted, held: *held });
            if let Some(path) = self.path(name, *before) {
                let path: Vec<String> = path.into_iter().map(After::told).collect();
                return Some(format!(
                    "lock order: {wanted} is wanted while {held} is held; elsewhere the order is the other way: {}",
                    path.join(", then ")
                ));
            }
        }
        None
    }

    /// How one gets from `from` to `to` along the order seen so far.
    fn path(&self, from: u64, to: u64) -> Option<Vec<&After>> {
        let mut seen = vec![from];
        let mut stack = vec![(from, Vec::new())];
        while let Some((at, path)) = stack.pop() {
            for after in self.after.get(&at).into_iter().flatten() {
                let mut longer: Vec<&After> = path.clone();
                longer.push(after);
                if after.name == to {
                    return Some(longer);
                }
                if !seen.contains(&after.name) {
                    seen.push(after.name);
                    stack.push((after.name, longer));
                }
            }
        }
        None
    }
}

impl After {
    fn told(&self) -> String {
        format!("{} while {}", self.wanted, self.held)
    }
}
