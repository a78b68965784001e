//! The addresses on which peers connect, and from which others are called. An address may be late or taken; an
//! interface's addresses may come, go and change.
//!
//! Invariant: if an interface is named, all calls go out by it and from its addresses. An address that it has lost is
//! given up; its connections stay until they end by themselves.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use everseed_core::tracker::Family;
use if_addrs::get_if_addrs;
use log::Level;
use rustix::io::Errno;

use super::notice::{Notice, Notices};
use crate::net::address::{reachable, sources};
use crate::net::changes::Changes;
use crate::net::engine::Engine;
use crate::net::listen::{Interface, Listen, PORT, cannot_listen, interface};
use crate::net::proxy::Proxy;
use crate::net::socket;
use crate::net::way::{Exit, Way};
use crate::options::seed::SeedArgs;

/// All addresses that we listen on, or will.
pub(super) struct Listening {
    wanted: Vec<Listen>,
    /// Whether they are the defaults.
    default: bool,
    proxy: Option<Arc<Proxy>>,
    addresses: Vec<ListenAddress>,
    /// Whether sockets cannot be tied to interfaces, but only to their addresses.
    untied: bool,
    notices: Notices,
    next_look: Instant,
    news: Changes,
    /// How often the network has changed.
    pub(super) changes: u64,
    /// The port that peers near us are told; `None` as long as some group is still to be joined.
    nearby_port: Option<u16>,
}

/// One address to listen on.
struct ListenAddress {
    wish: Wish,
    /// The address with its actual port.
    addr: SocketAddr,
    stage: Binding,
}

/// A wanted address, and the interface that it belongs to.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Wish {
    addr: SocketAddr,
    /// Name and number of the interface.
    of: Option<(String, u32)>,
}

enum Binding {
    /// The address could not be bound.
    Refused(io::Error),
    /// The address is bound, and nobody is accepted yet.
    Bound(TcpListener),
    /// The engine accepts peers, under this number.
    Open(u16),
}

impl Listening {
    pub(super) fn new(args: &SeedArgs, notices: Notices) -> Listening {
        Listening {
            wanted: args.listen.clone(),
            default: args.listen_default,
            proxy: args.proxy.clone(),
            addresses: Vec::new(),
            untied: false,
            notices,
            next_look: Instant::now() + LOOK,
            news: Changes::new(),
            changes: 0,
            nearby_port: None,
        }
    }

    /// Binds all addresses that are available now.
    pub(super) fn take(&mut self) {
        let all = get_if_addrs().unwrap_or_default();
        self.follow(&mut |name| interface(&all, name));
    }

    /// Binds the addresses for a command that cannot do without: it waits for an absent interface, and fails for an
    /// address that cannot be bound. A machine without one of the two families uses the other, unless addresses were
    /// chosen. If the port is the default, and `may_move`, another one is taken.
    pub(super) fn insist(&mut self, may_move: bool) -> Result<(), String> {
        loop {
            self.take();
            if may_move && self.default && self.is_taken() {
                self.move_on();
            }
            let mut refusals = Vec::new();
            for address in &self.addresses {
                if let Binding::Refused(error) = &address.stage {
                    let refusal = cannot_listen(address.wish.addr, error);
                    if !self.default || error.kind() == io::ErrorKind::AddrInUse {
                        return Err(refusal);
                    }
                    refusals.push(refusal);
                }
            }
            if self.addresses.iter().any(ListenAddress::is_had) {
                refusals.iter().for_each(|refusal| log::info!("{refusal}"));
                self.say_away();
                return Ok(());
            }
            if !refusals.is_empty() {
                return Err(refusals.join("\n"));
            }
            self.say_away();
            thread::sleep(LOOK_FIRST);
        }
    }

    /// Whether another program has the port.
    fn is_taken(&self) -> bool {
        self.addresses.iter().any(|address| {
            matches!(&address.stage, Binding::Refused(error) if error.kind() == io::ErrorKind::AddrInUse)
        })
    }

    /// Takes the next free port, for all addresses.
    fn move_on(&mut self) {
        let before = self.wanted.clone();
        for port in PORT + 1..=PORT + PORTS {
            self.addresses.clear();
            for wanted in &mut self.wanted {
                if let Listen::At(addr) = wanted {
                    addr.set_port(port);
                }
            }
            self.take();
            if !self.is_taken() {
                return log::warn!(
                    "another program, perhaps everseed itself, has port {PORT}: it listens on {port}; choose one with \
                     --listen IP:PORT"
                );
            }
        }
        self.addresses.clear();
        self.wanted = before;
        self.take();
    }

