//! The `everseed` under test.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use crate::client::Download;
use crate::dir::{Dir, target};
use crate::peer::InfoHash;
use crate::process::{Process, Signal};
use crate::{PATIENCE, wait};

/// The command line of `everseed seed`. [`start`](Setup::start) may be called again, for a restart.
#[derive(Clone, Debug)]
pub struct Setup {
    wrapper: Vec<String>,
    args: Vec<String>,
    listen: Vec<SocketAddr>,
    up_bps: Option<u64>,
}

impl Setup {
    /// `everseed seed PATH`, listening at `listen`.
    pub fn new(path: &Path, listen: SocketAddr) -> Setup {
        Setup {
            wrapper: Vec::new(),
            args: vec![path.display().to_string()],
            listen: vec![listen],
            up_bps: None,
        }
    }

    /// Adds arguments.
    pub fn args<S: ToString>(mut self, args: impl IntoIterator<Item = S>) -> Setup {
        self.args.extend(args.into_iter().map(|a| a.to_string()));
        self
    }

    /// Starts it through another program, which runs the rest of the command line.
    pub fn under<S: ToString>(mut self, wrapper: impl IntoIterator<Item = S>) -> Setup {
        self.wrapper = wrapper.into_iter().map(|a| a.to_string()).collect();
        self
    }

    /// Sets the folder of a torrent's files.
    pub fn data(self, dir: &Path) -> Setup {
        self.args(["--data", &dir.display().to_string()])
    }

    /// Adds an address to listen on.
    pub fn listen(mut self, addr: SocketAddr) -> Setup {
        self.listen.push(addr);
        self
    }

    /// Limits the upload rate; `None` is no limit.
    pub fn up_bps(mut self, up_bps: Option<u64>) -> Setup {
        self.up_bps = up_bps;
        self
    }

    /// Starts it with its state in `dir`, and waits until it seeds.
    pub fn start(&self, dir: &Dir) -> Seeder {
        let mut argv = self.wrapper.clone();
        argv.extend([everseed(), "seed".to_owned()]);
        argv.extend(self.args.iter().cloned());
        for addr in &self.listen {
            argv.extend(["--listen".to_owned(), addr.to_string()]);
        }
        if let Some(rate) = self.up_bps {
            argv.extend(["--up".to_owned(), rate.to_string()]);
        }
        argv.push("--state".to_owned());
        argv.push(dir.sub("state").display().to_string());
        let log = dir.join("everseed.log");
        let _ = std::fs::remove_file(&log);
        let process = Process::start("everseed", &argv, &log);
        let mut seeder = Seeder { process };
        wait("everseed to seed", PATIENCE, || {
            let listening = seeder.values("listening").len() == self.listen.len();
            let ready = listening && !seeder.values("seeding").is_empty();
            seeder.process.assert_alive();
            ready.then_some(())
        });
        seeder
    }
}

/// A running `everseed seed`.
#[derive(Debug)]
pub struct Seeder {
    /// The process.
    pub process: Process,
}

impl Seeder {
    /// The lines of a configuration that download its torrent from it.
    pub fn entry(&self, out: &Path) -> String {
        let (torrent, out) = (self.torrent(), out.display());
        let torrent = torrent.display();
        format!(
            "[[get]]\ntorrent = \"{torrent}\"\nout = \"{out}\"\npeer = \"{}\"\n",
            self.addr()
        )
    }

    /// The first address on which it listens.
    pub fn addr(&self) -> SocketAddr {
        let value = self.value("listening");
        value.parse().unwrap_or_else(|e| panic!("{value}: {e}"))
    }

    /// The torrent file of the first torrent that it seeds.
    pub fn torrent(&self) -> PathBuf {
        self.value("torrent").into()
    }

    /// The info-hash of the first torrent that it seeds.
    pub fn info_hash(&self) -> InfoHash {
        InfoHash::parse(&self.value("info-hash"))
    }

    /// The first value that it printed as `KEY: VALUE`.
    pub fn value(&self, key: &str) -> String {
        let first = self.values(key).into_iter().next();
        first.unwrap_or_else(|| panic!("everseed printed no `{key}:` line"))
    }

    /// All values that it printed as `KEY: VALUE`.
    pub fn values(&self, key: &str) -> Vec<String> {
        let output = self.process.output();
        let value = |line: &str| Some(line.strip_prefix(key)?.strip_prefix(": ")?.to_owned());
        output.lines().filter_map(value).collect()
    }

    /// Stops it as a service manager would; it has to succeed.
    pub fn stop(&mut self) {
        self.process.signal(Signal::TERM);
        assert_eq!(
            self.process.wait(STOP_TIMEOUT),
            0,
            "exit code after SIGTERM"
        );
    }
}

/// A running `everseed get`.
#[derive(Debug)]
pub struct Getter {
    /// Its process.
    pub process: Process,
    dir: Dir,
}

