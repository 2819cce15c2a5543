//! Page tables under somebody else's maps: what they map is the host's affair, but frames, tables and reverse maps agree.

use alloc::format;

use rumpvm_arch::{Format, Frame, Pte, VirtAddr, user_entries};
use rumpvm_platform::Platform;

use super::{Broken, Findings, ensure, kernel};
use crate::classic::Pmaps;
use crate::sync::Ordering;

pub(super) fn check<P: Platform>(pmaps: &Pmaps<P>, found: &mut Findings) -> Result<(), Broken> {
    let pin = pmaps.phys.epoch.pin();
    let mut broken = Ok(());
    pmaps.for_each_root(|root| {
        let slots = user_entries::<P::Format>(P::Format::LEVELS);
        pmaps.for_each_table_below(&pin, root, VirtAddr(0), slots, |frame, level, base| {
            if broken.is_ok() {
                found.tables.entry(frame.0).or_default().named += 1;
                broken = one::<P>(pmaps, found, (frame, level, base))
                    .map_err(|broken| Broken(format!("the pmap of {root:?}: {broken}")));
            }
        });
    });
    broken
}

fn one<P: Platform>(
    pmaps: &Pmaps<P>,
    found: &mut Findings,
    table: (Frame, usize, VirtAddr),
) -> Result<(), Broken> {
    let slots = user_entries::<P::Format>(table.1);
    kernel::table(pmaps, found, table, slots, |at, entry| {
        let is_users = entry.0 & Pte::U != 0 && entry.0 & Pte::G == 0;
        ensure!(is_users && at < P::Format::USER_END, "the entry for {at} is {entry:?}");
        Ok(())
    })?;
    // No two pmaps share tables here.
    let refs = pmaps.phys.page(table.0).refs.load(Ordering::Relaxed);
    ensure!(refs == 1, "table at {} has {refs} users", table.2);
    Ok(())
}