    /// The way of calls to others.
    pub(super) fn way(&self) -> Way {
        let tied = self.wanted.iter().any(|w| matches!(w, Listen::On(..)));
        if !tied {
            let had = self.addresses.iter().filter(|address| address.is_had());
            let ips = sources(had.map(|address| address.addr));
            let exits = ips.into_iter().map(|ip| Exit::new(ip, None)).collect();
            return Way::by(exits, false).through(self.proxy.clone());
        }
        let exits = self
            .addresses
            .iter()
            .filter_map(|ListenAddress { addr, wish, .. }| {
                let (name, _) = wish.of.as_ref()?;
                let device = (!self.untied).then(|| name.clone());
                Some(Exit::new(addr.ip(), device))
            });
        Way::by(exits.collect(), true).through(self.proxy.clone())
    }

    /// The address of a family that others than this machine can reach, and the interface for all calls.
    pub(super) fn of(&self, family: Family) -> Option<(SocketAddr, Option<String>)> {
        let beyond = |address: &&ListenAddress| {
            let ip = address.addr.ip();
            address.is_had() && Family::of(ip) == family && !ip.to_canonical().is_loopback()
        };
        let address = self.addresses.iter().find(beyond)?;
        let device = address.wish.of.as_ref().map(|(name, _)| name.clone());
        Some((address.addr, device))
    }

    /// Whether others than this machine can reach us.
    pub(super) fn is_beyond(&self) -> bool {
        [Family::V4, Family::V6]
            .iter()
            .any(|&family| self.of(family).is_some())
    }

    /// The address under which others in our network reach us, or will: the first one, as far as it is known.
    pub(super) fn local(&self) -> SocketAddr {
        reachable(self.first())
    }

