//! everseed asks its router to forward the port. One router is miniupnpd between two networks, with each protocol. The
//! others are played by the test: they refuse, lie, are silent or send nonsense.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Neighbour, Net, set_up_ours};
use everseed_tests::process::{Process, program};
use everseed_tests::seeder::{Getter, Seeder, Setup};
use everseed_tests::{PATIENCE, wait};

/// The router's local address and its public one, then the router's and our addresses of IPv6.
const ROUTER: &str = "172.16.5.2";
const OUTSIDE: &str = "11.0.0.1";
const ROUTER_V6: &str = "2001:db8:5::1";
const OURS_V6: &str = "2001:db8:5::2";

/// A neighbour that is the router: the only route out leads through it.
fn router(net: &Net) -> Neighbour {
    let router = Neighbour::new(net);
    router.set_up(&format!("address add {ROUTER_V6}/64 dev there nodad\n"));
    set_up_ours(
        net,
        &format!(
            "address add {OURS_V6}/64 dev here nodad\nroute add default via {ROUTER} dev here\n\
             route add default via {ROUTER_V6} dev here\n"
        ),
    );
    router
}

/// The network outside the router, with a stranger at 11.0.0.2 and 2001:db8:6::2.
struct World {
    process: Process,
}

impl World {
    fn new(router: &Neighbour, dir: &Dir) -> World {
        let argv = ["unshare", "--net", "sleep", "infinity"].map(str::to_owned);
        let process = Process::start("the world", &argv, &dir.join("world.log"));
        let pid = process.pid();
        let network = |of: &str| fs::read_link(format!("/proc/{of}/ns/net")).ok();
        let ours = network("thread-self");
        wait("the network outside", PATIENCE, || {
            let its = network(&pid.to_string());
            (its.is_some() && its != ours).then_some(())
        });
        let world = World { process };
        router.set_up(&format!(
            "link add rwan type veth peer name wan netns {pid}\naddress add {OUTSIDE}/24 dev rwan\n\
             address add 2001:db8:6::1/64 dev rwan nodad\nlink set rwan up\n"
        ));
        let ip = program("ip", "iproute2");
        let lines = [
            "link set lo up",
            "address add 11.0.0.2/24 dev wan",
            "address add 2001:db8:6::2/64 dev wan nodad",
            "link set wan up",
            "route add 2001:db8:5::/64 via 2001:db8:6::1 dev wan",
        ];
        for line in lines {
            let words = line.split(' ').map(str::to_owned);
            run(&[world.enter(), vec![ip.clone()], words.collect()].concat());
        }
        world
    }

    fn enter(&self) -> Vec<String> {
        let pid = self.process.pid().to_string();
        ["nsenter", "--net", "--target", &pid, "--"]
            .map(str::to_owned)
            .into()
    }
}

fn run(argv: &[String]) {
    let done = Command::new(&argv[0]).args(&argv[1..]).status();
    assert!(done.is_ok_and(|status| status.success()), "{argv:?}");
}

