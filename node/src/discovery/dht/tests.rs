//! A node of the DHT, driven by hand: what it asks, and how it answers.

extern crate std;

use std::vec;
use std::vec::Vec;

use everseed_core::krpc::{ERROR_METHOD, Values, put_value};

use super::*;
use crate::parts::small::Heap;

const NOW: Instant = Instant::from_secs(1000);
const HASH: InfoHash = InfoHash([0x55; 20]);

/// The id of whoever the node talks to.
const ID: NodeId = NodeId([0xaa; 20]);

/// A node that knows no other, and has IPv4 alone.
fn dht(mode: Mode) -> Dht<'static> {
    let memory = Memory::lend(&memory::Sizes::FULL, &mut Heap);
    Dht::new(NOW, memory, mode, [true, false], 1)
}

fn node(n: u8) -> SocketAddr {
    ([20, n, 0, 1], 6881).into()
}

fn packet(transaction: &[u8], body: Body<'_>) -> Vec<u8> {
    let message = Message {
        transaction,
        version: b"",
        read_only: false,
        observed: None,
        body,
    };
    let mut out = vec![0; PACKET_MAX];
    let len = message.encode(&mut out).unwrap();
    out.truncate(len);
    out
}

/// All that is to be sent now.
fn sent(dht: &mut Dht<'_>, now: Instant) -> Vec<(SocketAddr, Vec<u8>)> {
    let mut all = Vec::new();
    let mut room = [0; PACKET_MAX];
    while let Some((to, len)) = dht.poll_datagram(now, &mut room) {
        all.push((to, room[..len].to_vec()));
    }
    all
}

/// Hands a packet over, and returns the peers that it names.
fn receive(dht: &mut Dht<'_>, now: Instant, from: SocketAddr, packet: &[u8]) -> Vec<SocketAddr> {
    let mut peers = Vec::new();
    dht.datagram(now, from, packet, &mut |hash, peer| {
        assert_eq!(hash, HASH);
        peers.push(peer);
    });
    peers
}

/// The answer to a query, if there is one.
fn answer(dht: &mut Dht<'_>, from: SocketAddr, id: NodeId, query: Query<'_>) -> Option<Vec<u8>> {
    receive(dht, NOW, from, &packet(b"zz", Body::Query(id, query)));
    let mut all = sent(dht, NOW).into_iter();
    let is_answer = |bytes: &[u8]| Message::decode(bytes).unwrap().transaction == b"zz";
    all.find_map(|(to, bytes)| (to == from && is_answer(&bytes)).then_some(bytes))
}

const GET_PEERS: Query<'_> = Query::GetPeers {
    info_hash: NodeId(HASH.0),
    want: Want {
        v4: false,
        v6: false,
    },
    noseed: false,
    scrape: false,
};

fn announce(token: &[u8]) -> Query<'_> {
    Query::AnnouncePeer {
        info_hash: NodeId(HASH.0),
        port: 7000,
        implied_port: false,
        token,
        seed: false,
    }
}

/// The node knows of another: it was told of it, asked it, and was answered.
fn with_a_node(dht: &mut Dht<'_>) {
    dht.hint(NOW, node(1));
    let query = sent(dht, NOW).pop().unwrap();
    let transaction = Message::decode(&query.1).unwrap().transaction;
    let body = Body::Response(Response::empty(ID));
    receive(dht, NOW, node(1), &packet(transaction, body));
    assert_eq!(dht.stats().nodes, [1, 0]);
}

const SEARCH: Search = Search {
    info_hash: HASH,
    announce: Some(Announce {
        ports: [7001, 0],
        seed: false,
    }),
    urgent: true,
    noseed: false,
};

