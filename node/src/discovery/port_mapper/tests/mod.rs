mod world;

use self::world::{GATEWAY, Router, World, gateway_v6};
use super::{
    Instant, PACKET_MAX, PortMapper, Protocol, REQUEST_MAX, Refusal, Rng, SocketAddr, Standing,
};
use core::net::IpAddr;

use everseed_core::portmap::{Transport, natpmp};

extern crate std;
use std::string::String;
use std::vec::Vec;
use std::{format, vec};

fn mapped(by: Protocol, outside: &str, udp: u16) -> Standing {
    Standing::Mapped {
        by,
        outside: outside.parse().unwrap(),
        udp: Some(udp),
    }
}

#[test]
fn each_protocol_maps_renews_and_ends() {
    let pcp = Router {
        pcp: Some(0),
        ..Router::default()
    };
    let natpmp = |says_version| Router {
        natpmp: true,
        says_version,
        ..Router::default()
    };
    let upnp = Router {
        upnp: vec![0],
        ..Router::default()
    };
    for (router, by, within_ms, first, again, end) in [
        (
            pcp,
            Protocol::Pcp,
            0,
            vec!["pcp 6 6881 3600", "pcp 17 6881 3600"],
            vec!["pcp 6 6881 3600", "pcp 17 6881 3600"],
            vec!["pcp 6 6881 0", "pcp 17 6881 0"],
        ),
        (
            natpmp(true),
            Protocol::NatPmp,
            0,
            vec!["natpmp outside", "natpmp 2 3600", "natpmp 1 3600"],
            vec!["natpmp outside", "natpmp 2 3600", "natpmp 1 3600"],
            vec!["natpmp 2 0", "natpmp 1 0"],
        ),
        // It ignores what it does not know.
        (
            natpmp(false),
            Protocol::NatPmp,
            2500,
            vec!["natpmp outside", "natpmp 2 3600", "natpmp 1 3600"],
            vec!["natpmp outside", "natpmp 2 3600", "natpmp 1 3600"],
            vec!["natpmp 2 0", "natpmp 1 0"],
        ),
        (
            upnp,
            Protocol::Upnp,
            100,
            vec![
                "description",
                "AddPortMapping 6881 TCP 3600",
                "AddPortMapping 6881 UDP 3600",
            ],
            vec![
                "AddPortMapping 6881 TCP 3600",
                "AddPortMapping 6881 UDP 3600",
            ],
            vec!["DeletePortMapping 6881 TCP", "DeletePortMapping 6881 UDP"],
        ),
    ] {
        let mut world = World::new(GATEWAY, router);
        let expected = mapped(by, "203.0.113.5:6881", 6881);
        let mut when = None;
        while when.is_none() {
            world.turn();
            let stands = world.mapper.standing() == expected;
            when = stands.then_some(world.now.as_micros() / 1000);
            if when.is_none() {
                world.now = world.mapper.deadline(world.now);
            }
        }
        assert_eq!(when, Some(within_ms), "{by:?}");
        assert_eq!(world.asked(), first);
        world.run(2690);
        assert_eq!(world.asked(), Vec::<String>::new(), "{by:?}");
        world.run(2750);
        assert_eq!(world.asked(), again);
        assert_eq!(world.mapper.standing(), expected);
        world.mapper.stop(world.now);
        assert!(!world.mapper.is_done());
        world.turn();
        assert_eq!(world.asked(), end);
        assert!(world.mapper.is_done());
        world.run(100_000);
        assert_eq!(world.asked(), Vec::<String>::new());
    }
}

