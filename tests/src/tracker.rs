//! opentracker, a tracker.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::dir::Dir;
use crate::peer::InfoHash;
use crate::process::{Process, program};
use crate::wait;

/// A running opentracker, which serves IPv4 only as Debian builds it, over HTTP and UDP on one port.
#[derive(Debug)]
pub struct Opentracker {
    addr: SocketAddr,
    process: Process,
    _dir: Dir,
}

impl Opentracker {
    /// Starts a tracker at `addr` for these torrents: Debian's build serves only those in its list.
    pub fn start(addr: SocketAddr, torrents: &[InfoHash]) -> Opentracker {
        let dir = Dir::new("opentracker");
        let list: String = torrents.iter().map(|hash| format!("{hash}\n")).collect();
        fs::write(dir.join("torrents"), list).expect("writing the list of torrents");
        let (program, ip, port) = (
            program("opentracker", "opentracker"),
            addr.ip().to_string(),
            addr.port().to_string(),
        );
        let mut argv = vec![&*program, "-i", &ip, "-p", &port, "-P", &port];
        // Started as root, it changes its root folder and its user, and then opens the list.
        let path = dir.path().display().to_string();
        let list = dir.join("torrents").display().to_string();
        if rustix::process::geteuid().is_root() {
            argv.extend(["-d", &path, "-w", "torrents"]);
        } else {
            argv.extend(["-w", &list]);
        }
        let argv: Vec<String> = argv.into_iter().map(str::to_owned).collect();
        let mut process = Process::start("opentracker", &argv, &dir.join("log"));
        wait("opentracker to listen", Duration::from_secs(30), || {
            process.assert_alive();
            TcpStream::connect(addr).ok()
        });
        Opentracker {
            addr,
            process,
            _dir: dir,
        }
    }

    /// Its announce URL over HTTP.
    pub fn http(&self) -> String {
        format!("http://{}/announce", self.addr)
    }

    /// Its announce URL over UDP.
    pub fn udp(&self) -> String {
        format!("udp://{}/announce", self.addr)
    }

    /// Its process, so that a failed test shows its output.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}
