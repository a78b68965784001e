//! A router that speaks what it is told to, and time.

use core::net::IpAddr;

use super::super::*;
use everseed_core::portmap::ssdp;

extern crate std;
use std::string::String;
use std::vec::Vec;
use std::{format, vec};

pub(super) const GATEWAY: Gateway = Gateway {
    ip: IpAddr::V4(core::net::Ipv4Addr::new(192, 168, 1, 1)),
    scope_id: 0,
    client: IpAddr::V4(core::net::Ipv4Addr::new(192, 168, 1, 2)),
};

pub(super) fn gateway_v6() -> Gateway {
    Gateway {
        ip: "fe80::1".parse().unwrap(),
        scope_id: 3,
        client: "2001:db8::2".parse().unwrap(),
    }
}

/// What a router is, and what it was asked.
pub(super) struct Router {
    pub(super) pcp: Option<u8>,
    pub(super) natpmp: bool,
    /// What it says to versions that it does not know.
    pub(super) says_version: bool,
    /// Answers to each `AddPortMapping`, the last for ever; 0 is success.
    pub(super) upnp: Vec<u16>,
    /// Where its description is, and from where it says so.
    pub(super) found: (&'static str, &'static str),
    pub(super) outside: &'static str,
    pub(super) lifetime_s: u32,
    pub(super) started: Instant,
    pub(super) asked: Vec<String>,
    pub(super) packets: u32,
    pub(super) searches: u32,
}

impl Default for Router {
    fn default() -> Router {
        Router {
            pcp: None,
            natpmp: false,
            says_version: false,
            upnp: Vec::new(),
            found: ("192.168.1.1:1900", "http://192.168.1.1:5000/d.xml"),
            outside: "203.0.113.5",
            lifetime_s: 3600,
            started: Instant::ZERO,
            asked: Vec::new(),
            packets: 0,
            searches: 0,
        }
    }
}

impl Router {
    pub(super) fn packet(&mut self, now: Instant, packet: &[u8]) -> Option<Vec<u8>> {
        self.packets += 1;
        let epoch = u32::try_from(now.since(self.started).as_secs()).unwrap();
        let outside: IpAddr = self.outside.parse().unwrap();
        if packet[0] == 2 {
            let Some(result) = self.pcp else {
                let refused = [[0, 129, 0, 1], epoch.to_be_bytes()].concat();
                return self.says_version.then_some(refused);
            };
            let wanted = u32::from_be_bytes(packet[4..8].try_into().unwrap());
            let lifetime_s = match result {
                0 => wanted.min(self.lifetime_s),
                _ => self.lifetime_s,
            };
            let port = u16::from_be_bytes([packet[42], packet[43]]);
            let transport = packet[36];
            self.asked
                .push(format!("pcp {transport} {port} {lifetime_s}"));
            let mut answer = packet.to_vec();
            (answer[1], answer[3]) = (0x81, result);
            answer[4..8].copy_from_slice(&lifetime_s.to_be_bytes());
            answer[8..12].copy_from_slice(&epoch.to_be_bytes());
            answer[12..24].fill(0);
            let outside = match outside {
                IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                IpAddr::V6(ip) => ip,
            };
            answer[44..60].copy_from_slice(&outside.octets());
            return Some(answer);
        }
        if !self.natpmp {
            return None;
        }
        let mut answer = vec![0, packet[1] + 128, 0, 0];
        answer.extend(epoch.to_be_bytes());
        if packet[1] == 0 {
            let IpAddr::V4(ip) = outside else { return None };
            answer.extend(ip.octets());
            self.asked.push("natpmp outside".into());
            return Some(answer);
        }
        let wanted = u32::from_be_bytes(packet[8..12].try_into().unwrap());
        self.asked.push(format!("natpmp {} {wanted}", packet[1]));
        answer.extend(&packet[4..8]);
        answer.extend(wanted.min(self.lifetime_s).to_be_bytes());
        Some(answer)
    }

