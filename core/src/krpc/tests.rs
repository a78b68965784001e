//! Messages both ways.

use super::*;
use crate::rng::Rng;
use crate::tracker::Family;

extern crate std;
use std::vec::Vec;

const ID: NodeId = NodeId(*b"abcdefghij0123456789");
const TARGET: NodeId = NodeId(*b"mnopqrstuvwxyz123456");

fn query(query: Query<'_>) -> Message<'_> {
    Message {
        transaction: b"aa",
        version: b"",
        read_only: false,
        observed: None,
        body: Body::Query(ID, query),
    }
}

fn response(response: Response<'_>) -> Message<'_> {
    Message {
        body: Body::Response(response),
        ..query(Query::Ping)
    }
}

/// The examples of BEP 5, and of those that extend it.
#[test]
fn the_published_examples() {
    let want = Want::default();
    let both = Want { v4: true, v6: true };
    let table: [(&[u8], Message<'_>); 10] = [
        (
            b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe",
            query(Query::Ping),
        ),
        (
            b"d1:rd2:id20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re",
            response(Response::empty(TARGET)),
        ),
        (
            b"d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q9:find_node1:t2:aa1:y1:qe",
            query(Query::FindNode { target: TARGET, want }),
        ),
        (
            b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz1234564:wantl2:n42:n6ee\
              1:q9:get_peers1:t2:aa1:y1:qe",
            query(Query::GetPeers { info_hash: TARGET, want: both, noseed: false, scrape: false }),
        ),
        (
            b"d1:rd2:id20:abcdefghij01234567895:token8:aoeusnth6:valuesl6:axje.u6:idhtnmee1:t2:aa1:y1:re",
            response(Response {
                token: Some(b"aoeusnth"),
                values: Values::new(b"6:axje.u6:idhtnm"),
                ..Response::empty(ID)
            }),
        ),
        (
            b"d1:ad2:id20:abcdefghij012345678912:implied_porti1e9:info_hash20:mnopqrstuvwxyz123456\
              4:porti6881e5:token8:aoeusnthe1:q13:announce_peer1:t2:aa1:y1:qe",
            query(Query::AnnouncePeer {
                info_hash: TARGET,
                port: 6881,
                implied_port: true,
                token: b"aoeusnth",
                seed: false,
            }),
        ),
        (
            b"d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee",
            Message {
                body: Body::Error { code: ERROR_GENERIC, reason: b"A Generic Error Ocurred" },
                ..query(Query::Ping)
            },
        ),
        (
            b"d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q17:sample_infohashes1:t2:aa1:y1:qe",
            query(Query::SampleInfohashes { target: TARGET, want }),
        ),
        (
            b"d1:rd2:id20:abcdefghij01234567898:intervali60e3:numi9e7:samples20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re",
            response(Response {
                samples: Some(Samples { interval_s: 60, known: 9, info_hashes: &TARGET.0 }),
                ..Response::empty(ID)
            }),
        ),
        (
            b"d1:ad2:id20:abcdefghij0123456789e2:ip6:\x7f\0\0\x01\x1a\xe11:q4:ping2:roi1e1:t2:aa1:v4:ES\0\x011:y1:qe",
            Message {
                version: b"ES\0\x01",
                read_only: true,
                observed: Some("127.0.0.1:6881".parse().unwrap()),
                ..query(Query::Ping)
            },
        ),
    ];
    for (bytes, message) in table {
        assert_eq!(Message::decode(bytes), Ok(message));
        let mut out = [0; 300];
        let len = message.encode(&mut out).unwrap();
        assert_eq!(&out[..len], bytes);
        for short in 0..len {
            assert_eq!(message.encode(&mut out[..short]), None);
        }
    }
}

/// What clients in use write in another way, and what means nothing.
#[test]
fn order_and_nonsense() {
    let want = Want::default();
    let find = query(Query::FindNode {
        target: TARGET,
        want,
    });
    let incomplete = Err(Malformed::Incomplete);
    let broken = Err(Malformed::NotBencoded);
    let table: [(&[u8], Result<Message<'_>, Malformed>); 27] = [
        // Any order, unknown keys, and something after the end.
        (b"d1:y1:q1:t2:aa1:q4:ping1:ad2:id20:abcdefghij0123456789ee", Ok(query(Query::Ping))),
        (b"d1:xli1eli2eee1:y1:q1:t2:aa1:zd1:ai1ee1:q4:ping1:ad1:xle2:id20:abcdefghij0123456789eejunk", Ok(query(Query::Ping))),
        // A key that comes twice, and values of a wrong type.
        (b"d1:y1:q1:y1:r1:t2:aa1:ti5e2:roli1ee1:vi4e2:ipi1e1:q4:ping1:ad2:id20:abcdefghij0123456789ee", Ok(query(Query::Ping))),
        // An unknown method with a target (BEP 44's `get`).
        (b"d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q3:get1:t2:aa1:y1:qe", Ok(find)),
        (b"d1:ad2:id20:abcdefghij0123456789e1:q4:vote1:t2:aa1:y1:qe", Ok(query(Query::Unknown))),
        (b"d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz1234564:wantli1eleee1:q9:find_node1:t2:aa1:y1:qe", Ok(find)),
        // Ports that are none.
        (b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz1234564:porti0e5:token1:xe1:q13:announce_peer1:t2:aa1:y1:qe", incomplete),
        (b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz1234564:porti65536e5:token1:xe1:q13:announce_peer1:t2:aa1:y1:qe", incomplete),
        (b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz1234564:porti-1e5:token1:xe1:q13:announce_peer1:t2:aa1:y1:qe", incomplete),
        // Without what must be there.
        (b"d1:ad2:id20:abcdefghij0123456789e1:q9:find_node1:t2:aa1:y1:qe", incomplete),
        (b"d1:ad2:id20:abcdefghij0123456789e1:q9:get_peers1:t2:aa1:y1:qe", incomplete),
        (b"d1:ad2:id20:abcdefghij0123456789e1:q13:announce_peer1:t2:aa1:y1:qe", incomplete),
        (b"d1:ad2:id19:abcdefghij012345678e1:q4:ping1:t2:aa1:y1:qe", incomplete),
        (b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:y1:qe", incomplete),
        (b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t33:abcdefghijabcdefghijabcdefghijabc1:y1:qe", incomplete),
        (b"d1:t2:aa1:y1:re", incomplete),
        (b"d1:rde1:t2:aa1:y1:re", incomplete),
        (b"d1:t2:aae", incomplete),
        (b"d1:t2:aa1:y1:xe", incomplete),
        (b"de", incomplete),
        // Not bencoded.
        (b"", broken),
        (b"le", broken),
        (b"d", broken),
        (b"d1:y1:q1:t2:aa", broken),
        (b"d1:t99:aae", broken),
        (b"d1:t99999999999999999999:aae", broken),
        (b"i1e", broken),
    ];
    for (bytes, expected) in table {
        let told = std::string::String::from_utf8_lossy(bytes);
        assert_eq!(Message::decode(bytes), expected, "{told}");
    }
    let deep = [b"d1:x".as_slice(), &[b'l'; 2000]].concat();
    assert_eq!(Message::decode(&deep), broken);
}

#[test]
fn errors_are_read_as_far_as_they_go() {
    let table: [(&[u8], i64, &[u8]); 4] = [
        (b"d1:eli203ee1:t2:aa1:y1:ee", 203, b""),
        (b"d1:el4:junke1:t2:aa1:y1:ee", 0, b"junk"),
        (
            b"d1:elli1eei99999999999999999999ee1:t2:aa1:y1:ee",
            i64::MAX,
            b"",
        ),
        (b"d1:ed1:ai1ee1:t2:aa1:y1:ee", 0, b""),
    ];
    for (bytes, code, reason) in table {
        let body = Message::decode(bytes).unwrap().body;
        assert_eq!(body, Body::Error { code, reason });
    }
}

#[test]
fn nodes_and_peers() {
    let v4 = "192.0.2.7:6881".parse().unwrap();
    let v6 = "[2001:db8::7]:6882".parse().unwrap();
    let mut nodes = [0; 60];
    let len = put_node(ID, v4, &mut nodes, 0).unwrap();
    let len = put_node(TARGET, v4, &mut nodes, len).unwrap();
    assert_eq!((len, put_node(ID, v4, &mut nodes, len)), (52, None));
    assert!(Nodes::v4(&nodes).eq([(ID, v4), (TARGET, v4)]));
    let len = put_node(ID, v6, &mut nodes, 0).unwrap();
    assert!(Nodes::v6(&nodes[..len]).eq([(ID, v6)]));
    let mut values = [0; 36];
    let len = put_value(v4, &mut values, 0).unwrap();
    let len = put_value(v6, &mut values, len).unwrap();
    assert_eq!((len, put_value(v4, &mut values, len)), (29, None));
    assert!(Values::new(&values[..len]).eq([v4, v6]));
    let table: [(&[u8], usize); 8] = [
        (b"", 0),
        (b"6:axje.u", 1),
        (b"6:axje.u3:abc0:6:axje.u", 2),
        (b"6:axje.ui5e6:axje.u", 1),
        (b"6:axje.", 0),
        (b"99999999999999999999:x", 0),
        (b":6:axje.u", 1),
        (b"-1:x", 0),
    ];
    for (bytes, count) in table {
        assert_eq!(Values::new(bytes).count(), count, "{bytes:?}");
    }
}

/// Anything that can be said, from random bytes.
struct Words {
    rng: Rng,
    strings: [Vec<u8>; 8],
    blooms: [[u8; Bloom::BYTES]; 2],
}

impl Words {
    fn new(seed: u64) -> Words {
        let mut rng = Rng::new(seed);
        let mut string = |len| {
            let mut bytes = std::vec![0; len];
            rng.fill(&mut bytes);
            bytes
        };
        let strings = [4, 4, 8, 26 * 8, 38 * 3, 0, 20 * 5, 9].map(&mut string);
        let blooms = [0, 1].map(|_| string(256).try_into().unwrap());
        Words {
            rng,
            strings,
            blooms,
        }
    }

    fn flip(&mut self) -> bool {
        self.rng.below(2) == 1
    }

    fn want(&mut self) -> Want {
        Want {
            v4: self.flip(),
            v6: self.flip(),
        }
    }

    fn address(&mut self) -> SocketAddr {
        let family = if self.flip() { Family::V4 } else { Family::V6 };
        let mut bytes = [7; 18];
        self.rng.fill(&mut bytes);
        bytes[0] = 9;
        crate::tracker::CompactPeers::new(&bytes, family)
            .next()
            .unwrap()
    }

    fn message(&mut self) -> Message<'_> {
        let id = NodeId::random(&mut self.rng);
        let info_hash = NodeId::random(&mut self.rng);
        let mut values = [0; 100];
        let mut len = 0;
        for _ in 0..self.rng.below(4) {
            len = put_value(self.address(), &mut values, len).unwrap();
        }
        self.strings[5] = values[..len].to_vec();
        let observed = self.flip().then(|| self.address());
        let (read_only, version) = (self.flip(), self.flip());
        let (want, port) = (self.want(), self.rng.below(65535) as u16 + 1);
        let (a, b, c) = (self.flip(), self.flip(), self.flip());
        let code = self.rng.bits().cast_signed();
        let kind = self.rng.below(8);
        let numbers = [self.rng.bits32(), self.rng.bits32()];
        let [
            transaction,
            told,
            token,
            nodes,
            nodes6,
            values,
            samples,
            reason,
        ] = &self.strings;
        let body = match kind {
            0 => Body::Query(id, Query::Ping),
            1 => Body::Query(
                id,
                Query::FindNode {
                    target: info_hash,
                    want,
                },
            ),
            2 => Body::Query(
                id,
                Query::GetPeers {
                    info_hash,
                    want,
                    noseed: a,
                    scrape: b,
                },
            ),
            3 => Body::Query(
                id,
                Query::AnnouncePeer {
                    info_hash,
                    port,
                    implied_port: a,
                    token,
                    seed: b,
                },
            ),
            4 => Body::Query(
                id,
                Query::SampleInfohashes {
                    target: info_hash,
                    want,
                },
            ),
            5 => Body::Error { code, reason },
            _ => Body::Response(Response {
                id,
                token: a.then_some(&token[..]),
                nodes: Nodes::v4(if b { nodes } else { &[] }),
                nodes6: Nodes::v6(if c { nodes6 } else { &[] }),
                values: Values::new(values),
                blooms: (a && c).then_some(Blooms {
                    seeds: &self.blooms[0],
                    peers: &self.blooms[1],
                }),
                samples: (b && c).then_some(Samples {
                    interval_s: numbers[0],
                    known: numbers[1],
                    info_hashes: samples,
                }),
            }),
        };
        Message {
            transaction,
            version: if version { told } else { &[] },
            read_only,
            observed,
            body,
        }
    }
}

/// What is written is read again as it was; damage never panics, and what is read of it can be written.
#[test]
fn any_message_both_ways_and_damaged() {
    let mut rng = Rng::new(2);
    for seed in 0..3000 {
        let mut words = Words::new(seed);
        let message = words.message();
        let mut out = [0; 1500];
        let len = message.encode(&mut out).unwrap();
        assert_eq!(Message::decode(&out[..len]), Ok(message), "seed {seed}");
        for _ in 0..10 {
            let mut bytes = out[..len].to_vec();
            for _ in 0..=rng.below(4) {
                let at = rng.below(len as u32) as usize;
                bytes[at] = match rng.below(3) {
                    0 => b"0123456789ilde:"[rng.below(15) as usize],
                    _ => rng.below(256) as u8,
                };
            }
            bytes.truncate(rng.below(2 * len as u32) as usize);
            if let Ok(message) = Message::decode(&bytes) {
                let mut again = [0; 1600];
                message.encode(&mut again).unwrap();
                if let Body::Response(response) = message.body {
                    assert!(response.nodes.count() <= bytes.len() / 26);
                    assert!(response.nodes6.count() <= bytes.len() / 38);
                    assert!(response.values.count() <= bytes.len() / 8);
                }
            }
        }
    }
}
