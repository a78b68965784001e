//! Port mapping: each router between us and the internet is asked to forward our port. Messages say what became of
//! it, and what a person can do.
//!
//! Invariant: trackers and peers are told a port that a router says leads to us, and our own otherwise. "Reachable"
//! is reported only after somebody from outside has called.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use everseed_core::tracker::Family;
use everseed_node::discovery::port_mapper::{Protocol, Refusal, Standing};
use everseed_node::trace::Input;

use super::identity::random;
use super::links::link_outside;
use super::listening::Listening;
use super::network::say_ours;
use super::notice::Notice;
use super::torrents::Torrents;
use crate::async_tasks::AsyncTasks;
use crate::client::router::AskedRouter;
use crate::net::engine::Engine;
use crate::net::routes::{Outside, outside};
use crate::net::scope::Scope;
use crate::options::seed::SeedArgs;

/// The routers of both families, and whether somebody has called.
pub(super) struct PortMap {
    wanted: bool,
    families: [Beyond; 2],
    next_look: Instant,
    /// Whether somebody from outside has called.
    called: bool,
    /// The time since which a port is forwarded at which a stranger could call.
    mapped_at: Option<Instant>,
    /// Whether it was logged that nobody calls.
    complained: bool,
}

/// The router and the routes of one family.
#[derive(Default)]
struct Beyond {
    /// The number of changes of the network at the last look.
    changes: Option<u64>,
    /// The address and interface that we listened on then.
    listened: Option<(SocketAddr, Option<String>)>,
    /// The connection that the routes give; `None` while only this machine can reach us.
    outside: Option<Outside>,
    router: Option<AskedRouter>,
    /// The router's standing when it was last logged.
    logged: Option<Standing>,
}

impl Beyond {
    fn standing(&self) -> Option<Standing> {
        self.router.as_ref().map(AskedRouter::standing)
    }

    /// The address outside at which callers come in, if it is forwarded.
    fn mapped(&self) -> Option<SocketAddr> {
        match self.standing() {
            Some(Standing::Mapped { outside, .. }) => Some(outside),
            _ => None,
        }
    }
}

impl PortMap {
    pub(super) fn new(args: &SeedArgs) -> PortMap {
        PortMap {
            // Whoever named the public address has set up the forwarding, too.
            wanted: args.port_map && args.public_address.is_none(),
            families: Default::default(),
            next_look: Instant::now(),
            called: false,
            mapped_at: None,
            complained: false,
        }
    }

    /// Whether we can be reached from outside, as far as it is known; `None` if only this machine can reach us.
    pub(super) fn reachable(&self) -> Option<&'static str> {
        // Without a way to the internet nobody is outside.
        let way = |f: &Beyond| matches!(f.outside, Some(Outside::Public | Outside::Router(_)));
        if !self.called && !self.families.iter().any(way) {
            return None;
        }
        let mapped = self.families.iter().filter_map(Beyond::mapped);
        Some(reachable(self.called, mapped))
    }

    /// Asks the routers to end their forwarding.
    pub(super) fn stop(&mut self) {
        self.wanted = false;
        let routers = self.families.iter().filter_map(|f| f.router.as_ref());
        routers.for_each(AskedRouter::stop);
    }

    /// Whether all forwarding has ended.
    pub(super) fn is_done(&self) -> bool {
        let mut routers = self.families.iter().filter_map(|f| f.router.as_ref());
        routers.all(AskedRouter::is_done)
    }
}

/// The words for it.
fn reachable(called: bool, mut mapped: impl Iterator<Item = SocketAddr>) -> &'static str {
    let known = mapped.next();
    let public = |addr: SocketAddr| Scope::of(addr.ip()) == Scope::Public;
    match known {
        _ if called => "yes (a stranger called)",
        Some(addr) if public(addr) || mapped.any(public) => "mapped, nobody has called yet",
        // There is a NAT beyond the router, and no other way in.
        Some(_) => "no",
        None => "unknown",
    }
}

impl PortMap {
    /// Looks for routers now and then, and handles their standings.
    pub(super) fn run_due(
        &mut self,
        engine: &mut Engine,
        torrents: &mut Torrents,
        listening: &Listening,
        tasks: &AsyncTasks,
        caller: Option<IpAddr>,
    ) {
        let now = Instant::now();
        let ours = |ip| {
            let mut mapped = self.families.iter().filter_map(Beyond::mapped);
            mapped.any(|addr| addr.ip() == ip)
        };
        let called = caller.is_some_and(|ip| !ours(ip));
        if called && !self.called {
            engine.node.input(Input::DhtReachable);
        }
        self.called |= called;
        if !self.wanted {
            return;
        }
        if now >= self.next_look {
            self.next_look = now + LOOK;
            self.find_routers(listening, torrents, tasks);
        }
        // Allocates nothing while nothing has changed.
        let mut links = None;
        for at in 0..self.families.len() {
            let family = &mut self.families[at];
            let standing = family.standing();
            if standing != family.logged && standing != Some(Standing::Asking) {
                let before = std::mem::replace(&mut family.logged, standing);
                links.get_or_insert_with(|| torrents.reach.links());
                self.stands(engine, torrents, at, before);
            }
        }
        if links.is_some_and(|links| torrents.reach.links() != links) {
            link_outside(torrents, tasks);
        }
        if !torrents.awake.is_empty() {
            self.complain(now);
        }
    }

