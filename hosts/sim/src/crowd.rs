//! [`Crowd`]: the DHT that the hosts use. Its nodes are honest, silent, liars, or members of a gang.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use everseed_core::hash::InfoHash;
use everseed_core::krpc::{
    Body, Message, NodeId, Nodes, Query, Response, Values, put_node, put_value,
};
use everseed_core::rng::Rng;
use everseed_core::time::Instant;
use everseed_heap::Heap;
use everseed_node::discovery::dht::memory::{Memory, Sizes};
use everseed_node::discovery::dht::{Dht, Mode, PACKET_MAX};

/// How a node of the crowd behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conduct {
    /// It is a DHT node of everseed.
    Honest,
    /// It receives everything and sends nothing.
    Silent,
    /// It answers each query with nodes and peers that do not exist.
    Liar,
    /// It belongs to a gang in one /24. Their ids are as close as possible to this info-hash. They name only each
    /// other.
    Gang(InfoHash),
}

/// The number of members of a gang.
pub const GANG: u8 = 100;

enum Member {
    Honest(Box<Dht<'static>>),
    Silent,
    Liar(NodeId),
    Gang(InfoHash, NodeId),
}

/// A datagram: sender, receiver, and bytes.
pub type Datagram = (SocketAddr, SocketAddr, Vec<u8>);

/// The nodes of the DHT.
#[derive(Default)]
pub struct Crowd {
    members: Vec<(SocketAddr, Member)>,
    by_ip: HashMap<IpAddr, usize>,
}

/// The port of all nodes.
const PORT: u16 = 6881;

/// A public address for each number, in different /16 networks as long as there are unused ones. The first [`PLACES`]
/// belong to the crowd.
pub fn public(n: usize) -> SocketAddr {
    let octet = |n: usize| u8::try_from(n).unwrap_or(u8::MAX);
    let (a, b, c) = (20 + n % 100, n / 100 % 250, n / PLACES);
    SocketAddr::from(([octet(a), octet(b), octet(c), 9], PORT))
}

/// The most nodes that a crowd can have.
pub const PLACES: usize = 25_000;

/// The network of a gang.
fn of_gang(n: u8) -> SocketAddr {
    SocketAddr::from(([66, 250, 66, n], PORT))
}

/// An id whose first 152 bits are those of an info-hash.
pub fn near(target: InfoHash, n: u8) -> NodeId {
    let mut id = target.0;
    id[19] = n;
    NodeId(id)
}

impl Crowd {
    /// The number of nodes.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The address of a member.
    pub fn address(&self, member: usize) -> SocketAddr {
        self.members[member].0
    }

    /// Whether a member is honest. The first one to join should be.
    pub fn is_honest(&self, member: usize) -> bool {
        matches!(self.members[member].1, Member::Honest(_))
    }

    /// The member at an address.
    pub fn at(&self, addr: SocketAddr) -> Option<usize> {
        let member = *self.by_ip.get(&addr.ip())?;
        (addr.port() == PORT).then_some(member)
    }

    /// Adds a node. An honest one learns of a few others.
    pub fn join(&mut self, now: u64, conduct: Conduct, rng: &mut Rng) -> usize {
        let member = self.members.len();
        let at = match conduct {
            Conduct::Gang(_) => of_gang(u8::try_from(member % usize::from(GANG)).unwrap_or(0)),
            _ => public(member),
        };
        let kind = match conduct {
            Conduct::Silent => Member::Silent,
            Conduct::Liar => Member::Liar(NodeId::random(rng)),
            Conduct::Gang(target) => Member::Gang(target, near(target, last(at))),
            Conduct::Honest => {
                let now = Instant::from_micros(now);
                let memory = Memory::lend(&Sizes::FULL, &mut Heap);
                let mut dht = Dht::new(now, memory, Mode::On, [true, false], rng.bits());
                for _ in 0..KNOWN {
                    let others = u32::try_from(member).unwrap_or(0).max(1);
                    let other = rng.below(others) as usize;
                    if other < member {
                        dht.hint(now, self.members[other].0);
                    }
                }
                Member::Honest(Box::new(dht))
            }
        };
        self.by_ip.insert(at.ip(), member);
        self.members.push((at, kind));
        member
    }