#[test]
fn pinholes() {
    let found = ("[2001:db8::1]:1900", "http://[fe80::1%25lan]:5000/d.xml");
    let upnp = Router {
        upnp: vec![0],
        found,
        ..Router::default()
    };
    let mut world = World::new(gateway_v6(), upnp);
    world.run(1);
    let expected = mapped(Protocol::Upnp, "[2001:db8::2]:6881", 6881);
    assert_eq!(world.mapper.standing(), expected);
    assert_eq!(
        world.asked(),
        ["description", "AddPinhole 6881", "AddPinhole 6881"]
    );
    world.mapper.stop(world.now);
    world.turn();
    assert_eq!(world.asked(), ["DeletePinhole 7", "DeletePinhole 7"]);
    let pcp = Router {
        pcp: Some(0),
        outside: "2001:db8::2",
        ..Router::default()
    };
    let mut world = World::new(gateway_v6(), pcp);
    world.run(1);
    let expected = mapped(Protocol::Pcp, "[2001:db8::2]:6881", 6881);
    assert_eq!(world.mapper.standing(), expected);
    // Nobody filters, so nothing is to be opened.
    let none = Router {
        upnp: vec![702],
        found,
        ..Router::default()
    };
    let mut world = World::new(gateway_v6(), none);
    world.run(1);
    assert!(matches!(world.mapper.standing(), Standing::Mapped { .. }));
}

#[test]
fn errors_of_upnp() {
    let refused = |refusal| Standing::Refused(Protocol::Upnp, refusal);
    for (codes, udp, expected, asked) in [
        // A permanent lease, of which the second port is asked for at once.
        (vec![725, 0], Some(6881), None, "AddPortMapping 6881 UDP 0"),
        (vec![402, 0], Some(6881), None, "AddPortMapping 6881 UDP 0"),
        // Other ports.
        (vec![718, 718, 0], None, None, "3600"),
        (vec![501, 0], None, None, "3600"),
        (vec![729, 0], None, None, "3600"),
        (vec![725, 718, 0], None, None, "0"),
        (vec![718], None, Some(refused(Refusal::Taken)), "3600"),
        (vec![501], None, Some(refused(Refusal::Other(501))), "3600"),
        (vec![725], None, Some(refused(Refusal::Other(725))), "0"),
        (vec![606], None, Some(refused(Refusal::NotAllowed)), "3600"),
        (vec![724], None, Some(refused(Refusal::Other(724))), "3600"),
        // UDP alone is not forwarded.
        (vec![0, 606], None, None, "UDP 3600"),
    ] {
        let router = Router {
            upnp: codes.clone(),
            ..Router::default()
        };
        let mut world = World::new(GATEWAY, router);
        world.run(15);
        let standing = world.mapper.standing();
        let asked_of = world.asked();
        let last = asked_of.last().unwrap();
        assert!(last.ends_with(asked), "{codes:?}: {last}");
        assert!(asked_of.len() <= 10, "{codes:?}");
        match (standing, expected) {
            (
                Standing::Mapped {
                    outside, udp: at, ..
                },
                None,
            ) => {
                let moved = [718, 501, 729].iter().any(|code| codes.contains(code));
                assert_eq!(outside.port() != 6881, moved, "{codes:?}");
                assert!(udp.is_none() || at == udp, "{codes:?}");
                assert!(at.is_none_or(|at| at == outside.port()));
            }
            (standing, expected) => assert_eq!(Some(standing), expected, "{codes:?}"),
        }
    }
}

#[test]
fn a_silent_router_is_asked_rarely() {
    let mut world = World::new(GATEWAY, Router::default());
    world.run(12);
    assert_eq!((world.router.packets, world.router.searches), (9, 6));
    assert_eq!(world.mapper.standing(), Standing::Silent);
    world.run(24 * 3600);
    let (packets, searches) = (world.router.packets, world.router.searches);
    world.run(2 * 24 * 3600);
    // In a day at first, and then for ever: twelve rounds a day.
    assert!(packets <= 9 * 19 && searches <= 6 * 19);
    assert!(world.router.packets - packets <= 9 * 12);
    assert!(world.router.searches - searches <= 6 * 12);
    // It is there at last.
    world.router.pcp = Some(0);
    world.run(3 * 24 * 3600);
    let expected = mapped(Protocol::Pcp, "203.0.113.5:6881", 6881);
    assert_eq!(world.mapper.standing(), expected);
}

