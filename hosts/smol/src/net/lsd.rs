//! The sockets of local service discovery (BEP 14). Each family has one, which joins its group on every interface
//! that is up and that peers may use.
//!
//! Only packets from the network of such an interface, or from its link, are heard. Interfaces come and go: see
//! [`Nearby::follow`].

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use everseed_core::lsd::{GROUP_V4, GROUP_V6, PACKET_MAX, PORT};
use everseed_core::tracker::Family;
use if_addrs::{IfAddr, IfOperStatus, get_if_addrs};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockRef, Socket, Type};

use crate::net::listen::Listen;
use crate::net::scope::Scope;
use crate::net::sockopt;

/// The sockets, and the interfaces whose groups they joined.
#[derive(Debug)]
pub(crate) struct Nearby {
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
    links: Vec<Link>,
    /// The port on which peers reach us.
    port: u16,
}

/// An interface that is up, and the groups that we joined on it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Link {
    name: String,
    index: u32,
    /// Its addresses, each with its prefix length.
    nets: Vec<(IpAddr, u32)>,
    joined: [bool; 2],
}

impl Nearby {
    /// Opens sockets that have joined no group yet. A family without a socket is left out, which is logged.
    pub(crate) fn new() -> Nearby {
        let said = |family: &str, socket: io::Result<UdpSocket>| {
            let failed = |error: &io::Error| {
                log::info!("LSD finds no peers by {family} in the local networks: {error}");
            };
            socket.inspect_err(failed).ok()
        };
        Nearby {
            v4: said("IPv4", bind(GROUP_V4.into())),
            v6: said("IPv6", bind(GROUP_V6.into())),
            links: Vec::new(),
            port: 0,
        }
    }

