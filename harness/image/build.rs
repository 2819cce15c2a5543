//! Hands the bare home's linker script to the linker, where the target is bare metal.

use std::env;
use std::path::Path;

fn main() {
    let script = "../../platform/bare/kernel.ld";
    println!("cargo::rerun-if-changed={script}");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return;
    }
    let here = env::var("CARGO_MANIFEST_DIR").expect("cargo says where the package is");
    let script = Path::new(&here).join(script);
    println!("cargo::rustc-link-arg-bins=-T{}", script.display());
    // Segments in the file as they lie in memory; see the script.
    println!("cargo::rustc-link-arg-bins=-zmax-page-size=4096");
}
