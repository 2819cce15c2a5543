//! Using memory that has become usable: the policy behind `--touch`, and its loads and stores.

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use rand_distr::{Distribution, Zipf};
use rumpvm::{FaultError, Space, Vm};
use rumpvm_arch::{Access, PAGE_SIZE, Prot, VirtAddr, VirtRange};
use rumpvm_hosted::Hosted;

use super::options::{Options, Touch};

/// `--touch all` touches at most this part of memory after one call, so that no single mapping (a
/// reservation of gigabytes, say) crowds out the rest.
const PART_OF_MEMORY: u64 = 64;

/// `--touch zipf` makes one touch for so many pages, and at least one.
const PAGES_A_TOUCH: u64 = 4;

/// Exponent of Zipf's law. 1 is what references to memory are usually modelled with.
const EXPONENT: f64 = 1.0;

/// What a touched page gets.
const MARK: u8 = 0xa5;

/// What came of touching.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Touched {
    /// Pages that were touched.
    pub(super) pages: u64,
    /// Pages that there was no memory for.
    pub(super) without_memory: u64,
    /// The first page that could not be used although it is mapped, and why.
    pub(super) refused: Option<(VirtAddr, FaultError)>,
}

/// Chooses pages and touches them.
pub(super) struct Toucher {
    policy: Touch,
    most: u64,
    random: Xoshiro256PlusPlus,
}

impl Toucher {
    /// One that follows `options`.
    pub(super) fn new(options: &Options) -> Self {
        Self {
            policy: options.touch,
            most: (options.memory / PAGE_SIZE / PART_OF_MEMORY).max(1),
            random: Xoshiro256PlusPlus::seed_from_u64(options.seed),
        }
    }

    /// Touches pages of `range`, which may be used as `prot` says.
    pub(super) fn touch(
        &mut self,
        vm: &Vm<Hosted>,
        space: &Space<Hosted>,
        range: VirtRange,
        prot: Prot,
    ) -> Touched {
        let mut touched = Touched::default();
        let pages = if prot.is_empty() { 0 } else { range.pages() };
        for page in self.choose(pages) {
            let at = range.start + page * PAGE_SIZE;
            match touch(vm, space, at, prot) {
                Ok(()) => touched.pages += 1,
                Err(FaultError::NoMemory { .. }) => touched.without_memory += 1,
                Err(error) => touched.refused = touched.refused.or(Some((at, error))),
            }
        }
        touched
    }

    /// The pages to touch of `pages`, by number from 0, each once, lowest first.
    pub(super) fn choose(&mut self, pages: u64) -> Vec<u64> {
        match self.policy {
            _ if pages == 0 => Vec::new(),
            Touch::None => Vec::new(),
            Touch::First => vec![0],
            Touch::All => (0..pages.min(self.most)).collect(),
            Touch::Zipf => self.zipf(pages),
        }
    }

    fn zipf(&mut self, pages: u64) -> Vec<u64> {
        let draws = pages.div_ceil(PAGES_A_TOUCH).min(self.most);
        let law = Zipf::new(pages as f64, EXPONENT).expect("there is a page, and 1 is an exponent");
        let mut chosen: Vec<u64> =
            (0..draws).map(|_| law.sample(&mut self.random) as u64 - 1).collect();
        chosen.sort_unstable();
        chosen.dedup();
        chosen
    }
}

/// Writes a byte if that is allowed, reads one if not, and fetches if that is all that is allowed.
fn touch(
    vm: &Vm<Hosted>,
    space: &Space<Hosted>,
    at: VirtAddr,
    prot: Prot,
) -> Result<(), FaultError> {
    if prot.contains(Prot::WRITE) {
        space.copy_out(vm, at, &[MARK])
    } else if prot.contains(Prot::READ) {
        space.copy_in(vm, at, &mut [0])
    } else {
        vm.fault(space, at, Access::Execute)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(touch: Touch, pages: u64) -> Vec<u64> {
        let options = Options { touch, seed: 3, memory: 64 * 100 * PAGE_SIZE };
        Toucher::new(&options).choose(pages)
    }

    #[test]
    fn policies_choose_what_they_promise() {
        assert!(choose(Touch::None, 9).is_empty());
        assert_eq!(choose(Touch::First, 9), [0]);
        assert_eq!(choose(Touch::All, 4), [0, 1, 2, 3]);
        assert_eq!(choose(Touch::All, u64::MAX).len(), 100);
        for touch in [Touch::None, Touch::First, Touch::All, Touch::Zipf] {
            assert!(choose(touch, 0).is_empty());
        }
    }

    #[test]
    fn zipf_favours_the_first_pages_and_repeats_itself_for_a_seed() {
        let chosen = choose(Touch::Zipf, 1000);
        assert_eq!(chosen, choose(Touch::Zipf, 1000));
        assert!(chosen.is_sorted() && *chosen.last().expect("a touch") < 1000);
        let low = chosen.iter().filter(|page| **page < 100).count();
        assert!(low * 2 > chosen.len(), "{chosen:?}");
    }
}
