//! Programs at random: what a seed and a number stand for.
//!
//! Flow:  seed, number -> dice -> steps, with a look at every process at the end.
//! Owns:  nothing.
//!
//! Most steps are about a few neighbouring pages, so that they meet; one argument in some forty is bad. What is
//! bad is bad enough to be refused: nothing reaches beyond the window, where the host's process itself lies.

mod more;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::Ground;
use super::op::{
    AREAS, BYTES, Call, FETCHED, FILE, FREE, LIMIT_AREAS, LIMIT_DATA, LIMIT_MAPPED, MEMORY,
    NO_OBJECT, OBJECT_PAGES, Op, PAGE, RESIDENT, WINDOW, address,
};
use super::program::{MOST_LOOKS, Program};
use more::Segments;

/// Steps of a program, without the looks at its end.
const STEPS: std::ops::Range<usize> = 30..100;
/// What may be locked in programs that have a limit: so little that every host allows it.
const FEW_LOCKED: u64 = 16 * PAGE;
/// Advice that is tried, if the host knows it, and one that nobody knows.
const ADVICE: [i32; 32] = [
    0, 1, 2, 3, 4, 4, 4, 8, 8, 9, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 18, 19, 20, 21, 22, 23,
    24, 24, 102, 102, 103, 77,
];

/// `MADV_PAGEOUT`.
const PAGEOUT: i32 = 21;
/// One program in so many has nearly as many areas as there may be; it takes the host a quarter of a second.
const CROWDED: u32 = 4000;

/// The program of this number.
pub fn generate(seed: u64, number: u64, processes: u8, ground: &Ground) -> Program {
    let mixed =
        (seed ^ 0x6a09_e667_f3bc_c908).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(number);
    let random = Xoshiro256PlusPlus::seed_from_u64(mixed);
    let dice = Dice {
        random,
        ground,
        hot: WINDOW.start,
        alive: vec![0],
        now: 0,
        stored: 0,
        locks: false,
        unlimited: false,
        limits: &[],
        grows: false,
        stacks: 0,
        segments: Segments::default(),
        heap: false,
        drops: false,
        allocates: false,
    };
    dice.program(processes)
}

struct Dice<'g> {
    random: Xoshiro256PlusPlus,
    ground: &'g Ground,
    /// Where the last range began: half of the time there is more to be done there.
    hot: u64,
    alive: Vec<u8>,
    /// Who runs.
    now: u8,
    stored: u64,
    /// Whether anything is locked; if not, mappings are left behind by `MREMAP_DONTUNMAP`.
    locks: bool,
    /// Whether as much may be locked as one likes.
    unlimited: bool,
    /// What a program limits, if anything.
    limits: &'static [u64],
    /// Whether `PROT_GROWSDOWN` is used: then there is one process and one stack, which is in memory at once, gets no
    /// holes, and can always be stored to.
    grows: bool,
    stacks: u32,
    segments: Segments,
    /// Whether the heap grows and shrinks.
    heap: bool,
    /// Whether there is memory that may go when memory is short, none of which is then paged out.
    drops: bool,
    /// Whether room is made by fallocate(2), and not only holes.
    allocates: bool,
}

