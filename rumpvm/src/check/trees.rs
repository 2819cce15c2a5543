//! Amap and object nodes: live counts, references, and which pages they name.

use alloc::collections::BTreeMap;

use rumpvm_arch::Frame;
use rumpvm_platform::Platform;

use super::{Broken, Findings, ensure};
use crate::phys::PageKind;
use crate::process::Processes;
use crate::radix::Radix;
use crate::sync::Ordering;

/// Follows every tree once, counting who names whom.
pub(super) fn check<P: Platform>(vm: &Processes<P>, found: &mut Findings) -> Result<(), Broken> {
    let mut live = BTreeMap::new();
    vm.for_each_space(|space| follow(vm, space.amap().slots(), found, &mut live));
    let (mut lost, mut mapped_privately) = (None, 0);
    vm.objects.for_each(|object| {
        follow(vm, object.pages(), found, &mut live);
        mapped_privately += object.mappers().total();
        if object.users() == 0 && !object.has_dirty(&vm.mmu) {
            lost = Some(object.id());
        }
    });
    ensure!(lost.is_none(), "object {lost:?} has no user and nothing left to write");
    found.listed_areas = mapped_privately;
    for (frame, seen) in &found.nodes {
        let page = vm.mmu.phys.page(Frame(*frame));
        let (refs, counted) =
            (page.refs.load(Ordering::Relaxed), page.live.load(Ordering::Relaxed));
        let slots = live.get(frame).copied().unwrap_or(0);
        ensure!(page.kind() == PageKind::Node, "node {frame:#x} is {page:?}");
        ensure!(refs == seen.named, "node {frame:#x} is named {} times: {page:?}", seen.named);
        ensure!(counted == slots, "node {frame:#x} has {slots} slots in use: {page:?}");
        ensure!(!page.is_stray(), "node {frame:#x} is linked and stray");
    }
    Ok(())
}

/// Node or page: a frame that is entered is a node, all others are pages.
fn follow<P: Platform>(
    vm: &Processes<P>,
    tree: &Radix<P>,
    found: &mut Findings,
    live: &mut BTreeMap<u32, u32>,
) {
    let phys = &vm.mmu.phys;
    let nodes = core::cell::RefCell::new(&mut found.nodes);
    let frames = &mut found.frames;
    tree.for_each_reference(
        phys,
        &mut |node, slots| live.insert(node.0, slots).is_none(),
        &mut |frame| {
            if phys.page(frame).kind() == PageKind::Node {
                nodes.borrow_mut().entry(frame.0).or_default().named += 1;
            } else {
                frames.entry(frame.0).or_default().named += 1;
            }
        },
    );
}
