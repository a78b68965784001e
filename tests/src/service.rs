//! A running `everseed run`, the service.

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

use crate::dir::Dir;
use crate::process::{Process, Signal};
use crate::seeder::everseed;
use crate::{PATIENCE, wait};

/// A running service. Its configuration is `everseed.toml` in its folder, its state beside it.
#[derive(Debug)]
pub struct Service {
    /// The process.
    pub process: Process,
    dir: PathBuf,
    state: PathBuf,
}

impl Service {
    /// Starts it with this configuration, to which the state and the address are added. `wrapper` is a program that
    /// runs the rest of the command line.
    pub fn start(dir: &Dir, listen: impl Display, config: &str, wrapper: &[String]) -> Service {
        Service::start_at(dir, &dir.join("state"), listen, config, wrapper)
    }

    /// As [`start`](Service::start), with its state in another folder.
    pub fn start_at(
        dir: &Dir,
        state: &Path,
        listen: impl Display,
        config: &str,
        wrapper: &[String],
    ) -> Service {
        configure(dir.path(), state, listen, config);
        let log = dir.join("run.log");
        let _ = fs::remove_file(&log);
        let file = dir.join("everseed.toml").display().to_string();
        let mut argv = wrapper.to_vec();
        argv.extend([everseed(), "run".to_owned(), "-c".to_owned(), file]);
        let process = Process::start("everseed run", &argv, &log);
        Service {
            process,
            dir: dir.path().to_owned(),
            state: state.to_owned(),
        }
    }

    /// Writes another configuration, and sends SIGHUP.
    pub fn reload(&mut self, listen: impl Display, config: &str) {
        configure(&self.dir, &self.state, listen, config);
        self.process.signal(Signal::HUP);
    }

    /// Waits until it has printed a line that contains `text` this many times.
    pub fn wait_for(&mut self, text: &str, times: usize) {
        let what = format!("everseed run to say {text:?}");
        wait(&what, PATIENCE, || {
            let said = self.process.output().matches(text).count() >= times;
            if !said {
                self.process.assert_alive();
            }
            said.then_some(())
        });
    }

    /// The first torrent file that it printed.
    pub fn torrent(&self) -> PathBuf {
        let output = self.process.output();
        let line = output.lines().find_map(|l| l.strip_prefix("torrent: "));
        line.expect("a line `torrent: ..`").into()
    }

    /// Its own (anonymous) memory in bytes.
    pub fn anonymous_memory(&self) -> u64 {
        let kib: u64 = self.process.of_proc("status", "RssAnon:");
        kib * 1024
    }

    /// The number of its read calls.
    pub fn reads(&self) -> u64 {
        self.process.of_proc("io", "syscr:")
    }

    /// Stops it; it has to succeed.
    pub fn stop(&mut self) {
        self.process.signal(Signal::TERM);
        assert_eq!(self.process.wait(PATIENCE), 0, "exit code after SIGTERM");
    }
}

fn configure(dir: &Path, state: &Path, listen: impl Display, config: &str) {
    let state = state.display();
    let text = format!("state = \"{state}\"\nlisten = \"{listen}\"\n{config}");
    fs::write(dir.join("everseed.toml"), text).expect("writing a configuration");
}