impl Getter {
    /// Starts `everseed get TORRENT` with its state and files in `dir`, listening at `listen`.
    pub fn start(torrent: &Path, listen: SocketAddr, dir: Dir, args: &[&str]) -> Getter {
        Getter::start_in(torrent, listen, dir, args, &[])
    }

    /// As [`start`](Getter::start), through another program, which runs the rest of the command line.
    pub fn start_in(
        torrent: &Path,
        listen: SocketAddr,
        dir: Dir,
        args: &[&str],
        wrapper: &[String],
    ) -> Getter {
        let mut argv = wrapper.to_vec();
        argv.extend([everseed(), "get".to_owned(), torrent.display().to_string()]);
        argv.extend(["--listen".to_owned(), listen.to_string()]);
        argv.extend(["--out".to_owned(), dir.join("files").display().to_string()]);
        argv.extend(["--state".to_owned(), dir.sub("state").display().to_string()]);
        argv.extend(args.iter().map(|a| (*a).to_owned()));
        let process = Process::start("everseed get", &argv, &dir.join("get.log"));
        Getter { process, dir }
    }

    /// The folder of its files.
    pub fn files(&self) -> PathBuf {
        self.dir.join("files")
    }

    /// Waits until it prints a line that contains `text`.
    pub fn wait_for(&mut self, text: &str) {
        let what = format!("everseed get to say {text:?}");
        wait(&what, PATIENCE, || {
            let said = self.process.output().contains(text);
            if !said {
                self.process.assert_alive();
            }
            said.then_some(())
        });
    }

    /// Waits for its end; returns the exit code and its folder.
    pub fn end(mut self) -> (i32, Dir) {
        let code = self.process.wait(PATIENCE);
        (code, self.dir)
    }

    /// As [`end`](Getter::end), while the client from which it downloads is kept alive.
    pub fn end_beside(mut self, seeder: &mut Download) -> (i32, Dir) {
        wait("everseed get to end", PATIENCE, || {
            let ended = self.process.ended();
            if ended.is_none() {
                seeder.look_after();
            }
            ended
        });
        self.end()
    }

    /// Asks it to stop.
    pub fn stop(mut self) -> (i32, Dir) {
        self.process.signal(Signal::TERM);
        self.end()
    }

    /// Kills it.
    pub fn kill(mut self) -> Dir {
        self.process.signal(Signal::KILL);
        self.end().1
    }
}

/// The longest time that stopping may take: as long as it waits for a tracker that does not answer.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs `everseed` to its end.
pub fn run<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Output {
    let program = everseed();
    let output = Command::new(&program).args(args).output();
    output.unwrap_or_else(|e| panic!("{program}: {e}"))
}

/// Makes a torrent of `path` at `out` with `everseed make`; returns its info-hash.
pub fn make(path: &Path, out: &Path, args: &[&str]) -> InfoHash {
    let (from, to) = (path.to_string_lossy(), out.to_string_lossy());
    let first = ["make", &from, "-o", &to];
    let output = run(first.iter().chain(args));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "everseed make: {stdout}{stderr}");
    info_hash(out)
}

/// The info-hash of a torrent, from `everseed show`.
pub fn info_hash(torrent: &Path) -> InfoHash {
    let output = run([Path::new("show"), torrent]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut words = text.split_whitespace();
    let hash = words.find(|w| w.len() == 40 && w.bytes().all(|b| b.is_ascii_hexdigit()));
    InfoHash::parse(hash.unwrap_or_else(|| panic!("everseed show names no info-hash: {text}")))
}

/// The binary: `EVERSEED` in the environment, or the release build.
pub fn everseed() -> String {
    if let Ok(path) = std::env::var("EVERSEED") {
        return path;
    }
    let path = target().join("release/everseed");
    let shown = path.display().to_string();
    assert!(
        path.is_file(),
        "{shown} is not there: cargo build --release (or set EVERSEED to the binary)"
    );
    shown
}

/// The number of pieces of a torrent, from `everseed show`.
pub fn pieces(torrent: &Path) -> usize {
    let output = run([Path::new("show"), torrent]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|l| l.starts_with("pieces:"));
    let words = line.and_then(|l| l.split_whitespace().nth(1));
    let number = words.and_then(|w| w.parse().ok());
    number.unwrap_or_else(|| panic!("everseed show names no number of pieces: {text}"))
}

/// Bytes of content that a seeder with its state in `dir` has ever sent, from the record that it wrote when it
/// stopped.
pub fn sent(dir: &Dir, hash: &InfoHash) -> u64 {
    let path = dir.join(format!("state/{hash}.resume"));
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    // After 9 bytes of head and the info-hash: 7 bits in each byte, the lowest first.
    let number = bytes.get(29..).expect("a whole record");
    let end = number.iter().position(|b| b & 0x80 == 0).expect("a number");
    let bits = number[..=end].iter().rev();
    bits.fold(0, |sum, b| (sum << 7) | u64::from(b & 0x7f))
}
