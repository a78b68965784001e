//! The addresses under which others reach this machine, and from which it calls others.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use rustix::io::Errno;

use crate::text::number;

/// The public address of this machine: a host name or an IP address, and the port if it differs from the one that we
/// listen on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublicAddress {
    /// A name or an IP address; an IPv6 address has no brackets.
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
}

impl PublicAddress {
    /// Reads `HOST`, `HOST:PORT`, `[IPV6]` or `[IPV6]:PORT`.
    pub(crate) fn parse(text: &str) -> Option<PublicAddress> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']')?;
                host.parse::<Ipv6Addr>().ok()?;
                match rest {
                    "" => (host, None),
                    rest => (host, Some(rest.strip_prefix(':')?)),
                }
            }
            None if text.parse::<Ipv6Addr>().is_ok() => (text, None),
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let port = match port {
            Some(port) => Some(number(port, 1, u16::MAX)?),
            None => None,
        };
        let usable = match host.parse::<IpAddr>() {
            Ok(ip) => !ip.is_unspecified() && !ip.is_multicast(),
            Err(_) => is_name(host),
        };
        let host = host.to_owned();
        usable.then_some(PublicAddress { host, port })
    }

    /// The address for a URL; `port` is added if it has none of its own.
    pub(crate) fn with_port(&self, port: u16) -> String {
        let (host, port) = (&self.host, self.port.unwrap_or(port));
        match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        }
    }
}

/// Whether a text can be a host name (RFC 1123). Digits alone are a mistyped address.
fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let part = |part: &str| (1..=63).contains(&part.len()) && part.bytes().all(plain);
    let letters = text.bytes().any(|b| b.is_ascii_alphabetic());
    text.len() <= 253 && letters && text.split('.').all(part)
}

/// The address under which peers on the network reach a listener at `local`. If that listens on all addresses, it is
/// this machine's address towards the internet.
pub(crate) fn reachable(local: SocketAddr) -> SocketAddr {
    if !local.ip().is_unspecified() {
        return local;
    }
    let ip = outgoing(local.is_ipv4()).ok().flatten();
    let ip = ip.unwrap_or(match local {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    });
    SocketAddr::new(ip, local.port())
}

/// The addresses to call others from, one for each family that we listen on. A tracker hands out the address that it
/// was called from, so peers must be able to reach us there. An unspecified address leaves the choice to the system.
pub(crate) fn sources(listening: impl IntoIterator<Item = SocketAddr>) -> Vec<IpAddr> {
    let mut sources: Vec<IpAddr> = Vec::new();
    for ip in listening.into_iter().map(|addr| addr.ip()) {
        match sources.iter_mut().find(|s| s.is_ipv4() == ip.is_ipv4()) {
            Some(source) if ip.is_unspecified() => *source = ip,
            Some(_) => {}
            None => sources.push(ip),
        }
    }
    sources
}

/// The source address of a packet to a public address, if a route leads there. Connecting a UDP socket asks the kernel's
/// routing table and sends nothing; the targets are addresses reserved for documentation.
///
/// # Errors
/// If file descriptors or memory are short, so that nothing is known.
pub(crate) fn outgoing(v4: bool) -> io::Result<Option<IpAddr>> {
    let (any, far): (IpAddr, IpAddr) = if v4 {
        (
            Ipv4Addr::UNSPECIFIED.into(),
            Ipv4Addr::new(192, 0, 2, 1).into(),
        )
    } else {
        let far = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
        (Ipv6Addr::UNSPECIFIED.into(), far.into())
    };
    let connect = || {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((far, 9))?;
        socket.local_addr()
    };
    match connect() {
        Ok(addr) => Ok(Some(addr.ip()).filter(|ip| !ip.is_unspecified())),
        Err(error) if is_shortage(&error) => Err(error),
        Err(_) => Ok(None),
    }
}

fn is_shortage(error: &io::Error) -> bool {
    let short = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|error| short.contains(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_for_each_family() {
        let of = |addrs: &[&str]| sources(addrs.iter().map(|addr| addr.parse().unwrap()));
        let ips = |ips: &[&str]| {
            ips.iter()
                .map(|ip| ip.parse().unwrap())
                .collect::<Vec<IpAddr>>()
        };
        assert_eq!(of(&["10.1.2.3:4", "10.1.2.4:4"]), ips(&["10.1.2.3"]));
        assert_eq!(of(&["10.1.2.3:4", "[::1]:4"]), ips(&["10.1.2.3", "::1"]));
        assert_eq!(of(&["10.1.2.3:4", "0.0.0.0:4"]), ips(&["0.0.0.0"]));
    }

    #[test]
    fn public_addresses() {
        let read = |text| PublicAddress::parse(text).map(|public| public.with_port(1));
        for (text, shown) in [
            ("seed.example.org", Some("seed.example.org:1")),
            ("seed.example.org:7", Some("seed.example.org:7")),
            ("nas", Some("nas:1")),
            ("203.0.113.5", Some("203.0.113.5:1")),
            ("203.0.113.5:65535", Some("203.0.113.5:65535")),
            ("2001:db8::1", Some("[2001:db8::1]:1")),
            ("[2001:db8::1]", Some("[2001:db8::1]:1")),
            ("[2001:db8::1]:7", Some("[2001:db8::1]:7")),
            ("", None),
            (":7", None),
            ("a:0", None),
            ("a:65536", None),
            ("a:+7", None),
            ("a:7:8", None),
            ("[a]:7", None),
            ("[2001:db8::1]7", None),
            ("203.0.113", None),
            ("0.0.0.0", None),
            ("http://a/", None),
            ("a..b", None),
            ("a b", None),
        ] {
            assert_eq!(read(text).as_deref(), shown, "{text}");
        }
    }

    #[test]
    fn a_chosen_address_stays() {
        for addr in ["127.0.0.1:7", "[::1]:7", "10.1.2.3:4"] {
            let addr: SocketAddr = addr.parse().unwrap();
            assert_eq!(reachable(addr), addr);
        }
        let any = reachable("0.0.0.0:6881".parse().unwrap());
        assert!(!any.ip().is_unspecified() && any.port() == 6881);
    }
}
