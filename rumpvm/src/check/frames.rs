//! Frames: each is in exactly one place, and its record agrees with what was found there.

use alloc::collections::BTreeMap;
use alloc::format;

use rumpvm_arch::Frame;
use rumpvm_platform::Platform;

use super::{Broken, Findings, Seen, ensure};
use crate::phys::PageKind;
use crate::pmap::Mmu;
use crate::sync::Ordering;

pub(super) fn check<P: Platform>(mmu: &Mmu<P>, found: &Findings) -> Result<(), Broken> {
    let phys = &mmu.phys;
    let mut free = BTreeMap::new();
    let mut twice = None;
    phys.for_each_free(|frame, kind| {
        if free.insert(frame.0, kind).is_some() {
            twice = Some(frame);
        }
    });
    phys.for_each_limbo(|frame| {
        if free.insert(frame.0, PageKind::Limbo).is_some() {
            twice = Some(frame);
        }
    });
    ensure!(twice.is_none(), "{twice:?} is free in two places");
    let mut unlike = None;
    phys.for_each_block(|first, order| {
        if phys.page(first).live.load(Ordering::Relaxed) != order {
            unlike = Some((first, order));
        }
    });
    ensure!(unlike.is_none(), "{unlike:?}: the record of a free block says another order");
    let mut broken = Ok(());
    phys.for_each_frame(|frame| {
        if broken.is_ok() {
            broken = one(mmu, found, &free, frame)
                .map_err(|broken| Broken(format!("{frame:?}: {broken}: {:?}", phys.page(frame))));
        }
    });
    broken
}

fn one<P: Platform>(
    mmu: &Mmu<P>,
    found: &Findings,
    free: &BTreeMap<u32, PageKind>,
    frame: Frame,
) -> Result<(), Broken> {
    let page = mmu.phys.page(frame);
    let kind = page.kind();
    let seen = found.frames.get(&frame.0).copied().unwrap_or_default();
    ensure!(!page.lock.is_locked(), "its lock is held");
    ensure!(!page.is_busy(), "it is busy");
    match kind {
        PageKind::FreeTail
        | PageKind::Free
        | PageKind::Cached
        | PageKind::Zeroed
        | PageKind::Limbo => {
            let place = free.get(&frame.0);
            ensure!(place == Some(&kind), "it was found among {place:?}");
            unused(&seen)?;
            ensure!(page.rmap.load(Ordering::Relaxed) == 0, "it is free and mapped");
        }
        PageKind::Fresh => return Err(Broken("it was taken and belongs to nobody".into())),
        PageKind::Table => ensure!(found.tables.contains_key(&frame.0), "no pmap has it"),
        PageKind::Node => ensure!(found.nodes.contains_key(&frame.0), "no tree has it"),
        PageKind::Anon | PageKind::Object => {
            let refs = page.refs.load(Ordering::Relaxed);
            ensure!(refs == seen.named && refs > 0, "{} slots name it", seen.named);
            let mappings = mmu.mappings(frame);
            ensure!(mappings == seen.mapped, "{} entries map it, {mappings} known", seen.mapped);
        }
        PageKind::Kernel | PageKind::Host => {
            ensure!(seen.named == 0, "{} slots name it", seen.named);
            let mappings = mmu.mappings(frame);
            ensure!(mappings == seen.mapped, "{} entries map it, {mappings} known", seen.mapped);
        }
        PageKind::Wired | PageKind::Record | PageKind::Zone => {
            ensure!(seen.named == 0, "{} slots name it", seen.named);
        }
    }
    let in_place = free.contains_key(&frame.0) == is_free(kind);
    ensure!(in_place, "it is on a free list, or should be");
    Ok(())
}

fn is_free(kind: PageKind) -> bool {
    matches!(
        kind,
        PageKind::FreeTail | PageKind::Free | PageKind::Cached | PageKind::Zeroed | PageKind::Limbo
    )
}

fn unused(seen: &Seen) -> Result<(), Broken> {
    ensure!(seen.named == 0, "it is free, and {} slots name it", seen.named);
    ensure!(seen.mapped == 0, "it is free, and {} entries map it", seen.mapped);
    Ok(())
}
