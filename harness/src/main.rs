//! The program `rumpvm`; see the library's `cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    rumpvm_harness::cli::main()
}
