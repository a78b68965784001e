//! A network for one test, which no packet leaves.
//!
//! Each test has its own network namespace, with only a loopback interface that carries private addresses. Isolation
//! is one reason. The other: Transmission calls no peer in 127.0.0.0/8 or at ::1, whatever a tracker says, and tells
//! peers apart by address without port.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use crate::dir::Dir;
use crate::process::{Process, program};
use crate::{PATIENCE, wait};

/// An address family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// The addresses of one test.
#[derive(Debug)]
pub struct Net {
    next: AtomicU8,
}

impl Net {
    /// Moves this thread into a network of its own, with the threads and programs that it starts from now on.
    pub fn new() -> Net {
        // SAFETY: A new network namespace changes where this thread makes sockets. It leaves the table of file descriptors
        // alone, which is what can make `unshare` unsafe.
        if let Err(e) = unsafe { unshare_unsafe(UnshareFlags::NEWNET) } {
            panic!(
                "no network of its own for this test ({e}): run tests/run as root or where user \
                 namespaces are allowed; a container needs CAP_SYS_ADMIN"
            );
        }
        set_up();
        Net {
            next: AtomicU8::new(1),
        }
    }

    /// An address that nothing else in this test has.
    pub fn ip(&self, family: Family) -> IpAddr {
        let host = self.next.fetch_add(1, Ordering::Relaxed);
        assert!(host <= HOSTS, "a test with more than {HOSTS} addresses");
        let ip = match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::new(10, 0, 0, host)),
            Family::V6 => IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host.into())),
        };
        if let Err(e) = TcpListener::bind((ip, 0)) {
            panic!("this machine has no {family:?} on its loopback interface ({ip}: {e})");
        }
        ip
    }

    /// Limits the length of packets, as between machines; the default is 64 KiB.
    pub fn set_mtu(&self, bytes: u16) {
        let ip = program("ip", "iproute2");
        let bytes = bytes.to_string();
        let args = ["link", "set", "lo", "mtu", &bytes];
        let done = Command::new(&ip).args(args).status();
        assert!(done.is_ok_and(|status| status.success()), "{ip} link set");
    }

    /// An address with a port that is free for TCP and UDP.
    pub fn addr(&self, family: Family) -> SocketAddr {
        let ip = self.ip(family);
        for _ in 0..100 {
            let tcp = TcpListener::bind((ip, 0)).unwrap_or_else(|e| panic!("{ip}: {e}"));
            let addr = tcp.local_addr().expect("the address of a listener");
            if UdpSocket::bind(addr).is_ok() {
                return addr;
            }
        }
        panic!("{ip} has no port that is free for TCP and UDP");
    }
}

impl Default for Net {
    fn default() -> Net {
        Net::new()
    }
}

/// A second machine, connected by a cable to the test's one; it has one address, and nobody else is there.
#[derive(Debug)]
pub struct Neighbour {
    /// The process that keeps its network alive.
    process: Process,
    _dir: Dir,
}

