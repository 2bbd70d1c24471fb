//! Every target over its committed corpus: one run of each input, without instrumentation, on the stable toolchain.

use std::path::{Path, PathBuf};
use std::process::Command;

fn inputs(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut inputs: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    inputs
}

fn check(target: &str, executable: &str) {
    let inputs = inputs(target);
    assert!(!inputs.is_empty(), "{target} has no corpus");
    for chunk in inputs.chunks(500) {
        let run = Command::new(executable).args(chunk).output().unwrap();
        let log = String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success(), "{target} fails:\n{log}");
        assert_eq!(log.matches("Executed ").count(), chunk.len(), "{target} did not run every input:\n{log}");
    }
}

macro_rules! targets {
    ($($target:ident)*) => {
        $(
            #[test]
            fn $target() {
                check(stringify!($target), env!(concat!("CARGO_BIN_EXE_", stringify!($target))));
            }
        )*
    };
}

targets! { log_recovery record_batch record_compression replication_frame sync_journal wire_frame wire_request }
