//! One value for each CPU, on cache lines of its own.
//!
//! A value is shared (`&T`): its owner CPU writes it through [`Atomic::set`](super::Atomic::set), which
//! is a plain store, and others may read it at any time without undefined behaviour, if only to count.
//! Code that updates more than one word of it masks interrupts first ([`PerCpu::mine`]).

use alloc::vec::Vec;
use core::marker::PhantomData;
use core::ops::Deref;

use rumpvm_platform::{CpuId, Seam};

use super::seam::try_push;
use crate::NoMemory;

/// 128: two lines, because x86 prefetches lines in pairs.
#[repr(align(128))]
struct Padded<T>(T);

/// One `T` for each CPU.
pub struct PerCpu<T, S> {
    slots: Vec<Padded<T>>,
    seam: PhantomData<fn() -> S>,
}

/// This CPU's value, with interrupts masked.
pub struct Mine<'p, T, S: Seam> {
    value: &'p T,
    interrupts: usize,
    /// It belongs to this CPU.
    not_send: PhantomData<(*mut (), S)>,
}

impl<T, S: Seam> PerCpu<T, S> {
    /// `cpus` values made by `make`.
    pub fn try_new(cpus: usize, mut make: impl FnMut(CpuId) -> T) -> Result<Self, NoMemory> {
        let mut slots = Vec::new();
        for cpu in 0..cpus {
            try_push::<_, S>(&mut slots, Padded(make(CpuId(cpu as u32))))?;
        }
        Ok(Self { slots, seam: PhantomData })
    }

    /// This CPU's value; interrupts stay masked until the result is dropped.
    #[inline]
    pub fn mine(&self) -> Mine<'_, T, S> {
        let interrupts = S::intr_save();
        let value = &self.slots[S::cpu_id().0 as usize].0;
        Mine { value, interrupts, not_send: PhantomData }
    }

    /// The value of `cpu`.
    #[inline]
    pub fn of(&self, cpu: CpuId) -> &T {
        &self.slots[cpu.0 as usize].0
    }

    /// All values, by CPU number.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().map(|slot| &slot.0)
    }
}

impl<T, S> PerCpu<T, S> {
    /// All values, for their exclusive owner.
    pub fn slots_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().map(|slot| &mut slot.0)
    }
}

impl<T, S: Seam> Deref for Mine<'_, T, S> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        self.value
    }
}

impl<T, S: Seam> Drop for Mine<'_, T, S> {
    #[inline]
    fn drop(&mut self) {
        S::intr_restore(self.interrupts);
    }
}
