//! What a scenario boots: the component on the explored machine, and what is checked of it at the end.
//!
//! Flow:  boot -> actors -> `boot_and`'s last -> each `at_end` -> check -> those who were kept leave -> check again.
//!        All of it is the one body that [`Stage::finally`] takes: a scenario that boots does not call that itself.
//! Owns:  [`Kernel`] the component.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rumpvm::Vm;
use rumpvm_arch::{PAGE_SIZE, PhysAddr};
use rumpvm_hosted::Upcalls;
use rumpvm_hosted::explored::{Explored, Stage};

use crate::User;

/// The machine of every scenario: x86-64 with four levels.
pub type Pc = Explored;

/// What is to hold at the end.
type End = Box<dyn FnOnce(&Kernel) + Send>;

struct Shared {
    vm: Vm<Pc>,
    ends: Mutex<Vec<End>>,
    /// Users who stay until everything was checked once.
    kept: Mutex<Vec<User>>,
}

impl Upcalls for Shared {
    fn tlb_interrupt(&self) {
        self.vm.tlb_interrupt();
    }

    fn idle(&self) -> bool {
        self.vm.idle()
    }
}

/// The component. Clones are the same one.
#[derive(Clone)]
pub struct Kernel {
    shared: Arc<Shared>,
}

impl Kernel {
    /// Boots the component with all of the machine's memory. At the end of the run every invariant is checked.
    pub fn boot(stage: &Stage) -> Self {
        Self::boot_and(stage, |_| ())
    }

    /// As [`Kernel::boot`]; before the invariants are checked, `last` is called.
    pub fn boot_and(stage: &Stage, last: impl FnOnce(&Self) + 'static) -> Self {
        Self::boot_with(stage, 0, last)
    }

    /// As [`Kernel::boot`]; the last `frames` frames are a device's, and not the component's.
    pub fn boot_beside(stage: &Stage, frames: u64) -> Self {
        Self::boot_with(stage, frames, |_| ())
    }

    fn boot_with(stage: &Stage, beside: u64, last: impl FnOnce(&Self) + 'static) -> Self {
        let machine = Pc::here();
        let (start, end) = machine.memory();
        let end = PhysAddr(end.0 - beside * PAGE_SIZE);
        let vm = Vm::new(machine.clone()).expect("memory for the component");
        vm.add_memory(start, end).expect("it is memory");
        let shared = Shared { vm, ends: Mutex::default(), kept: Mutex::default() };
        let kernel = Self { shared: Arc::new(shared) };
        let weak: Weak<Shared> = Arc::downgrade(&kernel.shared);
        machine.connect(weak);
        let own = kernel.clone();
        stage.finally(move || {
            last(&own);
            own.end();
        });
        kernel
    }

    /// At the end of the run `end` is called, while those who are kept are still there.
    pub fn at_end(&self, end: impl FnOnce(&Self) + Send + 'static) {
        all(&self.shared.ends).push(Box::new(end));
    }

    /// Lets `user` stay until the end, so that his space is checked with what is mapped in it.
    pub fn keep(&self, user: User) {
        all(&self.shared.kept).push(user);
    }

    fn end(&self) {
        for end in std::mem::take(&mut *all(&self.shared.ends)) {
            end(self);
        }
        let kept = std::mem::take(&mut *all(&self.shared.kept));
        if !kept.is_empty() {
            self.check();
            drop(kept);
        }
        self.check();
        // Only a write that failed keeps an object, and that has no user.
        self.objects.for_each(|object| {
            assert_eq!(object.users(), 0, "object {} has users that are gone", object.id());
        });
        self.for_each_space(|space| panic!("space {} has users that are gone", space.id()));
    }

    /// Stops the run if any invariant is broken. At a quiet moment.
    pub fn check(&self) {
        if let Err(broken) = self.vm().check() {
            panic!("{broken}");
        }
        if let Err(story) = self.vm().platform().verify_tlbs() {
            panic!("{story}");
        }
    }

    /// The component.
    pub fn vm(&self) -> &Vm<Pc> {
        &self.shared.vm
    }

    /// A user of a fresh space.
    pub fn user(&self) -> User {
        let space = self.vm().new_space().expect("memory for a space");
        User::new(self, space)
    }
}

impl Deref for Kernel {
    type Target = Vm<Pc>;
    fn deref(&self) -> &Vm<Pc> {
        self.vm()
    }
}

/// The list behind a lock that nobody else wants: one host thread plays them all.
fn all<T>(list: &Mutex<Vec<T>>) -> std::sync::MutexGuard<'_, Vec<T>> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}
