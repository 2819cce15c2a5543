//! Every invariant of DESIGN, walked from the top: what should be, counted again and compared.
//!
//! For quiet moments: no CPU is inside the component, no thread sleeps in it. It takes the locks that it
//! needs one at a time, allocates freely, and changes nothing.
//!
//! | file | invariants of DESIGN |
//! |---|---|
//! | [`spaces`](self) | areas, 1 (entries name what the map says), 2 (live counts of tables) |
//! | `kernel` | 2 and 3 of the window of kernel addresses |
//! | `pmaps` | 2 and 3 of page tables under somebody else's maps (`Pmaps::check`) |
//! | `trees` | live counts and references of amap and object nodes |
//! | `frames` | 3 (reverse map), 4 (a frame is in one place), 5 (free frames are unused) |
//! | `family` | 9 (processes and their states) |
//!
//! 6 shows as a lock that is held, a page that is busy, or a frame that nobody names. 10 to 12 are not
//! states; the hosted machine and the tests look after them.

mod family;
mod frames;
mod kernel;
mod pmaps;
mod spaces;
mod trees;

use alloc::collections::BTreeMap;
use alloc::string::String;
use core::fmt;

use rumpvm_arch::Frame;
use rumpvm_platform::Platform;

use crate::classic::Pmaps;
use crate::pmap::Mmu;
use crate::process::Processes;

/// An invariant does not hold: which, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken(String);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for Broken {}

macro_rules! ensure {
    ($holds:expr, $($story:tt)+) => {
        if !$holds {
            return Err($crate::check::Broken(alloc::format!($($story)+)));
        }
    };
}
use ensure;

/// What the walk has found of one frame.
#[derive(Clone, Copy, Default)]
struct Seen {
    /// Slots, roots or upper entries that name it.
    named: u32,
    /// Leaf entries that map it.
    mapped: u64,
}

/// What the walk has found so far.
struct Findings {
    frames: BTreeMap<u32, Seen>,
    tables: BTreeMap<u32, Seen>,
    nodes: BTreeMap<u32, Seen>,
    /// Private areas that the objects know of.
    listed_areas: u64,
}

impl Findings {
    fn none() -> Self {
        Self {
            frames: BTreeMap::new(),
            tables: BTreeMap::new(),
            nodes: BTreeMap::new(),
            listed_areas: 0,
        }
    }

    fn frame(&mut self, frame: Frame) -> &mut Seen {
        self.frames.entry(frame.0).or_default()
    }
}

/// Nobody is on the way in the component.
fn is_quiet<P: Platform>(mmu: &Mmu<P>) -> Result<(), Broken> {
    ensure!(!mmu.phys.epoch.is_pinned(), "a CPU is inside the component");
    ensure!(!mmu.is_revoking(), "M6: debts are counted that nobody has");
    Ok(())
}

/// Checks every invariant of a machine that is frames, and the kernel's window if there is one. At a quiet moment.
pub fn check_frames<P: Platform>(mmu: &Mmu<P>) -> Result<(), Broken> {
    let mut found = Findings::none();
    is_quiet(mmu)?;
    kernel::check(mmu, &mut found)?;
    frames::check(mmu, &found)
}

/// Checks every invariant of a machine that is page tables and frames alone. At a quiet moment, as `Vm::check`; no CPU does
/// idle work meanwhile.
pub fn check_pmaps<P: Platform>(pmaps: &Pmaps<P>) -> Result<(), Broken> {
    let mut found = Findings::none();
    is_quiet(pmaps)?;
    pmaps::check(pmaps, &mut found)?;
    kernel::check(pmaps, &mut found)?;
    frames::check(pmaps, &found)
}

/// Checks everything.
pub(crate) fn check<P: Platform>(vm: &Processes<P>) -> Result<(), Broken> {
    let mut found = Findings::none();
    is_quiet(&vm.mmu)?;
    trees::check(vm, &mut found)?;
    kernel::check(&vm.mmu, &mut found)?;
    spaces::check(vm, &mut found)?;
    frames::check(&vm.mmu, &found)?;
    family::check(vm)
}
