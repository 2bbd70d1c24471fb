//! Commands that end before anything is done.

use crate::process::chronik;

#[test]
fn help_and_version_are_answers_and_mistakes_are_failures() {
    for (args, code, on_stdout, on_stderr) in [
        (&["--version"][..], 0, "chronik ", ""),
        (&["serve", "--help"], 0, "CHRONIK_DATA_DIR", ""),
        (&[], 1, "", "Usage: chronik"),
        (&["serf"], 1, "", "serve"),
        (&["serve", "--data-dir"], 1, "", "--data-dir"),
        (&["serve", "--node-id", "x"], 1, "", "--node-id is \"x\""),
        (&["serve", "--set", "num.partition=3"], 1, "", "did you mean num.partitions?"),
        (&["serve", "--config", "/does/not/exist.toml"], 1, "", "/does/not/exist.toml"),
        (&["serve", "--listen", "0.0.0.0:9092"], 1, "", "--advertise"),
        (&["promote", "--http", "http://a:1"], 1, "", "--http is \"http://a:1\", which names a protocol"),
        (&["topic", "list", "--bootstrap", "nowhere"], 1, "", "--bootstrap is \"nowhere\""),
    ] {
        let output = chronik(args).output().unwrap();
        let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
        for (text, expected) in [(stdout, on_stdout), (stderr, on_stderr)] {
            assert_eq!(text.is_empty(), expected.is_empty(), "{args:?}: {text}");
            assert!(text.contains(expected), "{args:?} lacks {expected:?}: {text}");
        }
    }
}

#[test]
fn nobody_listening_is_told_with_what_to_do() {
    let address = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    for args in [&["topic", "list"][..], &["produce", "t"], &["consume", "t"]] {
        let output = chronik(args).env("CHRONIK_BOOTSTRAP", &address).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {stderr}");
        assert!(stderr.contains(&format!("no broker answers at {address}")), "{stderr}");
        assert!(stderr.contains("is `chronik serve` running there?"), "{stderr}");
    }
}
