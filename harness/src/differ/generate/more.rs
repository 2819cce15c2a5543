//! Steps about what several mappings or processes share, and about limits: sizes, seals, segments, the heap.
//!
//! Owns:  nothing.

use rand::RngExt;

use super::Dice;
use crate::differ::op::{
    Call, FILE, HEAP, LIMIT_AREAS, MEMORY, OBJECT_PAGES, Op, PAGE, SEGMENTS, WINDOW, address,
};

/// Most pages of a segment: what begins in the window ends within what is looked at.
const SEGMENT_PAGES: u64 = 6;

const REMOVE: u64 = 0;
const SET: u64 = 1;
const STATUS: u64 = 2;
const LOCK: u64 = 11;
const UNLOCK: u64 = 12;

/// What is known of the segments of a program.
#[derive(Default)]
pub(super) struct Segments {
    /// Whether it has any.
    pub(super) used: bool,
    made: bool,
    /// Where attachments went, if they succeeded.
    at: Vec<u64>,
}

impl Dice<'_> {
    pub(super) fn truncate(&mut self) -> Op {
        let object = self.one_of(&[FILE, MEMORY]);
        let pages = self.random.random_range(0..OBJECT_PAGES + 4);
        let rest = self.one_of(&[0, 0, 0x80, 0x800, 0xff8]);
        Op::new(self.now, Call::Truncate, &[object, pages * PAGE + rest])
    }

    /// fallocate(2): room, or a hole; where a file ends it ends where [`Self::truncate`] may end it.
    pub(super) fn fallocate(&mut self) -> Op {
        let modes: &[u64] =
            if self.allocates { &[0, 0, 0, 1, 3, 3, 2] } else { &[3, 3, 3, 8, 0x20] };
        let mode = self.one_of(modes);
        let first = self.random.random_range(0..OBJECT_PAGES + 2);
        let pages = self.random.random_range(1..5);
        let rest = |dice: &mut Self| dice.one_of(&[0, 0, 0, 0x80, 0x800, 0xff8]);
        let offset = first * PAGE + rest(self);
        let (offset, length) = match self.random.random_range(0..40) {
            0 => (offset, self.one_of(&[0, 1 << 63, u64::MAX])),
            1 => (1 << 63, PAGE),
            2 => ((1 << 63) - PAGE, 2 * PAGE),
            _ => (offset, first * PAGE + pages * PAGE + rest(self) - offset),
        };
        Op::new(self.now, Call::Fallocate, &[mode, offset, length])
    }

    /// Seals that go with one another.
    pub(super) fn seal(&mut self) -> Op {
        let seals = self.one_of(&[1, 2, 2, 4, 4, 6, 16, 16, 0, 64, 8, 8, 8, 32]);
        Op::new(self.now, Call::AddSeals, &[seals])
    }

    /// How much more may be mapped, or how many areas more.
    pub(super) fn limit(&mut self) -> Op {
        let which = self.one_of(self.limits);
        let more = self.one_of(&[0, 1, 4, 8, 16, 32]);
        let more = if which == LIMIT_AREAS { more } else { more * PAGE };
        Op::new(self.now, Call::Limit, &[which, more])
    }

    /// The end of the heap, which meets what is mapped in the window; rarely nonsense.
    pub(super) fn brk(&mut self) -> Op {
        let pages = address(WINDOW.end) - HEAP;
        let at = match self.random.random_range(0..16) {
            0 => self.one_of(&[0, u64::MAX, HEAP - 1, 1 << 47]),
            1 => HEAP,
            2..4 => HEAP + self.random.random_range(0..pages),
            _ => HEAP + self.random.random_range(0..pages) / PAGE * PAGE,
        };
        Op::new(self.now, Call::Brk, &[at])
    }

    /// Two ranges of a process: mostly one's own, for others take few advices.
    pub(super) fn process_madvise(&mut self, (at, length): (u64, u64), advice: i32) -> Op {
        let (next, more) = self.range();
        let mut whose = self.now;
        let mut advice = advice as u32 as u64;
        if self.ground.advises_others && self.chance(3) {
            let other = self.random.random_range(0..self.alive.len());
            whose = self.alive[other];
            if self.chance(2) {
                advice = self.one_of(&[3, 20, 25]);
            }
        }
        let arguments = [at, length, next, more, advice, whose.into()];
        Op::new(self.now, Call::ProcessMadvise, &arguments)
    }

    /// A call of System V's shared memory.
    pub(super) fn segment(&mut self) -> Op {
        let name = self.random.random_range(0..SEGMENTS as u64);
        match self.random.random_range(0..24) {
            _ if !self.segments.made => self.shmget(name),
            0..5 => self.shmget(name),
            5..14 => self.shmat(name),
            14..19 => self.shmdt(),
            _ => self.shmctl(name),
        }
    }

    fn shmget(&mut self, name: u64) -> Op {
        self.segments.made = true;
        let key = self.one_of(&[0, 0, 0, 1, 1, 2]);
        let bytes = match self.random.random_range(0..20) {
            0 => self.one_of(&[0, u64::MAX, 1 << 63]),
            1..6 => self.random.random_range(1..=SEGMENT_PAGES * PAGE),
            _ => self.random.random_range(1..=SEGMENT_PAGES) * PAGE,
        };
        let how = self.one_of(&[0o1000, 0o1000, 0o1000, 0o1000, 0o11000, 0o3000, 0]);
        let mode = self.one_of(&[0o600, 0o600, 0o600, 0o666, 0o400, 0o200, 0o700, 0]);
        Op::new(self.now, Call::Shmget, &[name, key, bytes, how | mode])
    }

    fn shmat(&mut self, name: u64) -> Op {
        let page = self.random.random_range(WINDOW);
        let page = if self.chance(2) { self.hot } else { page };
        let rest = if self.chance(12) { self.one_of(&[1, 0x800, 0xfff]) } else { 0 };
        let at = if self.chance(30) { 0 } else { address(page) + rest };
        let mut flags = self.one_of(&[0, 0o40000, 0o40000]);
        for (flag, one_in) in [(0o10000, 4), (0o20000, 3), (0o100000, 8), (0o1000000, 40)] {
            if self.chance(one_in) {
                flags |= flag;
            }
        }
        self.hot = page;
        self.segments.at.push(address(page));
        Op::new(self.now, Call::Shmat, &[name, at, flags])
    }

    fn shmdt(&mut self) -> Op {
        let at = match self.segments.at.len() {
            0 => address(self.hot),
            _ if self.chance(12) => address(self.hot) + self.one_of(&[0, 1, PAGE]),
            many => self.segments.at[self.random.random_range(0..many)],
        };
        Op::new(self.now, Call::Shmdt, &[at])
    }

    fn shmctl(&mut self, name: u64) -> Op {
        let locks = [REMOVE, REMOVE, STATUS, STATUS, STATUS, SET, LOCK, UNLOCK, 77];
        let most = if self.unlimited { locks.len() } else { locks.len() - 3 };
        let command = self.one_of(&locks[..most]);
        let mode = self.one_of(&[0o600, 0o666, 0o400, 0]);
        Op::new(self.now, Call::Shmctl, &[name, command, mode])
    }
}
