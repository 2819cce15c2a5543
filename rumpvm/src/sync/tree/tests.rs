//! The tree against `BTreeMap`, with every allocation made to fail.

extern crate std;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::vec::Vec;

use rumpvm_platform::{CpuId, Scarce, Seam, Site};

use super::*;
use crate::NoMemory;
use crate::sync::Epoch;

std::thread_local! {
    /// Heap allocations that still succeed.
    static FUEL: Cell<u64> = const { Cell::new(u64::MAX) };
}

struct TestSeam;

impl Seam for TestSeam {
    fn cpu_id() -> CpuId {
        CpuId(0)
    }
    fn fails(_: Scarce, _: Site) -> bool {
        FUEL.with(|fuel| match fuel.get() {
            0 => true,
            u64::MAX => false,
            left => {
                fuel.set(left - 1);
                false
            }
        })
    }
}

/// A range that counts how many of it are alive.
struct Value {
    start: u64,
    end: u64,
    tag: u64,
    alive: Rc<Cell<i64>>,
}

impl Value {
    fn new(start: u64, end: u64, tag: u64, alive: &Rc<Cell<i64>>) -> Self {
        alive.set(alive.get() + 1);
        Self { start, end, tag, alive: Rc::clone(alive) }
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.alive.set(self.alive.get() - 1);
    }
}

impl Ranged for Value {
    fn start(&self) -> u64 {
        self.start
    }
    fn end(&self) -> u64 {
        self.end
    }
}

/// A small xorshift: the tests of this crate bring no dependency.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

type Model = BTreeMap<u64, (u64, u64)>;

fn contents(tree: &Tree<Value, TestSeam>, epoch: &Epoch<TestSeam>) -> Model {
    let pin = epoch.pin();
    let mut seen = Model::new();
    let mut last = 0;
    let all = tree.visit::<()>(&pin, 0, u64::MAX, |value| {
        assert!(value.start >= last, "values in order");
        last = value.end;
        seen.insert(value.start, (value.end, value.tag));
        ControlFlow::Continue(())
    });
    assert!(all.is_continue());
    seen
}

fn gaps_of(model: &Model, lo: u64, hi: u64, need: u64) -> Vec<(u64, u64)> {
    let mut gaps = Vec::new();
    let mut floor = lo;
    for (start, (end, _)) in model {
        if *start > floor && floor < hi {
            gaps.push((floor, (*start).min(hi)));
        }
        floor = floor.max(*end);
    }
    if floor < hi {
        gaps.push((floor, hi));
    }
    gaps.retain(|(start, end)| start < end && end - start >= need);
    gaps.reverse();
    gaps
}

/// A splice: `lo..hi` of the tree that `model` describes, widened to whole values, with some new ones in it; how the tree
/// is then.
fn random_splice(
    random: &mut Random,
    model: &Model,
    tag: u64,
    alive: &Rc<Cell<i64>>,
) -> (u64, u64, Vec<Value>, Model) {
    // Sometimes a wide splice, so that whole subtrees go.
    let width = if random.below(40) == 0 { 4000 } else { 1 + random.below(60) };
    let mut lo = random.below(8000);
    let mut hi = lo + width;
    for (start, (end, _)) in model {
        if *start < hi && *end > lo {
            lo = lo.min(*start);
            hi = hi.max(*end);
        }
    }
    let mut new = Vec::new();
    let mut expected = model.clone();
    expected.retain(|start, _| *start < lo || *start >= hi);
    let mut at = lo;
    while at + 4 < hi && random.below(3) != 0 {
        let end = at + 1 + random.below(4);
        new.push(Value::new(at, end, tag, alive));
        expected.insert(at, (end, tag));
        at = end + random.below(3);
    }
    (lo, hi, new, expected)
}

#[test]
fn random_splices_agree_with_a_btreemap_and_failed_ones_change_nothing() {
    for seed in 1..=6 {
        random_splices(seed);
    }
}

#[test]
fn several_splices_of_one_edit_are_one_change_or_none() {
    for seed in 1..=3 {
        random_edits(seed);
    }
}

