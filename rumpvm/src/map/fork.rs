//! Fork of a map: the child gets the areas, shares the amap's root and the leaf tables.

use alloc::vec::Vec;
use core::ops::ControlFlow;

use rumpvm_arch::{VirtAddr, VirtRange};
use rumpvm_platform::Platform;

use super::change::settle_one;
use super::minherit::inherited;
use super::{Area, AreaFlags, Map, Store};
use crate::NoMemory;
use crate::pmap::{Debt, Inherit};
use crate::radix::Spares;
use crate::stats::Event;
use crate::sync::try_push;

/// What a child gets.
struct Given<P: Platform> {
    areas: Vec<Area<P>>,
    /// Where it gets no pages.
    left_out: Vec<VirtRange>,
    /// Some memory is to be shared that is private so far.
    shares: bool,
}

impl<P: Platform> Map<P> {
    /// A copy of this map for a child: private memory is copied when either side stores to it, shared
    /// memory is shared, locks on memory are not inherited. Costs a few stores for each 2 MiB.
    ///
    /// Takes the map's lock and stops faults of the space for the time. Does not sleep otherwise.
    pub(crate) fn fork(&self, store: &Store<P>) -> Result<Self, NoMemory> {
        let mut child = Self::try_new(&store.mmu)?;
        match self.fork_into(store, &mut child) {
            Ok(()) => {
                store.mmu.phys.counters.count(Event::Fork);
                Ok(child)
            }
            Err(error) => {
                child.destroy(store);
                Err(error)
            }
        }
    }

    fn fork_into(&self, store: &Store<P>, child: &mut Self) -> Result<(), NoMemory> {
        let phys = &store.mmu.phys;
        let mut state = self.state.lock();
        let mut given = self.inherited(store)?;
        if given.shares {
            self.share_marked(store, &mut state)?;
            given = self.inherited(store)?;
        }
        let Given { areas, left_out, .. } = given;
        // Before anything is shared: clearing what the child does not get must not fail.
        let mut spares = Vec::new();
        for _ in &left_out {
            try_push::<_, P>(&mut spares, Spares::worst_case(phys)?)?;
        }
        {
            let mut childs = child.state.lock();
            childs.heap = state.heap;
            childs.limits.areas = u64::MAX;
            let mut change = child.change(&mut childs);
            let everything = VirtRange::new(VirtAddr(0), VirtAddr(u64::MAX - 1));
            change.replace(everything, areas).map_err(|_| NoMemory)?;
            change.commit(store).settle(store);
            // After the areas: what the parent has the child may have, whatever the limit is now.
            childs.limits = state.limits;
        }
        // No fault of the parent decides from here on; those that have decided hold a leaf table's lock,
        // which sharing takes.
        let frozen = self.generation.freeze();
        child.amap = self.amap.fork(phys);
        child.guards.set(self.guards.get());
        let pin = phys.epoch.pin();
        let mut debt = Debt::new();
        let inherit = |range: VirtRange| {
            let cut = left_out.iter().any(|hole| hole.overlaps(range));
            if cut { Inherit::Nothing } else { Inherit::Share }
        };
        let shared = self.pmap.share(&store.mmu, &pin, &child.pmap, inherit, &mut debt);
        drop(pin);
        debt.pay(&store.mmu, &self.pmap);
        drop(frozen);
        for (hole, mut spares) in left_out.into_iter().zip(spares) {
            child.amap.clear(phys, hole, &mut spares);
        }
        shared
    }

    /// The areas of a child, and the ranges whose pages it does not get.
    fn inherited(&self, store: &Store<P>) -> Result<Given<P>, NoMemory> {
        let pin = store.mmu.phys.epoch.pin();
        let (mut areas, mut left_out, mut shares) = (Vec::new(), Vec::new(), false);
        let walked = self.areas.visit(&pin, 0, u64::MAX, |area| {
            shares |= area.flags.contains(AreaFlags::INHERIT) && !area.is_shared();
            let pushed = if area.flags.contains(AreaFlags::DONTFORK) {
                try_push::<_, P>(&mut left_out, area.range)
            } else {
                try_push::<_, P>(&mut areas, inherited(area)).and_then(|()| {
                    // Of memory that only now becomes private the tables let stores pass; and there are
                    // no pages, so nothing is lost by leaving it out.
                    let changed = AreaFlags::WIPEONFORK | AreaFlags::INHERIT;
                    let cut = area.flags.intersects(changed);
                    if cut { try_push::<_, P>(&mut left_out, area.range) } else { Ok(()) }
                })
            };
            match pushed {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => ControlFlow::Break(error),
            }
        });
        match walked {
            ControlFlow::Break(error) => Err(error),
            ControlFlow::Continue(()) => Ok(Given { areas, left_out, shares }),
        }
    }

    /// Takes everything out: tables, pages, and the map's part in its objects. Nobody may use the map any
    /// more, on no CPU. Cannot fail: nothing is allocated. Sleeps where a file loses its last user.
    pub(crate) fn destroy(&self, store: &Store<P>) {
        self.pmap.destroy(&store.mmu);
        let everything = VirtRange::new(VirtAddr(0), VirtAddr(u64::MAX));
        // The range covers the root as a whole, so no node is cut and no frame is needed.
        self.amap.clear(&store.mmu.phys, everything, &mut Spares::none(&store.mmu.phys));
        let mut from = 0;
        loop {
            let pin = store.mmu.phys.epoch.pin();
            let Some(area) = self.areas.at_or_after(&pin, from) else { break };
            from = area.range.end.0;
            let object = area.object.clone();
            drop(pin);
            if let Some(object) = object {
                settle_one(store, &object);
            }
        }
    }
}
