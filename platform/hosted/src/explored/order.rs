//! The order in which locks were taken while others were held, over one run: a cycle in it is a deadlock in some
//! other run, even if this one came out right (as FreeBSD's WITNESS and Linux's lockdep do for classes; here it is
//! each lock by itself, because ranks look after the classes).

use rumpvm_platform::{LockClass, LockKind, LockUse, Site};
use rustc_hash::FxHashMap;

/// Who was held when whom was wanted.
#[derive(Default)]
pub(super) struct LockOrder {
    after: FxHashMap<u64, Vec<(u64, Site)>>,
}

impl LockOrder {
    pub(super) fn reset(&mut self) {
        self.after.clear();
    }

    /// `wanted` is about to be waited for with `held` held; the cycle, if that closes one.
    pub(super) fn wants(
        &mut self,
        held: &[(u64, &'static LockClass)],
        wanted: (u64, &LockUse),
    ) -> Option<String> {
        if wanted.1.class.kind == LockKind::Token {
            return None;
        }
        for (name, class) in held {
            // A cycle through several ranks goes down somewhere, which the ranks forbid; and the word of a lock
            // can be one of another class in another life.
            if *name == wanted.0 || class.rank != wanted.1.class.rank {
                continue;
            }
            let known = self.after.entry(*name).or_default();
            if known.iter().any(|(later, _)| *later == wanted.0) {
                continue;
            }
            known.push((wanted.0, wanted.1.site));
            if let Some(path) = self.path(wanted.0, *name) {
                return Some(format!(
                    "lock order: {} is wanted while a lock of class {} is held; elsewhere the order is the \
                     other way: {}",
                    wanted.1,
                    class.name,
                    path.join(", then ")
                ));
            }
        }
        None
    }

    /// How one gets from `from` to `to` along the order seen so far.
    fn path(&self, from: u64, to: u64) -> Option<Vec<String>> {
        let mut seen = vec![from];
        let mut stack = vec![(from, Vec::new())];
        while let Some((at, path)) = stack.pop() {
            for (next, site) in self.after.get(&at).into_iter().flatten() {
                let mut longer: Vec<String> = path.clone();
                longer.push(site.to_string());
                if *next == to {
                    return Some(longer);
                }
                if !seen.contains(next) {
                    seen.push(*next);
                    stack.push((*next, longer));
                }
            }
        }
        None
    }
}
