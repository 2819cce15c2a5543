//! Items of zones, as scenarios have them: marked, and freed once.

use std::ptr::NonNull;
use std::sync::Arc;

use rumpvm::phys::Phys;
use rumpvm::zone::Zone;
use rumpvm_platform::Platform;

use crate::Pc;

/// An item in use.
pub(crate) struct Item {
    zone: Arc<Zone<Pc>>,
    at: NonNull<u8>,
}

impl Item {
    /// An item of `zone`, if there is one, marked with `mark`.
    pub(crate) fn take(zone: &Arc<Zone<Pc>>, phys: &Phys<Pc>, mark: u8) -> Option<Self> {
        let item = Self { zone: Arc::clone(zone), at: zone.alloc(phys).ok()? };
        let at = phys.platform.virt_to_phys(item.at);
        phys.write(at.frame(), at.0 % 4096, &[mark]);
        Some(item)
    }

    /// The byte that it is marked with.
    pub(crate) fn mark(&self, phys: &Phys<Pc>) -> u8 {
        let (at, mut byte) = (phys.platform.virt_to_phys(self.at), [0]);
        phys.read(at.frame(), at.0 % 4096, &mut byte);
        byte[0]
    }

    /// Gives it back.
    pub(crate) fn free(self, phys: &Phys<Pc>) {
        // SAFETY: it came from this zone (`take`), and nobody can use it but through `self`, which is used up.
        unsafe { self.zone.free(phys, self.at) };
    }
}
