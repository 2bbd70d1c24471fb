//! The life of a broker process: start, the ready line, `kill -9`, `SIGTERM`, start again on the same data.
//!
//! A broker is killed when it goes out of scope, and its log is then held to the rule that an ERROR or WARN line nobody
//! announced fails the test.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{binary, http, wait};

/// Longest time to the ready line or to an exit, generous for a loaded machine.
const LIFE_BOUND: Duration = Duration::from_secs(60);

/// How a broker is to be started.
#[derive(Debug, Clone)]
pub struct Setup {
    data: PathBuf,
    listen: String,
    http: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    wrapper: Vec<String>,
    expected: Vec<String>,
}

impl Setup {
    /// A broker on this data directory, on ports of its own.
    pub fn on(data: &Path) -> Self {
        Self {
            data: data.to_owned(),
            listen: "127.0.0.1:0".to_owned(),
            http: "127.0.0.1:0".to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            wrapper: Vec::new(),
            expected: Vec::new(),
        }
    }

    /// One more setting, as `--set KEY=VALUE`.
    #[must_use]
    pub fn set(self, key: &str, value: &str) -> Self {
        self.arg("--set").arg(&format!("{key}={value}"))
    }

    /// One more argument of `serve`.
    #[must_use]
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// One more variable of the environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Without this variable, whether it was given or not.
    #[must_use]
    pub fn without_env(mut self, name: &str) -> Self {
        self.env.retain(|(given, _)| given != name);
        self
    }

    /// Announces that ERROR or WARN lines with these words belong to the test.
    #[must_use]
    pub fn expect_log(mut self, words: &[&str]) -> Self {
        self.expected.extend(words.iter().map(|words| (*words).to_owned()));
        self
    }

    /// `HOST:PORT` for Kafka clients; empty leaves `--listen` away.
    #[must_use]
    pub fn listen(mut self, address: &str) -> Self {
        self.listen = address.to_owned();
        self
    }

    /// `HOST:PORT` or `off` for HTTP; empty leaves `--http` away.
    #[must_use]
    pub fn http(mut self, address: &str) -> Self {
        self.http = address.to_owned();
        self
    }

    /// A program that is given the broker's command line to run, such as `prlimit --nofile=256`.
    #[must_use]
    pub fn under(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    fn command(&self) -> Command {
        let mut words: Vec<&std::ffi::OsStr> = self.wrapper.iter().map(AsRef::as_ref).collect();
        words.push(binary::path().as_os_str());
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg("serve").arg("--data-dir").arg(&self.data);
        for (flag, value) in [("--listen", &self.listen), ("--http", &self.http)] {
            if !value.is_empty() {
                command.args([flag, value.as_str()]);
            }
        }
        // What this process was told is not meant for the broker.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CHRONIK_")) {
            command.env_remove(name);
        }
        command.args(&self.args).envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null());
        command
    }

    /// Starts it and waits for the ready line.
    pub fn start(self) -> Broker {
        let mut broker = self.launch();
        broker.await_ready();
        broker
    }

    /// Starts it and does not wait for anything; what it serves is known where the ports were given.
    pub fn launch(self) -> Broker {
        let logs = TempDir::new().expect("a folder for logs");
        let mut broker = Broker { setup: self, child: None, lines: None, ready: Ready::default(), logs, folder: None };
        broker.launch();
        broker
    }

    /// Starts it, expecting it to refuse and exit.
    pub fn refused(&self) -> Refusal {
        let folder = TempDir::new().expect("a folder for output");
        let (out, err) = (folder.path().join("stdout"), folder.path().join("stderr"));
        let mut child = self
            .command()
            .stdout(File::create(&out).expect("a file"))
            .stderr(File::create(&err).expect("a file"))
            .spawn()
            .expect("the binary runs");
        let status = exit_within(&mut child, LIFE_BOUND);
        let read = |path: &Path| std::fs::read_to_string(path).expect("output is text");
        let refusal = Refusal { code: status.and_then(|status| status.code()), stdout: read(&out), stderr: read(&err) };
        if status.is_none() {
            child.kill().expect("it can be killed");
            child.wait().expect("it ends");
            panic!("the broker should have refused to start: {refusal:?}");
        }
        refusal
    }
}

