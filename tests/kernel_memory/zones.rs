//! Zones: items of one size.

use std::collections::BTreeSet;
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rumpvm::NoMemory;
use rumpvm::zone::{Spec, SpecError, Zone};
use rumpvm_platform::Scarce;

use crate::machine::{Dice, Machine, alone};

#[test]
fn items_are_disjoint_and_aligned_and_every_frame_comes_back() {
    for (size, align) in
        [(1, 1), (24, 8), (64, 64), (100, 4), (1500, 16), (4096, 4096), (10_000, 32)]
    {
        alone(move |vm| {
            let phys = &vm.mmu.phys;
            let mut zone = Zone::try_new(phys, Spec::new("items", size, align)).unwrap();
            let mut items = BTreeSet::new();
            for _ in 0..700 {
                let at = zone.alloc(phys).unwrap().as_ptr() as usize;
                assert!(at.is_multiple_of(align as usize));
                let before = items.range(..at + size as usize).next_back();
                assert!(before.is_none_or(|before| before + size as usize <= at));
                items.insert(at);
            }
            zone.check(phys).unwrap();
            let usage = zone.usage();
            assert_eq!((usage.out, usage.taken), (700, 700));
            assert!(usage.out + usage.cached <= usage.items);
            free(&zone, phys, items);
            assert_eq!(zone.usage().out, 0);
            zone.check(phys).unwrap();
            zone.close(phys).unwrap();
            assert_eq!(zone.usage().frames, 0);
        });
    }
}

/// Frees items by address.
fn free(
    zone: &Zone<crate::machine::Home>,
    phys: &rumpvm::phys::Phys<crate::machine::Home>,
    items: impl IntoIterator<Item = usize>,
) {
    for at in items {
        let item = NonNull::new(std::ptr::with_exposed_provenance_mut(at)).unwrap();
        // SAFETY: the item is the caller's, who took it from this zone.
        unsafe { zone.free(phys, item) };
    }
}

/// Takes an item; its address.
fn take(
    zone: &Zone<crate::machine::Home>,
    phys: &rumpvm::phys::Phys<crate::machine::Home>,
) -> Result<usize, NoMemory> {
    Ok(zone.alloc(phys)?.as_ptr().expose_provenance())
}

#[test]
fn a_zone_of_impossible_items_is_refused() {
    alone(|vm| {
        let refused =
            |size, align| Zone::try_new(&vm.mmu.phys, Spec::new("none", size, align)).unwrap_err();
        assert_eq!(refused(0, 8), SpecError::Size);
        // The largest item is half of the largest slab.
        let mut zone = Zone::try_new(&vm.mmu.phys, Spec::new("large", 1 << 14, 8)).unwrap();
        zone.close(&vm.mmu.phys).unwrap();
        assert_eq!(refused((1 << 14) + 1, 8), SpecError::Size);
        assert_eq!(refused(8, 24), SpecError::Alignment);
        assert_eq!(refused(8, 0), SpecError::Alignment);
        assert_eq!(refused(8, 8192), SpecError::Alignment);
    });
}

static CONSTRUCTED: AtomicU64 = AtomicU64::new(0);
static DESTROYED: AtomicU64 = AtomicU64::new(0);

#[test]
fn an_item_in_use_is_constructed_and_what_is_constructed_is_destroyed() {
    extern "C" fn construct(item: NonNull<c_void>) {
        // SAFETY: a constructor is given an item of its zone, here of 8 bytes.
        unsafe { item.cast::<u64>().write(0x5eed) };
        CONSTRUCTED.fetch_add(1, Ordering::Relaxed);
    }
    extern "C" fn destroy(item: NonNull<c_void>) {
        // SAFETY: as in `construct`.
        assert_eq!(unsafe { item.cast::<u64>().read() }, 0x5eed);
        DESTROYED.fetch_add(1, Ordering::Relaxed);
    }
    alone(|vm| {
        let phys = &vm.mmu.phys;
        let spec = Spec::new("made", 8, 8);
        let spec = Spec { construct: Some(construct), destroy: Some(destroy), ..spec };
        let mut zone = Zone::try_new(phys, spec).unwrap();
        for round in 0..4 {
            let items: Vec<usize> = (0..300).map(|_| take(&zone, phys).unwrap()).collect();
            for at in &items {
                let item = std::ptr::with_exposed_provenance::<u64>(*at);
                // SAFETY: the item is ours, and has been written by its constructor.
                assert_eq!(unsafe { item.read() }, 0x5eed, "round {round}");
            }
            free(&zone, phys, items);
        }
        zone.close(phys).unwrap();
        let (made, gone) = (CONSTRUCTED.load(Ordering::Relaxed), DESTROYED.load(Ordering::Relaxed));
        assert!(made >= 300 && made == gone, "{made} made, {gone} destroyed");
    });
}

#[test]
fn a_limit_holds_and_what_comes_back_is_handed_out_again() {
    alone(|vm| {
        let phys = &vm.mmu.phys;
        let spec = Spec { limit: Some(50), ..Spec::new("few", 512, 8) };
        let mut zone = Zone::try_new(phys, spec).unwrap();
        let mut items = vec![];
        while let Ok(item) = take(&zone, phys) {
            items.push(item);
        }
        let most = zone.usage().items;
        assert!(items.len() as u64 == most && (50..66).contains(&most), "{most}");
        assert_eq!(zone.usage().failed, 1);
        free(&zone, phys, items.split_off(20));
        items.extend((20..most).map(|_| take(&zone, phys).unwrap()));
        assert_eq!(take(&zone, phys), Err(NoMemory));
        free(&zone, phys, items);
        zone.close(phys).unwrap();
    });
}