#[test]
fn what_is_answered_to_a_query() {
    // Whether the answer has a token, or the number of the error.
    let find = Query::FindNode {
        target: ID,
        want: Want::default(),
    };
    for (query, expected) in [
        (Query::Ping, Ok(false)),
        (find, Ok(false)),
        (GET_PEERS, Ok(true)),
        (announce(b"a guess!"), Err(ERROR_PROTOCOL)),
        (Query::Unknown, Err(ERROR_METHOD)),
    ] {
        let mut dht = dht(Mode::On);
        let bytes = answer(&mut dht, node(1), ID, query).unwrap();
        let found = match Message::decode(&bytes).unwrap().body {
            Body::Response(response) => Ok(response.token.is_some()),
            Body::Error { code, .. } => Err(code),
            Body::Query(..) => panic!("a query"),
        };
        assert_eq!(found, expected, "{query:?}");
        assert_eq!(dht.stats().replies, 1, "{query:?}");
    }
}

#[test]
fn an_announced_peer_is_handed_to_others() {
    let mut dht = dht(Mode::On);
    let bytes = answer(&mut dht, node(1), ID, GET_PEERS).unwrap();
    let Body::Response(response) = Message::decode(&bytes).unwrap().body else {
        panic!("an answer");
    };
    let token = response.token.unwrap();
    // The token is for one address.
    let stranger = answer(&mut dht, node(2), ID, announce(token)).unwrap();
    let refused = Message::decode(&stranger).unwrap().body;
    assert!(matches!(
        refused,
        Body::Error {
            code: ERROR_PROTOCOL,
            ..
        }
    ));
    assert!(answer(&mut dht, node(1), ID, announce(token)).is_some());
    assert_eq!(dht.stats().stored, 1);
    let bytes = answer(&mut dht, node(3), ID, GET_PEERS).unwrap();
    let Body::Response(response) = Message::decode(&bytes).unwrap().body else {
        panic!("an answer");
    };
    let peer = SocketAddr::new(node(1).ip(), 7000);
    assert_eq!(response.values.collect::<Vec<_>>(), [peer]);
}

#[test]
fn who_is_not_answered() {
    let v6: SocketAddr = "[2a00::1]:6881".parse().unwrap();
    for (mode, rests, from, by_us, answered) in [
        (Mode::On, false, node(1), false, true),
        (Mode::ReadOnly, false, node(1), false, false),
        (Mode::Off, false, node(1), false, false),
        (Mode::On, true, node(1), false, false),
        (Mode::On, false, v6, false, false),
        (Mode::On, false, node(1), true, false),
        (Mode::On, false, ([20, 1, 0, 1], 0).into(), false, false),
    ] {
        let mut dht = dht(mode);
        dht.rest(NOW, rests);
        let id = match by_us {
            true => dht.nets[0].routes.own(),
            false => ID,
        };
        let is = answer(&mut dht, from, id, Query::Ping).is_some();
        assert_eq!(is, answered, "{mode:?} {rests} {from} {by_us}");
    }
}

#[test]
fn a_node_is_known_once_it_answers() {
    // Who answers, by which transaction.
    for (from, right, known) in [(node(1), true, 1), (node(2), true, 0), (node(1), false, 0)] {
        let mut dht = dht(Mode::On);
        dht.hint(NOW, node(1));
        let all = sent(&mut dht, NOW);
        let [(to, query)] = &all[..] else {
            panic!("one query");
        };
        let query = Message::decode(query).unwrap();
        assert_eq!(*to, node(1));
        assert!(matches!(query.body, Body::Query(_, Query::FindNode { .. })));
        let transaction = match right {
            true => query.transaction,
            false => b"no",
        };
        let body = Body::Response(Response::empty(ID));
        receive(&mut dht, NOW, from, &packet(transaction, body));
        let stats = dht.stats();
        assert_eq!(stats.nodes, [known, 0], "{from} {right}");
        assert_eq!(stats.answers, u64::from(known), "{from} {right}");
    }
}