/// How a broker refused to start.
#[derive(Debug)]
pub struct Refusal {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Refusal {
    /// Asserts what every refusal has in common: exit code 1, no ready line, and one error that has all of `words`.
    pub fn assert_names(&self, words: &[&str]) {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert_eq!(self.stdout, "", "nothing on standard output: {self:?}");
        assert!(!self.stderr.contains("panicked"), "{self:?}");
        let lower = self.stderr.to_lowercase();
        for word in words {
            assert!(lower.contains(&word.to_lowercase()), "no {word:?} in {self:?}");
        }
    }
}

/// What the ready line says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ready {
    /// `HOST:PORT` for Kafka clients.
    pub kafka: String,
    /// `HOST:PORT` for HTTP, or `off`.
    pub http: String,
    /// The data directory.
    pub data: String,
    /// Number of topics served.
    pub topics: u64,
    /// Number of partitions served.
    pub partitions: u64,
    /// Milliseconds from the start of the process.
    pub took_ms: u64,
}

impl Ready {
    /// Reads the line; `None` if it is another one.
    pub fn parse(line: &str) -> Option<Self> {
        let mut fields = line.strip_prefix("chronik ready: ")?.split(' ');
        let mut field = |name: &str| fields.next()?.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
        Some(Self {
            kafka: field("kafka")?,
            http: field("http")?,
            data: field("data")?,
            topics: field("topics")?.parse().ok()?,
            partitions: field("partitions")?.parse().ok()?,
            took_ms: field("took")?.strip_suffix("ms")?.parse().ok()?,
        })
    }
}

/// A broker that runs, or did until it was ended.
#[derive(Debug)]
pub struct Broker {
    setup: Setup,
    child: Option<Child>,
    lines: Option<mpsc::Receiver<String>>,
    ready: Ready,
    logs: TempDir,
    folder: Option<TempDir>,
}

impl Broker {
    /// A broker with the shipped defaults on a fresh data directory of its own.
    pub fn fresh() -> Self {
        Self::fresh_with(|setup| setup)
    }

    /// Like [`Broker::fresh`], with some settings.
    ///
    /// With `CHRONIK_E2E_BOOTSTRAP` it is the broker there, whatever that is: so a test that needs no process of its own is tried on
    /// Apache Kafka first.
    pub fn fresh_with(change: impl FnOnce(Setup) -> Setup) -> Self {
        if let Ok(kafka) = std::env::var("CHRONIK_E2E_BOOTSTRAP") {
            let logs = TempDir::new().expect("a folder for logs");
            let setup = Setup::on(Path::new("elsewhere")).listen(&kafka);
            let ready = Ready { kafka, ..Ready::default() };
            return Self { setup, child: None, lines: None, ready, logs, folder: None };
        }
        let folder = TempDir::new().expect("a folder for data");
        let mut broker = change(Setup::on(&folder.path().join("data"))).start();
        broker.folder = Some(folder);
        broker
    }

    /// Starts it on what is there; the ports stay what they were.
    pub fn start(&mut self) -> Ready {
        self.launch();
        self.await_ready()
    }