/// Edits of a few splices in one region, so that what one has built the next takes apart; some are abandoned.
fn random_edits(seed: u64) {
    let alive = Rc::new(Cell::new(0));
    let epoch = Epoch::<TestSeam>::try_new(1).unwrap();
    let (tree, mut writer) = Tree::<Value, TestSeam>::new();
    let mut model = Model::new();
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    for round in 0..1000u64 {
        let (mut edit, mut expected) = (tree.edit(&mut writer), model.clone());
        let mut failed = false;
        for _ in 0..1 + random.below(5) {
            let (lo, hi, new, after) = random_splice(&mut random, &expected, round, &alive);
            FUEL.with(|fuel| fuel.set(if random.below(8) == 0 { 2 } else { u64::MAX }));
            failed = edit.splice(lo, hi, new).is_err();
            FUEL.with(|fuel| fuel.set(u64::MAX));
            if failed {
                break;
            }
            expected = after;
            assert_eq!((edit.len(), edit.is_empty()), (expected.len() as u64, expected.is_empty()));
            let mut seen = Model::new();
            let _: ControlFlow<()> = edit.visit(lo, hi, |value| {
                seen.insert(value.start, (value.end, value.tag));
                ControlFlow::Continue(())
            });
            assert!(seen.iter().eq(expected.range(lo..hi)), "what an edit sees of itself");
        }
        if failed || random.below(3) == 0 {
            drop(edit);
        } else {
            edit.commit(&epoch);
            model = expected;
        }
        assert_eq!(contents(&tree, &epoch), model);
        for _ in 0..3 {
            epoch.advance();
        }
        epoch.collect();
        assert_eq!(
            alive.get(),
            model.len() as i64,
            "what was removed is dropped, and nothing else"
        );
    }
    drop(tree);
    assert_eq!(alive.get(), 0);
}

fn random_splices(seed: u64) {
    let alive = Rc::new(Cell::new(0));
    let epoch = Epoch::<TestSeam>::try_new(1).unwrap();
    let (tree, mut writer) = Tree::<Value, TestSeam>::new();
    let mut model = Model::new();
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    for round in 0..3000u64 {
        let (lo, hi, new, expected) = random_splice(&mut random, &model, round, &alive);
        let failing = random.below(3) == 0;
        FUEL.with(|fuel| fuel.set(if failing { random.below(6) } else { u64::MAX }));
        let mut edit = tree.edit(&mut writer);
        let result = edit.splice(lo, hi, new);
        FUEL.with(|fuel| fuel.set(u64::MAX));
        match result {
            Ok(()) => {
                edit.commit(&epoch);
                model = expected;
            }
            Err(NoMemory) => drop(edit),
        }
        assert_eq!(tree.len(), model.len() as u64);
        if round % 16 == 0 {
            assert_eq!(contents(&tree, &epoch), model);
            compare_searches(&tree, &epoch, &model, &mut random);
        }
    }
    for _ in 0..4 {
        epoch.advance();
    }
    epoch.collect();
    assert_eq!(alive.get(), model.len() as i64, "removed values are dropped, kept ones are not");
    drop(tree);
    assert_eq!(alive.get(), 0);
}

fn compare_searches(
    tree: &Tree<Value, TestSeam>,
    epoch: &Epoch<TestSeam>,
    model: &Model,
    random: &mut Random,
) {
    let pin = epoch.pin();
    for _ in 0..20 {
        let key = random.below(9000);
        let below = model.range(..=key).next_back();
        let covering = below.filter(|(_, (end, _))| key < *end).map(|(start, _)| *start);
        assert_eq!(tree.get(&pin, key).map(|value| value.start), covering);
        let next = covering.or_else(|| model.range(key..).next().map(|(start, _)| *start));
        assert_eq!(tree.at_or_after(&pin, key).map(|value| value.start), next);
        let before = model.range(..key).next_back().map(|(start, _)| *start);
        assert_eq!(tree.before(&pin, key).map(|value| value.start), before);
        let (lo, need) = (random.below(4000), 1 + random.below(8));
        let hi = lo + random.below(5000);
        let mut gaps = Vec::new();
        let none = tree.highest_gap::<()>(&pin, (lo, hi), need, |start, end| {
            gaps.push((start, end));
            None
        });
        assert!(none.is_none());
        assert_eq!(gaps, gaps_of(model, lo, hi, need), "gaps in {lo}..{hi} of {need}");
    }
}

#[test]
fn two_splices_of_one_edit_become_visible_together_or_not_at_all() {
    let alive = Rc::new(Cell::new(0));
    let epoch = Epoch::<TestSeam>::try_new(1).unwrap();
    let (tree, mut writer) = Tree::<Value, TestSeam>::new();
    let mut edit = tree.edit(&mut writer);
    edit.splice(0, 10, Vec::from([Value::new(0, 5, 1, &alive), Value::new(5, 10, 1, &alive)]))
        .unwrap();
    edit.splice(0, 5, Vec::new()).unwrap();
    drop(edit);
    assert!(tree.is_empty());
    assert_eq!(alive.get(), 0);

    let mut edit = tree.edit(&mut writer);
    edit.splice(0, 10, Vec::from([Value::new(0, 5, 1, &alive), Value::new(5, 10, 1, &alive)]))
        .unwrap();
    edit.splice(0, 5, Vec::from([Value::new(1, 2, 2, &alive)])).unwrap();
    edit.commit(&epoch);
    assert!(!tree.is_empty());
    assert_eq!(contents(&tree, &epoch), Model::from([(1, (2, 2)), (5, (10, 1))]));
}

