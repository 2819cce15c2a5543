//! Every file that the fuzzers keep, once more: those that found something stay found.

use std::fs;
use std::path::Path;

use rumpvm_tests::inputs::ALL;

const CORPORA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../harness/fuzz/corpus");

/// A corpus is committed, so it stays small.
const MOST: u64 = 1 << 20;

#[test]
fn every_file_of_the_corpora_passes() {
    let mut bytes = 0;
    for (name, take) in ALL {
        let folder = Path::new(CORPORA).join(name);
        let mut files = 0;
        for entry in fs::read_dir(&folder).expect("each fuzzer has a corpus") {
            let path = entry.expect("a readable folder").path();
            // The last one printed is the culprit.
            println!("{}", path.display());
            let input = fs::read(&path).expect("a readable file");
            take(&input);
            bytes += input.len() as u64;
            files += 1;
        }
        assert!(files > 0, "{} is empty", folder.display());
    }
    assert!(
        bytes <= MOST,
        "the corpora have {bytes} bytes: minimize them (`cargo xtask fuzz --keep`)"
    );
}

#[test]
fn every_fuzzer_has_its_kind_of_input() {
    let manifest =
        fs::read_to_string(Path::new(CORPORA).join("../Cargo.toml")).expect("a manifest");
    for (name, _) in ALL {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is no fuzzer");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), ALL.len());
}
