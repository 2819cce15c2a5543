//! The command line keeps its word: what it says of bad input, and what its exit status means.
//!
//! Belongs to the package of the binary, which alone can name it.

use std::process::{Command, Output};

fn rumpvm(line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rumpvm"));
    command.args(line.split_whitespace()).output().expect("the binary was built for this test")
}

/// Runs `line`, which must be refused with status 2 and with all of `words` on standard error.
fn assert_refused(line: &str, words: &[&str]) {
    let output = rumpvm(line);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{line}: {said}");
    assert!(words.iter().all(|word| said.contains(word)), "{line}: {said}");
    assert!(output.stdout.is_empty(), "{line} prints on standard output");
}

#[test]
fn bad_values_are_refused_by_name() {
    assert_refused("run server --memory lots", &["lots", "--memory", "512M"]);
    assert_refused("run server --memory 1K", &["1K", "4M"]);
    assert_refused("run server --time soon", &["soon", "--time", "60s"]);
    assert_refused("run server --cpus 0", &["0", "--cpus", "256"]);
    assert_refused("run server --seed x", &["x", "--seed"]);
    assert_refused("run server --rounds 0", &["0", "--rounds"]);
    assert_refused("boot --swap 64M", &["--swap", "does not swap yet", "--memory"]);
    assert_refused("tour --report /nonesuch/report.html", &["/nonesuch/report.html"]);
}

#[test]
fn an_unknown_workload_is_answered_with_the_known_ones() {
    let known = ["tuxload", "bulkbuild", "bigbuffer", "server", "mapstorm"];
    assert_refused("run nonesuch", &known);
    assert_refused("run", &["WORKLOAD"]);
    assert_refused("nonesuch", &["nonesuch"]);
}

#[test]
fn a_report_that_cannot_be_written_is_named() {
    let line = "run server --rounds 1 --report /nonesuch/report.html";
    assert_refused(line, &["/nonesuch/report.html"]);
}

#[test]
fn a_file_that_is_no_recording_is_refused() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    assert_refused(&format!("replay {manifest}"), &["Cargo.toml"]);
    assert_refused("replay /nonesuch.strace", &["/nonesuch.strace"]);
    assert_refused("replay", &["FILE"]);
}

#[test]
fn a_recording_that_agrees_with_linux_ends_with_status_0() {
    let recording = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/traces/sort.strace.gz");
    let output = rumpvm(&format!("replay --json {recording}"));
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said[0]["result"]["agrees"], true);
}

#[test]
fn help_shows_examples_and_every_command() {
    let output = rumpvm("--help");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success());
    for word in ["Examples:", "tour", "replay", "run", "Exit status"] {
        assert!(said.contains(word), "{word}: {said}");
    }
}

#[test]
fn json_is_one_object_that_says_whether_it_passed() {
    let output = rumpvm("run server --rounds 2 --cpus 1 --memory 32M --json");
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said["passed"], true);
    assert_eq!(said["result"]["name"], "server");
}

#[test]
fn a_run_without_a_terminal_draws_no_bar() {
    let output = rumpvm("run server --rounds 2 --cpus 1 --memory 32M");
    assert!(output.status.success());
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("check passed"));
}

#[test]
fn a_file_that_is_refused_does_not_keep_the_next_one_from_its_turn() {
    let traces = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/traces");
    let output = rumpvm(&format!("replay {traces}/README.md {traces}/sort.strace.gz"));
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stdout).contains("sort.strace.gz"));
    assert!(String::from_utf8_lossy(&output.stderr).contains("README.md"));
}

#[test]
fn a_reader_that_has_gone_is_no_failure() {
    let (reader, writer) = std::io::pipe().expect("a host with pipes");
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_rumpvm"));
    command.args(["run", "bigbuffer", "--rounds", "1", "--json"]).stdout(writer);
    assert!(command.status().expect("the binary was built for this test").success());
}

#[test]
fn a_scenario_gives_the_same_runs_in_every_process() {
    let line = "explore store-against-fork --schedules 60 --seed 3 --json";
    let hash = || {
        let output = rumpvm(line);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
        assert_eq!(said["found"], serde_json::Value::Null);
        said["hash"].clone()
    };
    assert_eq!(hash(), hash());
}

#[test]
fn a_schedule_can_be_run_again_and_told() {
    let output = rumpvm("explore store-against-fork --memory sc --replay 0.40-1");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("CPU 1"), "{said}");
}

#[test]
fn what_cannot_be_explored_is_named() {
    assert_refused("explore nonesuch", &["nonesuch", "--list"]);
    assert_refused("explore store-against-fork --replay 0.1-1", &["--memory"]);
    assert_refused("explore store-against-fork --memory sc --replay soon", &["soon", "AGENT"]);
    assert_refused("explore --cpus 9", &["9", "--cpus"]);
    assert_refused("explore store-against-fork --cpus 1", &["--cpus", "2 CPUs"]);
    assert_refused("explore --strategy luck", &["luck", "pct2"]);
}
