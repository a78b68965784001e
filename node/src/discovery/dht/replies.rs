//! Replies to the queries of others.
//!
//! A reply is at most twice as long as the query: addresses can be forged, and a forger must not multiply its traffic
//! through us. Nodes, peers and samples are left out until it fits. A node that answered a query of ours within 15
//! minutes has not forged its address: it gets up to 1,000 bytes of peers, nodes, and counts (BEP 33) of a torrent.

use core::net::SocketAddr;

use everseed_core::krpc::{
    Bloom, Blooms, Body, Message, NodeId, Nodes, Query, Response, Samples, TRANSACTION_MAX, Values,
    Want, put_node, put_value,
};
use everseed_core::rng::Rng;
use everseed_core::time::Instant;
use everseed_core::tracker::Family;

use super::endpoint::{Endpoint, index};
use super::routes::{Closest, K, Routes};
use super::store::Store;
use super::tokens::Tokens;

/// An answer that is to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    to: SocketAddr,
    transaction: heapless::Vec<u8, TRANSACTION_MAX>,
    /// Bytes that it may have.
    limit: usize,
    what: ReplyBody,
}

/// What a reply says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ReplyBody {
    /// That we are there.
    Pong,
    /// Nodes.
    Nodes { target: NodeId, want: Want },
    /// Peers and nodes, and counts of peers.
    Peers {
        info_hash: NodeId,
        want: Want,
        noseed: bool,
        scrape: bool,
    },
    /// Torrents and nodes.
    Samples { target: NodeId, want: Want },
    /// No.
    Refusal(i64),
}

impl Reply {
    /// An answer to a query of `asked` bytes.
    pub(crate) fn new(to: SocketAddr, transaction: &[u8], asked: usize, what: ReplyBody) -> Reply {
        Reply {
            to,
            transaction: heapless::Vec::from_slice(transaction).unwrap_or_default(),
            limit: 2 * asked,
            what,
        }
    }

    /// The answer to a query that changes nothing here.
    pub(crate) fn to_query(query: Query<'_>) -> ReplyBody {
        match query {
            Query::Ping => ReplyBody::Pong,
            Query::FindNode { target, want } => ReplyBody::Nodes { target, want },
            Query::SampleInfohashes { target, want } => ReplyBody::Samples { target, want },
            Query::GetPeers {
                info_hash,
                want,
                noseed,
                scrape,
            } => ReplyBody::Peers {
                info_hash,
                want,
                noseed,
                scrape,
            },
            Query::AnnouncePeer { .. } => ReplyBody::Refusal(everseed_core::krpc::ERROR_PROTOCOL),
            Query::Unknown => ReplyBody::Refusal(everseed_core::krpc::ERROR_METHOD),
        }
    }

    /// To whom.
    pub(crate) fn to(&self) -> SocketAddr {
        self.to
    }
}

/// The tables that replies are made from.
pub(crate) struct ReplyData<'a, 'm> {
    pub(crate) routes: [&'a Routes<'m>; 2],
    pub(crate) store: &'a Store<'m>,
    pub(crate) tokens: &'a mut Tokens,
    pub(crate) rng: &'a mut Rng,
}

impl ReplyData<'_, '_> {
    /// Writes an answer; answers with its length, or `None` if not even the least of it is short enough.
    pub(crate) fn write(&mut self, now: Instant, reply: &Reply, out: &mut [u8]) -> Option<usize> {
        let from = Endpoint::from(reply.to);
        let own = self.routes[index(from.family())].own();
        let mut parts = Parts::default();
        let mut limit = reply.limit;
        match reply.what {
            ReplyBody::Pong => {}
            ReplyBody::Refusal(code) => {
                let message = reply.message(Body::Error { code, reason: b"" });
                return message.encode(out).filter(|&len| len <= limit);
            }
            ReplyBody::Nodes { target, want } => self.nodes(from, target, want, &mut parts),
            ReplyBody::Samples { target, want } => {
                self.nodes(from, target, want, &mut parts);
                let mut found = [NodeId([0; 20]); SAMPLES];
                let (len, known) = self.store.sample(self.rng, &mut found);
                parts.samples.extend(found.into_iter().take(len));
                parts.known = Some(known);
            }
            ReplyBody::Peers {
                info_hash,
                want,
                noseed,
                scrape,
            } => {
                self.nodes(from, info_hash, want, &mut parts);
                self.peers(from, info_hash, noseed, &mut parts);
                if self.store.takes(info_hash, from) {
                    parts.token = Some(self.tokens.give(now, from.ip()));
                }
                if self.routes[index(from.family())].is_proven(now, from) {
                    parts.blooms = scrape.then(|| self.blooms(info_hash));
                    limit = limit.max(PROVEN_MAX);
                }
            }
        }
        loop {
            if let Some(len) = parts.write(own, reply, out).filter(|&len| len <= limit) {
                return Some(len);
            }
            parts.shrink()?;
        }
    }