#[test]
fn what_refuses_is_left_alone() {
    let refuses = |lifetime_s| Router {
        pcp: Some(2),
        lifetime_s,
        ..Router::default()
    };
    for (lifetime_s, most) in [(0, 20), (3600, 20), (u32::MAX, 2)] {
        let mut world = World::new(GATEWAY, refuses(lifetime_s));
        world.run(10);
        let refused = Standing::Refused(Protocol::Pcp, Refusal::NotAllowed);
        assert_eq!(world.mapper.standing(), refused);
        world.run(24 * 3600);
        assert!(world.router.packets <= most, "{}", world.router.packets);
    }
    // Leases of no time, or of a second.
    for lifetime_s in [0, 1] {
        let router = Router {
            pcp: Some(0),
            lifetime_s,
            ..Router::default()
        };
        let mut world = World::new(GATEWAY, router);
        world.run(3600);
        assert!(world.router.packets <= 200, "{}", world.router.packets);
    }
}

#[test]
fn a_router_that_was_restarted() {
    let pcp = || Router {
        pcp: Some(0),
        ..Router::default()
    };
    // It has forgotten what it forwarded, and says so when it is asked for the first.
    let mut world = World::new(GATEWAY, pcp());
    world.run(1);
    world.asked();
    world.router.started = Instant::from_secs(2600);
    // Only TCP is due: it is asked a second sooner.
    world.run(2701);
    assert_eq!(world.asked(), ["pcp 6 6881 3600", "pcp 17 6881 3600"]);
    // It does not answer any more, and speaks UPnP instead.
    let mut world = World::new(GATEWAY, pcp());
    world.run(1);
    (world.router.pcp, world.router.upnp) = (None, vec![0]);
    world.run(3599);
    let expected = mapped(Protocol::Pcp, "203.0.113.5:6881", 6881);
    assert_eq!(world.mapper.standing(), expected);
    world.run(3602);
    let expected = mapped(Protocol::Upnp, "203.0.113.5:6881", 6881);
    assert_eq!(world.mapper.standing(), expected);
    // Its address outside is another one.
    world.router.outside = "203.0.113.9";
    world.run(2 * 3600);
    let expected = mapped(Protocol::Upnp, "203.0.113.9:6881", 6881);
    assert_eq!(world.mapper.standing(), expected);
}

#[test]
fn whoever_else_answers_is_not_believed() {
    for (from, url) in [
        ("192.168.1.9:1900", "http://192.168.1.1:5000/d.xml"),
        ("192.168.1.9:1900", "http://192.168.1.9:5000/d.xml"),
        ("203.0.113.1:1900", "http://203.0.113.1:5000/d.xml"),
        ("[fe80::1]:1900", "http://[fe80::1]:5000/d.xml"),
        // The router itself, about others.
        ("192.168.1.1:1900", "http://192.168.1.9:5000/d.xml"),
        ("192.168.1.1:1900", "http://127.0.0.1:5000/d.xml"),
        ("192.168.1.1:1900", "https://192.168.1.1:5000/d.xml"),
        ("192.168.1.1:1900", "http://router:5000/d.xml"),
        ("192.168.1.1:1900", "nonsense"),
    ] {
        let router = Router {
            upnp: vec![0],
            found: (from, url),
            ..Router::default()
        };
        let mut world = World::new(GATEWAY, router);
        world.run(20);
        assert_eq!(world.mapper.standing(), Standing::Silent, "{from} {url}");
        assert_eq!(world.asked(), Vec::<String>::new());
    }
    // Nobody asked, somebody else's port, another nonce.
    let mut world = World::new(GATEWAY, Router::default());
    let mut room = [0; PACKET_MAX];
    let len = world.mapper.poll_router(world.now, &mut room).unwrap();
    let mut pcp = Router {
        pcp: Some(0),
        ..Router::default()
    };
    let answer = pcp.packet(world.now, &room[..len]).unwrap();
    for at in [24, 36, 40, 54] {
        let mut other = answer.clone();
        other[at] ^= 0x55;
        world.mapper.router_said(world.now, &other);
        assert_eq!(world.mapper.standing(), Standing::Asking, "{at}");
    }
    let natpmp = natpmp::Request::Map {
        transport: Transport::Tcp,
        internal: 6881,
        external: 6881,
        lifetime_s: 3600,
    };
    let len = natpmp.encode(&mut room).unwrap();
    room[1] += 128;
    world.mapper.router_said(world.now, &room[..len]);
    assert_eq!(world.mapper.standing(), Standing::Asking);
    world.mapper.router_said(world.now, &answer);
    assert!(matches!(world.mapper.standing(), Standing::Mapped { .. }));
}