/// Starts miniupnpd on the router, which forwards only what everseed asks for.
fn miniupnpd(router: &Neighbour, dir: &Dir, pcp: bool, natpmp: bool) -> Process {
    let yes = |yes| if yes { "yes" } else { "no" };
    let (by_udp, upnp) = (yes(natpmp), yes(pcp || !natpmp));
    let conf = format!(
        "ext_ifname=rwan\next_ifname6=rwan\nlistening_ip=there\nhttp_port=5000\nenable_natpmp={by_udp}\n\
         enable_upnp={upnp}\nsecure_mode=yes\nuuid=00000000-0000-0000-0000-000000000001\nserial=1\nmodel_number=1\n\
         min_lifetime=120\nmax_lifetime=86400\nlease_file={}\n\
         allow 1024-65535 172.16.5.0/24 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n\
         upnp_table_name=filter\nupnp_nat_table_name=filter\nupnp_forward_chain=miniupnpd\n\
         upnp_nat_chain=prerouting_miniupnpd\nupnp_nat_postrouting_chain=postrouting_miniupnpd\n",
        dir.join("leases").display()
    );
    // Without PCP the router ignores packets of PCP's version.
    let deaf = match pcp {
        true => "",
        false => {
            "chain input { type filter hook input priority 0; udp dport 5351 @th,64,8 2 drop; }"
        }
    };
    let rules = format!(
        "table inet filter {{\n{deaf}\nchain miniupnpd {{ }}\nchain prerouting_miniupnpd {{ }}\n\
         chain postrouting_miniupnpd {{ }}\n\
         chain forward {{ type filter hook forward priority 0; policy drop; ct state established,related accept; \
         iifname \"there\" accept; meta l4proto ipv6-icmp accept; jump miniupnpd; }}\n\
         chain prerouting {{ type nat hook prerouting priority -100; jump prerouting_miniupnpd; }}\n\
         chain postrouting {{ type nat hook postrouting priority 100; jump postrouting_miniupnpd; \
         meta nfproto ipv4 oifname \"rwan\" masquerade; }}\n}}\n"
    );
    let (conf_file, rules_file) = (dir.join("miniupnpd.conf"), dir.join("rules.nft"));
    fs::write(&conf_file, conf).expect("miniupnpd.conf");
    fs::write(&rules_file, rules).expect("rules.nft");
    let shown = |path: &Path| path.display().to_string();
    let forwarding =
        "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding";
    for argv in [
        vec!["sh".to_owned(), "-c".to_owned(), forwarding.to_owned()],
        vec![
            program("nft", "nftables"),
            "-f".to_owned(),
            shown(&rules_file),
        ],
    ] {
        run(&[router.enter(), argv].concat());
    }
    let log = dir.join("miniupnpd.log");
    let argv = [
        program("miniupnpd", "miniupnpd"),
        "-d".to_owned(),
        "-f".to_owned(),
        shown(&conf_file),
        "-P".to_owned(),
        shown(&dir.join("pid")),
    ];
    let ready = match natpmp {
        true => "Listening for NAT-PMP/PCP traffic on port 5351",
        false => "HTTP listening on port 5000",
    };
    let mut process = Process::start("miniupnpd", &[router.enter(), argv.into()].concat(), &log);
    wait("miniupnpd", PATIENCE, || {
        process.assert_alive();
        process.output().contains(ready).then_some(())
    });
    process
}

/// Waits until `seeder` has printed `text`.
fn wait_for(seeder: &mut Seeder, text: &str) {
    wait(&format!("everseed to say {text:?}"), PATIENCE, || {
        seeder.process.assert_alive();
        seeder.process.output().contains(text).then_some(())
    });
}

/// The router's rules, which show what it forwards.
fn rules(router: &Neighbour) -> String {
    let argv = [router.enter(), vec![program("nft", "nftables")]].concat();
    let shown = Command::new(&argv[0])
        .args(&argv[1..])
        .args(["list", "ruleset"])
        .output();
    String::from_utf8_lossy(&shown.expect("nft").stdout).into_owned()
}

/// The router forwards the port, and a stranger downloads through it. everseed prints both. After a clean stop the
/// router forwards nothing.
fn maps_by(protocol: &str, pcp: bool, natpmp: bool) {
    let net = Net::new();
    let dir = Dir::new("router");
    let router = router(&net);
    let world = World::new(&router, &dir);
    let _miniupnpd = miniupnpd(&router, &dir, pcp, natpmp);
    let content = Content::file("mapped.bin", 1 << 20, 5);
    let anywhere = SocketAddr::from(([0, 0, 0, 0], 6881));
    let state = Dir::new("seed");
    let mut seeder = Setup::new(content.path(), anywhere).start(&state);
    wait_for(
        &mut seeder,
        &format!("mapped: {OUTSIDE}:6881 (TCP and UDP) by {protocol}\n"),
    );
    wait_for(&mut seeder, "reachable: mapped, nobody has called yet");
    wait_for(&mut seeder, &format!("&x.pe={OUTSIDE}:6881\n"));
    let dnat = |rules: &str| rules.matches("dnat ip to 172.16.5.1:6881").count();
    assert_eq!(dnat(&rules(&router)), 2, "{}", rules(&router));
    let peer = format!("{OUTSIDE}:6881");
    let getter = Getter::start_in(
        &seeder.torrent(),
        SocketAddr::from(([11, 0, 0, 2], 6881)),
        Dir::new("get"),
        &["--peer", &peer, "--no-seed"],
        &world.enter(),
    );
    let (code, _dir) = getter.end();
    assert_eq!(code, 0);
    wait_for(&mut seeder, "reachable: yes (a stranger called)");
    seeder.stop();
    assert_eq!(dnat(&rules(&router)), 0, "{}", rules(&router));
}