    fn first(&self) -> SocketAddr {
        let first = self.wanted.first().map(|wanted| match wanted {
            Listen::At(addr) => *addr,
            // Without an address only this machine reaches us.
            Listen::On(_, port) => (Ipv4Addr::LOCALHOST, *port).into(),
        });
        let had = self.addresses.iter().find(|address| address.is_had());
        let addr = had.map(|address| address.addr).or(first);
        addr.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 0).into())
    }

    /// Follows the addresses of the interfaces, which `look` returns, and binds those that were not available before.
    /// Returns the numbers of listeners whose addresses are gone.
    fn follow(&mut self, look: &mut dyn FnMut(&str) -> Interface) -> Vec<u16> {
        let mut former = std::mem::take(&mut self.addresses);
        for wish in self.wishes(&former, look) {
            let at = former.iter().position(|address| address.wish == wish);
            let before = at.map(|at| former.swap_remove(at));
            let address = match before {
                Some(address) if address.is_had() => address,
                _ => self.bind(wish),
            };
            self.addresses.push(address);
        }
        for address in &former {
            if let (Some((name, _)), true) = (&address.wish.of, address.is_had()) {
                let ip = address.addr.ip();
                log::warn!("{name} does not have {ip} any more");
            }
        }
        let open = former.iter().filter_map(|address| match address.stage {
            Binding::Open(number) => Some(number),
            _ => None,
        });
        open.collect()
    }

    fn wishes(
        &mut self,
        former: &[ListenAddress],
        look: &mut dyn FnMut(&str) -> Interface,
    ) -> Vec<Wish> {
        let mut wishes: Vec<Wish> = Vec::new();
        for wanted in &self.wanted {
            let (name, port) = match wanted {
                Listen::At(addr) => {
                    wishes.push(Wish {
                        addr: *addr,
                        of: None,
                    });
                    continue;
                }
                Listen::On(name, port) => (name, *port),
            };
            let Interface { index, ips } = look(name);
            let chosen = choose(&ips, |ip| {
                former.iter().any(|address| address.addr.ip() == ip)
            });
            if chosen.len() < ips.len() {
                log::warn!(
                    "{name} has more than {OF_A_FAMILY} addresses of a family; it listens on that many"
                );
            }
            wishes.extend(chosen.into_iter().map(|ip| Wish {
                addr: SocketAddr::new(ip, port),
                of: Some((name.clone(), index)),
            }));
        }
        wishes
    }

    fn bind(&mut self, wish: Wish) -> ListenAddress {
        let device = wish.of.as_ref().map(|(name, _)| name.as_str());
        let device = device.filter(|_| !self.untied);
        let mut bound = socket::bind(wish.addr, device);
        if let (Some(name), Err(error)) = (device, &bound)
            && error.raw_os_error() == Some(Errno::PERM.raw_os_error())
        {
            log::warn!(
                "this system lets it tie sockets to no interface (that takes Linux 5.7, or CAP_NET_RAW), so they are \
                 tied to the addresses of {name}: see that its routes let these leave by no other"
            );
            self.untied = true;
            bound = socket::bind(wish.addr, None);
        }
        let bound = bound.and_then(|socket| Ok((socket.local_addr()?, socket)));
        let (addr, stage) = match bound {
            Ok((addr, socket)) => (addr, Binding::Bound(socket)),
            Err(error) => (wish.addr, Binding::Refused(error)),
        };
        ListenAddress { wish, addr, stage }
    }

    /// Gives the bound listeners to the engine, and calls others from their addresses.
    fn open(&mut self, engine: &mut Engine, said: bool) {
        engine.go_by(self.way(), |family| {
            let its = |address: &&ListenAddress| {
                address.is_had() && Family::of(address.addr.ip()) == family
            };
            let address = self.addresses.iter().find(its);
            address.map_or(0, |address| address.addr.port())
        });
        for address in &mut self.addresses {
            let Binding::Bound(socket) = &address.stage else {
                continue;
            };
            let listening = socket.try_clone().and_then(|socket| engine.listen(socket));
            let addr = address.addr;
            match listening {
                Ok(number) => {
                    address.stage = Binding::Open(number);
                    if said {
                        log::warn!("{addr}: it listens now");
                    }
                    self.notices.tell(Notice::Listening(addr));
                }
                // Another program has listened there since it was bound.
                Err(error) => address.stage = Binding::Refused(error),
            }
        }
    }

    /// Uses local service discovery on the interfaces that we listen on, as they are now.
    fn follow_nearby(&mut self, engine: &mut Engine) {
        let port = self.first().port();
        self.nearby_port = engine.follow_nearby(&self.wanted, port).then_some(port);
    }

    /// Logs the interfaces that are waited for.
    fn say_away(&mut self) {
        for wanted in &self.wanted {
            let Listen::On(name, _) = wanted else {
                continue;
            };
            let its =
                |address: &ListenAddress| address.wish.of.as_ref().is_some_and(|of| of.0 == *name);
            if !self.addresses.iter().any(its) {
                log::warn!(
                    "{name} is not there, is down or has no address; it is waited for, and nothing leaves by another \
                     interface"
                );
            }
        }
    }

    /// Logs the addresses that cannot be bound and are waited for.
    fn say_refused(&mut self) {
        let level = match self.addresses.iter().any(ListenAddress::is_had) {
            false => Level::Error,
            true => Level::Warn,
        };
        for ListenAddress { wish, stage, .. } in &self.addresses {
            let (Binding::Refused(error), addr) = (stage, wish.addr) else {
                continue;
            };
            // A machine without IPv6 is not worth a message unless IPv6 was asked for.
            let taken = error.kind() == io::ErrorKind::AddrInUse;
            if self.default && !taken && addr.is_ipv6() {
                log::info!("cannot listen on {addr}: {error}");
                continue;
            }
            let s = LOOK.as_secs();
            log::log!(
                level,
                "cannot listen on {addr}: {error}; tried again every {s} s, or choose another with listen ="
            );
        }
    }

    /// Accepts peers at all bound addresses.
    pub(super) fn open_first(&mut self, engine: &mut Engine) {
        self.open(engine, false);
        self.follow_nearby(engine);
        self.say_refused();
        self.say_away();
    }

    /// Looks at the addresses now and then. Returns whether the network has changed since, or calls to others go
    /// another way.
    pub(super) fn look_after(&mut self, engine: &mut Engine, now: Instant) -> bool {
        if now < self.next_look {
            return false;
        }
        self.next_look = now + LOOK;
        let changed = self.news.take();
        let before = engine.way_out.clone();
        if changed || !self.addresses.iter().all(ListenAddress::is_had) {
            let tied = self.wanted.iter().any(|w| matches!(w, Listen::On(..)));
            let Ok(all) = tied.then(get_if_addrs).transpose() else {
                // File descriptors are short, say: no address is gone for that.
                self.news.put_back(changed);
                return false;
            };
            for number in self.follow(&mut |name| interface(all.as_deref().unwrap_or(&[]), name)) {
                engine.listen_no_longer(number);
            }
        }
        self.changes += u64::from(changed);
        self.open(engine, true);
        if changed || self.nearby_port != Some(self.first().port()) {
            self.follow_nearby(engine);
        }
        self.say_away();
        changed || before != engine.way_out && !engine.way_out.is_shut()
    }
}

