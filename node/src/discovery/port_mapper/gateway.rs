//! [`Gateway`]: the router that is asked to forward a port. [`Protocol`]: how it is asked. [`Refusal`]: why it refuses.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use everseed_core::portmap::ssdp;

/// The router from the routing table, and our address in its network. Both addresses are of one family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gateway {
    /// The router's address.
    pub ip: IpAddr,
    /// The number of the interface, for a link-local IPv6 address.
    pub scope_id: u32,
    /// Our address in its network, to which it should forward.
    pub client: IpAddr,
}

/// The protocol by which a router was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// PCP (RFC 6887).
    Pcp,
    /// NAT-PMP (RFC 6886).
    NatPmp,
    /// UPnP (internet gateway device, version 1 or 2).
    Upnp,
}

/// The reason why a router forwards nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Its owner does not allow it.
    NotAllowed,
    /// It has no public address now.
    NoNetwork,
    /// Its table is full.
    Full,
    /// All ports that were tried are forwarded to other machines.
    Taken,
    /// It sees us at another address, because there is a NAT in between.
    OtherAddress,
    /// It supports UPnP, but has no service that forwards ports.
    NoService,
    /// Its answer cannot be read.
    Malformed,
    /// Another error, with this number.
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

    /// The multicast group on which routers listen.
    pub(super) fn group(&self) -> SocketAddr {
        match self.ip {
            IpAddr::V4(_) => (Ipv4Addr::new(239, 255, 255, 250), ssdp::PORT).into(),
            IpAddr::V6(_) => {
                let ip = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xc);
                SocketAddrV6::new(ip, ssdp::PORT, 0, self.scope_id).into()
            }
        }
    }

    /// Whether an address can be the router's.
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