impl Dice<'_> {
    fn program(mut self, processes: u8) -> Program {
        let locked = self.locked();
        self.unlimited = locked.is_none();
        self.locks = self.chance(2);
        self.grows = self.chance(6);
        self.limits = self.one_of(&[&[LIMIT_MAPPED], &[LIMIT_DATA], &[LIMIT_MAPPED, LIMIT_DATA]]);
        if self.ground.crowds && self.chance(CROWDED) {
            // What locks what is still to be mapped would lock all of them.
            (self.limits, self.locks) = (&[LIMIT_AREAS], false);
        }
        self.heap = self.ground.heap && self.chance(3) && !self.limits.contains(&LIMIT_DATA);
        self.drops = self.ground.droppable && self.chance(2);
        self.allocates = self.chance(5);
        self.segments.used = self.ground.segments && self.chance(4);
        if self.grows {
            (self.heap, self.segments.used) = (false, false);
        }
        let processes = if self.grows { 1 } else { self.random.random_range(1..=processes) };
        let mut ops = Vec::new();
        if self.limits == [LIMIT_AREAS] {
            let room = self.random.random_range(0..12);
            ops.push(Op::new(self.now, Call::Limit, &[LIMIT_AREAS, room]));
        }
        for _ in 0..self.random.random_range(STEPS) {
            if self.chance(10) {
                let who = self.random.random_range(0..self.alive.len());
                self.now = self.alive[who];
            }
            let looks = ops.iter().filter(|op: &&Op| op.call == Call::Look).count();
            let room = looks + self.alive.len() < MOST_LOOKS;
            ops.push(self.step(processes, room));
        }
        for process in self.alive {
            ops.push(Op::new(process, Call::Look, &[AREAS | RESIDENT | BYTES]));
        }
        Program { locked, ops }
    }

    fn locked(&mut self) -> Option<u64> {
        let most = self.ground.most_locked;
        let limit = match self.random.random_range(0..20) {
            0 => Some(0),
            1..10 => Some(FEW_LOCKED),
            _ => most,
        };
        limit.map(|limit| limit.min(most.unwrap_or(limit)))
    }

    fn chance(&mut self, one_in: u32) -> bool {
        self.random.random_range(0..one_in) == 0
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.random.random_range(0..choices.len())]
    }

    fn step(&mut self, processes: u8, room: bool) -> Op {
        let now = self.now;
        match self.random.random_range(0..224) {
            0..36 => self.mmap(),
            36..44 if !self.grows => self.on_range(Call::Munmap),
            44..60 => {
                let ((at, length), mut prot) = (self.range(), self.prot());
                if self.chance(30) {
                    prot |= self.one_of(&[8, 0x10, 0x0200_0000, 0x0300_0000]);
                } else if self.grows && self.chance(3) {
                    prot |= 0x0100_0000;
                }
                Op::new(now, Call::Mprotect, &[at, length, prot])
            }
            60..76 if !self.grows => self.mremap(),
            76..96 => {
                let ((at, length), advice) = (self.range(), self.advice());
                if self.ground.advises_itself && self.chance(8) && advice != FREE {
                    return self.process_madvise((at, length), advice);
                }
                // Up to which page `MADV_FREE` got cannot be seen: one page at a time.
                let length = if advice == FREE { PAGE } else { length };
                Op::new(now, Call::Madvise, &[at, length, advice as u32 as u64])
            }
            96..99 => {
                let ((at, length), flags) =
                    (self.range(), self.one_of(&[0, 1, 2, 4, 4, 6, 5, 3, 8]));
                Op::new(now, Call::Msync, &[at, length, flags])
            }
            99..102 => self.on_range(Call::Mincore),
            102..104 if self.locks => self.on_range(Call::Mlock),
            104..106 if self.locks => self.lock_more(),
            106..109 if self.locks => self.on_range(Call::Munlock),
            109..113 => self.truncate(),
            113 if !self.grows => self.limit(),
            114..116 => self.remap_file_pages(),
            116..140 => Op::new(now, Call::Load, &[self.word()]),
            140..144 => {
                let at = self.word() / PAGE * PAGE + FETCHED;
                Op::new(now, Call::Fetch, &[at])
            }
            144..148 if self.alive.len() < usize::from(processes) => self.fork(processes),
            148..150 if now != 0 => self.exit(),
            150..157 if room => {
                let parts =
                    self.one_of(&[AREAS, AREAS | RESIDENT, RESIDENT, BYTES, AREAS | BYTES, 7]);
                Op::new(now, Call::Look, &[parts])
            }
            200..203 if !self.grows => self.seal(),
            203..206 => self.fallocate(),
            206..212 if self.heap => self.brk(),
            212..224 if self.segments.used => self.segment(),
            _ => {
                self.stored += 1;
                let (at, value) = (self.word(), self.stored << 8 | 0xa5);
                Op::new(now, Call::Store, &[at, value])
            }
        }
    }

    /// A few pages of the window, as address and length; rarely all of it, or not quite pages.
    fn range(&mut self) -> (u64, u64) {
        if self.chance(2) {
            self.hot = self.random.random_range(WINDOW);
        }
        let first = self.hot;
        let most = if self.chance(12) { WINDOW.end - WINDOW.start } else { 6 };
        let pages = self.random.random_range(1..=most.min(WINDOW.end - first));
        let at = if self.chance(60) {
            address(first) + self.one_of(&[1, 0x800])
        } else {
            address(first)
        };
        let length = match self.random.random_range(0..120) {
            0 => 0,
            1 => self.one_of(&[u64::MAX, !(PAGE - 1), !(2 * PAGE - 1)]),
            2..5 => pages * PAGE - self.one_of(&[1, 0x123, 0xfff]),
            _ => pages * PAGE,
        };
        (at, length)
    }

    fn on_range(&mut self, call: Call) -> Op {
        let (at, length) = self.range();
        Op::new(self.now, call, &[at, length])
    }

    /// One of the first words of a page; sometimes just outside of the window, where a stack may grow.
    fn word(&mut self) -> u64 {
        if self.chance(3) {
            self.hot = self.random.random_range(WINDOW);
        }
        let page = match self.random.random_range(0..30) {
            0 => self.hot - self.random.random_range(1..=8),
            1..20 => (self.hot + self.random.random_range(0..4)).min(WINDOW.end - 1),
            _ => self.random.random_range(WINDOW),
        };
        address(page) + self.random.random_range(0..4) * 8
    }

    fn prot(&mut self) -> u64 {
        let prot = if self.chance(2) { 3 } else { self.random.random_range(0..8) };
        let prot = if self.grows { prot | 2 } else { prot };
        if prot == 4 && self.ground.execute_only { 5 } else { prot }
    }

    fn advice(&mut self) -> i32 {
        loop {
            let advice = self.one_of(&ADVICE);
            let goes = advice == PAGEOUT && self.drops;
            if self.ground.advice.contains(&advice) && !goes {
                return advice;
            }
        }
    }

    fn mmap(&mut self) -> Op {
        let ((at, length), prot) = (self.range(), self.prot());
        let mut flags = match self.random.random_range(0..40) {
            0 => self.one_of(&[0, 4]),
            1..3 => 3,
            3..18 => 1,
            18 if self.drops => 8,
            _ => 2,
        };
        flags |= match self.random.random_range(0..20) {
            0..2 => 0x10_0000,
            2..4 => 0,
            _ => 0x10,
        };
        let anonymous = self.chance(2);
        if anonymous {
            flags |= 0x20;
        }
        for (flag, one_in) in [
            (0x40, 60),
            (0x100, 16),
            (0x800, 40),
            (0x1000, 40),
            (0x2000, 16),
            (0x4000, 12),
            (0x8000, 8),
            (0x1_0000, 30),
            (0x2_0000, 30),
            (0x8_0000, 80),
            (0x400_0000, 80),
            (0x80, 80),
            (0x20_0000, 80),
        ] {
            let kept = match flag {
                0x2000 => self.locks,
                // Elsewhere it is the file system's to refuse, and keeps Linux from merging.
                0x8_0000 => flags & 0x23 == 3,
                0x100 => !self.grows || self.stacks == 0,
                _ => true,
            };
            if kept && self.chance(one_in) {
                self.stacks += u32::from(flag == 0x100);
                flags |= flag;
            }
        }
        if self.grows && flags & 0x100 != 0 {
            flags = flags & !0x1_0000 | 0x8000;
        }
        let object = if anonymous { NO_OBJECT } else { self.one_of(&[FILE, FILE, MEMORY]) };
        let offset = match self.random.random_range(0..80) {
            _ if anonymous => 0,
            0 => self.one_of(&[1, 0x800]),
            1 => self.one_of(&[1 << 62, 1 << 63, !(PAGE - 1)]),
            _ => self.random.random_range(0..OBJECT_PAGES + 2) * PAGE,
        };
        let at = if flags & 0x10_0010 == 0 && self.chance(4) { 0 } else { at };
        Op::new(self.now, Call::Mmap, &[at, length, prot, flags, object, offset])
    }

    fn mremap(&mut self) -> Op {
        let ((at, old), (to, new)) = (self.range(), self.range());
        let new = if self.segments.used { new.min(old) } else { new };
        // In place, it must not reach beyond what is looked at.
        let fits = |length: u64| length.min(address(WINDOW.end + 6).saturating_sub(at));
        let (flags, old, new) = match self.random.random_range(0..16) {
            0..4 => (0, old, fits(new)),
            4..6 => (1, old, fits(new)),
            // What is to be mapped once more is not to be replaced by it.
            6 if !(to..to.saturating_add(new)).contains(&at) => (3, 0, new),
            7..10 if !self.locks => (7, PAGE, PAGE),
            10 if !self.locks => (5, old, old),
            11 => (self.one_of(&[2, 4, 6, 8, 9]), old, new),
            12 if self.ground.moves_several && old < 1 << 47 => (3, old, old),
            // Several areas at once are moved by the latest kernels alone.
            _ if old.div_ceil(PAGE) == new.div_ceil(PAGE) => (3, PAGE, PAGE),
            _ if old > 1 << 47 => (1, old, fits(new)),
            _ => (3, old, new),
        };
        Op::new(self.now, Call::Mremap, &[at, old, new, flags, to])
    }

    /// mlock2, mlockall or munlockall. `MCL_CURRENT` is asked for only where nothing limits it: it is about all of the
    /// host's process.
    fn lock_more(&mut self) -> Op {
        let now = self.now;
        match self.random.random_range(0..8) {
            0 => Op::new(now, Call::Munlockall, &[]),
            1 if self.unlimited && !self.grows => {
                Op::new(now, Call::Mlockall, &[self.one_of(&[1, 3, 5, 5, 7, 7, 9])])
            }
            1 | 2 if !self.grows => {
                Op::new(now, Call::Mlockall, &[self.one_of(&[0, 2, 2, 4, 6, 8])])
            }
            _ => {
                let ((at, length), flags) = (self.range(), self.one_of(&[0, 1, 1, 1, 2]));
                Op::new(now, Call::Mlock2, &[at, length, flags])
            }
        }
    }

    fn remap_file_pages(&mut self) -> Op {
        let ((at, length), page) = (self.range(), self.random.random_range(0..OBJECT_PAGES));
        let page = if self.chance(20) { u64::MAX >> 12 } else { page };
        let (prot, flags) =
            (self.one_of(&[0, 0, 0, 0, 0, 1]), self.one_of(&[0, 0, 0x1_0000, 0x2000]));
        Op::new(self.now, Call::RemapFilePages, &[at, length, prot, page, flags])
    }

    fn fork(&mut self, processes: u8) -> Op {
        let child = (0..processes).find(|number| !self.alive.contains(number));
        let child = child.expect("fewer are alive than there may be");
        self.alive.push(child);
        Op::new(self.now, Call::Fork, &[child.into()])
    }

    fn exit(&mut self) -> Op {
        let gone = std::mem::replace(&mut self.now, 0);
        self.alive.retain(|process| *process != gone);
        Op::new(gone, Call::Exit, &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::differ::SEEN_END;

    fn ground() -> Ground {
        Ground { advice: (0..120).collect(), ..Ground::default() }
    }

    #[test]
    fn a_number_stands_for_one_program() {
        assert_eq!(generate(1, 2, 4, &ground()), generate(1, 2, 4, &ground()));
        assert_ne!(generate(1, 2, 4, &ground()), generate(1, 3, 4, &ground()));
    }

    #[test]
    fn nothing_but_what_is_refused_reaches_beyond_what_is_looked_at() {
        for number in 0..5_000 {
            let program = generate(7, number, 4, &ground());
            assert_eq!(program.clone().settled(), program);
            for op in &program.ops {
                let [at, length, ..] = op.arguments;
                let of_range =
                    op.call.roles().len() > 1 && op.call.roles()[1] == crate::differ::Role::Length;
                let end = at.checked_add(length).filter(|end| *end < 1 << 47);
                assert!(!of_range || end.is_none_or(|end| end <= SEEN_END), "{op}");
            }
        }
    }
}