    /// Gives an honest member the address of a node.
    pub fn hint(&mut self, now: u64, member: usize, of: SocketAddr) {
        if let Member::Honest(dht) = &mut self.members[member].1 {
            dht.hint(Instant::from_micros(now), of);
        }
    }

    /// Gives a datagram to a member. Its answers are put into `sent`.
    pub fn hand(
        &mut self,
        now: u64,
        to: usize,
        datagram: &Datagram,
        sent: &mut Vec<Datagram>,
        rng: &mut Rng,
    ) {
        let (from, _, bytes) = datagram;
        let (me, member) = &mut self.members[to];
        let lie = match member {
            Member::Honest(dht) => {
                dht.datagram(Instant::from_micros(now), *from, bytes, &mut |_, _| {});
                return self.poll(now, to, sent);
            }
            Member::Silent => None,
            Member::Liar(id) => {
                let id = *id;
                lie(id, bytes, || {
                    (
                        NodeId::random(rng),
                        public(rng.below(PLACES as u32) as usize),
                    )
                })
            }
            Member::Gang(target, id) => {
                let (target, id) = (*target, *id);
                lie(id, bytes, || {
                    let n = rng.below(u32::from(GANG)) as u8;
                    (near(target, n), of_gang(n))
                })
            }
        };
        sent.extend(lie.map(|bytes| (*me, *from, bytes)));
    }

    /// Puts into `sent` the datagrams that a member sends by itself now.
    pub fn poll(&mut self, now: u64, member: usize, sent: &mut Vec<Datagram>) {
        let (me, kind) = &mut self.members[member];
        let Member::Honest(dht) = kind else { return };
        let mut packet = [0; PACKET_MAX];
        while let Some((to, len)) = dht.poll_datagram(Instant::from_micros(now), &mut packet) {
            sent.push((*me, to, packet[..len].to_vec()));
        }
    }

    /// The next deadline of a member.
    pub fn deadline(&self, member: usize) -> Option<u64> {
        match &self.members[member].1 {
            Member::Honest(dht) => dht.deadline().map(Instant::as_micros),
            _ => None,
        }
    }
}

/// The number of nodes that a new one learns of.
const KNOWN: usize = 3;

/// The last byte of an address.
fn last(addr: SocketAddr) -> u8 {
    match addr.ip() {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(ip) => ip.octets()[15],
    }
}

/// The answer of a liar to a query: nodes from `name`, and addresses at which there is no peer. `None` if the packet is
/// no query.
pub fn lie(
    id: NodeId,
    query: &[u8],
    mut name: impl FnMut() -> (NodeId, SocketAddr),
) -> Option<Vec<u8>> {
    let message = Message::decode(query).ok()?;
    let Body::Query(_, query) = message.body else {
        return None;
    };
    let (mut nodes, mut len) = ([0; 26 * 8], 0);
    for _ in 0..8 {
        let (id, addr) = name();
        len = put_node(id, addr, &mut nodes, len)?;
    }
    let (mut values, mut valued) = ([0; 80], 0);
    if matches!(query, Query::GetPeers { .. }) {
        for _ in 0..4 {
            valued = put_value(NOBODY, &mut values, valued)?;
        }
    }
    let response = Response {
        nodes: Nodes::v4(&nodes[..len]),
        values: Values::new(&values[..valued]),
        token: Some(b"token"),
        ..Response::empty(id)
    };
    let answer = Message {
        body: Body::Response(response),
        version: b"",
        observed: Some(NOBODY),
        ..message
    };
    let mut out = [0; PACKET_MAX];
    let len = answer.encode(&mut out)?;
    Some(out[..len].to_vec())
}

/// An address without a peer. Liars also give it as the address of whoever asks them.
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(9, 9, 9, 9)), PORT);