    fn call(&mut self, addr: SocketAddr, request: &str) -> Option<(u16, String)> {
        assert_eq!(addr.port(), 5000);
        let service = |name: &str| {
            format!(
                "<service><serviceType>urn:schemas-upnp-org:service:{name}</serviceType>\
                 <controlURL>/{name}</controlURL></service>"
            )
        };
        let fault = |code: u16| (500, format!("<errorCode>{code}</errorCode>"));
        let within = |name: &str| {
            let (_, rest) = request.split_once(&format!("<{name}>"))?;
            rest.split_once('<').map(|(text, _)| text)
        };
        if request.starts_with("GET /d.xml ") {
            self.asked.push("description".into());
            let services = [
                service("WANPPPConnection:1"),
                service("WANIPConnection:1"),
                service("WANIPv6FirewallControl:1"),
            ];
            return Some((200, services.concat()));
        }
        let action = request.split('#').nth(1)?.split('"').next()?;
        if action == "GetExternalIPAddress" {
            // Two services, of which one is connected.
            let ip = match request.contains("POST /WANPPPConnection") {
                true => "0.0.0.0",
                false => self.outside,
            };
            return Some((
                200,
                format!(
                    "<u:{action}Response><NewExternalIPAddress>{ip}</NewExternalIPAddress></u:{action}Response>"
                ),
            ));
        }
        let words = [
            "NewExternalPort",
            "NewProtocol",
            "NewLeaseDuration",
            "InternalPort",
            "UniqueID",
        ];
        let words: Vec<&str> = words.iter().filter_map(|name| within(name)).collect();
        self.asked.push(format!("{action} {}", words.join(" ")));
        let code = match self.upnp.len() {
            1 => self.upnp[0],
            _ => self.upnp.remove(0),
        };
        Some(match code {
            0 => (
                200,
                format!("<u:{action}Response><UniqueID>7</UniqueID></u:{action}Response>"),
            ),
            code => fault(code),
        })
    }
}

/// Time, and what is between the two.
pub(super) struct World {
    pub(super) now: Instant,
    pub(super) mapper: PortMapper,
    pub(super) router: Router,
}

impl World {
    pub(super) fn new(gateway: Gateway, router: Router) -> World {
        World {
            now: Instant::ZERO,
            mapper: PortMapper::new(Instant::ZERO, gateway, 6881, Some(6881), 7),
            router,
        }
    }

    /// Does all that is due.
    pub(super) fn turn(&mut self) {
        let World {
            now,
            mapper,
            router,
        } = self;
        let now = *now;
        for turn in 0.. {
            assert!(turn < 100, "it does not come to rest");
            let mut room = [0; REQUEST_MAX];
            if let Some(len) = mapper.poll_router(now, &mut room[..PACKET_MAX]) {
                if let Some(answer) = router.packet(now, &room[..len]) {
                    mapper.router_said(now, &answer);
                }
            } else if let Some((to, len)) = mapper.poll_search(now, &mut room[..PACKET_MAX]) {
                assert!(to.port() == ssdp::PORT && len > 0);
                router.searches += 1;
                if !router.upnp.is_empty() {
                    let (from, url) = router.found;
                    let answer = format!("HTTP/1.1 200 OK\r\nLOCATION: {url}\r\n\r\n");
                    mapper.search_answered(now, from.parse().unwrap(), answer.as_bytes());
                }
            } else if let Some((to, len)) = mapper.poll_call(now, &mut room) {
                let request = str::from_utf8(&room[..len]).unwrap();
                let answer = router.call(to, request);
                let answer = answer
                    .as_ref()
                    .map(|(status, body)| (*status, body.as_bytes()));
                mapper.called(now, answer);
            } else {
                break;
            }
        }
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, s: u64) {
        let end = Instant::from_secs(s);
        loop {
            self.turn();
            let next = self.mapper.deadline(self.now);
            assert!(next > self.now, "it is due at once, and does nothing");
            if next > end {
                self.now = end;
                return;
            }
            self.now = next;
        }
    }

    pub(super) fn asked(&mut self) -> Vec<String> {
        core::mem::take(&mut self.router.asked)
    }
}
