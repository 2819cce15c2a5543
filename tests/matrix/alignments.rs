//! The ranges that operations are asked to work on: how they lie to pages, areas, leaf tables, and the end
//! of user memory.
//!
//! ```text
//!     BELOW   START                    EDGE              END
//!       |-4-----|--------- 10 ---------|------- 6 -------|-4 -|      pages
//!         hole   what the template made                   hole
//! ```

use rumpvm_arch::{Format, PAGE_SIZE, VirtAddr};

/// Where two leaf tables meet, in every format.
pub(crate) const EDGE: VirtAddr = VirtAddr(0x4000_0000);
/// What templates make lies between these.
pub(crate) const START: VirtAddr = VirtAddr(EDGE.0 - 10 * PAGE_SIZE);
pub(crate) const END: VirtAddr = VirtAddr(EDGE.0 + 6 * PAGE_SIZE);
/// Where the heap begins, if the template does not say otherwise.
pub(crate) const BELOW: VirtAddr = VirtAddr(START.0 - 4 * PAGE_SIZE);
/// The pages that are compared in any case.
pub(crate) const AROUND: (VirtAddr, VirtAddr) = (BELOW, VirtAddr(END.0 + 4 * PAGE_SIZE));
/// Far from all this, and not at an edge.
pub(crate) const AWAY: VirtAddr = VirtAddr(0x5000_0000 - 3 * PAGE_SIZE);
/// Size of the file and of the shared memory: its last page is not whole, and begins near `EDGE` where a
/// template maps page 12 at `START`.
pub(crate) const OBJECT_BYTES: u64 = 21 * PAGE_SIZE - 0x400;
/// What a leaf table of 512 entries serves.
pub(crate) const LEAF: u64 = 512 * PAGE_SIZE;
/// Bytes of one access: those of each page that is touched.
const PIECE: u64 = 16;
/// Accesses to one range.
const MOST_PIECES: usize = 24;

/// `length` bytes from `at`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) at: VirtAddr,
    pub(crate) length: u64,
}

impl Span {
    pub(crate) const fn pages(at: VirtAddr, pages: u64) -> Self {
        Self { at, length: pages * PAGE_SIZE }
    }

    pub(crate) const fn between(start: VirtAddr, end: VirtAddr) -> Self {
        Self { at: start, length: end.0 - start.0 }
    }

    /// The first bytes of it in each page, of as many pages as templates are long.
    pub(crate) fn pieces(self) -> impl Iterator<Item = (VirtAddr, usize)> {
        let end = self.at.0.saturating_add(self.length);
        let first = Some(self.at.0).filter(|at| *at < end);
        let next = move |at: &u64| (at | (PAGE_SIZE - 1)).checked_add(1).filter(|at| *at < end);
        let pieces = std::iter::successors(first, next).map(move |at| {
            let page_end = at | (PAGE_SIZE - 1);
            let length = PIECE.min(end - at).min(page_end - at + 1);
            (VirtAddr(at), length as usize)
        });
        pieces.take(MOST_PIECES)
    }
}

pub(crate) struct Alignment {
    pub(crate) name: &'static str,
    pub(crate) span: Span,
}

impl Alignment {
    /// Whether there can be more than `most` bytes there.
    pub(crate) fn makes_more_than<F: Format>(&self, most: u64) -> bool {
        let Span { at, length } = self.span;
        length > most && at.0.checked_add(length).is_some_and(|end| end <= F::USER_END.0)
    }
}

/// Pages and bytes from `START`; 10 pages is `EDGE`, 16 is `END`.
type Place = (i64, i64);

/// From the first place to the second.
const INSIDE: &[(&str, Place, Place)] = &[
    ("all of it", (0, 0), (16, 0)),
    ("its first page", (0, 0), (1, 0)),
    ("its last page", (15, 0), (16, 0)),
    ("the page below the edge", (9, 0), (10, 0)),
    ("the page above the edge", (10, 0), (11, 0)),
    ("the pages on both sides of the edge", (9, 0), (11, 0)),
    ("up to the edge", (0, 0), (10, 0)),
    ("from the edge on", (10, 0), (16, 0)),
    ("the middle", (3, 0), (13, 0)),
    ("a window of fault-around, but for a page", (-5, 0), (9, 0)),
    ("from a page before it", (-1, 0), (3, 0)),
    ("to a page behind it", (12, 0), (17, 0)),
    ("from before it to behind it", (-2, 0), (18, 0)),
    ("the page before it", (-1, 0), (0, 0)),
    ("the page behind it", (16, 0), (17, 0)),
    ("a hole", (-4, 0), (-2, 0)),
    ("one byte", (4, 0), (4, 1)),
    ("a page and a byte, across the edge", (9, 0), (10, 1)),
    ("all but its last byte", (0, 0), (16, -1)),
    ("nothing", (4, 0), (4, 0)),
    ("nothing, at its end", (16, 0), (16, 0)),
    ("nothing, in a hole", (-3, 0), (-3, 0)),
    ("nothing, unaligned", (4, 1), (4, 1)),
    ("unaligned by a byte", (2, 1), (4, 1)),
    ("unaligned by half a page, across the edge", (9, 0x800), (10, 0x800)),
    ("unaligned inside one page", (5, 0x123), (5, 0x456)),
    ("unaligned, up to its end", (13, 0x40), (16, 0)),
    ("the leaf below the edge", (10 - 512, 0), (10, 0)),
    ("the leaf above the edge", (10, 0), (10 + 512, 0)),
];

/// All of them.
pub(crate) fn all<F: Format>() -> Vec<Alignment> {
    let place = |(pages, bytes): Place| START.0.wrapping_add_signed(pages * 4096 + bytes);
    let inside = INSIDE.iter().map(|&(name, start, end)| {
        let span = Span::between(VirtAddr(place(start)), VirtAddr(place(end)));
        Alignment { name, span }
    });
    let end = F::USER_END;
    let last = VirtAddr(end.0 - PAGE_SIZE);
    let outside = [
        ("the last page of user memory", Span::pages(last, 1)),
        ("from the last page of user memory on", Span::pages(last, 2)),
        ("behind the end of user memory", Span::pages(end, 1)),
        ("nothing, at the end of user memory", Span::pages(end, 0)),
        ("from it to the end of user memory", Span::between(START, end)),
        ("from it to behind the end of user memory", Span { at: START, length: end.0 }),
        ("a length that wraps when it is rounded", Span { at: START, length: u64::MAX }),
        ("a length that wraps", Span { at: START, length: u64::MAX - PAGE_SIZE + 1 }),
        ("unaligned, behind the end of user memory", Span { at: end + 1, length: PAGE_SIZE }),
        ("the first page of all", Span::pages(VirtAddr(0), 1)),
    ];
    let outside = outside.into_iter().map(|(name, span)| Alignment { name, span });
    inside.chain(outside).collect()
}
