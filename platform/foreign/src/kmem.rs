//! Kernel memory for the host: malloc and its like, and zones of items of one size.
//!
//! Flow:  host -> `rumpvm_malloc` -> `KernelHeap` -> frames; beside it, not under it, the heap of small records (`heap`),
//!        of which it and zones are made.
//! Locks: the component's spin locks of zones, arenas and frames.
//! Owns:  the host's heap, for good.

use alloc::boxed::Box;
use core::ffi::{CStr, c_char, c_void};
use core::ptr::{self, NonNull};

use rumpvm::kmem::KernelHeap;
use rumpvm::phys::Phys;
use rumpvm::zone::{Spec, SpecError, Zone};
use spin::Once;

use crate::errno::{Errno, RUMPVM_EBUSY, RUMPVM_EINVAL, RUMPVM_ENODEV, RUMPVM_ENOMEM, outcome};
use crate::home::Foreign;
use crate::{layer, machine};

static HEAP: Once<KernelHeap<Foreign>> = Once::new();

/// A zone.
pub struct HostZone {
    zone: Zone<Foreign>,
}

/// What a zone has.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ZoneUsage {
    /// Items handed out, ever.
    pub taken: u64,
    /// Items in use.
    pub out: u64,
    /// Free items that CPUs have at hand.
    pub cached: u64,
    /// Items that there is memory for.
    pub items: u64,
    /// Pages that the zone has.
    pub frames: u64,
    /// Requests that failed.
    pub failed: u64,
}

fn phys() -> Option<&'static Phys<Foreign>> {
    Some(&layer::mmu(machine::get()?).phys)
}

/// The host's heap, made at its first use.
fn heap(phys: &Phys<Foreign>) -> Option<&'static KernelHeap<Foreign>> {
    HEAP.get().or_else(|| HEAP.try_call_once(|| KernelHeap::try_new(phys)).ok())
}

fn pointer(block: Option<NonNull<u8>>) -> *mut c_void {
    block.map_or(ptr::null_mut(), |block| block.as_ptr().cast())
}

/// A block of `size` bytes, at a multiple of 16; of 0 bytes too. Its contents are unknown. The first call, which is from
/// a thread, makes the heap: some 20 KiB for each CPU. Blocks up to a page come from caches of the calling CPU, larger
/// ones are whole pages in a row; all are wired. All calls of this family: from anywhere, on an attached CPU; they take
/// spin locks now and then, do not sleep, and wait for no other CPU. Null: no memory.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_malloc(size: usize) -> *mut c_void {
    rumpvm_memalign(16, size)
}

/// As rumpvm_malloc, of `many` times `size` bytes, which are zero.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_calloc(many: usize, size: usize) -> *mut c_void {
    let Some(bytes) = many.checked_mul(size) else { return ptr::null_mut() };
    let block = rumpvm_malloc(bytes);
    if !block.is_null() {
        // SAFETY: the block is fresh and has so many bytes.
        unsafe { block.write_bytes(0, bytes) };
    }
    block
}

/// As rumpvm_malloc, at a multiple of `align`, a power of two. Null also if it is none.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_memalign(align: usize, size: usize) -> *mut c_void {
    let make = || {
        let phys = phys()?;
        let layout = core::alloc::Layout::from_size_align(size, align.max(16)).ok()?;
        heap(phys)?.alloc(phys, layout).ok()
    };
    pointer(make())
}

/// Makes `block` `size` bytes long, in its place or elsewhere, and returns where it is; what it had up to there it keeps.
/// Elsewhere it is at a multiple of 16. Null, and the block is as it was: no memory. A null `block` is a new one; a
/// `size` of 0 is a size.
///
/// # Safety
/// `block` is null, or came from this family and is in use.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_realloc(block: *mut c_void, size: usize) -> *mut c_void {
    let Some(old) = NonNull::new(block.cast()) else { return rumpvm_malloc(size) };
    let (Some(phys), Some(heap)) = (phys(), HEAP.get()) else { return ptr::null_mut() };
    // SAFETY: by the caller's promise.
    pointer(unsafe { heap.realloc_unsized(phys, old, size) }.ok())
}

/// Frees a block of this family; null is none.
///
/// # Safety
/// `block` is null, or came from this family and is used no more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_free(block: *mut c_void) {
    if let (Some(block), Some(phys), Some(heap)) = (NonNull::new(block.cast()), phys(), HEAP.get())
    {
        // SAFETY: by the caller's promise.
        unsafe { heap.free_unsized(phys, block) };
    }
}

/// Bytes of `block` that may be used: what was asked for, or more.
///
/// # Safety
/// As rumpvm_realloc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_malloc_usable_size(block: *mut c_void) -> usize {
    match (NonNull::new(block.cast()), phys(), HEAP.get()) {
        (Some(block), Some(phys), Some(heap)) => heap.usable(phys, block),
        _ => 0,
    }
}

/// Gives back pages that rumpvm_malloc's family keeps at hand and nobody uses, but for what other CPUs have at hand.
/// Requests that would fail, of this family or any other, do that by themselves. From anywhere.
#[unsafe(no_mangle)]
pub extern "C" fn rumpvm_malloc_drain() {
    if let (Some(phys), Some(heap)) = (phys(), HEAP.get()) {
        heap.drain(phys);
    }
}

