//! Fork of a map: the child gets the areas, shares the amap's root and the leaf tables.

use alloc::vec::Vec;
use core::ops::ControlFlow;

use rumpvm_arch::{PAGE_SIZE, VirtAddr, VirtRange};
use rumpvm_platform::Platform;

use super::change::{Gone, Use};
use super::minherit::Made;
use super::minherit::inherited;
use super::{Area, AreaFlags, Limits, Map, Store};
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
    /// Makes `child`, which is empty and has no user that could call or fault yet, a copy of this map: private
    /// memory is copied when either side stores to it, shared memory is shared, locks on memory are not
    /// inherited. Costs a few stores for each 2 MiB. On error the child may have something mapped, and is to be
    /// taken down.
    ///
    /// Takes the map's lock and the child's, and stops faults of the space for the time. Sleeps otherwise only
    /// where memory that is to be shared took the place of a file's last mapping.
    pub(crate) fn fork(&self, store: &Store<P>, child: &Self) -> Result<(), NoMemory> {
        let mut made = Vec::new();
        let forked = self.fork_locked(store, child, &mut made);
        made.into_iter().for_each(|made| made.settle(store));
        forked
    }

    fn fork_locked(
        &self,
        store: &Store<P>,
        child: &Self,
        made: &mut Vec<Made<P>>,
    ) -> Result<(), NoMemory> {
        let phys = &store.mmu.phys;
        let mut state = self.state.lock();
        let mut given = self.inherited(store)?;
        if given.shares {
            self.share_marked(store, &mut state, made)?;
            given = self.inherited(store)?;
        }
        // Held to the end: whoever finds the child through an object that shrinks finds all of it.
        let mut childs = child.state.lock();
        let Given { areas, left_out, .. } = given;
        // Before anything is shared: clearing what the child does not get must not fail.
        let mut spares = Vec::new();
        for _ in &left_out {
            try_push::<_, P>(&mut spares, Spares::worst_case(phys)?)?;
        }
        childs.heap = state.heap;
        childs.layout = state.layout;
        // After the areas the limits: what the parent has the child may have, whatever the limit is now.
        let unlimited = Limits { areas: u64::MAX, ..state.limits };
        childs.limits = unlimited;
        let mut change = child.change(&mut childs);
        let everything = VirtRange::new(VirtAddr(0), VirtAddr(u64::MAX - 1));
        change.replace(everything, areas).map_err(|_| NoMemory)?;
        change.promise(store).map_err(|_| NoMemory)?;
        // Nothing was there.
        let _: Gone<P> = change.commit(store);
        childs.limits = state.limits;
        // No fault of the parent decides from here on; those that have decided hold a leaf table's lock,
        // which sharing takes.
        let frozen = self.generation.freeze();
        self.amap.fork(phys, &child.amap);
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
        shared?;
        phys.counters.count(Event::Fork);
        Ok(())
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
        // Whoever shrinks an object finds the map as it was, or ended.
        let mut state = self.state.lock();
        state.ended = true;
        store.objects.promises().give_back(core::mem::take(&mut state.promised) / PAGE_SIZE);
        self.pmap.destroy(&store.mmu);
        let everything = VirtRange::new(VirtAddr(0), VirtAddr(u64::MAX));
        // The range covers the root as a whole, so no node is cut and no frame is needed.
        self.amap.clear(&store.mmu.phys, everything, &mut Spares::none(&store.mmu.phys));
        drop(state);
        let mut from = 0;
        loop {
            let pin = store.mmu.phys.epoch.pin();
            let Some(area) = self.areas.at_or_after(&pin, from) else { break };
            from = area.range.end.0;
            let used = Use::of(self.pmap.id(), area);
            drop(pin);
            if let Some(used) = used {
                used.settle(store);
            }
        }
    }
}