#[test]
fn pcp_maps() {
    maps_by("PCP", true, true);
}

#[test]
fn nat_pmp_maps() {
    maps_by("NAT-PMP", false, true);
}

#[test]
fn upnp_maps() {
    maps_by("UPnP", false, false);
}

/// The router lets an IPv6 stranger in. After a clean stop it does not.
fn pinholes_by(protocol: &str, pcp: bool) {
    let net = Net::new();
    let dir = Dir::new("router");
    let router = router(&net);
    let world = World::new(&router, &dir);
    let _miniupnpd = miniupnpd(&router, &dir, pcp, pcp);
    let content = Content::file("mapped.bin", 1 << 20, 5);
    let anywhere: SocketAddr = "[::]:6881".parse().unwrap();
    let state = Dir::new("seed");
    let mut seeder = Setup::new(content.path(), anywhere).start(&state);
    wait_for(
        &mut seeder,
        &format!("mapped: [{OURS_V6}]:6881 (TCP and UDP) by {protocol}\n"),
    );
    let peer = format!("[{OURS_V6}]:6881");
    let getter = Getter::start_in(
        &seeder.torrent(),
        "[2001:db8:6::2]:6881".parse().unwrap(),
        Dir::new("get"),
        &["--peer", &peer, "--no-seed"],
        &world.enter(),
    );
    let (code, _dir) = getter.end();
    assert_eq!(code, 0);
    wait_for(&mut seeder, "reachable: yes (a stranger called)");
    seeder.stop();
    let rules = rules(&router);
    assert!(!rules.contains(&format!("ip6 daddr {OURS_V6}")), "{rules}");
}

#[test]
fn pcp_lets_callers_of_ipv6_in() {
    pinholes_by("PCP", true);
}

#[test]
fn upnp_lets_callers_of_ipv6_in() {
    pinholes_by("UPnP", false);
}

/// A router that the test plays.
struct Stub {
    /// The answer to a PCP or NAT-PMP packet.
    pcp: fn(&[u8]) -> Option<Vec<u8>>,
    /// The URL of its UPnP description, as its SSDP answer says.
    location: Option<String>,
    /// The error codes of its answers to `AddPortMapping` (0: success), one after the other; the last one repeats.
    codes: &'static [u16],
    /// The public address that it names.
    outside: &'static str,
    /// The answer to all HTTP requests, if it answers nonsense.
    nonsense: Option<Vec<u8>>,
}

impl Default for Stub {
    fn default() -> Stub {
        Stub {
            pcp: |_| None,
            location: Some(format!("http://{ROUTER}:5000/d.xml")),
            codes: &[0],
            outside: "203.0.113.5",
            nonsense: None,
        }
    }
}

/// Counts what everseed sent to a [`Stub`].
#[derive(Default)]
struct Asked {
    packets: AtomicU32,
    calls: AtomicU32,
    mappings: AtomicU32,
    over: AtomicBool,
}

impl Stub {
    /// Starts the router's threads, which end when [`Asked::over`] is set.
    fn start(self, router: &Neighbour) -> Arc<Asked> {
        let asked = Arc::new(Asked::default());
        let sockets = router.inside(|| {
            let udp = |port| UdpSocket::bind((ROUTER, port)).expect("a UDP port of the stub");
            let http = TcpListener::bind((ROUTER, 5000)).expect("a TCP port of the stub");
            (udp(5351), udp(1900), http)
        });
        let (pcp, ssdp, http) = sockets;
        for socket in [&pcp, &ssdp] {
            let limit = Some(Duration::from_millis(100));
            socket.set_read_timeout(limit).expect("a time limit");
        }
        let Stub {
            pcp: answer,
            location,
            codes,
            outside,
            nonsense,
        } = self;
        hear(pcp, Arc::clone(&asked), answer);
        let found = move |_: &[u8]| {
            let location = location.as_ref()?;
            Some(format!("HTTP/1.1 200 OK\r\nLOCATION: {location}\r\n\r\n").into_bytes())
        };
        hear(ssdp, Arc::clone(&asked), found);
        let counts = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in http.incoming() {
                let Ok(mut stream) = stream else { return };
                if counts.over.load(Ordering::Relaxed) {
                    return;
                }
                counts.calls.fetch_add(1, Ordering::Relaxed);
                let request = read_request(&mut stream);
                let (status, body) = answer_to(&request, codes, outside, &counts.mappings);
                let head = format!(
                    "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                let whole = match &nonsense {
                    Some(nonsense) => nonsense.clone(),
                    None => [head.into_bytes(), body.into_bytes()].concat(),
                };
                let _ = stream.write_all(&whole);
            }
        });
        asked
    }
}

