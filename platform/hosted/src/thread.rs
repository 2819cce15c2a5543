//! A thread of the machine: one coroutine, and what it may ask of its CPU.
//!
//! Flow:  resume -> body runs -> `Ask` -> the scheduler decides.
//! Locks: none; a thread never leaves its CPU (H1).
//! Owns:  its stack, until it ends and the CPU's pool takes it back.
//!
//! T1. `yielder` points into the thread's own stack from its first instruction to its last, and is used
//!     only by the thread itself.

use std::cell::{Cell, RefCell};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::rc::Rc;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, Yielder};
#[cfg(feature = "lock-counters")]
use rumpvm_platform::LockWatch;
use rumpvm_platform::{ThreadLocal, Witness};

use crate::cpu::{Birth, Slot};
use crate::here::may_switch;
use crate::outcome::{Group, Payload};

/// Why a thread gives its CPU away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ask {
    /// Let others run; I am ready.
    Yield,
    /// I sleep until a wake-up names me.
    Sleep,
    /// The machine has stopped; never resume me.
    Halt,
}

/// How a thread ended.
pub(crate) type Ending = Result<(), Payload>;

pub(crate) type Resume = Rc<dyn Fn()>;

/// What a running thread and its CPU both know of it.
pub(crate) struct Context {
    pub(crate) slot: Slot,
    pub(crate) group: Group,
    /// What the component keeps here.
    pub(crate) local: ThreadLocal,
    /// The locks that it holds; debug builds look.
    pub(crate) witness: RefCell<Witness>,
    /// The same for the counters.
    #[cfg(feature = "lock-counters")]
    pub(crate) watch: RefCell<LockWatch>,
    /// Another thread, or the idle loop, has used the CPU since this one last ran.
    pub(crate) displaced: Cell<bool>,
    on_resume: RefCell<Option<Resume>>,
    yielder: Cell<*const Yielder<(), Ask>>,
}

pub(crate) struct Thread {
    pub(crate) coroutine: Coroutine<(), Ask, Ending, DefaultStack>,
    pub(crate) context: Rc<Context>,
}

impl Thread {
    pub(crate) fn new(slot: Slot, birth: Birth, stack: DefaultStack, number: u64) -> Self {
        let Birth { body, group } = birth;
        let context = Rc::new(Context {
            slot,
            group,
            local: ThreadLocal::new(number),
            witness: RefCell::default(),
            #[cfg(feature = "lock-counters")]
            watch: RefCell::default(),
            displaced: Cell::new(false),
            on_resume: RefCell::new(None),
            yielder: Cell::new(ptr::null()),
        });
        let own = Rc::clone(&context);
        let coroutine = Coroutine::with_stack(stack, move |yielder, ()| {
            own.yielder.set(yielder);
            own.displaced.set(false);
            let ending = catch_unwind(AssertUnwindSafe(|| {
                body();
                own.on_resume.take();
                may_switch("a thread ends");
            }));
            // After a panic the hook is leaked, like all that threads of a stopped machine hold.
            mem::forget(own.on_resume.take());
            ending
        });
        Self { coroutine, context }
    }
}

impl Context {
    pub(crate) fn set_on_resume(&self, hook: Resume) {
        *self.on_resume.borrow_mut() = Some(hook);
    }

    /// Switches to the scheduler, and comes back when the thread is resumed.
    pub(crate) fn suspend(&self, ask: Ask) {
        // SAFETY: the thread runs, so its yielder is set and alive (T1); this is that thread, because
        // the scheduler hands its current thread's context only to code that runs in it.
        unsafe { &*self.yielder.get() }.suspend(ask);
        if self.displaced.take() {
            let hook = self.on_resume.borrow().clone();
            if let Some(hook) = hook {
                hook();
            }
        }
    }
}