#[test]
fn a_zone_with_items_in_use_says_how_many_and_where_one_was_allocated() {
    alone(|vm| {
        let phys = &vm.mmu.phys;
        let mut zone = Zone::try_new(phys, Spec::new("kept", 48, 8)).unwrap();
        let kept = zone.alloc(phys).unwrap();
        let line = line!() - 1;
        let other: Vec<usize> = (0..100).map(|_| take(&zone, phys).unwrap()).collect();
        free(&zone, phys, other);

        let in_use = zone.close(phys).unwrap_err();

        assert_eq!(in_use.items, 1);
        if cfg!(debug_assertions) {
            assert!(in_use.to_string().contains(&format!("zones.rs:{line}")), "{in_use}");
        }
        // SAFETY: it was taken above.
        unsafe { zone.free(phys, kept) };
        zone.close(phys).unwrap();
    });
}

#[test]
fn what_is_free_goes_back_when_it_is_asked_for() {
    alone(|vm| {
        let phys = &vm.mmu.phys;
        let mut zone = Zone::try_new(phys, Spec::new("bursts", 256, 8)).unwrap();
        let before = phys.free_frames();
        let items: Vec<usize> = (0..4000).map(|_| take(&zone, phys).unwrap()).collect();
        assert!(zone.usage().batch > 4, "a zone that is used has larger batches");
        free(&zone, phys, items);
        let kept = zone.usage().cached;
        assert!((100..1500).contains(&kept), "{kept} of 4000 are kept for the next burst");
        zone.drain(phys);
        assert_eq!(phys.free_frames(), before);
        zone.close(phys).unwrap();
    });
}

#[test]
fn a_zone_is_closed_with_what_another_cpu_has_in_its_magazine() {
    let machine = Machine::new(32 << 20, 2);
    let before = machine.free_frames();
    let mut zone = machine.on(1, |vm| {
        let phys = &vm.mmu.phys;
        let zone = Zone::try_new(phys, Spec::new("left", 64, 8)).unwrap();
        let items: Vec<usize> = (0..600).map(|_| take(&zone, phys).unwrap()).collect();
        free(&zone, phys, items);
        zone
    });
    machine.on(0, move |vm| {
        // More than one batch.
        assert!(zone.usage().cached > 254, "{:?}", zone.usage());
        zone.close(&vm.mmu.phys).unwrap();
    });
    assert_eq!(machine.free_frames(), before);
    machine.check();
}

#[test]
fn items_freed_on_other_cpus_are_nobody_elses_meanwhile() {
    let machine = Machine::new(32 << 20, 4);
    let before = machine.free_frames();
    let zone = machine.on(0, |vm| Zone::try_new(&vm.mmu.phys, Spec::new("shared", 40, 8)).unwrap());
    let zone = Arc::new(zone);
    let passed = Arc::new(Mutex::new(Vec::<(usize, u64)>::new()));
    let (used, on_way) = (Arc::clone(&zone), Arc::clone(&passed));
    machine.on_each(4, move |phys, cpu| {
        let mut dice = Dice(cpu.into());
        for round in 0..20_000 {
            if dice.roll(2) == 0 {
                let at = take(&used, phys).unwrap();
                let mark = u64::from(cpu) << 32 | round;
                // SAFETY: the item is ours, and 40 bytes long.
                unsafe { std::ptr::with_exposed_provenance_mut::<[u64; 5]>(at).write([mark; 5]) };
                on_way.lock().unwrap().push((at, mark));
            } else {
                let next = on_way.lock().unwrap().pop();
                let Some((at, mark)) = next else { continue };
                // SAFETY: who put it there was its only user.
                let seen = unsafe { std::ptr::with_exposed_provenance::<[u64; 5]>(at).read() };
                assert_eq!(seen, [mark; 5]);
                free(&used, phys, [at]);
            }
        }
    });
    let mut zone = Arc::into_inner(zone).unwrap();
    machine.on(0, move |vm| {
        let phys = &vm.mmu.phys;
        zone.check(phys).unwrap();
        let left = std::mem::take(&mut *passed.lock().unwrap());
        assert_eq!(zone.usage().out, left.len() as u64);
        free(&zone, phys, left.into_iter().map(|(at, _)| at));
        zone.close(phys).unwrap();
    });
    assert_eq!(machine.free_frames(), before);
    machine.check();
}

#[test]
fn a_frame_that_is_refused_at_any_moment_costs_the_zone_nothing() {
    for nth in 1..60 {
        for lasting in [false, true] {
            alone(move |vm| {
                let phys = &vm.mmu.phys;
                let mut zone = Zone::try_new(phys, Spec::new("poor", 1300, 8)).unwrap();
                let failures = vm.platform().failures();
                if lasting {
                    failures.fail_from(Scarce::Frame, nth);
                } else {
                    failures.fail_nth(Scarce::Frame, nth);
                }
                let mut items = vec![];
                for _ in 0..100 {
                    items.extend(take(&zone, phys));
                    if items.len() > 60 {
                        free(&zone, phys, items.drain(..40));
                    }
                }
                failures.fail_nth(Scarce::Frame, 0);
                zone.check(phys).unwrap();
                assert!(take(&zone, phys).map(|item| items.push(item)).is_ok());
                free(&zone, phys, items);
                zone.close(phys).unwrap();
            });
        }
    }
}