/// Answers the packets that arrive at a socket, until `over` is set.
fn hear(
    socket: UdpSocket,
    asked: Arc<Asked>,
    say: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static,
) {
    thread::spawn(move || {
        let mut packet = [0; 2048];
        while !asked.over.load(Ordering::Relaxed) {
            let Ok((len, from)) = socket.recv_from(&mut packet) else {
                continue;
            };
            asked.packets.fetch_add(1, Ordering::Relaxed);
            if let Some(answer) = say(&packet[..len]) {
                let _ = socket.send_to(&answer, from);
            }
        }
    });
}

fn read_request(stream: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    let mut part = [0; 2048];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let len = head
                .lines()
                .find_map(|line| line.strip_prefix("Content-Length: "));
            if body.len() >= len.map_or(0, |len| len.parse().expect("a length")) {
                return text;
            }
        }
        match stream.read(&mut part) {
            Ok(len @ 1..) => bytes.extend(&part[..len]),
            _ => return text,
        }
    }
}

fn answer_to(request: &str, codes: &[u16], outside: &str, mappings: &AtomicU32) -> (u16, String) {
    let service = "<service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>\
                   <controlURL>/c</controlURL></service>";
    if request.starts_with("GET ") {
        return (200, service.to_owned());
    }
    let action = request
        .split('#')
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    let action = action.unwrap_or_default();
    let ip = format!("<NewExternalIPAddress>{outside}</NewExternalIPAddress>");
    let response = format!("<u:{action}Response>{ip}</u:{action}Response>");
    if action != "AddPortMapping" {
        return (200, response);
    }
    let at = mappings.fetch_add(1, Ordering::Relaxed) as usize;
    match codes[at.min(codes.len() - 1)] {
        0 => (200, response),
        // This router grants only leases without an end.
        725 if request.contains("<NewLeaseDuration>0<") => (200, response),
        code => (500, format!("<errorCode>{code}</errorCode>")),
    }
}

/// Seeds behind a [`Stub`] until everseed prints `expected`. Returns all that it printed, and what it asked.
fn behind(stub: Stub, expected: &str) -> (String, Arc<Asked>) {
    let net = Net::new();
    let router = router(&net);
    let asked = stub.start(&router);
    let content = Content::file("mapped.bin", 1 << 16, 5);
    let state = Dir::new("seed");
    let anywhere = SocketAddr::from(([0, 0, 0, 0], 6881));
    let mut seeder = Setup::new(content.path(), anywhere).start(&state);
    wait_for(&mut seeder, expected);
    seeder.stop();
    asked.over.store(true, Ordering::Relaxed);
    (seeder.process.output(), asked)
}

#[test]
fn routers_that_refuse_once() {
    // This router refuses leases with an end, so everseed asks for endless ones, for TCP and UDP.
    let codes = &[725];
    let stub = Stub {
        codes,
        ..Stub::default()
    };
    behind(stub, "mapped: 203.0.113.5:6881 (TCP and UDP) by UPnP\n");
    for codes in [&[718, 718, 0], &[501, 718, 0]] {
        let stub = Stub {
            codes,
            ..Stub::default()
        };
        let (output, _) = behind(stub, "mapped: 203.0.113.5:");
        // everseed gets another port, the same for TCP and UDP.
        assert!(!output.contains(":6881 (TCP and UDP) by UPnP"), "{output}");
        assert!(output.contains(" (TCP and UDP) by UPnP"), "{output}");
    }
    let stub = Stub {
        codes: &[718],
        ..Stub::default()
    };
    let (output, asked) = behind(stub, "others have all the ports that were tried");
    assert!(asked.mappings.load(Ordering::Relaxed) <= 8, "{output}");
}

