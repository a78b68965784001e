//! A network for one test, from which nothing leaves the machine.
//!
//! Each test gets a network namespace of its own, with nothing but a loopback interface that carries
//! private addresses. Besides the isolation this is because Transmission dials no peer in 127.0.0.0/8
//! or at ::1, whatever a tracker says, and knows peers by their address without the port.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::process::program;

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
    /// Puts this thread, and the threads and programs that it starts from now on, into a network of
    /// their own.
    pub fn new() -> Net {
        // SAFETY: A new network namespace changes where this thread makes sockets, and leaves alone
        // the table of file descriptors, which is what can make `unshare` unsafe.
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

    /// Has packets be no longer than this, as they are between machines: by default they may have 64 KiB.
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

/// Gives the new network its addresses.
fn set_up() {
    // The first is where calls come from by default, and nobody is there: whoever forgets to call
    // from the address at which it listens is not found.
    let mut batch = "link set lo up\naddress add 10.0.0.254/8 dev lo\n".to_owned();
    for host in 1..=HOSTS {
        batch += &format!("address add 10.0.0.{host}/8 dev lo\n");
        batch += &format!("address add fd00::{host:x}/128 dev lo\n");
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

/// Addresses that a test may use of each family.
const HOSTS: u8 = 40;
