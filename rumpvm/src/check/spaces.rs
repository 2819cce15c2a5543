//! Spaces: areas, and every page-table entry against what map, amap and object say.

use alloc::collections::BTreeMap;
use alloc::format;
use core::ops::ControlFlow;

use rumpvm_arch::{Format, Frame, PAGE_SIZE, Prot, Pte, VirtAddr, span, user_entries};
use rumpvm_platform::Platform;

use super::{Broken, Findings, ensure};
use crate::map::{Area, AreaFlags};
use crate::phys::PageKind;
use crate::pmap::Pmap;
use crate::process::Processes;
use crate::radix::Slot;
use crate::space::Space;
use crate::sync::Ordering;

pub(super) fn check<P: Platform>(vm: &Processes<P>, found: &mut Findings) -> Result<(), Broken> {
    let mut broken = Ok(());
    vm.for_each_space(|space| {
        if broken.is_ok() {
            let name = |broken: Broken| Broken(format!("space {}: {broken}", space.id()));
            broken = one(vm, space, found).map_err(name);
        }
    });
    broken?;
    let mut promised = 0;
    vm.for_each_space(|space| promised += space.promised_bytes() / PAGE_SIZE);
    vm.objects.for_each(|object| promised += object.promised());
    let counted = vm.objects.promises().pages();
    ensure!(promised == counted, "{promised} pages are promised, counted {counted}");
    let (mut private, mut writers) = (0, BTreeMap::<u64, u64>::new());
    vm.for_each_space(|space| {
        let _: ControlFlow<()> = space.areas(vm, |area| {
            let writes = area.is_shared() && area.max_prot.contains(Prot::WRITE);
            if let Some(object) = area.object.as_ref().filter(|_| writes) {
                *writers.entry(object.id()).or_default() += 1;
            }
            ControlFlow::Continue(())
        });
    });
    let mut wrong = None;
    vm.objects.for_each(|object| {
        let (there, known) = (writers.get(&object.id()).copied().unwrap_or(0), object.writers());
        if there != known {
            wrong = Some((object.id(), there, known));
        }
    });
    ensure!(wrong.is_none(), "object, shared areas to store through, known to it: {wrong:?}");
    vm.for_each_space(|space| private += private_areas(vm, space).values().sum::<u64>());
    let listed = found.listed_areas;
    ensure!(private == listed, "{private} private areas of objects, which know of {listed}");
    for (frame, seen) in &found.tables {
        let page = vm.mmu.phys.page(Frame(*frame));
        let refs = page.refs.load(Ordering::Relaxed);
        ensure!(refs == seen.named, "table {frame:#x} is named {} times: {page:?}", seen.named);
    }
    Ok(())
}

fn one<P: Platform>(
    vm: &Processes<P>,
    space: &Space<P>,
    found: &mut Findings,
) -> Result<(), Broken> {
    ensure!(space.users() > 0, "it is listed without a user");
    ensure!(!space.is_locked(), "its map is locked");
    areas(vm, space)?;
    mappers(vm, space)?;
    private_pages(vm, space)?;
    let root = space.pmap().root();
    found.tables.entry(root.0).or_default().named += 1;
    table(vm, space, found, (root, P::Format::LEVELS, VirtAddr(0), true))
}

/// V1 and V3 of `map`, and its counters.
fn areas<P: Platform>(vm: &Processes<P>, space: &Space<P>) -> Result<(), Broken> {
    let (mut end, mut count) = (VirtAddr(0), 0);
    let [mut mapped, mut locked, mut data, mut promised] = [0; 4];
    let walked = space.areas(vm, |area| match area_is_sound::<P>(area, end) {
        Ok(()) => {
            end = area.range.end;
            count += 1;
            mapped += area.range.length();
            if area.flags.contains(AreaFlags::LOCKED) {
                locked += area.range.length();
            }
            if area.is_data() {
                data += area.range.length();
            }
            if area.accounted {
                promised += area.range.length();
            }
            ControlFlow::Continue(())
        }
        Err(broken) => ControlFlow::Break(broken),
    });
    if let ControlFlow::Break(broken) = walked {
        return Err(broken);
    }
    ensure!(count == space.area_count(), "{count} areas, counted {}", space.area_count());
    let counted = space.counted();
    let there = [mapped, locked, data, promised];
    ensure!(counted == there, "mapped, locked, data, promised: {there:?}, counted {counted:?}");
    Ok(())
}

