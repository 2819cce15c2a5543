//! `/proc`.

use rumpvm::Hold;
use rumpvm_bare::Bare;
use rumpvm_files::{Entry, Errno, Volume, tree};

/// Its root.
pub(crate) fn new_root(
    volume: &Hold<Volume<Bare>, Bare>,
) -> Result<Hold<Entry<Bare>, Bare>, Errno> {
    tree::new_root(volume, 0o555)
}
