//! What this CPU can do, and turning it on.
//!
//! What is missing is worked without, except for what nothing here could run without: that is named, and the
//! machine stops. All CPUs of a machine are taken to be alike, as in every PC.

use spin::Once;
use x86::controlregs::{Cr0, Cr4, Xcr0};
use x86::cpuid::{CpuId, Hypervisor};
use x86::msr;

/// Features that make a difference here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Features {
    /// Pages that cannot be executed.
    pub(crate) nx: bool,
    /// Pages of 1 GiB.
    pub(crate) huge_pages: bool,
    /// Translations that survive a change of root.
    pub(crate) global_pages: bool,
    /// The kernel cannot execute pages of programs.
    pub(crate) smep: bool,
    /// Nor load from them and store to them.
    pub(crate) smap: bool,
    /// Programs cannot ask where descriptor tables are.
    pub(crate) umip: bool,
    /// The interrupt controller is reached through model-specific registers.
    pub(crate) x2apic: bool,
    /// FPU state is saved by `xsave`, which knows newer registers than `fxsave`.
    pub(crate) xsave: bool,
    /// Bytes of it.
    pub(crate) fpu_bytes: usize,
    /// Which registers of it there are.
    pub(crate) fpu_parts: u64,
    /// Frequency of the time stamp counter, if the CPU tells.
    pub(crate) tsc_hz: Option<u64>,
    /// The local timer counts nanoseconds: QEMU's and KVM's do.
    pub(crate) nanosecond_timer: bool,
}

static FEATURES: Once<Features> = Once::new();

/// What [`detect`] found.
#[inline]
pub(crate) fn features() -> &'static Features {
    FEATURES.get().expect("features are detected first of all")
}

/// Asks the CPU, or stops the machine naming what is missing.
pub(crate) fn detect() -> &'static Features {
    FEATURES.call_once(|| {
        let cpuid = CpuId::new();
        let basic = cpuid.get_feature_info();
        let has = |what: fn(&x86::cpuid::FeatureInfo) -> bool| basic.as_ref().is_some_and(what);
        for (there, name) in [
            (has(|cpu| cpu.has_msr()), "model-specific registers (MSR)"),
            (has(|cpu| cpu.has_tsc()), "a time stamp counter (TSC)"),
            (has(|cpu| cpu.has_apic()), "a local interrupt controller (APIC)"),
            (has(|cpu| cpu.has_fxsave_fxstor()), "FXSAVE"),
            (has(|cpu| cpu.has_sse2()), "SSE2"),
        ] {
            assert!(there, "this processor lacks {name}, which rumpvm needs");
        }
        let extended = cpuid.get_extended_feature_info();
        let more =
            |what: fn(&x86::cpuid::ExtendedFeatures) -> bool| extended.as_ref().is_some_and(what);
        let identity = cpuid.get_extended_processor_and_feature_identifiers();
        let amd = |what: fn(&x86::cpuid::ExtendedProcessorFeatureIdentifiers) -> bool| {
            identity.as_ref().is_some_and(what)
        };
        let xsave = has(|cpu| cpu.has_xsave());
        let (fpu_bytes, fpu_parts) = fpu(&cpuid, xsave);
        Features {
            nx: amd(|cpu| cpu.has_execute_disable()),
            huge_pages: amd(|cpu| cpu.has_1gib_pages()),
            global_pages: has(|cpu| cpu.has_pge()),
            smep: more(|cpu| cpu.has_smep()),
            smap: more(|cpu| cpu.has_smap()),
            umip: more(|cpu| cpu.has_umip()),
            x2apic: has(|cpu| cpu.has_x2apic()),
            xsave,
            fpu_bytes,
            fpu_parts,
            tsc_hz: cpuid.get_tsc_info().and_then(|tsc| tsc.tsc_frequency()),
            nanosecond_timer: has_nanosecond_timer(&cpuid),
        }
    })
}

/// Size of the FPU's state, and its parts: what there is of x87, SSE, AVX and AVX-512.
fn fpu(cpuid: &CpuId, xsave: bool) -> (usize, u64) {
    /// `fxsave` writes so many bytes.
    const PLAIN: usize = 512;
    let wanted = Xcr0::XCR0_FPU_MMX_STATE
        | Xcr0::XCR0_SSE_STATE
        | Xcr0::XCR0_AVX_STATE
        | Xcr0::XCR0_OPMASK_STATE
        | Xcr0::XCR0_ZMM_HI256_STATE
        | Xcr0::XCR0_HI16_ZMM_STATE;
    match cpuid.get_extended_state_info() {
        Some(state) if xsave => {
            // Leaf 13, subleaf 0: what XCR0 may hold, and how much all of that takes.
            let there = u64::from(x86::cpuid::cpuid!(13, 0).eax);
            (state.xsave_area_size_supported_features() as usize, wanted.bits() & there)
        }
        _ => (PLAIN, 0),
    }
}

fn has_nanosecond_timer(cpuid: &CpuId) -> bool {
    let Some(hypervisor) = cpuid.get_hypervisor_info() else { return false };
    match hypervisor.identify() {
        Hypervisor::KVM | Hypervisor::QEMU => true,
        // "TCGTCGTCGTCG", QEMU without hardware's help.
        Hypervisor::Unknown(ebx, _, _) => ebx == u32::from_le_bytes(*b"TCGT"),
        _ => false,
    }
}

/// Turns on in this CPU what [`detect`] found.
pub(crate) fn turn_on(features: &Features) {
    let mut cr4 = Cr4::CR4_ENABLE_PAE
        | Cr4::CR4_ENABLE_MACHINE_CHECK
        | Cr4::CR4_ENABLE_SSE
        | Cr4::CR4_UNMASKED_SSE;
    cr4.set(Cr4::CR4_ENABLE_GLOBAL_PAGES, features.global_pages);
    cr4.set(Cr4::CR4_ENABLE_SMEP, features.smep);
    cr4.set(Cr4::CR4_ENABLE_SMAP, features.smap);
    cr4.set(Cr4::CR4_ENABLE_UMIP, features.umip);
    cr4.set(Cr4::CR4_ENABLE_OS_XSAVE, features.xsave);
    // SAFETY: every bit is one whose feature the CPU has, and the kernel's tables map no page for programs
    // that the kernel uses, so SMEP and SMAP take nothing away from it.
    unsafe {
        x86::controlregs::cr4_write(cr4);
        let cr0 = x86::controlregs::cr0();
        x86::controlregs::cr0_write(
            (cr0 | Cr0::CR0_WRITE_PROTECT | Cr0::CR0_MONITOR_COPROCESSOR | Cr0::CR0_NUMERIC_ERROR)
                - Cr0::CR0_EMULATE_COPROCESSOR
                - Cr0::CR0_TASK_SWITCHED,
        );
        if features.xsave {
            x86::controlregs::xcr0_write(Xcr0::from_bits_truncate(features.fpu_parts));
        }
        let mut efer = msr::rdmsr(msr::IA32_EFER) | SYSCALL;
        if features.nx {
            efer |= NO_EXECUTE;
        }
        msr::wrmsr(msr::IA32_EFER, efer);
    }
}

/// Bits of EFER.
const SYSCALL: u64 = 1 << 0;
const NO_EXECUTE: u64 = 1 << 11;
