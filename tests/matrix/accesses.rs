//! Loads, stores and fetches of the pair: by the CPU with its TLB, or as system calls copy.

use rumpvm::FaultError;
use rumpvm_arch::{Format, PageFault, VirtAddr};
use rumpvm_hosted::Hosted;

use super::alignments::Span;
use super::pair::{Pair, Verdict, agree};

impl<F: Format> Pair<'_, F> {
    /// An access of the CPU, with page faults.
    fn access(
        &self,
        mut access: impl FnMut(&Hosted<F>) -> Result<(), PageFault>,
    ) -> Result<(), FaultError> {
        let vm = self.vm();
        vm.activate(&self.processes[self.now].space);
        let mut last = None;
        // Read-only first, at worst.
        for _ in 0..3 {
            let Err(fault) = access(vm.platform()) else { return Ok(()) };
            vm.fault(self.space(), fault.at, fault.access)?;
            last = Some(fault);
        }
        panic!("page faults were repaired, and the access still fails: {last:?}");
    }

    /// Loads the beginning of every page.
    pub(crate) fn load(&mut self, span: Span) -> Verdict {
        span.pieces().try_for_each(|(at, length)| self.load_bytes(at, length, false))
    }

    /// As a system call copies it.
    pub(crate) fn copy_in(&mut self, span: Span) -> Verdict {
        span.pieces().try_for_each(|(at, length)| self.load_bytes(at, length, true))
    }

    pub(crate) fn load_bytes(&mut self, at: VirtAddr, length: usize, copied: bool) -> Verdict {
        let (mut bytes, mut right) = (vec![0; length], vec![0; length]);
        let seen = if copied {
            self.space().copy_in(self.vm(), at, &mut bytes)
        } else {
            self.access(|hosted| hosted.load(at, &mut bytes))
        };
        let (memory, objects) = self.model();
        agree("load", seen, memory.load(objects, at, &mut right))?;
        if seen.is_err() || bytes == right {
            return Ok(());
        }
        let byte = (0..length).find(|&byte| bytes[byte] != right[byte]).unwrap_or(0);
        let place = at + byte as u64;
        Err(format!("load: {place} has {}, and not {}", bytes[byte], right[byte]))
    }

    /// Stores to the beginning of every page.
    pub(crate) fn store(&mut self, span: Span) -> Verdict {
        self.value = self.value.wrapping_add(1).max(1);
        span.pieces().try_for_each(|(at, length)| self.store_bytes(at, length, false))
    }

    /// As a system call copies it.
    pub(crate) fn copy_out(&mut self, span: Span) -> Verdict {
        self.value = self.value.wrapping_add(1).max(1);
        span.pieces().try_for_each(|(at, length)| self.store_bytes(at, length, true))
    }

    fn store_bytes(&mut self, at: VirtAddr, length: usize, copied: bool) -> Verdict {
        let page = at.page() as u8;
        let value = self.value;
        let bytes: Vec<u8> =
            (0..length).map(|byte| if byte % 2 == 0 { value } else { page }).collect();
        let (memory, objects) = self.model();
        if memory.overhangs(objects, at, length) {
            return Ok(());
        }
        let seen = if copied {
            self.space().copy_out(self.vm(), at, &bytes)
        } else {
            self.access(|hosted| hosted.store(at, &bytes))
        };
        let (memory, objects) = self.model();
        agree("store", seen, memory.store(objects, at, &bytes))
    }

    /// Fetches from the beginning of every page.
    pub(crate) fn fetch(&mut self, span: Span) -> Verdict {
        span.pieces().try_for_each(|(at, _)| {
            let seen = self.access(|hosted| hosted.fetch(at));
            let (memory, objects) = self.model();
            agree("fetch", seen, memory.execute(objects, at))
        })
    }
}
