//! The tables: which crate may import which, and the order of rumpvm's modules.
//!
//! This is the one place to change when a layer is added. `DESIGN.md` says why the order is what it is.

/// What one crate of the workspace may import.
pub(crate) struct CrateRule {
    /// Name of the package.
    pub(crate) name: &'static str,
    /// Packages of the workspace that it may import.
    pub(crate) below: &'static [&'static str],
    /// Packages from outside that it may import; `None` where that is no concern of the layers.
    pub(crate) outside: Option<&'static [&'static str]>,
    /// Whether it needs an operating system below it.
    pub(crate) home: Home,
    /// Where in its sources `unsafe` may stand.
    pub(crate) unsafe_in: Unsafe,
}

/// What a crate stands on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home {
    /// `core` and `alloc`: it must say `#![no_std]`.
    Bare,
    /// `std`.
    Hosted,
}

/// Where `unsafe` may stand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsafe {
    /// Nowhere.
    Nowhere,
    /// Only in these top-level modules.
    Modules(&'static [&'static str]),
    /// Anywhere: the crate's purpose is to touch the machine.
    Anywhere,
}

/// Every crate of the workspace, lowest first.
pub(crate) const CRATES: &[CrateRule] = &[
    CrateRule {
        name: "rumpvm-arch",
        below: &[],
        outside: Some(&["bitflags", "x86"]),
        home: Home::Bare,
        unsafe_in: Unsafe::Anywhere,
    },
    CrateRule {
        name: "rumpvm-platform",
        below: &["rumpvm-arch"],
        outside: Some(&[]),
        home: Home::Bare,
        // The trait promises what its callers must uphold; there are no blocks.
        unsafe_in: Unsafe::Anywhere,
    },
    CrateRule {
        name: "rumpvm",
        below: &["rumpvm-arch", "rumpvm-platform"],
        outside: Some(&["bitflags", "buddy_system_allocator", "log", "loom", "spin"]),
        home: Home::Bare,
        unsafe_in: Unsafe::Modules(&["sync", "phys", "pmap", "zone", "kmem"]),
    },
    CrateRule {
        name: "rumpvm-hosted",
        below: &["rumpvm-arch", "rumpvm-platform"],
        outside: None,
        home: Home::Hosted,
        unsafe_in: Unsafe::Anywhere,
    },
    CrateRule {
        name: "rumpvm-bare",
        below: &["rumpvm-arch", "rumpvm-platform"],
        outside: None,
        home: Home::Bare,
        unsafe_in: Unsafe::Anywhere,
    },
    CrateRule {
        name: "rumpvm-foreign",
        below: &["rumpvm-arch", "rumpvm-platform", "rumpvm"],
        outside: None,
        home: Home::Bare,
        // Its callers are C.
        unsafe_in: Unsafe::Anywhere,
    },
    CrateRule {
        name: "rumpvm-cases",
        below: &["rumpvm-arch", "rumpvm-platform", "rumpvm"],
        outside: Some(&[]),
        home: Home::Bare,
        unsafe_in: Unsafe::Nowhere,
    },
    CrateRule {
        name: "rumpvm-files",
        below: &["rumpvm-arch", "rumpvm-platform", "rumpvm"],
        outside: Some(&["bitflags", "elf", "hashbrown"]),
        home: Home::Bare,
        unsafe_in: Unsafe::Nowhere,
    },
    CrateRule {
        name: "rumpvm-image",
        below: &[
            "rumpvm-arch",
            "rumpvm-platform",
            "rumpvm",
            "rumpvm-bare",
            "rumpvm-cases",
            "rumpvm-files",
        ],
        outside: None,
        home: Home::Bare,
        // Code of programs is assembly, which Rust can only point to.
        unsafe_in: Unsafe::Modules(&["probe"]),
    },
    CrateRule {
        name: "rumpvm-explore",
        below: &["rumpvm-arch", "rumpvm-platform", "rumpvm", "rumpvm-hosted"],
        outside: None,
        home: Home::Hosted,
        // What zones hand out is freed by promise alone.
        unsafe_in: Unsafe::Modules(&["items"]),
    },
    CrateRule {
        name: "rumpvm-guest",
        below: &["rumpvm-arch", "rumpvm-platform", "rumpvm"],
        outside: None,
        home: Home::Hosted,
        // Its system calls, and its accesses to what may not be there.
        unsafe_in: Unsafe::Modules(&["system"]),
    },
    CrateRule {
        name: "rumpvm-boot",
        below: &[],
        outside: None,
        home: Home::Hosted,
        unsafe_in: Unsafe::Nowhere,
    },
    CrateRule {
        name: "rumpvm-harness",
        below: &[
            "rumpvm-boot",
            "rumpvm-arch",
            "rumpvm-platform",
            "rumpvm",
            "rumpvm-hosted",
            "rumpvm-cases",
            "rumpvm-explore",
        ],
        outside: None,
        home: Home::Hosted,
        // The host's own kernel as an oracle: raw system calls, accesses that fault, memory shared with processes.
        unsafe_in: Unsafe::Modules(&["linux"]),
    },
    CrateRule {
        name: "rumpvm-bench",
        below: &["rumpvm-arch", "rumpvm-platform", "rumpvm", "rumpvm-hosted"],
        outside: None,
        home: Home::Hosted,
        // What it stands beside has unsafe interfaces, and so have valgrind and the host's kernel.
        unsafe_in: Unsafe::Anywhere,
    },
    CrateRule {
        name: "rumpvm-tests",
        below: &[
            "rumpvm-arch",
            "rumpvm-platform",
            "rumpvm",
            "rumpvm-hosted",
            "rumpvm-cases",
            "rumpvm-explore",
            "rumpvm-files",
            "rumpvm-harness",
        ],
        outside: None,
        home: Home::Hosted,
        // A home of its own, which carries out each step on a word and notes who made it; memory as kernels get it.
        unsafe_in: Unsafe::Modules(&["sharing", "kernel_memory"]),
    },
    CrateRule {
        name: "rumpvm-loom",
        below: &["rumpvm-arch", "rumpvm-platform", "rumpvm"],
        outside: Some(&["loom"]),
        home: Home::Hosted,
        unsafe_in: Unsafe::Anywhere,
    },
    CrateRule {
        name: "xtask",
        below: &["rumpvm-boot"],
        outside: None,
        home: Home::Hosted,
        unsafe_in: Unsafe::Nowhere,
    },
];

/// The crate whose modules have an order.
pub(crate) const COMPONENT: &str = "rumpvm";

/// The one module of the component that may name atomics and locks from outside: the seam.
pub(crate) const SEAM: &str = "sync";

/// Paths that only the seam may name.
pub(crate) const SEAM_PATHS: &[&[&str]] =
    &[&["core", "sync"], &["alloc", "sync"], &["loom"], &["spin"]];

/// The modules of the component, lowest layer first. A module may import from the layers before its
/// own and from itself, not from its neighbours in the same layer.
pub(crate) const MODULES: &[&[&str]] = &[
    &["error"],
    &["sync"],
    &["stats"],
    &["phys"],
    &["radix", "pmap", "promise", "zone"],
    &["kmem"],
    &["amap", "object", "classic"],
    &["map"],
    &["fault"],
    &["space"],
    &["process", "shm"],
    &["check"],
    &["vm"],
];

/// Imports that point upward all the same, each with its reason: (module, what it imports, why).
pub(crate) const EXCEPTIONS: &[(&str, &str, &str)] = &[];