    /// Logs the new standing of a family's router, and tells others our address.
    fn stands(
        &mut self,
        engine: &mut Engine,
        torrents: &mut Torrents,
        at: usize,
        before: Option<Standing>,
    ) {
        let family = &self.families[at];
        let mapped = family.mapped();
        if let (Some(standing), Some(router)) = (family.logged, &family.router) {
            let text = describe(standing, router.gateway.ip, router.port);
            match mapped {
                Some(_) => torrents.notices.tell(Notice::Forwarded(&text)),
                None => log::warn!("{text}"),
            }
            if let Some(trouble) = mapped.and_then(|addr| nat_beyond(addr, router.gateway.ip)) {
                log::warn!("{trouble}");
            }
        }
        let before = match before {
            Some(Standing::Mapped { outside, .. }) => Some(outside),
            _ => None,
        };
        torrents.reach.mapped = self.families.each_ref().map(Beyond::mapped);
        match mapped {
            Some(outside) => engine.node.reached_at(outside),
            None if before.is_some() => say_ours(engine, &torrents.reach),
            None => {}
        }
        let own = torrents.reach.port();
        let port = |addr: Option<SocketAddr>| addr.map_or(own, |addr| addr.port());
        let moved = before.zip(mapped).is_some_and(|(a, b)| a.ip() != b.ip());
        if moved || port(before) != port(mapped) {
            engine.node.announce_anew();
        }
        // Strangers who ask the built-in tracker get it.
        let public: Vec<SocketAddr> = (self.families.iter())
            .filter_map(Beyond::mapped)
            .filter(|addr| Scope::of(addr.ip()) == Scope::Public)
            .collect();
        torrents.tracker.borrow_mut().set_public(&public);
    }

    /// Looks for routers, and begins with new ones.
    fn find_routers(&mut self, listening: &Listening, torrents: &Torrents, tasks: &AsyncTasks) {
        for (at, family) in [Family::V4, Family::V6].into_iter().enumerate() {
            let listens = listening.of(family);
            let changes = Some(listening.changes);
            let before = &mut self.families[at];
            if before.changes == changes && before.listened == listens {
                continue;
            }
            let look = |(addr, device): &(SocketAddr, Option<String>)| {
                outside(addr.ip(), device.as_deref())
            };
            let found = match listens.as_ref().map(look).transpose() {
                Ok(found) => found,
                Err(error) => {
                    log::debug!("the routers cannot be looked for: {error}");
                    continue;
                }
            };
            (before.changes, before.listened) = (changes, listens.clone());
            let port = listens.map_or(0, |(addr, _)| addr.port());
            let beyond = &mut self.families[at];
            beyond.outside = found;
            let Some(Outside::Router(gateway)) = found else {
                beyond.router = None;
                continue;
            };
            let same = |router: &AskedRouter| router.gateway == gateway && router.port == port;
            if !beyond.router.as_ref().is_some_and(same) {
                // The forwarding of the former router ends with its lease.
                let alarm = torrents.alarm.clone();
                let router = AskedRouter::begin(gateway, port, random(), tasks, alarm);
                beyond.router = Some(router);
            }
        }
    }

    /// Logs once that a port is forwarded and nobody has called for long.
    fn complain(&mut self, now: Instant) {
        let public = |addr: &SocketAddr| Scope::of(addr.ip()) == Scope::Public;
        let mut mapped = self.families.iter().filter_map(Beyond::mapped);
        let Some(addr) = mapped.find(public) else {
            self.mapped_at = None;
            return;
        };
        let since = *self.mapped_at.get_or_insert(now);
        if !self.called && !self.complained && now - since >= LONELY {
            self.complained = true;
            log::warn!(
                "the router forwards {addr} to us, but nobody outside has called in an hour. If others want the \
                 torrents: see whether the router's firewall, or a second router before it, lets calls in, and try \
                 from another network whether {addr} answers"
            );
        }
    }
}