impl ListenAddress {
    fn is_had(&self) -> bool {
        !matches!(self.stage, Binding::Refused(_))
    }
}

/// The addresses of an interface to listen on, in their order. Temporary addresses (RFC 8981) do not displace others:
/// those that we listen on already stay.
fn choose(ips: &[IpAddr], had: impl Fn(IpAddr) -> bool) -> Vec<IpAddr> {
    let mut chosen: Vec<IpAddr> = Vec::with_capacity(ips.len());
    for again in [true, false] {
        for &ip in ips.iter().filter(|ip| had(**ip) == again) {
            let family = chosen
                .iter()
                .filter(|other| other.is_ipv4() == ip.is_ipv4());
            if family.count() < OF_A_FAMILY {
                chosen.push(ip);
            }
        }
    }
    chosen.sort_by_key(|ip| ips.iter().position(|other| other == ip));
    chosen
}

/// The most addresses of a family that we listen on for an interface; all share the kernel's memory for callers.
const OF_A_FAMILY: usize = 4;

/// The interval of looks at the addresses.
const LOOK: Duration = Duration::from_secs(10);

/// The interval while there is no address after a start.
const LOOK_FIRST: Duration = Duration::from_secs(1);

/// The number of ports after the usual one that are tried.
const PORTS: u16 = 99;

#[cfg(test)]
mod tests {
    use super::*;
    use everseed_core::rng::Rng;

    fn with(index: u32, ips: &[&str]) -> Interface {
        Interface {
            index,
            ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
        }
    }

    /// An interface comes late, gets other addresses, is made anew, and goes. Addresses of loopback stand for its.
    #[test]
    fn an_interface_is_followed() {
        let args = SeedArgs {
            listen: vec!["wg0:0".parse().unwrap()],
            ..SeedArgs::default()
        };
        let mut listening = Listening::new(&args, Notices::nobody());
        // Nothing is tied to an interface that is not there.
        listening.untied = true;
        let one = |text: &str| text.parse::<IpAddr>().unwrap();
        for (now, had) in [
            (Interface::default(), &[][..]),
            (with(1, &["127.0.0.1"]), &["127.0.0.1"]),
            (
                with(1, &["127.0.0.1", "127.0.0.2"]),
                &["127.0.0.1", "127.0.0.2"],
            ),
            (with(1, &["127.0.0.2", "192.0.2.1"]), &["127.0.0.2"]),
            (with(2, &["127.0.0.2"]), &["127.0.0.2"]),
            (Interface::default(), &[]),
        ] {
            listening.follow(&mut |name| {
                assert_eq!(name, "wg0");
                now.clone()
            });
            let places = listening.addresses.iter().filter(|place| place.is_had());
            let ips: Vec<IpAddr> = places.map(|place| place.addr.ip()).collect();
            let had: Vec<IpAddr> = had.iter().map(|ip| one(ip)).collect();
            assert_eq!(ips, had);
            let way = listening.way();
            assert_eq!(way.is_shut(), now.ips.is_empty());
            let from = way.to(one("203.0.113.1")).flatten().map(Exit::ip);
            assert_eq!(from, now.ips.first().copied());
            assert_eq!(way.to(one("2001:db8::1")), None);
            let local = listening.local().ip();
            assert_eq!(local, had.first().copied().unwrap_or(one("127.0.0.1")));
        }
    }

