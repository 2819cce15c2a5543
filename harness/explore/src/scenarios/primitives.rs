//! What is built of atomics alone: epochs, events, uses and holds, values of each CPU.

use std::rc::Rc;
use std::sync::Arc;

use rumpvm::sync::tree::Writer;
use rumpvm::sync::{Atomic, Epoch, Event, Hold, Left, Ordering, PerCpu, Ranged, Tree, Uses, fence};
use rumpvm_hosted::explored::{Chance, Settings, Stage};
use rumpvm_platform::CpuId;

use super::handler::Handler;
use crate::{Pc, Scenario};

type Word = Atomic<u32, Pc>;

pub(super) fn table() -> Vec<Scenario> {
    let settings = Settings { frames: 1, ..Settings::default() };
    let scenario =
        |name, report, says, settings, setup| Scenario { name, report, says, settings, setup };
    vec![
        scenario(
            "event",
            "seed 004, wait",
            "two threads sleep until a word is set; it is set and they are woken, or wake for no reason",
            Settings { chances: settings.chances.with(Chance::Wake), ..settings },
            event,
        ),
        scenario(
            "epoch",
            "seed 002",
            "what is unlinked is freed two epochs later, against a reader that pins without a fence",
            settings,
            epoch,
        ),
        scenario(
            "tree-versions",
            "seed 002",
            "a tree is changed three times while a reader looks at what was in it",
            settings,
            versions,
        ),
        scenario(
            "tree-epochs",
            "seed 002",
            "epochs go by while a tree is changed, until what is retired first has long been freed",
            settings,
            epochs,
        ),
        scenario(
            "uses",
            "seed 001",
            "a record is used by whoever gets in, against its last user",
            Settings { cpus: 3, ..settings },
            uses,
        ),
        scenario(
            "per-cpu-tick",
            "#2355",
            "an interrupt changes the value of a CPU that changes it too",
            Settings { ticks: true, ..settings },
            per_cpu,
        ),
    ]
}

fn event(stage: &Stage) {
    let shared: Rc<(Event<Pc>, Word)> = Rc::new((Event::new(), Word::new(0)));
    for cpu in 0..2 {
        let shared = Rc::clone(&shared);
        stage.actor(cpu, "sleeper", move || {
            loop {
                let seen = shared.0.seen();
                if shared.1.load(Ordering::Acquire) > cpu as u32 {
                    return;
                }
                shared.0.wait(seen);
            }
        });
    }
    stage.actor(1, "waker", move || {
        for value in 1..=2 {
            shared.1.store(value, Ordering::Release);
            shared.0.raise();
        }
    });
}

/// Two records and a link to one of them. The link is moved, and what it led to goes when the epoch says so.
fn epoch(stage: &Stage) {
    struct Shared {
        epoch: Epoch<Pc>,
        link: Word,
        alive: [Word; 2],
    }
    let epoch = Epoch::try_new(2).expect("memory for two CPUs");
    let alive = [Word::new(1), Word::new(1)];
    let shared = Rc::new(Shared { epoch, link: Word::new(0), alive });
    let other = Rc::clone(&shared);
    stage.actor(0, "reader", move || {
        for _ in 0..2 {
            let _pin = shared.epoch.pin();
            let at = shared.link.load(Ordering::Acquire) as usize;
            let alive = shared.alive[at].load(Ordering::Relaxed);
            assert_eq!(alive, 1, "a reader sees what has been freed");
        }
    });
    stage.actor(1, "writer", move || {
        other.link.store(1, Ordering::Release);
        // As whoever retires a record does.
        fence::<Pc>();
        let retired = other.epoch.now();
        for _ in 0..3 {
            if other.epoch.advance() >= retired + 2 {
                other.alive[0].store(0, Ordering::Release);
                return;
            }
        }
    });
}

/// A value of a tree that says whether it is alive.
struct Value {
    alive: Word,
}

impl Ranged for Value {
    fn start(&self) -> u64 {
        0
    }
    fn end(&self) -> u64 {
        1
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        assert_eq!(self.alive.swap(0, Ordering::AcqRel), 1, "a value is freed twice");
    }
}

/// A new value in place of the old one, whose version is retired.
fn change(tree: &Tree<Value, Pc>, writer: &mut Writer, epoch: &Epoch<Pc>) {
    let mut edit = tree.edit(writer);
    edit.splice(0, 1, vec![Value { alive: Word::new(1) }]).expect("memory");
    edit.commit(epoch);
}

