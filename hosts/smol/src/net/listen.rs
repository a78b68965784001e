//! The addresses on which peers connect: an address, or the addresses of a named interface, which may change.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use if_addrs::{IfAddr, IfOperStatus};

use crate::text::number;

/// One value of `--listen`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Listen {
    /// An address of this machine, or all addresses of a family.
    At(SocketAddr),
    /// All present addresses of an interface, and this port. Calls go out by it too.
    On(String, u16),
}

impl FromStr for Listen {
    type Err = ();

    /// Parses `IP:PORT`, `INTERFACE` or `INTERFACE:PORT`.
    fn from_str(text: &str) -> Result<Listen, ()> {
        if let Ok(addr) = text.parse() {
            return Ok(Listen::At(addr));
        }
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => (name, number(port, 0, u16::MAX).ok_or(())?),
            None => (text, PORT),
        };
        match is_interface(name) {
            true => Ok(Listen::On(name.to_owned(), port)),
            false => Err(()),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::At(addr) => write!(f, "{addr}"),
            Listen::On(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// Whether an interface may have this name. The kernel allows digits alone too, but who writes digits means a port or
/// an address.
fn is_interface(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':' | '[' | ']');
    let letter = name.bytes().any(|b| b.is_ascii_alphabetic());
    let option = name.starts_with('-');
    (1..=NAME_MAX).contains(&name.len()) && letter && !option && name.chars().all(plain)
}

/// An interface that is up.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Interface {
    /// Its number. An interface that was made anew has another one.
    pub(crate) index: u32,
    /// Addresses that can be called from beyond the link, IPv4 first, in the system's order.
    pub(crate) ips: Vec<IpAddr>,
}

/// The present state of an interface; it has no addresses if it is down or absent.
///
/// `all` are those that [`get_if_addrs`](if_addrs::get_if_addrs) tells of.
pub(crate) fn interface(all: &[if_addrs::Interface], name: &str) -> Interface {
    let its = all.iter().filter(|one| {
        // A link-local address is useless to callers that do not name the link.
        let link = matches!(&one.addr, IfAddr::V6(v6) if v6.is_link_local());
        one.name == name && one.oper_status == IfOperStatus::Up && !link
    });
    let index = its.clone().next().and_then(|one| one.index).unwrap_or(0);
    let mut ips: Vec<IpAddr> = its.map(|one| one.ip()).collect();
    ips.sort_by_key(IpAddr::is_ipv6);
    Interface { index, ips }
}

/// The message about an address that cannot be bound.
pub(crate) fn cannot_listen(addr: SocketAddr, error: &io::Error) -> String {
    let who = match error.kind() {
        io::ErrorKind::AddrInUse => " by another program, perhaps everseed itself",
        _ => "",
    };
    format!("cannot listen on {addr}: {error}{who}; choose another with --listen IP:PORT")
}

/// The longest interface name of the kernel, in bytes.
const NAME_MAX: usize = 15;

/// The port to listen on if none is given.
pub const PORT: u16 = 6881;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let on = |name: &str, port| Ok(Listen::On(name.to_owned(), port));
        let at = |text: &str| Ok(Listen::At(text.parse().unwrap()));
        for (text, listen) in [
            ("0.0.0.0:6881", at("0.0.0.0:6881")),
            ("[::]:0", at("[::]:0")),
            ("wg0", on("wg0", 6881)),
            ("wg0:7000", on("wg0", 7000)),
            ("eth0.100:0", on("eth0.100", 0)),
            ("br-lan", on("br-lan", 6881)),
            ("6881", Err(())),
            ("", Err(())),
            (":6881", Err(())),
            ("10.0.0.1", Err(())),
            ("::1", Err(())),
            ("fe80::1", Err(())),
            ("[::1]", Err(())),
            ("wg0:", Err(())),
            ("wg0:65536", Err(())),
            ("wg0:+1", Err(())),
            ("--proxy", Err(())),
            ("wg 0", Err(())),
            ("../wg0", Err(())),
            ("abcdefghijklmnop", Err(())),
            ("wg\u{e9}", Err(())),
        ] {
            let read = text.parse();
            assert_eq!(read, listen, "{text}");
            if let Ok(read) = read {
                assert_eq!(read.to_string().parse(), Ok(read), "{text}");
            }
        }
    }

    #[test]
    fn interfaces() {
        let all = if_addrs::get_if_addrs().unwrap();
        let loopback = interface(&all, "lo");
        let v4 = loopback.ips.iter().filter(|ip| ip.is_ipv4()).count();
        assert!(v4 > 0 && loopback.index > 0);
        assert_eq!(interface(&all, "no-such"), Interface::default());
    }
}