fn area_is_sound<P: Platform>(area: &Area<P>, floor: VirtAddr) -> Result<(), Broken> {
    let range = area.range;
    ensure!(!range.is_empty() && range.start >= floor, "area {range} is not behind {floor}");
    ensure!(range.end <= P::Format::USER_END, "area {range} leaves user memory");
    let aligned = range.start.is_page_aligned() && range.end.is_page_aligned();
    ensure!(aligned && area.offset.is_multiple_of(PAGE_SIZE), "area {range} is not aligned");
    ensure!(area.max_prot.contains(area.prot), "area {range} has more rights than it may");
    match &area.object {
        Some(object) => ensure!(object.users() > 0, "area {range} maps an object without users"),
        None => ensure!(!area.is_shared(), "area {range} is shared and has no object"),
    }
    Ok(())
}

/// Private areas of each object, by the object's number.
fn private_areas<P: Platform>(vm: &Processes<P>, space: &Space<P>) -> BTreeMap<u64, u64> {
    let mut areas = BTreeMap::new();
    let _: ControlFlow<()> = space.areas(vm, |area| {
        if let Some(object) = area.object.as_ref().filter(|_| !area.is_shared()) {
            *areas.entry(object.id()).or_default() += 1;
        }
        ControlFlow::Continue(())
    });
    areas
}

/// Every object knows how many private areas of it this space has.
fn mappers<P: Platform>(vm: &Processes<P>, space: &Space<P>) -> Result<(), Broken> {
    let areas = private_areas(vm, space);
    let mut wrong = None;
    vm.objects.for_each(|object| {
        let there = areas.get(&object.id()).copied().unwrap_or(0);
        let known = object.mappers().areas(space.id());
        if there != known {
            wrong = Some((object.id(), there, known));
        }
    });
    ensure!(wrong.is_none(), "object, private areas, known to it: {wrong:?}");
    Ok(())
}

/// A private page lies in a private area, and not beyond the end of what that maps.
fn private_pages<P: Platform>(vm: &Processes<P>, space: &Space<P>) -> Result<(), Broken> {
    let pin = vm.mmu.phys.epoch.pin();
    let everything = rumpvm_arch::VirtRange::new(VirtAddr(0), VirtAddr(u64::MAX));
    let mut stray = None;
    space.amap().for_each(&vm.mmu.phys, &pin, everything, |page, frame| {
        let at = VirtAddr::of_page(page);
        let area = space.areas.get(&pin, at.0);
        let inside = |area: &Area<P>| match &area.object {
            Some(object) => area.object_index(page) < object.page_count(),
            None => true,
        };
        let fits = area.is_some_and(|area| !area.is_shared() && inside(area))
            && vm.mmu.phys.page(frame).kind() == PageKind::Anon;
        if !fits {
            stray = Some((at, frame));
        }
        fits
    });
    ensure!(stray.is_none(), "private page {stray:?} is in no private area, or no private page");
    let mut stray = None;
    space.amap().slots().for_each_slot(&vm.mmu.phys, &pin, (0, u64::MAX), |page, slot| {
        let at = VirtAddr::of_page(page);
        let fits =
            slot != Slot::Guard || (space.areas.get(&pin, at.0).is_some() && space.has_guards());
        stray = (!fits).then_some(at);
        fits
    });
    ensure!(stray.is_none(), "the guard at {stray:?} is in no area, or nobody looks for it");
    Ok(())
}