    /// Starts it on what is there and does not wait for anything.
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let log = File::options().create(true).append(true).open(self.log_path()).expect("a log file");
        let mut child = self.setup.command().stdout(Stdio::piped()).stderr(log).spawn().expect("the binary runs");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        self.child = Some(child);
        let (send, receive) = mpsc::channel();
        // The thread ends with the process: it holds the other end of the pipe.
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| send.send(line)));
        self.lines = Some(receive);
        (self.ready.kafka, self.ready.http) = (self.setup.listen.clone(), self.setup.http.clone());
    }

    /// Waits for the ready line of a broker that was launched.
    pub fn await_ready(&mut self) -> Ready {
        let lines = self.lines.take().expect("it was launched");
        let line = lines.recv_timeout(LIFE_BOUND);
        let ready = line.as_deref().ok().and_then(Ready::parse);
        self.ready = ready.unwrap_or_else(|| panic!("no ready line but {line:?}; log:\n{}", self.log_text()));
        // Clients that reconnect look for it where it was.
        self.setup.listen.clone_from(&self.ready.kafka);
        self.setup.http.clone_from(&self.ready.http);
        self.ready.clone()
    }

    /// Whether a broker that was launched has not printed its ready line.
    pub fn is_not_ready(&self) -> bool {
        let lines = self.lines.as_ref().expect("it was launched, and nobody waited for it");
        matches!(lines.try_recv(), Err(mpsc::TryRecvError::Empty))
    }

    /// Changes how it is started from the next time on.
    pub fn change(&mut self, change: impl FnOnce(Setup) -> Setup) {
        self.setup = change(self.setup.clone());
    }

    /// What the last ready line said.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// `HOST:PORT` for Kafka clients.
    pub fn bootstrap(&self) -> &str {
        &self.ready.kafka
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.setup.data
    }

    /// The folder of a partition's segments.
    pub fn partition_folder(&self, topic: &str, partition: i32) -> PathBuf {
        self.setup.data.join("wal").join(topic).join(partition.to_string())
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Whether the process has not ended.
    pub fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().expect("it can be asked").is_none())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("it can be signalled");
    }

    /// `kill -9`, at once.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.exit();
    }

    /// Ends it cleanly and gives its exit status.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.exit()
    }

    /// Waits for its end.
    pub fn exit(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        exit_within(&mut child, LIFE_BOUND).unwrap_or_else(|| {
            child.kill().expect("it can be killed");
            child.wait().expect("it ends");
            panic!("it did not end; log:\n{}", self.log_text())
        })
    }

    /// Announces that ERROR or WARN lines with these words belong to the test.
    pub fn expect_log(&mut self, words: &str) {
        self.setup.expected.push(words.to_owned());
    }

    fn log_path(&self) -> PathBuf {
        self.logs.path().join("stderr")
    }

    /// Everything it logged, over all its starts.
    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    /// `HOST:PORT` for HTTP.
    pub fn http(&self) -> &str {
        &self.ready.http
    }

    /// Status and body of `GET path`.
    pub fn get(&self, path: &str) -> (u16, String) {
        http::get(&self.ready.http, path)
    }

    /// The sum of a metric's samples over all labels; `None` when it has none.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics");
        let values: Vec<f64> = text
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])))
            .filter_map(|line| line.rsplit_once(' ')?.1.parse().ok())
            .collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
        if std::thread::panicking() {
            let log = self.log_text();
            let alarming = |line: &&str| [" ERROR ", " WARN ", "panicked"].iter().any(|word| line.contains(word));
            let alarms: Vec<&str> = log.lines().filter(alarming).collect();
            eprintln!("--- the broker's alarms, the last of {}\n{}", alarms.len(), last(&alarms, 20));
            eprintln!("--- the broker's log, its end\n{}", last(&log.lines().collect::<Vec<_>>(), 20));
            return;
        }
        let log = self.log_text();
        let unexpected: Vec<&str> = log
            .lines()
            .filter(|line| {
                ["ERROR", "WARN", "panicked"].iter().any(|word| line.split_whitespace().any(|found| found == *word))
            })
            .filter(|line| !self.setup.expected.iter().any(|words| line.contains(words.as_str())))
            .collect();
        let shown = &unexpected[..unexpected.len().min(20)];
        assert!(unexpected.is_empty(), "{} lines nobody announced:\n{}", unexpected.len(), shown.join("\n"));
    }
}

fn last(lines: &[&str], count: usize) -> String {
    lines[lines.len().saturating_sub(count)..].join("\n")
}

fn exit_within(child: &mut Child, bound: Duration) -> Option<ExitStatus> {
    let started = std::time::Instant::now();
    wait::until("an exit or the bound", bound * 2, || match child.try_wait().expect("it can be asked") {
        Some(status) => Some(Some(status)),
        None => (started.elapsed() > bound).then_some(None),
    })
}

/// A port below the range from which the system takes the ports of outgoing connections. A client that keeps trying to reach a
/// broker while that is down could else be connected to itself, and hold the port.
///
/// No port is given out twice in this process: it may be a while until somebody listens on it.
pub fn steady_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut random = crate::seed::Random::from_parts(&[std::process::id().into(), now_nanos()]);
    loop {
        let port = u16::try_from(random.between(15_000, 32_000)).expect("below 65536");
        let is_new = GIVEN.lock().expect("nobody panics with it").insert(port);
        if is_new && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn now_nanos() -> u64 {
    std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.subsec_nanos().into())
}
