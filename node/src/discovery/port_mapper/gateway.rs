//! [`Gateway`]: the router that is to forward a port, by which [`Protocol`] it is asked, and its [`Refusal`]s.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use everseed_core::portmap::ssdp;

/// The router that the routes name, and us in its network. Both addresses are of one family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gateway {
    /// Its address.
    pub ip: IpAddr,
    /// The number of the interface, for an IPv6 address of the link.
    pub scope_id: u32,
    /// Our address there, to which it is to forward.
    pub client: IpAddr,
}

/// By what a router was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// RFC 6887.
    Pcp,
    /// RFC 6886.
    NatPmp,
    /// The internet gateway device, of either version.
    Upnp,
}

/// Why a router forwards nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Its owner does not allow it.
    NotAllowed,
    /// It has no address outside just now.
    NoNetwork,
    /// Its table is full.
    Full,
    /// All ports that were tried are forwarded to others.
    Taken,
    /// It sees us at another address: there is a NAT before it.
    OtherAddress,
    /// It speaks UPnP, but forwards nothing by it.
    NoService,
    /// What it answers cannot be read.
    Malformed,
    /// With a number of its own.
    Other(u16),
}

impl Gateway {
    /// The router with this port.
    pub(super) fn at(&self, port: u16) -> SocketAddr {
        match self.ip {
            IpAddr::V4(ip) => (ip, port).into(),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, self.scope_id).into(),
        }
    }

    /// The group that routers listen to.
    pub(super) fn group(&self) -> SocketAddr {
        match self.ip {
            IpAddr::V4(_) => (Ipv4Addr::new(239, 255, 255, 250), ssdp::PORT).into(),
            IpAddr::V6(_) => {
                let ip = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xc);
                SocketAddrV6::new(ip, ssdp::PORT, 0, self.scope_id).into()
            }
        }
    }

    /// Whether an address may be the router's.
    pub(super) fn may_be(&self, ip: IpAddr) -> bool {
        let same_network = match (ip, self.client) {
            (IpAddr::V6(ip), IpAddr::V6(client)) => {
                ip != client && ip.segments()[..4] == client.segments()[..4]
            }
            _ => false,
        };
        ip == self.ip || same_network
    }
}
