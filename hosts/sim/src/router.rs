//! The router between a host and the internet. There are four kinds.
//!
//! A router keeps a table of flows. Home routers have little memory for it, so its greatest length is counted.

use std::collections::HashMap;
use std::net::SocketAddr;

/// Which datagrams from outside a router lets in. Connections from outside reach only hosts whose router is open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Nat {
    /// A port is forwarded, or there is no router: everybody can reach the host.
    #[default]
    Open,
    /// Everybody can send to the port while the host has any flow (RFC 4787: endpoint-independent filtering).
    FullCone,
    /// An address to which the host has sent can send, from any port (address-dependent filtering).
    Restricted,
    /// The host has another port outside for each address and port to which it sends. Only that address and port can
    /// send to it (address- and port-dependent mapping).
    Symmetric,
}

impl Nat {
    /// All kinds, `Open` first.
    pub const ALL: [Nat; 4] = [Nat::Open, Nat::FullCone, Nat::Restricted, Nat::Symmetric];

    /// Its name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Nat::Open => "open",
            Nat::FullCone => "full cone",
            Nat::Restricted => "restricted",
            Nat::Symmetric => "symmetric",
        }
    }
}

/// A flow: an address outside to which datagrams were sent lately.
#[derive(Clone, Copy, Debug)]
struct Flow {
    /// The router's port for this flow.
    port: u16,
    /// The time of the last datagram to the outside, in microseconds.
    at: u64,
}

/// The router of one host.
#[derive(Clone, Debug)]
pub struct Router {
    /// Its kind.
    pub nat: Nat,
    /// The address outside. The port is the host's; kinds that are not symmetric use the same port outside.
    outer: SocketAddr,
    flows: HashMap<SocketAddr, Flow>,
    next_port: u16,
    /// The most flows at one time.
    pub most: usize,
}

/// How long a flow is kept without a datagram to the outside, in microseconds, as in Linux for flows in both
/// directions.
pub const FLOW_LIFE: u64 = 120_000_000;

/// The first port outside of a symmetric router.
const FIRST_PORT: u16 = 20_000;

impl Router {
    /// A router whose host has this address outside.
    pub fn new(nat: Nat, outer: SocketAddr) -> Router {
        Router {
            nat,
            outer,
            flows: HashMap::new(),
            next_port: FIRST_PORT,
            most: 0,
        }
    }

    /// A datagram goes out. Returns the address that the receiver sees as its sender.
    pub fn out(&mut self, now: u64, to: SocketAddr) -> SocketAddr {
        if !self.flows.contains_key(&to) {
            self.flows.retain(|_, flow| flow.at + FLOW_LIFE > now);
        }
        let port = match self.nat {
            Nat::Symmetric => self.next_port,
            _ => self.outer.port(),
        };
        let flow = self.flows.entry(to).or_insert(Flow { port, at: now });
        flow.at = now;
        let port = flow.port;
        if port == self.next_port {
            self.next_port = self.next_port.wrapping_add(1).max(FIRST_PORT);
        }
        self.most = self.most.max(self.flows.len());
        SocketAddr::new(self.outer.ip(), port)
    }

    /// Whether the router lets in a datagram from this sender to this port.
    pub fn lets_in(&self, now: u64, from: SocketAddr, port: u16) -> bool {
        let mut live = self.flows.iter().filter(|(_, f)| f.at + FLOW_LIFE > now);
        match self.nat {
            Nat::Open => port == self.outer.port(),
            Nat::FullCone => port == self.outer.port() && live.next().is_some(),
            Nat::Restricted => {
                port == self.outer.port() && live.any(|(to, _)| to.ip() == from.ip())
            }
            Nat::Symmetric => live.any(|(&to, flow)| to == from && flow.port == port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ip: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([20, 0, 0, ip], port))
    }

    /// Who gets in after one datagram to 2:7: 2:7, another port of that address, another address; and 2:7 after the
    /// flow ended.
    #[test]
    fn who_gets_in() {
        for (nat, allowed) in [
            (Nat::Open, [true, true, true, true]),
            (Nat::FullCone, [true, true, true, false]),
            (Nat::Restricted, [true, true, false, false]),
            (Nat::Symmetric, [true, false, false, false]),
        ] {
            let mut router = Router::new(nat, at(1, 6881));
            let nobody = router.lets_in(0, at(2, 7), 6881);
            assert_eq!(nobody, nat == Nat::Open, "{nat:?} before anything was sent");
            let seen = router.out(0, at(2, 7));
            assert_eq!(seen.ip(), at(1, 0).ip());
            let gets_in = |now, from| router.lets_in(now, from, seen.port());
            let late = FLOW_LIFE + 1;
            let is = [
                (0, at(2, 7)),
                (0, at(2, 8)),
                (0, at(3, 7)),
                (late, at(2, 7)),
            ];
            assert_eq!(is.map(|(now, from)| gets_in(now, from)), allowed, "{nat:?}");
        }
    }

    #[test]
    fn ports_and_flows() {
        let mut cone = Router::new(Nat::Restricted, at(1, 6881));
        let mut symmetric = Router::new(Nat::Symmetric, at(1, 6881));
        for n in 0..3 {
            assert_eq!(cone.out(0, at(n, 7)).port(), 6881);
            assert_eq!(symmetric.out(0, at(n, 7)).port(), FIRST_PORT + u16::from(n));
        }
        assert_eq!(symmetric.out(1, at(0, 7)).port(), FIRST_PORT);
        assert_eq!((cone.most, symmetric.most), (3, 3));
        // Old flows make room for new ones.
        cone.out(2 * FLOW_LIFE, at(9, 9));
        assert_eq!((cone.most, cone.flows.len()), (3, 1));
    }
}
