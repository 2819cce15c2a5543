//! #2083, #2370, #2374: an allocation cache that is filled while others use it; the same thing given out twice; a page
//! that is used after it went back.

use std::rc::Rc;

use rumpvm::phys::{PageKind, Phys};
use rumpvm::sync::{Atomic, Ordering};
use rumpvm_arch::Frame;
use rumpvm_hosted::explored::{Settings, Stage};

use crate::{Kernel, NEAR, Pc, Scenario};

const REPORT: &str = "#2083";

pub(super) fn table() -> Vec<Scenario> {
    vec![
        Scenario::new(
            "cache-refill",
            REPORT,
            "two CPUs take and give frames until their magazines spill and refill",
            cache_refill,
        ),
        Scenario {
            settings: Settings { cpus: 3, ..Settings::USUAL },
            ..Scenario::new(
                "cache-against-squeeze",
                REPORT,
                "two CPUs take and give frames while another one empties all caches",
                cache_against_squeeze,
            )
        },
        Scenario::new(
            "refill-against-drain",
            REPORT,
            "a CPU takes frames while another one gives up all that it has, and all of the depot",
            refill_against_drain,
        ),
        Scenario {
            settings: Settings { cpus: 2, frames: 24, ..Settings::USUAL },
            ..Scenario::new(
                "cache-of-last-frames",
                "#2370",
                "two CPUs share the last frames of a machine",
                cache_of_last_frames,
            )
        },
        Scenario::new(
            "limbo-in-one-epoch",
            "#2374",
            "three frames are retired in one epoch while a reader looks at one of them",
            limbo_in_one_epoch,
        ),
        Scenario::new(
            "limbo-against-reader",
            "#2374",
            "tables and nodes are given back while a fault of another CPU still looks at them",
            limbo_against_reader,
        ),
    ]
}

/// Frames are retired one after another while a reader may look at any of them.
fn limbo_in_one_epoch(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let phys = &kernel.mmu.phys;
    let frames = [(); 3].map(|()| {
        let frame = phys.give(phys.alloc().expect("memory"), PageKind::Wired);
        phys.write(frame, 0, &[7]);
        frame
    });
    // Number of the frame that readers are led to.
    let link = Rc::new(Atomic::<u32, Pc>::new(0));
    let (led, reader) = (Rc::clone(&link), kernel.clone());
    stage.actor(0, "reader", move || {
        let phys = &reader.mmu.phys;
        let _pin = phys.epoch.pin();
        let at = led.load(Ordering::Acquire) as usize;
        // Whoever frees it meanwhile is seen here.
        led.load(Ordering::Acquire);
        let mut found = [0];
        if let Some(frame) = frames.get(at) {
            phys.read(*frame, 0, &mut found);
            assert_eq!(found, [7], "{frame:?} was free while a reader looked at it");
        }
    });
    stage.actor(1, "writer", move || {
        let phys = &kernel.mmu.phys;
        for (number, frame) in frames.into_iter().enumerate() {
            link.store(number as u32 + 1, Ordering::Release);
            phys.retire(frame);
        }
        use_frames(phys, 3, 9);
    });
}

/// Takes `count` frames, marks them with `mark`, and gives them back if they still have it.
pub(super) fn use_frames(phys: &Phys<Pc>, count: usize, mark: u8) {
    let mut taken: Vec<Frame> = Vec::new();
    for _ in 0..count {
        let Ok(fresh) = phys.alloc() else { break };
        let frame = phys.give(fresh, PageKind::Wired);
        phys.write(frame, 0, &[mark]);
        taken.push(frame);
    }
    for frame in taken {
        let mut found = [0];
        phys.read(frame, 0, &mut found);
        assert_eq!(found, [mark], "{frame:?} was given out twice");
        phys.free(phys.take(frame));
    }
}

fn cache_refill(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    for cpu in 0..2 {
        let kernel = kernel.clone();
        stage.actor(cpu, "use", move || use_frames(&kernel.mmu.phys, 5, cpu as u8 + 1));
    }
}

fn cache_against_squeeze(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    for cpu in 0..2 {
        use_frames(&kernel.mmu.phys, 2, cpu);
    }
    let other = kernel.clone();
    for cpu in [0, 2] {
        let kernel = kernel.clone();
        stage.actor(cpu, "use", move || {
            kernel.mmu.shootdown.serves(rumpvm_platform::CpuId(cpu as u32));
            use_frames(&kernel.mmu.phys, 3, 1 + cpu as u8);
        });
    }
    stage.actor(1, "squeeze", move || {
        use_frames(&other.mmu.phys, 1, 2);
        other.mmu.squeeze();
        use_frames(&other.mmu.phys, 1, 2);
    });
}

fn refill_against_drain(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let other = kernel.clone();
    stage.actor(0, "drain", move || {
        for _ in 0..2 {
            use_frames(&kernel.mmu.phys, 1, 1);
            kernel.mmu.phys.drain();
        }
    });
    stage.actor(1, "take", move || {
        for _ in 0..2 {
            use_frames(&other.mmu.phys, 1, 2);
            other.mmu.phys.drain();
        }
    });
}

fn cache_of_last_frames(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let free = kernel.mmu.phys.free_frames() as usize;
    let own = kernel.clone();
    let mut rest = Vec::new();
    for _ in 0..free - 4 {
        let fresh = kernel.mmu.phys.alloc().expect("it is free");
        rest.push(kernel.mmu.phys.give(fresh, PageKind::Wired));
    }
    kernel.at_end(move |kernel| {
        assert_eq!(kernel.mmu.phys.free_frames(), 4);
        for frame in rest {
            kernel.mmu.phys.free(kernel.mmu.phys.take(frame));
        }
    });
    for cpu in 0..2 {
        let kernel = own.clone();
        stage.actor(cpu, "use", move || {
            use_frames(&kernel.mmu.phys, 4, cpu as u8 + 1);
            use_frames(&kernel.mmu.phys, 2, cpu as u8 + 1);
        });
    }
}

fn limbo_against_reader(stage: &Stage) {
    let kernel = Kernel::boot(stage);
    let user = kernel.user();
    user.map(NEAR, 1).expect("room");
    user.store(NEAR, 1).expect("memory");
    let twin = user.twin();
    stage.actor(0, "give back", move || {
        user.map(NEAR, 1).expect("room");
        // Every retired frame is free as soon as nobody can look at it.
        for _ in 0..3 {
            kernel.mmu.phys.epoch.advance();
        }
        kernel.mmu.phys.collect();
        use_frames(&kernel.mmu.phys, 3, 9);
    });
    stage.actor(1, "look", move || {
        assert!(matches!(twin.load(NEAR), Ok(0 | 1)));
        assert!(matches!(twin.copy_in(NEAR), Ok(0 | 1)));
    });
}