/// Makes a zone: items of `size` bytes (16 KiB at most) at multiples of `align` (a power of two, a page at most), of which
/// each CPU keeps some at hand. No more than `limit` items, rounded up to whole slabs, unless it is 0. `construct`, if
/// not null, is called for an item before it is first handed out, `destroy` before its memory is given back, both from
/// within the calls below, and they may call nothing of rumpvm; an item is freed as it would be handed out. When there is
/// no page for another call of rumpvm's, it takes those that the zone keeps and nobody uses; with `destroy` only
/// rumpvm_zone_drain gives back what was constructed. `name` is for reports, and stays. The zone is stored at `made`.
/// From a thread; takes spin locks. Returns 0, -EINVAL, -ENOMEM, -ENODEV.
///
/// # Safety
/// `name` is null or a string that stays for good; `made` is null, or there is a pointer to write; the functions may be
/// called until the zone is destroyed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_zone_create(
    name: *const c_char,
    size: u32,
    align: u32,
    limit: u64,
    construct: Option<extern "C" fn(item: NonNull<c_void>)>,
    destroy: Option<extern "C" fn(item: NonNull<c_void>)>,
    made: *mut *mut HostZone,
) -> i32 {
    if name.is_null() || made.is_null() {
        return -RUMPVM_EINVAL;
    }
    // SAFETY: by the caller's promise.
    let name = unsafe { CStr::from_ptr(name) }.to_str().unwrap_or("unnamed");
    let limit = Some(limit).filter(|limit| *limit > 0);
    let spec = Spec { limit, construct, destroy, ..Spec::new(name, size, align) };
    outcome(create(spec).map(|zone| {
        // SAFETY: by the caller's promise.
        unsafe { made.write(Box::into_raw(zone)) }
    }))
}

fn create(spec: Spec) -> Result<Box<HostZone>, Errno> {
    let phys = &layer::mmu(machine::vm()?).phys;
    let zone = Zone::try_new(phys, spec).map_err(|error| match error {
        SpecError::Size | SpecError::Alignment => Errno(RUMPVM_EINVAL),
        SpecError::NoMemory => Errno(RUMPVM_ENOMEM),
    })?;
    Ok(rumpvm::sync::try_box::<_, Foreign>(HostZone { zone })?)
}

/// An item of `zone`, or null: no memory, or the limit is reached. From anywhere, on an attached CPU; takes spin locks
/// now and then, does not sleep.
///
/// # Safety
/// `zone` was made by rumpvm_zone_create and not destroyed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_zone_alloc(zone: *mut HostZone) -> *mut c_void {
    let Some(phys) = phys() else { return ptr::null_mut() };
    // SAFETY: by the caller's promise.
    pointer(unsafe { &(*zone).zone }.alloc(phys).ok())
}

/// Frees an item. From anywhere, as rumpvm_zone_alloc.
///
/// # Safety
/// As rumpvm_zone_alloc; `item` is null, or came from this zone and is used no more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_zone_free(zone: *mut HostZone, item: *mut c_void) {
    if let (Some(phys), Some(item)) = (phys(), NonNull::new(item.cast())) {
        // SAFETY: by the caller's promise.
        unsafe { (*zone).zone.free(phys, item) };
    }
}

/// Gives back the pages of a zone that nobody uses, but for what other CPUs have at hand. From anywhere.
///
/// # Safety
/// As rumpvm_zone_alloc.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_zone_drain(zone: *mut HostZone) {
    if let Some(phys) = phys() {
        // SAFETY: by the caller's promise.
        unsafe { &(*zone).zone }.drain(phys);
    }
}

/// Stores at `usage` what `zone` has. From anywhere; takes its spin lock. Returns 0, -EINVAL, -ENODEV.
///
/// # Safety
/// As rumpvm_zone_alloc; `usage` is null, or there is such a structure to write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_zone_usage(zone: *mut HostZone, usage: *mut ZoneUsage) -> i32 {
    if zone.is_null() || usage.is_null() {
        return -RUMPVM_EINVAL;
    }
    // SAFETY: by the caller's promise.
    let now = unsafe { &(*zone).zone }.usage();
    let told = ZoneUsage {
        taken: now.taken,
        out: now.out,
        cached: now.cached,
        items: now.items,
        frames: now.frames,
        failed: now.failed,
    };
    // SAFETY: by the caller's promise.
    unsafe { usage.write(told) };
    0
}

/// Destroys a zone that nobody calls any more, and gives all its pages back. From a thread. Returns 0; -EBUSY if items
/// are in use, and then it stays; -EINVAL, -ENODEV.
///
/// # Safety
/// As rumpvm_zone_alloc, or null; nobody else uses the zone from now on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rumpvm_zone_destroy(zone: *mut HostZone) -> i32 {
    let Some(phys) = phys() else { return -RUMPVM_ENODEV };
    if zone.is_null() {
        return -RUMPVM_EINVAL;
    }
    // SAFETY: by the caller's promise.
    match unsafe { &mut (*zone).zone }.close(phys) {
        Ok(()) => {
            // SAFETY: `rumpvm_zone_create` made it of a box, and it is empty and nobody's.
            drop(unsafe { Box::from_raw(zone) });
            0
        }
        Err(_) => -RUMPVM_EBUSY,
    }
}