    /// The nodes closest to a target, of the families that are wanted.
    fn nodes(&self, from: Endpoint, target: NodeId, want: Want, parts: &mut Parts) {
        let own_family = want == Want::default();
        let wants = [
            want.v4 || (own_family && from.family() == Family::V4),
            want.v6 || (own_family && from.family() == Family::V6),
        ];
        for (family, wanted) in wants.into_iter().enumerate() {
            if wanted {
                parts.nodes[family] = self.routes[family].closest(target, true);
                // Nobody needs to be told of itself, and nobody outside of who is at home here.
                let of_use = |at: Endpoint| !at.same_host(from) && from.may_name(at);
                parts.nodes[family].retain(|(_, at)| of_use(*at));
            }
        }
    }

    /// Peers of the family of who asks, from anywhere in the list on.
    fn peers(&mut self, from: Endpoint, info_hash: NodeId, noseed: bool, parts: &mut Parts) {
        let all = self.store.peers(info_hash);
        let start = self.rng.below(u32::try_from(all.len()).unwrap_or(0)) as usize;
        let (before, after) = all.split_at(start);
        let fits = |at: Endpoint| at.family() == from.family() && at != from && from.may_name(at);
        let all = after.iter().chain(before);
        let all = all.filter(|peer| peer.serves(noseed) && fits(peer.at()));
        parts.peers.extend(all.map(|peer| peer.at()).take(PEERS));
    }

    /// Seeds and others of a torrent, counted.
    fn blooms(&self, info_hash: NodeId) -> [Bloom; 2] {
        let mut blooms = [Bloom::EMPTY, Bloom::EMPTY];
        for peer in self.store.peers(info_hash) {
            blooms[usize::from(!peer.has_all())].insert(peer.at().ip());
        }
        blooms
    }
}

impl Reply {
    fn message<'a>(&'a self, body: Body<'a>) -> Message<'a> {
        Message {
            transaction: &self.transaction,
            version: &[],
            read_only: false,
            observed: Some(self.to),
            body,
        }
    }
}

/// What a reply could hold, before it is made to fit.
#[derive(Default)]
struct Parts {
    nodes: [Closest; 2],
    peers: heapless::Vec<Endpoint, PEERS>,
    samples: heapless::Vec<NodeId, SAMPLES>,
    known: Option<u32>,
    token: Option<[u8; 8]>,
    blooms: Option<[Bloom; 2]>,
}

impl Parts {
    fn write(&self, own: NodeId, reply: &Reply, out: &mut [u8]) -> Option<usize> {
        let mut nodes = [[0; 38 * K]; 2];
        let mut lens = [0; 2];
        for (family, room) in nodes.iter_mut().enumerate() {
            for (id, at) in &self.nodes[family] {
                lens[family] = put_node(*id, at.addr(), room, lens[family])?;
            }
        }
        let mut values = [0; 21 * PEERS];
        let mut len = 0;
        for at in &self.peers {
            len = put_value(at.addr(), &mut values, len)?;
        }
        let mut samples = [[0; 20]; SAMPLES];
        for (to, id) in samples.iter_mut().zip(&self.samples) {
            *to = id.0;
        }
        let samples = samples[..self.samples.len()].as_flattened();
        let blooms = self.blooms.as_ref();
        let response = Response {
            id: own,
            token: self.token.as_ref().map(|token| &token[..]),
            nodes: Nodes::v4(nodes[0].get(..lens[0])?),
            nodes6: Nodes::v6(nodes[1].get(..lens[1])?),
            values: Values::new(values.get(..len)?),
            blooms: blooms.map(|[seeds, peers]| Blooms {
                seeds: seeds.bytes(),
                peers: peers.bytes(),
            }),
            samples: self.known.map(|known| Samples {
                interval_s: SAMPLE_INTERVAL_S,
                known,
                info_hashes: samples,
            }),
        };
        reply.message(Body::Response(response)).encode(out)
    }