/// A router's standing in words.
fn describe(standing: Standing, router: IpAddr, port: u16) -> String {
    let by = |protocol| match protocol {
        Protocol::Pcp => "PCP",
        Protocol::NatPmp => "NAT-PMP",
        Protocol::Upnp => "UPnP",
    };
    let hand =
        "allow it there, or forward it by hand and name the address outside with --public-address";
    match standing {
        Standing::Asking => format!("the router {router} is asked to forward port {port}"),
        Standing::Mapped {
            by: protocol,
            outside,
            udp,
        } => {
            let transports = match udp {
                Some(udp) if udp == outside.port() => "TCP and UDP".to_owned(),
                Some(udp) => format!("TCP; {udp} for UDP"),
                None => "TCP".to_owned(),
            };
            format!("mapped: {outside} ({transports}) by {}", by(protocol))
        }
        Standing::Refused(protocol, refusal) => {
            let protocol = by(protocol);
            let why = match refusal {
                Refusal::NotAllowed => "its settings do not allow it".to_owned(),
                Refusal::NoNetwork => {
                    "it has no address outside just now; it is asked again".to_owned()
                }
                Refusal::Full => "its table is full; others may have to let go of ports".to_owned(),
                Refusal::Taken => "others have all the ports that were tried".to_owned(),
                Refusal::OtherAddress => {
                    "it sees us at another address, so there is another router between".to_owned()
                }
                Refusal::NoService => "it speaks UPnP, but forwards no ports by it".to_owned(),
                Refusal::Malformed => "its answers cannot be read".to_owned(),
                Refusal::Other(code) => format!("error {code}"),
            };
            format!(
                "the router {router} does not forward port {port} by {protocol}: {why}. To be reached, {hand}"
            )
        }
        Standing::Silent => format!(
            "the router {router} answers neither PCP, NAT-PMP nor UPnP, so whether port {port} can be reached is \
             unknown. Turn one of them on, or forward it by hand and name the address outside with --public-address; \
             --port-map off does not ask"
        ),
    }
}

/// What to do if the router's address outside is not public.
fn nat_beyond(outside: SocketAddr, router: IpAddr) -> Option<String> {
    let (ip, port) = (outside.ip(), outside.port());
    match (Scope::of(ip), ip) {
        (Scope::Public, _) => None,
        (_, IpAddr::V4(v4)) if matches!(v4.octets(), [100, 64..128, ..]) => Some(format!(
            "the router's own address is {ip}, which your provider shares among its customers (CGNAT): nobody outside \
             can call. Ask the provider for a public IPv4 address, or use IPv6; we call others meanwhile"
        )),
        _ => Some(format!(
            "the router's own address outside is {ip}, which is a private one: there is a second router before {router}. \
             Forward port {port} there to {ip} too, or have one of them be a mere bridge"
        )),
    }
}

/// The interval of looks for routers.
const LOOK: Duration = Duration::from_secs(30);

/// The time after which it is logged that nobody calls.
const LONELY: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_it() {
        let addr = |text: &str| text.parse::<SocketAddr>().unwrap();
        let yet = "mapped, nobody has called yet";
        for (called, mapped, expected) in [
            (true, vec![], "yes (a stranger called)"),
            (true, vec!["10.0.0.1:1"], "yes (a stranger called)"),
            (false, vec!["203.0.113.5:1"], yet),
            (false, vec!["10.0.0.1:1", "[2001:db8::1]:1"], yet),
            (false, vec!["10.0.0.1:1"], "no"),
            (false, vec!["100.64.0.1:1"], "no"),
            (false, vec![], "unknown"),
        ] {
            let addrs = mapped.iter().copied().map(addr);
            let words = reachable(called, addrs);
            assert_eq!(words, expected, "{mapped:?}");
        }
    }

    #[test]
    fn what_a_person_can_do() {
        let router: IpAddr = "192.168.1.1".parse().unwrap();
        let beyond = |text: &str| nat_beyond(text.parse().unwrap(), router);
        assert_eq!(beyond("203.0.113.5:1"), None);
        assert!(beyond("100.127.0.1:1").unwrap().contains("CGNAT"));
        assert!(beyond("100.128.0.1:1").is_none());
        assert!(beyond("192.168.0.7:1").unwrap().contains("second router"));
        let outside = "203.0.113.5:6882".parse().unwrap();
        let mapped = |udp| {
            let by = Protocol::Pcp;
            describe(Standing::Mapped { by, outside, udp }, router, 6881)
        };
        assert_eq!(
            mapped(Some(6882)),
            "mapped: 203.0.113.5:6882 (TCP and UDP) by PCP"
        );
        assert_eq!(
            mapped(Some(1)),
            "mapped: 203.0.113.5:6882 (TCP; 1 for UDP) by PCP"
        );
        assert_eq!(mapped(None), "mapped: 203.0.113.5:6882 (TCP) by PCP");
        let refused = Standing::Refused(Protocol::Upnp, Refusal::Taken);
        assert!(describe(refused, router, 6881).contains("others have all the ports"));
    }
}