    /// What is still there keeps its socket, and so its callers.
    #[test]
    fn what_has_not_changed_stays() {
        let args = SeedArgs {
            listen: vec!["wg0:0".parse().unwrap(), "127.0.0.1:0".parse().unwrap()],
            ..SeedArgs::default()
        };
        let mut listening = Listening::new(&args, Notices::nobody());
        listening.untied = true;
        let ports = |listening: &Listening| -> Vec<u16> {
            listening
                .addresses
                .iter()
                .map(|place| place.addr.port())
                .collect()
        };
        listening.follow(&mut |_| with(1, &["127.0.0.2", "127.0.0.3"]));
        let before = ports(&listening);
        listening.follow(&mut |_| with(1, &["127.0.0.3"]));
        assert_eq!(ports(&listening), before[1..]);
        // Made anew it is another one.
        listening.follow(&mut |_| with(2, &["127.0.0.3"]));
        assert_eq!(ports(&listening)[1..], before[2..]);
        let way = listening.way();
        assert_eq!(
            way.to("203.0.113.1".parse().unwrap())
                .flatten()
                .map(Exit::ip),
            Some([127, 0, 0, 3].into())
        );
    }

    #[test]
    fn addresses_that_are_replaced() {
        let ips = |numbers: &[u8]| -> Vec<IpAddr> {
            let of = |n: &u8| IpAddr::from([0x20, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, *n]);
            numbers.iter().map(of).collect()
        };
        for (there, had, chosen) in [
            (&[1, 2][..], &[][..], &[1, 2][..]),
            (&[6, 5, 4, 3, 2, 1], &[], &[6, 5, 4, 3]),
            // The latest comes first, and the last one is the one that stays.
            (&[6, 5, 4, 3, 2, 1], &[1, 2, 3], &[6, 3, 2, 1]),
            (&[6, 5, 4, 3, 2, 1], &[1, 2, 3, 4], &[4, 3, 2, 1]),
            (&[6, 5, 4, 1], &[1, 2, 3, 4], &[6, 5, 4, 1]),
        ] {
            let had = ips(had);
            let done = choose(&ips(there), |ip| had.contains(&ip));
            assert_eq!(done, ips(chosen), "{there:?} {had:?}");
        }
    }

    /// Whatever two interfaces do: it listens on what is there, what is still there keeps its port, and others are
    /// called from what is there or not at all.
    #[test]
    fn whatever_interfaces_do() {
        let mut rng = Rng::new(7);
        let listen = ["wg0:0", "wg1:0", "127.0.0.9:0"].map(|text| text.parse().unwrap());
        let args = SeedArgs {
            listen: listen.into(),
            ..SeedArgs::default()
        };
        let mut listening = Listening::new(&args, Notices::nobody());
        listening.untied = true;
        let mut before: Vec<(Wish, u16)> = Vec::new();
        for round in 0..300 {
            let now = [0, 1].map(|n| {
                let mut ips: Vec<IpAddr> = Vec::new();
                for _ in 0..rng.below(4) {
                    let ip = IpAddr::from([127, 0, 1 + n, rng.bits32().to_le_bytes()[0] % 5 + 1]);
                    if !ips.contains(&ip) {
                        ips.push(ip);
                    }
                }
                let index = 1 + rng.below(2);
                Interface { index, ips }
            });
            listening.follow(&mut |name| now[usize::from(name == "wg1")].clone());
            let places: Vec<(Wish, u16)> = (listening.addresses.iter())
                .map(|place| (place.wish.clone(), place.addr.port()))
                .collect();
            for (wish, port) in &places {
                let there = match &wish.of {
                    None => wish.addr.ip() == IpAddr::from([127, 0, 0, 9]),
                    Some((name, index)) => {
                        let of = &now[usize::from(name == "wg1")];
                        of.index == *index && of.ips.contains(&wish.addr.ip())
                    }
                };
                assert!(there, "{round}: {wish:?}");
                let was = before.iter().find(|(other, _)| other == wish);
                assert!(
                    was.is_none_or(|(_, before)| before == port),
                    "{round}: {wish:?}"
                );
            }
            let all = now.iter().flat_map(|of| &of.ips);
            assert_eq!(places.len(), all.clone().count() + 1, "{round}");
            let way = listening.way();
            let from = way.to([203, 0, 113, 1].into());
            let from = from.map(|exit| exit.map(Exit::ip));
            assert_eq!(from.flatten(), all.clone().next().copied(), "{round}");
            assert_eq!(from.is_none(), all.count() == 0, "{round}");
            before = places;
        }
    }
}