impl Neighbour {
    /// The address of the test's machine on that cable.
    pub const OURS: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 16, 5, 1));

    /// Adds a machine beside the one of this thread.
    pub fn new(net: &Net) -> Neighbour {
        let neighbour = Neighbour::alone(net);
        let pid = neighbour.process.pid();
        run_ip(
            &[],
            &format!(
                "link add here type veth peer name there netns {pid}\naddress add {}/24 dev here\nlink set here up\n",
                Neighbour::OURS
            ),
        );
        let there = "link set lo up\naddress add 172.16.5.2/24 dev there\nlink set there up\n";
        run_ip(&neighbour.enter(), there);
        // A client that starts before that would listen only on its loopback interface, for ever.
        wait("the cable to a neighbour", PATIENCE, || {
            neighbour.is_up().then_some(())
        });
        neighbour
    }

    /// A machine without a cable to it.
    pub(crate) fn alone(_net: &Net) -> Neighbour {
        let dir = Dir::new("neighbour");
        let argv = ["unshare", "--net", "sleep", "infinity"].map(str::to_owned);
        let process = Process::start("a neighbour", &argv, &dir.join("log"));
        let pid = process.pid();
        let network = |of: &str| fs::read_link(format!("/proc/{of}/ns/net")).ok();
        let ours = network("thread-self");
        wait("a neighbour's network", PATIENCE, || {
            let its = network(&pid.to_string());
            (its.is_some() && its != ours).then_some(())
        });
        Neighbour { process, _dir: dir }
    }

    /// Connects another cable to it, between interfaces of these names. It has no addresses yet, and nothing is sent
    /// on it by itself.
    pub fn lay(&self, here: &str, there: &str) {
        let pid = self.process.pid();
        // Without a link-local address IPv6 does not ask for routers.
        run_ip(
            &[],
            &format!(
                "link add {here} type veth peer name {there} netns {pid}\nlink set {here} addrgenmode none\n\
                 link set {here} up\n"
            ),
        );
        self.set_up(&format!(
            "link set {there} addrgenmode none\nlink set {there} up\n"
        ));
    }

    /// Runs these lines as commands of `ip` there.
    pub fn set_up(&self, lines: &str) {
        run_ip(&self.enter(), lines);
    }

    /// The number of packets that arrived there through this interface.
    pub fn packets(&self, there: &str) -> u64 {
        let argv = [self.enter(), vec![program("ip", "iproute2")]].concat();
        let shown = Command::new(&argv[0])
            .args(&argv[1..])
            .args(["-j", "-s", "link", "show", there])
            .output();
        let shown = shown.unwrap_or_else(|e| panic!("{argv:?}: {e}"));
        let text = String::from_utf8_lossy(&shown.stdout).into_owned();
        let (_, received) = text.split_once("\"rx\":").expect("what it received");
        let (_, packets) = received.split_once("\"packets\":").expect("packets");
        let end = packets.find(|c: char| !c.is_ascii_digit());
        let digits = &packets[..end.expect("more after a number")];
        digits.parse().expect("a number of packets")
    }

    /// Runs `work` on that machine; sockets that it opens stay there.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = format!("/proc/{}/ns/net", self.process.pid());
        let network = fs::File::open(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        thread::scope(|scope| {
            let thread = scope.spawn(move || {
                let moved =
                    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network));
                moved.expect("another network for a thread");
                work()
            });
            thread.join().expect("a thread on another machine")
        })
    }

    fn is_up(&self) -> bool {
        let argv = [self.enter(), vec![program("ip", "iproute2")]].concat();
        let shown = Command::new(&argv[0])
            .args(&argv[1..])
            .args(["-o", "link", "show", "there"])
            .output();
        shown.is_ok_and(|shown| String::from_utf8_lossy(&shown.stdout).contains("state UP"))
    }

    /// The command that runs a program there, to be put before the program.
    pub fn enter(&self) -> Vec<String> {
        let pid = self.process.pid().to_string();
        ["nsenter", "--net", "--target", &pid, "--"]
            .map(str::to_owned)
            .into()
    }
}

/// Runs these lines as commands of `ip` in the test's network.
pub fn set_up_ours(_net: &Net, lines: &str) {
    run_ip(&[], lines);
}

/// Runs these lines as commands of `ip`; all have to succeed.
fn run_ip(wrapper: &[String], lines: &str) {
    let ip = program("ip", "iproute2");
    let argv = [wrapper, &[ip, "-batch".to_owned(), "-".to_owned()]].concat();
    let child = Command::new(&argv[0])
        .args(&argv[1..])
        .stdin(Stdio::piped())
        .spawn();
    let mut child = child.unwrap_or_else(|e| panic!("{argv:?}: {e}"));
    let mut stdin = child.stdin.take().expect("a pipe to ip");
    stdin.write_all(lines.as_bytes()).expect("writing to ip");
    drop(stdin);
    let done = child.wait();
    assert!(
        done.is_ok_and(|status| status.success()),
        "{argv:?} did not do {lines}"
    );
}

/// Sets up the addresses of the new network.
fn set_up() {
    // The first address is the default source of calls, and nobody listens there. So a client that does not call from
    // its listening address is not found. `nodad`: otherwise a loaded machine lets nobody listen at an IPv6 address
    // for a while.
    let mut batch = "link set lo up\naddress add 10.0.0.254/8 dev lo\n".to_owned();
    for host in 1..=HOSTS {
        batch += &format!("address add 10.0.0.{host}/8 dev lo\n");
        batch += &format!("address add fd00::{host:x}/128 dev lo nodad\n");
    }
    let ip = program("ip", "iproute2");
    let child = Command::new(&ip)
        .args(["-force", "-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut child = child.unwrap_or_else(|e| panic!("{ip}: {e}"));
    let mut stdin = child.stdin.take().expect("a pipe to ip");
    stdin.write_all(batch.as_bytes()).expect("writing to ip");
    drop(stdin);
    // A machine without IPv6 fails where an address is asked for, with a better message.
    let _ = child.wait();
}

/// Addresses of each family that a test may use.
const HOSTS: u8 = 40;
