//! Tells the program which compiler makes it: the baseline is one compiler's.

use std::process::Command;

fn main() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output().expect("the compiler starts");
    let version = String::from_utf8(output.stdout).expect("a version is text");
    let words: Vec<&str> = version.split_whitespace().take(2).collect();
    println!("cargo::rustc-env=RUMPVM_RUSTC={}", words.join(" "));
    println!("cargo::rerun-if-changed=build.rs");
}