/// Whatever comes, it comes to rest, and sends no more than to a router that is silent.
#[test]
fn whatever_comes() {
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let gateway = if rng.below(4) == 0 {
            gateway_v6()
        } else {
            GATEWAY
        };
        let mut mapper = PortMapper::new(Instant::ZERO, gateway, 6881, Some(6882), seed);
        let mut now = Instant::ZERO;
        let (mut sent, mut calls) = (0u32, 0u32);
        let bodies = [
            "<service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>\
             <controlURL>/c</controlURL></service>",
            "<service><serviceType>urn:schemas-upnp-org:service:WANIPv6FirewallControl:1</serviceType>\
             <controlURL>/c</controlURL></service>",
            "<GetExternalIPAddressResponse><NewExternalIPAddress>10.0.0.1</NewExternalIPAddress>",
            "<AddPortMappingResponse>",
            "<AddPinholeResponse><UniqueID>1</UniqueID>",
            "<errorCode>718</errorCode>",
            "<errorCode>725</errorCode>",
            "<errorCode>606</errorCode>",
            "",
        ];
        let stop_at = Instant::from_secs(u64::from(rng.below(100_000)));
        let mut stopped = false;
        while now < Instant::from_secs(100_000) {
            if now >= stop_at && !stopped {
                mapper.stop(now);
                stopped = true;
            }
            let mut room = [0; REQUEST_MAX];
            for turn in 0.. {
                assert!(turn < 200, "{seed}");
                if let Some(len) = mapper.poll_router(now, &mut room[..PACKET_MAX]) {
                    sent += 1;
                    let mut packet = room[..len].to_vec();
                    match rng.below(4) {
                        0 => mapper.router_is_deaf(now),
                        1 => {
                            packet[1] |= 0x80;
                            packet.resize(60.max(len), 0);
                            for _ in 0..rng.below(4) {
                                let at = rng.below(60) as usize;
                                packet[at] = rng.bits32() as u8;
                            }
                            mapper.router_said(now, &packet);
                        }
                        _ => {}
                    }
                } else if let Some((to, _)) = mapper.poll_search(now, &mut room[..PACKET_MAX]) {
                    sent += 1;
                    let ip = gateway.ip;
                    let url = match ip {
                        IpAddr::V4(ip) => format!("http://{ip}:{}/", rng.below(70_000)),
                        IpAddr::V6(ip) => format!("http://[{ip}]:{}/", rng.below(70_000)),
                    };
                    let answer = format!("HTTP/1.1 200 OK\r\nLOCATION: {url}\r\n\r\n");
                    if rng.below(2) == 0 {
                        let from = SocketAddr::new(ip, to.port());
                        mapper.search_answered(now, from, answer.as_bytes());
                    }
                } else if mapper.poll_call(now, &mut room).is_some() {
                    calls += 1;
                    let status = [200, 200, 200, 500][rng.below(4) as usize];
                    let body = bodies[rng.below(9) as usize].as_bytes();
                    let answer = (rng.below(8) > 0).then_some((status, body));
                    mapper.called(now, answer);
                } else {
                    break;
                }
            }
            let _ = mapper.standing();
            let next = mapper.deadline(now);
            assert!(next > now, "{seed}: it is due at once, and does nothing");
            now = next;
        }
        // In 28 hours, at most a round a minute.
        assert!(sent < 30_000 && calls < 30_000, "{seed}: {sent} {calls}");
    }
}