    /// Leaves out one of what there is most of, in bytes; `None` when there is nothing left to leave out.
    fn shrink(&mut self) -> Option<()> {
        let [v4, v6] = &mut self.nodes;
        let peers = self.peers.first().map_or(0, |p| match p.family() {
            Family::V4 => 8 * self.peers.len(),
            Family::V6 => 21 * self.peers.len(),
        });
        let bytes = [26 * v4.len(), 38 * v6.len(), peers, 20 * self.samples.len()];
        let most = (0..bytes.len()).max_by_key(|&part| bytes[part])?;
        match most {
            _ if bytes[most] == 0 => self
                .blooms
                .take()
                .map(|_| ())
                .or(self.token.take().map(|_| ())),
            0 => v4.pop().map(|_| ()),
            1 => v6.pop().map(|_| ()),
            2 => self.peers.pop().map(|_| ()),
            _ => self.samples.pop().map(|_| ()),
        }
    }
}

/// Peers of an answer, at most.
const PEERS: usize = 32;

/// Torrents of an answer, at most.
const SAMPLES: usize = 20;

/// Seconds before other samples are given (BEP 51).
const SAMPLE_INTERVAL_S: u32 = 3600;

/// Bytes of an answer about a torrent, at most, to a node whose address is proven.
const PROVEN_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::dht::routes::Route;
    use crate::discovery::dht::store::StoredPeer;

    const NOW: Instant = Instant::from_secs(1000);
    const HASH: NodeId = NodeId([0x55; 20]);

    /// Asks a node that knows a lot, and hands the answer on; answers with the lengths of both.
    fn ask(
        from: [u8; 4],
        query: Query<'_>,
        proven: bool,
        look: &mut dyn FnMut(Option<Response<'_>>),
    ) -> (usize, usize) {
        let (mut v4, mut v6) = ([Route::EMPTY; 160], [Route::EMPTY; 64]);
        let mut entries = [StoredPeer::EMPTY; 128];
        let mut rng = Rng::new(1);
        let mut routes = [
            Routes::new(NodeId([1; 20]), &mut v4),
            Routes::new(NodeId([2; 20]), &mut v6),
        ];
        let mut store = Store::new(&mut entries);
        for n in 0..60 {
            let at = SocketAddr::from(([20, n, 0, 1], 6881)).into();
            routes[0].answered(NOW, NodeId::random(&mut rng), at);
            let ip = core::net::Ipv6Addr::new(0x2001, n.into(), 0, 0, 0, 0, 0, 1);
            let at = SocketAddr::from((ip, 6881)).into();
            routes[1].answered(NOW, NodeId::random(&mut rng), at);
            let at = SocketAddr::from(([21, n, 0, 1], 6881)).into();
            if n < 20 {
                store.announce(NOW, HASH, at, n % 2 == 0);
            }
            store.announce(NOW, NodeId([n; 20]), at, false);
        }
        let from = SocketAddr::from((from, 6881));
        if proven {
            routes[0].answered(NOW, NodeId([3; 20]), from.into());
            assert!(routes[0].is_proven(NOW, from.into()));
        }
        let mut library = ReplyData {
            routes: [&routes[0], &routes[1]],
            store: &store,
            tokens: &mut Tokens::new(NOW, 1),
            rng: &mut rng,
        };
        let message = Message {
            transaction: b"ab",
            version: b"",
            read_only: false,
            observed: None,
            body: Body::Query(NodeId([9; 20]), query),
        };
        let mut out = [0; 1500];
        let asked = message.encode(&mut out).unwrap();
        let reply = Reply::new(from, b"ab", asked, Reply::to_query(query));
        let len = library.write(NOW, &reply, &mut out).unwrap();
        let message = Message::decode(&out[..len]).unwrap();
        assert_eq!(message.transaction, b"ab");
        assert_eq!(message.observed, Some(from));
        look(match message.body {
            Body::Response(response) => Some(response),
            _ => None,
        });
        (asked, len)
    }

    #[test]
    fn answers_are_at_most_twice_as_long() {
        let target = HASH;
        let wants = [(false, false), (true, false), (false, true), (true, true)];
        for (v4, v6) in wants {
            let want = Want { v4, v6 };
            let get = |noseed, scrape| Query::GetPeers {
                info_hash: HASH,
                want,
                noseed,
                scrape,
            };
            let queries = [
                Query::Ping,
                Query::Unknown,
                Query::FindNode { target, want },
                Query::SampleInfohashes { target, want },
                get(false, false),
                get(true, true),
            ];
            for query in queries {
                for (from, proven) in [([30, 0, 0, 1], false), ([30, 0, 0, 1], true)] {
                    let (asked, len) = ask(from, query, proven, &mut |_| {});
                    let may_be_longer = proven && matches!(query, Query::GetPeers { .. });
                    assert!(len <= 2 * asked || may_be_longer, "{query:?} {asked} {len}");
                    assert!(len <= PROVEN_MAX);
                }
            }
        }
    }

    #[test]
    fn what_is_answered() {
        let want = Want::default();
        let get = |noseed, scrape| Query::GetPeers {
            info_hash: HASH,
            want,
            noseed,
            scrape,
        };
        ask(
            [30, 0, 0, 1],
            Query::FindNode { target: HASH, want },
            false,
            &mut |answer| {
                let answer = answer.unwrap();
                assert!(answer.nodes.count() >= 4 && answer.nodes6.count() == 0);
                assert!(answer.nodes.is_sorted_by_key(|(id, _)| id.distance(HASH)));
            },
        );
        let both = Want { v4: true, v6: true };
        ask(
            [30, 0, 0, 1],
            Query::FindNode {
                target: HASH,
                want: both,
            },
            false,
            &mut |answer| {
                let answer = answer.unwrap();
                assert!(answer.nodes.count() >= 2 && answer.nodes6.count() >= 1);
            },
        );
        ask([30, 0, 0, 1], get(false, false), false, &mut |answer| {
            let answer = answer.unwrap();
            assert!(answer.values.count() >= 5 && answer.nodes.count() >= 1);
            assert_eq!(answer.token.map(<[u8]>::len), Some(8));
            assert_eq!(answer.blooms, None);
        });
        // To a node that has answered us, all peers that there is room for.
        ask([30, 0, 0, 1], get(false, false), true, &mut |answer| {
            let answer = answer.unwrap();
            assert!(answer.values.count() == 20 && answer.nodes.count() >= 4);
        });
        // Whoever has all of it is of no use to a seed.
        ask([30, 0, 0, 1], get(true, false), false, &mut |answer| {
            let odd = |peer: SocketAddr| matches!(peer.ip(), core::net::IpAddr::V4(ip) if ip.octets()[1] % 2 == 1);
            assert!(answer.unwrap().values.all(odd));
        });
        ask([30, 0, 0, 1], get(false, true), true, &mut |answer| {
            let blooms = answer.unwrap().blooms.unwrap();
            assert_ne!(blooms.seeds, blooms.peers);
        });
        ask(
            [30, 0, 0, 1],
            Query::SampleInfohashes { target: HASH, want },
            false,
            &mut |answer| {
                let samples = answer.unwrap().samples.unwrap();
                assert_eq!(samples.known, 61);
                assert!(samples.info_hashes.len() >= 40);
            },
        );
        ask([30, 0, 0, 1], Query::Unknown, false, &mut |answer| {
            assert_eq!(answer, None)
        });
        // Nobody is told of itself.
        ask(
            [20, 7, 0, 1],
            Query::FindNode { target: HASH, want },
            false,
            &mut |answer| {
                let itself = |(_, at): (NodeId, SocketAddr)| {
                    at.ip() == core::net::IpAddr::from([20, 7, 0, 1])
                };
                assert!(!answer.unwrap().nodes.any(itself));
            },
        );
    }
}
