//! A recorded trace, and how it is played.

use std::alloc::{GlobalAlloc, Layout};
use std::io::Read;

use anyhow::{Context, Result, bail};
use flate2::read::GzDecoder;

/// What C's malloc promises.
const ALIGN: usize = 16;

/// One call, on the block of that number.
#[derive(Clone, Copy)]
enum Op {
    Alloc { layout: Layout },
    Free { block: usize },
    Realloc { block: usize, size: usize },
}

/// A trace.
pub(crate) struct Trace {
    pub(crate) name: &'static str,
    ops: Vec<Op>,
    blocks: usize,
}

/// All that were recorded.
pub(crate) fn all() -> Result<Vec<Trace>> {
    let files: [(&str, &[u8]); 3] = [
        ("git", include_bytes!("../../traces/git.trace.gz")),
        ("python", include_bytes!("../../traces/python.trace.gz")),
        ("perl", include_bytes!("../../traces/perl.trace.gz")),
    ];
    files.into_iter().map(|(name, bytes)| Trace::new(name, bytes).context(name)).collect()
}

/// The next LEB128 number; none at the end.
fn number(bytes: &mut std::slice::Iter<'_, u8>) -> Option<u64> {
    let (mut value, mut shift) = (0, 0);
    for byte in bytes {
        value |= u64::from(byte & 127) << shift;
        if byte & 128 == 0 {
            return Some(value);
        }
        shift += 7;
    }
    None
}

impl Trace {
    fn new(name: &'static str, packed: &[u8]) -> Result<Self> {
        let mut bytes = Vec::new();
        GzDecoder::new(packed).read_to_end(&mut bytes)?;
        let (mut rest, mut ops, mut blocks) = (bytes.iter(), vec![], 0usize);
        while let Some(kind) = number(&mut rest) {
            let mut next = || number(&mut rest).context("the trace ends in an operation");
            let back = |back: u64| {
                let block = blocks.checked_sub(1 + usize::try_from(back)?);
                block.context("a block before the first one")
            };
            match kind {
                0 => {
                    ops.push(Op::Alloc { layout: layout(next()?, ALIGN)? });
                    blocks += 1;
                }
                1 => ops.push(Op::Free { block: back(next()?)? }),
                2 => ops.push(Op::Realloc { block: back(next()?)?, size: next()? as usize }),
                3 => {
                    let align = 1 << next()?;
                    ops.push(Op::Alloc { layout: layout(next()?, align)? });
                    blocks += 1;
                }
                other => bail!("no operation has number {other}"),
            }
        }
        Ok(Self { name, ops, blocks })
    }

    /// Calls of the recorded program, and what its end frees.
    pub(crate) fn operations(&self) -> u64 {
        let frees = self.ops.iter().filter(|op| matches!(op, Op::Free { .. })).count();
        (self.ops.len() + self.blocks - frees) as u64
    }

    pub(crate) fn describe(&self) -> String {
        let mut sizes = vec![0; self.blocks];
        let (mut block, mut bytes, mut most, mut moved) = (0, 0usize, 0, 0);
        for op in &self.ops {
            match *op {
                Op::Alloc { layout } => {
                    sizes[block] = layout.size();
                    bytes += layout.size();
                    block += 1;
                }
                Op::Free { block } => bytes -= sizes[block],
                Op::Realloc { block, size } => {
                    bytes = bytes - sizes[block] + size;
                    sizes[block] = size;
                    moved += 1;
                }
            }
            most = most.max(bytes);
        }
        format!(
            "{}: {} calls, {} blocks, {moved} resized, {} KiB at most",
            self.name,
            self.ops.len(),
            self.blocks,
            most >> 10
        )
    }

    /// Makes all its calls, and frees what is left. Writes to each block, as its owner would.
    pub(crate) fn play(&self, with: &(impl GlobalAlloc + ?Sized)) {
        let mut blocks: Vec<(*mut u8, Layout)> = Vec::with_capacity(self.blocks);
        for op in &self.ops {
            match *op {
                Op::Alloc { layout } => {
                    // SAFETY: the layout has a size.
                    let at = unsafe { with.alloc(layout) };
                    blocks.push((touched(at), layout));
                }
                Op::Free { block } => {
                    let (at, layout) = &mut blocks[block];
                    // SAFETY: the block is in use, with that layout: a recorded program frees what it has, once.
                    unsafe { with.dealloc(std::mem::replace(at, std::ptr::null_mut()), *layout) };
                }
                Op::Realloc { block, size } => {
                    let (at, layout) = &mut blocks[block];
                    let size = size.max(1);
                    // SAFETY: as for a free, and the size is one that a program asked for.
                    *at = touched(unsafe { with.realloc(*at, *layout, size) });
                    *layout = layout_of(size, layout.align());
                }
            }
        }
        for (at, layout) in blocks {
            if !at.is_null() {
                // SAFETY: as for a free.
                unsafe { with.dealloc(at, layout) };
            }
        }
    }
}

fn layout(size: u64, align: usize) -> Result<Layout> {
    Ok(Layout::from_size_align(usize::try_from(size)?.max(1), align)?)
}

fn layout_of(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).expect("a program asked for it")
}

/// `at`, which must be a block, after a store to it.
#[inline]
fn touched(at: *mut u8) -> *mut u8 {
    assert!(!at.is_null(), "there is memory for every trace");
    // SAFETY: the block is in use, and has a byte.
    unsafe { at.write_volatile(1) };
    at
}
