//! Child processes that cannot outlive their test.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

pub use rustix::process::Signal;

use crate::wait;

/// A running program whose output goes into a file. Dropping it kills it; after a failed test the end of its output
/// is printed.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

/// The number of `syncfs` on this machine.
const SYNCFS: &str = if cfg!(target_arch = "x86_64") {
    "306"
} else {
    "267"
};

impl Process {
    /// Starts `argv`, with its output going into `log`.
    ///
    /// `setpriv` has the kernel kill the program when this thread ends, so that nothing stays behind when the tests
    /// are killed.
    pub fn start(name: &str, argv: &[String], log: &Path) -> Process {
        let out = File::options().create(true).append(true).open(log);
        let out = out.unwrap_or_else(|e| panic!("{}: {e}", log.display()));
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .args(argv)
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("a second handle of a log file"))
            .stderr(out)
            .spawn()
            .unwrap_or_else(|e| panic!("setpriv (Debian package util-linux): {e}"));
        Process {
            name: name.to_owned(),
            child,
            log: log.to_path_buf(),
            ended: None,
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The id of its thread of this name, if there is one.
    pub fn thread(&self, name: &str) -> Option<u32> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).ok()?;
        let mut tasks = tasks.flatten();
        let named = |task: &fs::DirEntry| {
            let comm = fs::read_to_string(task.path().join("comm"));
            comm.is_ok_and(|comm| comm.trim_end() == name)
        };
        tasks.find(named)?.file_name().to_str()?.parse().ok()
    }

    /// Whether one of its threads waits in `syncfs` for the disk that is mounted there.
    pub fn syncs(&self, mounted: &Path) -> bool {
        let proc = PathBuf::from(format!("/proc/{}", self.pid()));
        let waits = |task: fs::DirEntry| {
            let call = fs::read_to_string(task.path().join("syscall")).ok()?;
            let mut words = call.split(' ');
            let descriptor = words
                .next()
                .filter(|&number| number == SYNCFS)
                .and_then(|_| words.next()?.strip_prefix("0x"))?;
            let descriptor = u32::from_str_radix(descriptor, 16).ok()?;
            let folder = fs::read_link(proc.join(format!("fd/{descriptor}"))).ok()?;
            Some(folder.starts_with(mounted))
        };
        let tasks = fs::read_dir(proc.join("task"));
        tasks.is_ok_and(|tasks| tasks.flatten().any(|task| waits(task) == Some(true)))
    }

    /// Its output so far.
    pub fn output(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\r', "\n")
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("waiting for a child");
        }
        self.ended
    }

    /// Panics if it has ended.
    pub fn assert_alive(&mut self) {
        if let Some(status) = self.ended() {
            panic!("{} ended early: {status}", self.name);
        }
    }

    /// Sends a signal.
    pub fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            let pid = rustix::process::Pid::from_child(&self.child);
            rustix::process::kill_process(pid, signal).expect("signalling a child");
        }
    }

    /// Waits for its end. Returns the exit code, or 128 and more for a signal, as shells do.
    pub fn wait(&mut self, timeout: Duration) -> i32 {
        let what = format!("{} to end", self.name);
        let status = wait(&what, timeout, || self.ended());
        let by_signal = || status.signal().map(|s| 128 + s);
        status.code().or_else(by_signal).unwrap_or(-1)
    }

    /// The most memory that it ever used, in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.of_proc("status", "VmHWM:") * 1024
    }

    /// A number in a file of its `/proc`, as it stands there.
    pub fn of_proc(&self, file: &str, key: &str) -> u64 {
        let path = format!("/proc/{}/{file}", self.pid());
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        let line = text.lines().find_map(|l| l.strip_prefix(key));
        let number = line.and_then(|l| l.trim().trim_end_matches(" kB").parse().ok());
        number.unwrap_or_else(|| panic!("{path} has no {key}"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let ended = self.ended();
        if ended.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            let state = ended.map_or("was running".to_owned(), |s| s.to_string());
            let output = self.output();
            let lines: Vec<&str> = output.lines().filter(|l| !l.trim().is_empty()).collect();
            let tail = &lines[lines.len().saturating_sub(TAIL)..];
            eprintln!("---- {} ({state}) said at the end:", self.name);
            for line in tail {
                eprintln!("     {line}");
            }
        }
    }
}

/// The lines of a program's output that are shown when a test fails.
const TAIL: usize = 40;

/// The path of a program; panics with the name of its Debian package if it is missing.
pub fn program(name: &str, package: &str) -> String {
    find(name).unwrap_or_else(|| {
        panic!("{name} is not installed: apt-get install {package} (tests/run does that)")
    })
}

/// The path of a program, if it is installed.
pub fn find(name: &str) -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let places = path.split(':').chain(["/usr/bin", "/usr/sbin", "/sbin"]);
    let found = places
        .map(|place| Path::new(place).join(name))
        .find(|path| path.is_file());
    found.map(|path| path.to_string_lossy().into_owned())
}
