//! mem: the memory of a process as a file; pagemap: which frame is behind each of its pages.

use rumpvm::Hold;
use rumpvm::sync::try_box;
use rumpvm_arch::{Format, PAGE_SIZE, VirtAddr, VirtRange};
use rumpvm_bare::{Bare, Kernel};
use rumpvm_files::node::Call;
use rumpvm_files::{Errno, FileType, Sink, Source, Special};

use super::process::{About, with_memory};
use super::{Made, template};
use crate::linux::process::Process;
use crate::linux::system::system;
use crate::linux::user::Memory;

struct Mem(Hold<Process, Bare>);
struct Pagemap(Hold<Process, Bare>);

pub(super) fn mem(about: &About) -> Made {
    let special = try_box::<_, Bare>(Mem(about.process.clone()))?;
    template(&about.volume, 0o600).special(FileType::Regular, special)
}

pub(super) fn pagemap(about: &About) -> Made {
    let special = try_box::<_, Bare>(Pagemap(about.process.clone()))?;
    template(&about.volume, 0o400).special(FileType::Regular, special)
}

/// Bytes that are carried at a time, at most to the end of a page.
const PIECE: u64 = 1024;

fn piece(at: u64, left: usize) -> usize {
    (PAGE_SIZE - at % PAGE_SIZE).min(PIECE).min(left as u64) as usize
}

impl Special<Bare> for Mem {
    fn read(&self, _: &Call<'_, Bare>, at: u64, into: &mut dyn Sink) -> Result<usize, Errno> {
        let outcome = with_memory(&self.0, |memory| {
            let mut done = 0;
            while into.room() > 0 {
                let from = at.saturating_add(done as u64);
                let mut bytes = [0; PIECE as usize];
                let bytes = &mut bytes[..piece(from, into.room())];
                match memory.read(VirtAddr(from), bytes) {
                    Ok(()) => done += into.put(bytes)?,
                    Err(_) if done == 0 => return Err(Errno::EIO),
                    Err(_) => break,
                }
            }
            Ok(done)
        });
        Ok(outcome?.unwrap_or(0))
    }

    fn write(&self, _: &Call<'_, Bare>, at: u64, from: &mut dyn Source) -> Result<usize, Errno> {
        let outcome = with_memory(&self.0, |memory| {
            let mut done = 0;
            while from.left() > 0 {
                let to = at.saturating_add(done as u64);
                let mut bytes = [0; PIECE as usize];
                let count = from.take(&mut bytes[..piece(to, from.left())])?;
                match memory.write(VirtAddr(to), &bytes[..count]) {
                    Ok(()) => done += count,
                    Err(_) if done == 0 => return Err(Errno::EIO),
                    Err(_) => break,
                }
            }
            Ok(done)
        });
        Ok(outcome?.unwrap_or(0))
    }

    fn has_position(&self) -> bool {
        true
    }
}

/// Bits of an entry: it is there; it is a file's page or shared; frames are in the lowest.
const PRESENT: u64 = 1 << 63;
const FILE: u64 = 1 << 61;

impl Special<Bare> for Pagemap {
    fn read(&self, _: &Call<'_, Bare>, at: u64, into: &mut dyn Sink) -> Result<usize, Errno> {
        if !at.is_multiple_of(8) || !into.room().is_multiple_of(8) {
            return Err(Errno::EINVAL);
        }
        let outcome = with_memory(&self.0, |memory| {
            let mut done = 0;
            while into.room() > 0 {
                let page = at / 8 + done as u64 / 8;
                if page >= Kernel::USER_END.0 / PAGE_SIZE {
                    break;
                }
                done += into.put(&entry(memory, VirtAddr::of_page(page)).to_le_bytes())?;
            }
            Ok(done)
        });
        Ok(outcome?.unwrap_or(0))
    }

    fn has_position(&self) -> bool {
        true
    }
}

/// What there is to say of the page at `at`.
fn entry(memory: &Memory, at: VirtAddr) -> u64 {
    let (mmu, space) = (&system().kernel.vm.mmu, memory.space());
    let pin = mmu.phys.epoch.pin();
    let Some(found) = space.pmap().query(mmu, &pin, at) else { return 0 };
    let frame = found.frame();
    let mut is_private = false;
    let page = VirtRange::new(at, at + PAGE_SIZE);
    space.amap().for_each(&mmu.phys, &pin, page, |_, own| {
        is_private |= own == frame;
        true
    });
    let is_zero = frame == mmu.phys.zero_page();
    let file = if is_private || is_zero { 0 } else { FILE };
    PRESENT | file | u64::from(frame.0)
}