/// A table and all below it; `writable` says whether every entry above lets stores pass.
fn table<P: Platform>(
    vm: &Processes<P>,
    space: &Space<P>,
    found: &mut Findings,
    (frame, level, base, writable): (Frame, usize, VirtAddr, bool),
) -> Result<(), Broken> {
    let page = vm.mmu.phys.page(frame);
    ensure!(page.kind() == PageKind::Table && !page.is_stray(), "table at {base}: {page:?}");
    let mut live = 0;
    let mut broken = Ok(());
    let sharers = page.refs.load(Ordering::Relaxed);
    ensure!(sharers == 1 || !writable, "shared table at {base} can be stored through");
    let first_visit = found.tables.get(&frame.0).is_none_or(|seen| seen.mapped == 0);
    found.tables.entry(frame.0).or_default().mapped = 1;
    let slots = user_entries::<P::Format>(level);
    Pmap::for_each_entry(&vm.mmu, frame, slots, |slot, entry| {
        live += 1;
        if broken.is_err() {
            return;
        }
        let at = base + slot as u64 * span::<P::Format>(level);
        broken = if !entry.is_present() {
            Err(Broken(format!("the entry for {at} is litter: {entry:?}")))
        } else if level > 1 {
            found.tables.entry(entry.frame().0).or_default().named += 1;
            let passes = level == P::Format::LEVELS && !P::Format::ROOT_HAS_RIGHTS;
            let writable = writable && (passes || entry.is_writable());
            table(vm, space, found, (entry.frame(), level - 1, at, writable))
        } else {
            if first_visit {
                found.frame(entry.frame()).mapped += 1;
            }
            let place = (frame, slot);
            leaf_entry(vm, space, at, entry, writable, place)
        };
    });
    broken?;
    let counted = page.live.load(Ordering::Relaxed);
    ensure!(counted == live, "table at {base} has {live} entries, counted {counted}");
    debug_assert!(live as usize <= slots);
    Ok(())
}

/// Invariant 1 for one entry.
fn leaf_entry<P: Platform>(
    vm: &Processes<P>,
    space: &Space<P>,
    at: VirtAddr,
    entry: Pte,
    writable: bool,
    (table, slot): (Frame, usize),
) -> Result<(), Broken> {
    let phys = &vm.mmu.phys;
    let pin = phys.epoch.pin();
    let Some(area) = space.areas.get(&pin, at.0) else {
        return Err(Broken(format!("{at} is mapped to {entry:?} outside every area")));
    };
    let frame = entry.frame();
    let there = space.amap().get(phys, &pin, at.page());
    ensure!(there != Slot::Guard, "{at} is mapped to {entry:?}, and there is a guard");
    let private = match there {
        Slot::Page(frame) if !area.is_shared() => Some(frame),
        _ => None,
    };
    let expected = match (private, &area.object) {
        (Some(frame), _) => Some(frame),
        (None, Some(object)) => match object.device() {
            Some(first) => Some(Frame(first.0 + area.object_index(at.page()) as u32)),
            None => match object.pages().get(phys, &pin, area.object_index(at.page())) {
                Slot::Page(frame) => Some(frame),
                Slot::Empty | Slot::Guard => None,
            },
        },
        (None, None) => Some(phys.zero_page()),
    };
    ensure!(expected == Some(frame), "{at} is mapped to {entry:?}, the map says {expected:?}");
    let has = entry.prot::<P::Format>();
    let store = writable && has.contains(Prot::WRITE);
    let own = private.is_none_or(|frame| phys.page(frame).refs.load(Ordering::Relaxed) == 1);
    let sole = space.amap().slots().is_sole(phys, at.page()) && own && private.is_some();
    let may_store = area.prot.contains(Prot::WRITE) && (area.is_shared() || sole);
    ensure!(!store || may_store, "{at} can be stored to: {entry:?} in {:?}", area.prot);
    let fetch = P::Format::HAS_NX && has.contains(Prot::EXEC);
    ensure!(!fetch || area.prot.contains(Prot::EXEC), "{at} can be executed: {entry:?}");
    ensure!(!area.prot.is_empty(), "{at} is mapped to {entry:?} without any right to it");
    let known = !vm.mmu.is_tracked(frame) || vm.mmu.is_mapped_at(frame, table, slot);
    ensure!(known, "{at} is mapped to {entry:?}, which the reverse map does not know");
    Ok(())
}