#[test]
fn a_search_hands_out_peers_and_announces_us() {
    let mut dht = dht(Mode::On);
    with_a_node(&mut dht);
    assert!(dht.search(NOW, &SEARCH));
    let mut values = [0; 32];
    let peer: SocketAddr = ([30, 0, 0, 1], 5000).into();
    let len = put_value(peer, &mut values, 0).unwrap();
    let (mut peers, mut announced) = (Vec::new(), Vec::new());
    for second in 0..60 {
        let now = NOW + Duration::from_secs(second);
        for (to, query) in sent(&mut dht, now) {
            let query = Message::decode(&query).unwrap();
            let mut response = Response::empty(ID);
            match query.body {
                Body::Query(_, Query::GetPeers { info_hash, .. }) => {
                    assert_eq!(info_hash, NodeId(HASH.0));
                    response.token = Some(b"tok");
                    response.values = Values::new(&values[..len]);
                }
                Body::Query(_, Query::AnnouncePeer { port, token, .. }) => {
                    announced.push((port, token.to_vec()));
                }
                _ => {}
            }
            let reply = packet(query.transaction, Body::Response(response));
            peers.extend(receive(&mut dht, now, to, &reply));
        }
    }
    assert_eq!(peers, [peer]);
    assert_eq!(announced, [(7001, b"tok".to_vec())]);
    let finished = Finished {
        info_hash: HASH,
        peers: 1,
        announced: 1,
    };
    assert_eq!(dht.poll_finished(), Some(finished));
    assert_eq!(dht.poll_finished(), None, "once");
}

#[test]
fn a_search_ends_without_an_answer() {
    for refuses in [true, false] {
        let mut dht = dht(Mode::On);
        with_a_node(&mut dht);
        assert!(dht.search(NOW, &SEARCH));
        for second in 0..60 {
            let now = NOW + Duration::from_secs(second);
            for (to, query) in sent(&mut dht, now) {
                let transaction = Message::decode(&query).unwrap().transaction;
                let body = Body::Error {
                    code: ERROR_GENERIC,
                    reason: b"no",
                };
                if refuses {
                    receive(&mut dht, now, to, &packet(transaction, body));
                }
            }
        }
        let finished = dht.poll_finished().map(|f| (f.peers, f.announced));
        assert_eq!(finished, Some((0, 0)), "{refuses}");
    }
}

#[test]
fn searches_that_can_wait_leave_half_of_the_places() {
    let mut dht = dht(Mode::On);
    with_a_node(&mut dht);
    let mut begins = |n: u8, urgent: bool| {
        let info_hash = InfoHash([n; 20]);
        let search = Search {
            info_hash,
            urgent,
            ..SEARCH
        };
        dht.search(NOW, &search)
    };
    // Of four places.
    for (n, urgent, begun) in [
        (1, false, true),
        (2, false, true),
        (3, false, false),
        (1, false, true),
        (3, true, true),
        (4, true, true),
        (5, true, false),
    ] {
        assert_eq!(begins(n, urgent), begun, "{n} {urgent}");
    }
    dht.forget(InfoHash([1; 20]));
    assert!(dht.search(NOW, &SEARCH), "a place is free");
}

#[test]
fn names_are_resolved_after_pauses_that_double() {
    let mut dht = dht(Mode::On);
    let asked = |dht: &mut Dht<'_>| {
        let due = |&second: &u64| dht.poll_names(NOW + Duration::from_secs(second));
        (0..500).filter(due).collect::<Vec<_>>()
    };
    assert_eq!(asked(&mut dht), [5, 65, 185, 425]);
    // Nobody needs them while a node answers.
    let mut known = super::tests::dht(Mode::On);
    with_a_node(&mut known);
    assert_eq!(asked(&mut known), []);
    // A person does not wait.
    let mut waited_for = super::tests::dht(Mode::On);
    waited_for.search(NOW, &SEARCH);
    assert_eq!(asked(&mut waited_for)[0], 0);
}

#[test]
fn what_is_no_message_is_counted() {
    let mut dht = dht(Mode::On);
    receive(&mut dht, NOW, node(1), b"d1:x");
    assert_eq!(dht.stats().malformed, 1);
    assert_eq!(sent(&mut dht, NOW), []);
}