#[test]
fn a_pinned_reader_keeps_the_version_that_it_started_in() {
    let alive = Rc::new(Cell::new(0));
    let epoch = Epoch::<TestSeam>::try_new(1).unwrap();
    let (tree, mut writer) = Tree::<Value, TestSeam>::new();
    let mut edit = tree.edit(&mut writer);
    edit.splice(0, 5, Vec::from([Value::new(0, 5, 7, &alive)])).unwrap();
    edit.commit(&epoch);

    let pin = epoch.pin();
    let seen = tree.get(&pin, 3).unwrap();
    for _ in 0..300 {
        let mut edit = tree.edit(&mut writer);
        edit.splice(0, 5, Vec::from([Value::new(0, 5, 8, &alive)])).unwrap();
        edit.commit(&epoch);
    }
    assert_eq!(seen.tag, 7);
    drop(pin);
    for _ in 0..4 {
        epoch.advance();
    }
    epoch.collect();
    assert_eq!(alive.get(), 1);
}

#[test]
fn what_was_removed_last_is_dropped_with_the_clock() {
    let alive = Rc::new(Cell::new(0));
    let epoch = Epoch::<TestSeam>::try_new(1).unwrap();
    let (tree, mut writer) = Tree::<Value, TestSeam>::new();
    for new in [Vec::from([Value::new(0, 5, 1, &alive)]), Vec::new()] {
        let mut edit = tree.edit(&mut writer);
        edit.splice(0, 5, new).unwrap();
        edit.commit(&epoch);
    }
    drop(tree);
    assert_eq!(alive.get(), 1, "a reader may still look at it");
    drop(epoch);
    assert_eq!(alive.get(), 0);
}

#[test]
fn a_tree_that_loses_most_of_its_values_loses_most_of_its_leaves() {
    /// Height of `node`, and leaves below it.
    fn size(node: *mut Head) -> (u16, usize) {
        // SAFETY: nobody else has the tree.
        let (height, len) = unsafe { ((*node).height, (*node).len as usize) };
        // SAFETY: as above; what is higher than a leaf is a branch.
        let child = |at: usize| unsafe { (*node.cast::<Branch>()).child[at] };
        let below = |at: usize| {
            let (lower, leaves) = size(child(at));
            assert_eq!(lower + 1, height, "every leaf is at the same depth (T1)");
            leaves
        };
        (height, if height == 0 { 1 } else { (0..len).map(below).sum() })
    }
    const VALUES: u64 = 16 * 64;
    let alive = Rc::new(Cell::new(0));
    let epoch = Epoch::<TestSeam>::try_new(1).unwrap();
    let (tree, mut writer) = Tree::<Value, TestSeam>::new();
    let all = (0..VALUES).map(|at| Value::new(at, at + 1, 0, &alive)).collect();
    let mut edit = tree.edit(&mut writer);
    edit.splice(0, VALUES, all).unwrap();
    edit.commit(&epoch);
    let now = || size(tree.root.load(Ordering::Acquire));
    assert_eq!(now(), (2, VALUES as usize / 16));
    let mut remove = |at| {
        now();
        let mut edit = tree.edit(&mut writer);
        edit.splice(at, at + 1, Vec::new()).unwrap();
        edit.commit(&epoch);
    };
    (0..VALUES).filter(|at| at % 16 != 0).for_each(&mut remove);
    assert_eq!(tree.len(), VALUES / 16);
    // Sixteen leaves and less have one branch above them.
    assert!(matches!(now(), (1, 4..=16)), "{:?}", now());
    (0..VALUES).step_by(16).for_each(&mut remove);
    assert!(tree.root.load(Ordering::Acquire).is_null());
}

#[test]
fn a_hole_between_two_leaves_is_found_from_two_levels_above() {
    const VALUES: u64 = 16 * 64;
    let alive = Rc::new(Cell::new(0));
    let epoch = Epoch::<TestSeam>::try_new(1).unwrap();
    let (tree, mut writer) = Tree::<Value, TestSeam>::new();
    // The third leaf begins behind the hole.
    let place = |at: u64| if at < 32 { at } else { at + 100 };
    let value = |at| Value::new(place(at), place(at) + 1, 0, &alive);
    let mut edit = tree.edit(&mut writer);
    edit.splice(0, VALUES + 100, (0..VALUES).map(value).collect()).unwrap();
    edit.commit(&epoch);
    let found = tree.highest_gap(&epoch.pin(), (0, VALUES + 100), 100, |lo, hi| Some((lo, hi)));
    assert_eq!(found, Some((32, 132)));
}
