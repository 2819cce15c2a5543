//! Calls that were under way at once: which of them must have come first.
//!
//! strace shows when a call was entered and when it returned, not when it took effect. A replay lets
//! it take effect at its return, with one exception: where Linux chose a place for new memory that a
//! call still under way gives up, that call must have taken effect before.

use rumpvm_arch::{VirtAddr, VirtRange};

use crate::trace::{Call, Record, Returned, Span};

/// The range that Linux found free for this call.
pub(super) fn claims(record: &Record) -> Option<VirtRange> {
    let Returned::Value(at) = record.returned else { return None };
    let length = match &record.call {
        Call::Mmap { span, flags, .. } if flags & MAP_FIXED == 0 => span.length,
        Call::Mremap { new_length, .. } => *new_length,
        _ => return None,
    };
    Span { at: VirtAddr(at), length }.pages()
}

/// The range that was mapped before this call, and may be free after it.
pub(super) fn releases(record: &Record) -> Option<VirtRange> {
    let Returned::Value(_) = record.returned else { return None };
    match &record.call {
        Call::Munmap(span) => span.pages(),
        Call::Mremap { old, .. } => old.pages(),
        _ => None,
    }
}

/// `MAP_FIXED` of mmap(2).
const MAP_FIXED: u64 = 0x10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{CallId, Trace};

    fn record(text: &str) -> Record {
        Trace::parse(text.as_bytes()).expect("a recording").record(CallId(0)).clone()
    }

    fn bounds(range: Option<VirtRange>) -> Option<(u64, u64)> {
        range.map(|range| (range.start.0, range.end.0))
    }

    #[test]
    fn only_places_that_linux_chose_are_claimed() {
        let anonymous = "PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS";
        let free = record(&format!("mmap(NULL, 5000, {anonymous}, -1, 0) = 0x10000"));
        assert_eq!(bounds(claims(&free)), Some((0x10000, 0x12000)));
        let fixed = format!("mmap(0x10000, 4096, {anonymous}|MAP_FIXED, -1, 0) = 0x10000");
        assert_eq!(claims(&record(&fixed)), None);
        let moved = record("mremap(0x10000, 4096, 8192, MREMAP_MAYMOVE) = 0x20000");
        assert_eq!(bounds(claims(&moved)), Some((0x20000, 0x22000)));
        assert_eq!(bounds(releases(&moved)), Some((0x10000, 0x11000)));
    }

    #[test]
    fn failed_calls_neither_claim_nor_release() {
        let failed = record("munmap(0x10000, 4096) = -1 EINVAL (Invalid argument)");
        assert_eq!((claims(&failed), releases(&failed)), (None, None));
        let done = record("munmap(0x10000, 4096) = 0");
        assert_eq!(bounds(releases(&done)), Some((0x10000, 0x11000)));
    }
}