/// Looks at the value of the moment.
fn look(tree: &Tree<Value, Pc>, epoch: &Epoch<Pc>) {
    let pin = epoch.pin();
    let value = tree.get(&pin, 0).expect("there is one in every version");
    let alive = value.alive.load(Ordering::Acquire);
    assert_eq!(alive, 1, "a reader sees what has been freed");
}

/// A tree with one value, and its clock; both end when nobody runs any more.
fn planted(stage: &Stage) -> (Rc<Tree<Value, Pc>>, Writer, Rc<Epoch<Pc>>) {
    let epoch = Rc::new(Epoch::<Pc>::try_new(2).expect("memory for two CPUs"));
    let (tree, mut writer) = Tree::<Value, Pc>::new();
    change(&tree, &mut writer, &epoch);
    let tree = Rc::new(tree);
    let all = (Rc::clone(&tree), Rc::clone(&epoch));
    stage.finally(move || drop(all));
    (tree, writer, epoch)
}

/// Each change retires the version before it: several within one epoch, and within one look of the reader.
fn versions(stage: &Stage) {
    let (tree, mut writer, epoch) = planted(stage);
    let (seen, clock) = (Rc::clone(&tree), Rc::clone(&epoch));
    stage.actor(0, "reader", move || {
        for _ in 0..2 {
            look(&seen, &clock);
        }
    });
    stage.actor(1, "writer", move || {
        for _ in 0..3 {
            change(&tree, &mut writer, &epoch);
        }
    });
}

/// Each change in an epoch of its own, if the reader lets it: the bags of the first ones are used again.
fn epochs(stage: &Stage) {
    let (tree, mut writer, epoch) = planted(stage);
    let (seen, clock) = (Rc::clone(&tree), Rc::clone(&epoch));
    stage.actor(0, "reader", move || {
        look(&seen, &clock);
        clock.advance();
        look(&seen, &clock);
    });
    stage.actor(1, "writer", move || {
        for _ in 0..8 {
            change(&tree, &mut writer, &epoch);
            epoch.advance();
        }
    });
}

/// A record that knows its two ends.
struct Record {
    uses: Uses<Pc>,
    ended: Word,
    dropped: Rc<Word>,
}

impl Record {
    fn leave(&self) {
        assert_eq!(self.ended.load(Ordering::Acquire), 0, "what is used has ended");
        if self.uses.leave() == Left::Last {
            assert_eq!(self.ended.fetch_add(1, Ordering::AcqRel), 0, "it ends twice");
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The run has failed; a second panic would end the explorer.
            return;
        }
        assert_eq!(self.ended.load(Ordering::Acquire), 1, "its memory goes before it has ended");
        self.dropped.fetch_add(1, Ordering::AcqRel);
    }
}

fn uses(stage: &Stage) {
    let dropped = Rc::new(Word::new(0));
    let record = Record { uses: Uses::one(), ended: Word::new(0), dropped: Rc::clone(&dropped) };
    let record: Hold<_, Pc> = Hold::try_new(record).expect("memory for a record");
    for cpu in 1..3 {
        let record = record.clone();
        stage.actor(cpu, "looks", move || {
            if record.uses.try_add() {
                record.leave();
            }
        });
    }
    stage.actor(0, "leaves", move || record.leave());
    stage.finally(move || assert_eq!(dropped.load(Ordering::Acquire), 1, "memory goes once"));
}

fn per_cpu(stage: &Stage) {
    let words = PerCpu::<[Word; 2], Pc>::try_new(2, |_| [Word::new(0), Word::new(0)]);
    let words = Arc::new(words.expect("memory for two"));
    let (handled, seen) = (Arc::clone(&words), Arc::clone(&words));
    let change = |words: &PerCpu<[Word; 2], Pc>| {
        let mine = words.mine();
        assert_eq!(mine[0].get(), mine[1].get(), "an interrupt sees half of a change");
        mine[0].set(mine[0].get() + 1);
        mine[1].set(mine[1].get() + 1);
    };
    Handler::connect(stage, move || change(&handled));
    stage.actor(0, "thread", move || {
        for _ in 0..2 {
            change(&words);
        }
    });
    stage.actor(1, "reader", move || {
        let before = seen.of(CpuId(0))[0].load(Ordering::Relaxed);
        assert!(seen.of(CpuId(0))[0].load(Ordering::Relaxed) >= before);
    });
}
