//! The record that is kept from one run to the next: our ids and good nodes, at most [`KEPT_MAX`] bytes.
//!
//! It is written as an answer of BEP 5 to nobody: `id` is our id by IPv4, `token` the one by IPv6, then the nodes.

use everseed_core::krpc::{Body, Message, NodeId, Nodes, Response, put_node};

use super::routes::Routes;

/// Writes what is to be kept; answers with its length, or `None` when `out` has no room.
pub(crate) fn write(routes: [&Routes<'_>; 2], out: &mut [u8]) -> Option<usize> {
    let mut v6 = [0; 38 * MOST_V6];
    let mut len6 = 0;
    for (id, at) in routes[1].iter_kept().take(MOST_V6) {
        len6 = put_node(id, at.addr(), &mut v6, len6)?;
    }
    let mut v4 = [0; 26 * MOST_V4];
    let most = (KEPT_MAX - OVERHEAD - len6) / 26;
    let mut len4 = 0;
    for (id, at) in routes[0].iter_kept().take(most.min(MOST_V4)) {
        len4 = put_node(id, at.addr(), &mut v4, len4)?;
    }
    let own = routes[1].own();
    let response = Response {
        token: Some(&own.0),
        nodes: Nodes::v4(v4.get(..len4)?),
        nodes6: Nodes::v6(v6.get(..len6)?),
        ..Response::empty(routes[0].own())
    };
    message(response).encode(out)
}

/// Reads what was kept, and puts it into empty tables. Nonsense is as good as nothing.
pub(crate) fn read(bytes: &[u8], routes: [&mut Routes<'_>; 2]) {
    let Ok(Message {
        transaction: VERSION,
        body: Body::Response(kept),
        ..
    }) = Message::decode(bytes)
    else {
        return;
    };
    let [v4, v6] = routes;
    v4.rename(kept.id);
    if let Some(Ok(own)) = kept.token.map(<[u8; 20]>::try_from) {
        v6.rename(NodeId(own));
    }
    for (id, addr) in kept.nodes.take(MOST_V4) {
        v4.kept(id, addr.into());
    }
    for (id, addr) in kept.nodes6.take(MOST_V6) {
        v6.kept(id, addr.into());
    }
}

fn message(response: Response<'_>) -> Message<'_> {
    Message {
        transaction: VERSION,
        version: &[],
        read_only: false,
        observed: None,
        body: Body::Response(response),
    }
}

/// The version of the format.
const VERSION: &[u8] = b"everseed dht 1";

/// The most that is kept, in bytes.
pub const KEPT_MAX: usize = 2048;

/// Nodes by IPv4, at most; and by IPv6.
const MOST_V4: usize = 64;
const MOST_V6: usize = 16;

/// All but the nodes, in bytes.
const OVERHEAD: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::dht::routes::Route;
    use core::net::{Ipv6Addr, SocketAddr};
    use everseed_core::rng::Rng;
    use everseed_core::time::Instant;

    #[test]
    fn kept_and_read() {
        let now = Instant::from_secs(50);
        // Nodes by IPv4 and IPv6 that there are; and how many are kept.
        for (there, kept) in [
            ((0, 0), (0, 0)),
            ((3, 0), (3, 0)),
            ((200, 0), (50, 0)),
            ((200, 90), (45, 16)),
        ] {
            let mut rng = Rng::new(1);
            let mut room = [[Route::EMPTY; 160]; 4];
            let [a, b, c, d] = &mut room;
            let mut from = [a, b].map(|room| Routes::new(NodeId::random(&mut rng), room));
            for n in 0..there.0 {
                let at = SocketAddr::from(([20, n, 0, 1], 6881)).into();
                from[0].answered(now, NodeId::random(&mut rng), at);
            }
            for n in 0..there.1 {
                let ip = Ipv6Addr::new(0x2001, n, 0, 0, 0, 0, 0, 1);
                from[1].answered(
                    now,
                    NodeId::random(&mut rng),
                    SocketAddr::from((ip, 1)).into(),
                );
            }
            let mut out = [0; KEPT_MAX];
            let len = write([&from[0], &from[1]], &mut out).unwrap();
            let mut to = [c, d].map(|room| Routes::new(NodeId([0; 20]), room));
            let [v4, v6] = &mut to;
            read(&out[..len], [v4, v6]);
            for family in 0..2 {
                assert_eq!(to[family].own(), from[family].own());
                assert_eq!(to[family].good(), 0, "they have to answer first");
            }
            // Whoever ends before anybody has answered knows as many again.
            let mut again = [0; KEPT_MAX];
            let kept_again = write([&to[0], &to[1]], &mut again).unwrap();
            assert_eq!(kept_again, len);
            assert!(
                to[0].len() >= kept.0.min(from[0].len())
                    && to[1].len() >= kept.1.min(from[1].len())
            );
        }
    }

    #[test]
    fn nonsense_is_nothing() {
        let mut room = [[Route::EMPTY; 16]; 2];
        let [a, b] = &mut room;
        let mut to = [a, b].map(|room| Routes::new(NodeId([7; 20]), room));
        let other = b"d1:rd2:id20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re";
        for bytes in [&b""[..], b"junk", other] {
            let [v4, v6] = &mut to;
            read(bytes, [v4, v6]);
            assert_eq!((to[0].own(), to[0].len()), (NodeId([7; 20]), 0));
        }
    }
}