    /// The sockets, to be watched for packets.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = &UdpSocket> {
        self.v4.iter().chain(&self.v6)
    }

    /// Joins the groups on new interfaces and leaves those on vanished ones, among those of `links` that `wanted`
    /// listens on. Returns whether there is a new one. Peers reach us on `port`.
    pub(crate) fn follow(&mut self, links: Vec<Link>, wanted: &[Listen], port: u16) -> bool {
        self.port = port;
        let former = std::mem::take(&mut self.links);
        let mut news = false;
        for mut link in links.into_iter().filter(|link| link.is_wanted(wanted)) {
            let before = former
                .iter()
                .find(|before| (&before.name, before.index) == (&link.name, link.index));
            link.joined = before.map_or([false; 2], |before| before.joined);
            for family in [Family::V4, Family::V6] {
                if link.is_joined(family) || !link.has(family) {
                    continue;
                }
                match self.join(&link, family, true) {
                    Ok(()) => {
                        link.joined[usize::from(family == Family::V6)] = true;
                        news = true;
                    }
                    // It was said before.
                    Err(_) if before.is_some_and(|before| before.has(family)) => {}
                    Err(error) => log::info!(
                        "peers by {} are not looked for by {family:?}: {error}",
                        link.name
                    ),
                }
            }
            self.links.push(link);
        }
        for link in former {
            let stays = |now: &Link| now.index == link.index && now.name == link.name;
            if !self.links.iter().any(stays) {
                // If the interface is gone the kernel has left the group already.
                let _ = self.join(&link, Family::V4, false);
                let _ = self.join(&link, Family::V6, false);
            }
        }
        news
    }

    /// Whether all groups were joined that can be.
    pub(crate) fn is_complete(&self) -> bool {
        let lacks = |family, socket: &Option<UdpSocket>| {
            let lacks = |link: &Link| link.has(family) && !link.is_joined(family);
            socket.is_some() && self.links.iter().any(lacks)
        };
        !lacks(Family::V4, &self.v4) && !lacks(Family::V6, &self.v6)
    }

    fn join(&self, link: &Link, family: Family, joins: bool) -> io::Result<()> {
        let at = InterfaceIndexOrAddress::Index(link.index);
        match (family, &self.v4, &self.v6) {
            (Family::V4, Some(socket), _) if joins => {
                SockRef::from(socket).join_multicast_v4_n(&GROUP_V4, &at)
            }
            (Family::V4, Some(socket), _) => {
                SockRef::from(socket).leave_multicast_v4_n(&GROUP_V4, &at)
            }
            (Family::V6, _, Some(socket)) if joins => {
                socket.join_multicast_v6(&GROUP_V6, link.index)
            }
            (Family::V6, _, Some(socket)) => socket.leave_multicast_v6(&GROUP_V6, link.index),
            // That was said when there was no socket.
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Sends a packet to all groups. `write` writes it for a family and a port.
    pub(crate) fn send(&self, write: impl Fn(Family, u16, &mut [u8]) -> Option<usize>) {
        let mut packet = [0; PACKET_MAX];
        for link in &self.links {
            for (family, socket) in [(Family::V4, &self.v4), (Family::V6, &self.v6)] {
                let (Some(socket), true) = (socket, link.has(family)) else {
                    continue;
                };
                let Some(len) = write(family, self.port, &mut packet) else {
                    return;
                };
                if let Err(error) = send(socket, link, family, &packet[..len]) {
                    log::debug!("{}: {error}", link.name);
                }
            }
        }
    }

    /// Receives the next packet from one of our networks; returns its sender and length.
    pub(crate) fn receive(&self, packet: &mut [u8]) -> Option<(SocketAddr, usize)> {
        for socket in self.sockets() {
            // Packets of strangers are skipped, but not without end.
            for _ in 0..STRANGERS {
                match socket.recv_from(packet) {
                    Ok((len, from)) if self.is_near(from.ip()) => return Some((from, len)),
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
        }
        None
    }

    /// Whether an address is in the network of an interface in use.
    fn is_near(&self, ip: IpAddr) -> bool {
        let in_net = |&(ours, len): &(IpAddr, u32)| match (ours, ip) {
            (IpAddr::V4(ours), IpAddr::V4(ip)) => {
                (ours.to_bits() ^ ip.to_bits()).leading_zeros() >= len
            }
            (IpAddr::V6(ours), IpAddr::V6(ip)) => {
                (ours.to_bits() ^ ip.to_bits()).leading_zeros() >= len
            }
            _ => false,
        };
        let near = self.links.iter().flat_map(|link| &link.nets).any(in_net);
        near || Scope::of(ip) == Scope::Link
    }
}

impl Link {
    fn is_joined(&self, family: Family) -> bool {
        self.joined[usize::from(family == Family::V6)]
    }

    fn has(&self, family: Family) -> bool {
        let of = |&(ip, _): &(IpAddr, u32)| Family::of(ip) == family;
        self.nets.iter().any(of)
    }

    /// Whether peers may connect by it.
    fn is_wanted(&self, wanted: &[Listen]) -> bool {
        wanted.iter().any(|listen| match listen {
            Listen::On(name, _) => *name == self.name,
            Listen::At(addr) => {
                let its = self.nets.iter().any(|&(ip, _)| ip == addr.ip());
                its || addr.ip().is_unspecified()
            }
        })
    }
}

/// The interfaces that are up, except loopback.
pub(crate) fn links() -> io::Result<Vec<Link>> {
    let mut links: Vec<Link> = Vec::new();
    for one in get_if_addrs()? {
        let Some(index) = one.index else { continue };
        if one.is_loopback() || one.oper_status == IfOperStatus::Down {
            continue;
        }
        let net = match &one.addr {
            IfAddr::V4(v4) => (IpAddr::V4(v4.ip), v4.netmask.to_bits().leading_ones()),
            IfAddr::V6(v6) => (IpAddr::V6(v6.ip), v6.netmask.to_bits().leading_ones()),
        };
        match links.iter_mut().find(|link| link.index == index) {
            Some(link) => link.nets.push(net),
            None => links.push(Link {
                name: one.name,
                index,
                nets: vec![net],
                joined: [false; 2],
            }),
        }
    }
    Ok(links)
}

/// A socket bound to the group, which other programs may bind too.
fn bind(group: IpAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(SocketAddr::new(group, PORT)),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    socket.set_reuse_address(true)?;
    if group.is_ipv6() {
        socket.set_only_v6(true)?;
        socket.set_multicast_hops_v6(1)?;
    }
    sockopt::set_received(&socket, RECEIVED);
    sockopt::set_sent(&socket, SENT);
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::new(group, PORT).into())?;
    Ok(socket.into())
}

fn send(socket: &UdpSocket, link: &Link, family: Family, packet: &[u8]) -> io::Result<()> {
    let to: SocketAddr = match family {
        Family::V4 => {
            let ip = link.nets.iter().find_map(|&(ip, _)| match ip {
                IpAddr::V4(ip) => Some(ip),
                IpAddr::V6(_) => None,
            });
            let ip = ip.unwrap_or(Ipv4Addr::UNSPECIFIED);
            SockRef::from(socket).set_multicast_if_v4(&ip)?;
            (GROUP_V4, PORT).into()
        }
        Family::V6 => {
            SockRef::from(socket).set_multicast_if_v6(link.index)?;
            (GROUP_V6, PORT).into()
        }
    };
    socket.send_to(packet, to).map(|_| ())
}

/// Bytes that the kernel may hold of unread packets, and of one that is being sent. Further packets are lost, and are
/// repeated by their senders.
const RECEIVED: usize = 4608;
const SENT: usize = 4608;

/// Bytes that both sockets may take.
pub(crate) const HELD: usize = 2 * (RECEIVED + SENT);

/// The most packets of strangers that one call skips.
const STRANGERS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, index: u32, nets: &[(&str, u32)]) -> Link {
        let net = |&(ip, len): &(&str, u32)| (ip.parse().unwrap(), len);
        Link {
            name: name.to_owned(),
            index,
            nets: nets.iter().map(net).collect(),
            joined: [false; 2],
        }
    }

    #[test]
    fn which_interfaces() {
        let lan = link("br-lan", 3, &[("192.168.1.1", 24), ("fd00::1", 64)]);
        for (listen, wanted) in [
            (&["0.0.0.0:6881", "[::]:6881"][..], true),
            (&["br-lan"], true),
            (&["wg0"], false),
            (&["wg0", "br-lan:7000"], true),
            (&["192.168.1.1:6881"], true),
            (&["10.0.0.1:6881"], false),
            (&[], false),
        ] {
            let listen: Vec<Listen> = listen.iter().map(|text| text.parse().unwrap()).collect();
            assert_eq!(lan.is_wanted(&listen), wanted, "{listen:?}");
        }
    }

    /// Whatever comes from elsewhere, though it was sent to the group, is not heard.
    #[test]
    fn who_is_near() {
        let nearby = Nearby {
            v4: None,
            v6: None,
            links: vec![
                link("br-lan", 3, &[("192.168.1.1", 24), ("2001:db8:1::1", 64)]),
                link("eth1", 4, &[("203.0.113.5", 30)]),
            ],
            port: 6881,
        };
        for (ip, near) in [
            ("192.168.1.77", true),
            ("192.168.2.77", false),
            ("10.0.0.1", false),
            ("127.0.0.1", false),
            ("8.8.8.8", false),
            ("203.0.113.6", true),
            ("203.0.113.9", false),
            ("169.254.7.7", true),
            ("fe80::7", true),
            ("2001:db8:1::ffff", true),
            ("2001:db8:2::1", false),
            ("::1", false),
        ] {
            assert_eq!(nearby.is_near(ip.parse().unwrap()), near, "{ip}");
        }
    }
}