#[test]
fn addresses_that_are_not_the_worlds() {
    for (outside, said) in [
        (
            "100.64.7.7",
            "which your provider shares among its customers (CGNAT)",
        ),
        ("192.168.0.7", "there is a second router before 172.16.5.2"),
    ] {
        let (output, _) = behind(
            Stub {
                outside,
                ..Stub::default()
            },
            said,
        );
        assert!(
            output.contains(&format!("mapped: {outside}:6881")),
            "{output}"
        );
    }
}

/// What everseed logs of a router that does not answer.
const SILENT: &str = "answers neither PCP, NAT-PMP nor UPnP";

#[test]
fn routers_that_say_nothing() {
    let (_, asked) = behind(
        Stub {
            location: None,
            ..Stub::default()
        },
        SILENT,
    );
    // 9 packets to the port of PCP, and 3 searches to the port of SSDP. The other searches go to the multicast group.
    assert!(asked.packets.load(Ordering::Relaxed) <= 12);
    assert_eq!(asked.calls.load(Ordering::Relaxed), 0);
}

#[test]
fn routers_that_name_others() {
    for location in [
        "http://172.16.5.1:5000/",
        "http://router:5000/",
        "file:///etc/passwd",
        "",
    ] {
        let location = Some(location.to_owned());
        let (_, asked) = behind(
            Stub {
                location,
                ..Stub::default()
            },
            SILENT,
        );
        assert_eq!(asked.calls.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn routers_that_say_nonsense_by_udp() {
    let pcp = |packet: &[u8]| Some(packet.iter().map(|b| b ^ 0x81).collect());
    let (_, asked) = behind(
        Stub {
            pcp,
            location: None,
            ..Stub::default()
        },
        SILENT,
    );
    assert!(asked.packets.load(Ordering::Relaxed) <= 12);
}

#[test]
fn routers_that_say_nonsense_by_http() {
    let huge = [
        b"HTTP/1.1 200 OK\r\n\r\n".to_vec(),
        b"<service>".repeat(1 << 16),
    ]
    .concat();
    let deep = b"<service>".repeat(7000);
    let deep = [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), deep].concat();
    let elsewhere = b"HTTP/1.1 302 Found\r\nLocation: http://172.16.5.2:5000/e\r\n\r\n".to_vec();
    for nonsense in [huge, deep, elsewhere, b"no HTTP".to_vec(), Vec::new()] {
        let nonsense = Some(nonsense);
        let refused = "does not forward port 6881 by UPnP";
        let (output, asked) = behind(
            Stub {
                nonsense,
                ..Stub::default()
            },
            refused,
        );
        assert!(asked.calls.load(Ordering::Relaxed) <= 6, "{output}");
    }
}

/// The router is not asked if `--port-map` is off, if there is a public address, or if no stranger could connect.
#[test]
fn nobody_is_asked_in_vain() {
    let net = Net::new();
    let router = router(&net);
    let asked = Stub::default().start(&router);
    let content = Content::file("mapped.bin", 1 << 16, 5);
    let anywhere = SocketAddr::from(([0, 0, 0, 0], 6881));
    let here = SocketAddr::from(([127, 0, 0, 1], 6881));
    for (at, args) in [
        (anywhere, &["--port-map", "off"][..]),
        (anywhere, &["--public-address", "seed.example.org"]),
        (here, &[]),
    ] {
        let state = Dir::new("seed");
        let mut seeder = Setup::new(content.path(), at).args(args).start(&state);
        seeder.stop();
    }
    // With default settings the router is asked at once, so requests of the runs before would have been counted by now.
    let state = Dir::new("seed");
    let mut seeder = Setup::new(content.path(), anywhere).start(&state);
    let before = asked.mappings.load(Ordering::Relaxed);
    wait_for(&mut seeder, "mapped: 203.0.113.5:6881");
    seeder.stop();
    assert_eq!(before.min(1), before, "it was asked before");
    asked.over.store(true, Ordering::Relaxed);
}
