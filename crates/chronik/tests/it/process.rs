//! Running the command: a broker of one's own on a free port, and commands that talk to it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The command with nothing of this process's environment.
pub(crate) fn chronik(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chronik"));
    command.args(args).env_clear().stdin(Stdio::null());
    command
}

/// A broker on a fresh directory. It is stopped when this is dropped.
pub(crate) struct Broker {
    process: Child,
    pub(crate) address: String,
    pub(crate) http: String,
    folder: TempDir,
}

impl Broker {
    pub(crate) fn start() -> Self {
        Self::start_in(TempDir::new().unwrap(), "off")
    }

    /// A broker on what lies in `folder`, if anything does, with its HTTP address.
    pub(crate) fn start_in(folder: TempDir, http: &str) -> Self {
        let data = folder.path().join("data");
        let args = ["serve", "--listen", "127.0.0.1:0", "--http", http, "--data-dir", data.to_str().unwrap()];
        let mut process = chronik(&args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let fields = line.strip_prefix("chronik ready: ").unwrap_or_else(|| panic!("no ready line but {line:?}"));
        let field = |name: &str| fields.split(' ').find_map(|field| field.strip_prefix(name)).unwrap().to_owned();
        Self { process, address: field("kafka="), http: field("http="), folder }
    }

    /// Stops it and starts two brokers on what it has.
    pub(crate) fn doubled(mut self) -> [Self; 2] {
        self.stop();
        let (first, second) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        for copy in [&first, &second] {
            copy_folder(self.folder.path(), copy.path());
        }
        [Self::start_in(first, "off"), Self::start_in(second, "off")]
    }

    /// A client command against this broker.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = chronik(args);
        command.env("CHRONIK_BOOTSTRAP", &self.address);
        command
    }

    /// Runs a client command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a client command with `input` on its standard input.
    pub(crate) fn run_with(&self, args: &[&str], input: &str) -> Output {
        let mut command = self.command(args);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Written and closed before waiting: these commands say little, so nothing fills up meanwhile.
        process.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        process.wait_with_output().unwrap()
    }

    /// Standard output of a client command that must succeed.
    pub(crate) fn output(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Broker {
    fn stop(&mut self) {
        if let Some(pid) = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.process.wait();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop();
    }
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let copy = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&copy).unwrap();
            copy_folder(&entry.path(), &copy);
        } else {
            std::fs::copy(entry.path(), &copy).unwrap();
        }
    }
}
