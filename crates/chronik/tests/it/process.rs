//! Running the command: a broker of one's own on a free port, and commands that talk to it.

use std::io::{BufRead as _, BufReader, Write as _};
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
    _folder: TempDir,
}

impl Broker {
    pub(crate) fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let data = folder.path().join("data");
        let args = ["serve", "--listen", "127.0.0.1:0", "--http", "off", "--data-dir", data.to_str().unwrap()];
        let mut process = chronik(&args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let fields = line.strip_prefix("chronik ready: ").unwrap_or_else(|| panic!("no ready line but {line:?}"));
        let address = fields.split(' ').find_map(|field| field.strip_prefix("kafka=")).unwrap().to_owned();
        Self { process, address, _folder: folder }
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

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.process.wait();
    }
}
