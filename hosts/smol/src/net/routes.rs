//! The routers of this machine's default routes, and our address in the network of each.
//!
//! Linux shows its routes as text files, so no netlink is needed. The text is the kernel's own and is trusted, but
//! only its beginning is read: a machine with ten thousand routes is a router itself.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use everseed_core::tracker::Family;
use everseed_node::discovery::port_mapper::Gateway;
use if_addrs::{IfAddr, IfOperStatus, Interface, get_if_addrs};

use super::address::outgoing;
use super::scope::Scope;

/// The connection of this machine to the internet, in one address family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outside {
    /// No route names a router for the interface that we listen on.
    NoRouter,
    /// This machine itself has a public IPv4 address.
    Public,
    /// A router that can be asked to forward a port.
    Router(Gateway),
}

/// A default route.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Route {
    interface: String,
    metric: u32,
    gateway: IpAddr,
}

/// The connection to the internet behind the address that we listen on, which may be unspecified; only by interface
/// `device` if one is given.
///
/// # Errors
/// If it cannot be found out now, because file descriptors are short, say.
pub(crate) fn outside(listening: IpAddr, device: Option<&str>) -> io::Result<Outside> {
    let (family, addrs) = (Family::of(listening), get_if_addrs()?);
    // The process's own folder is visible even where the rest of /proc is hidden from a service.
    let routes = match family {
        Family::V4 => read("/proc/self/net/route")?.map(routes_v4),
        Family::V6 => read("/proc/self/net/ipv6_route")?.map(routes_v6),
    };
    Ok(choose(
        listening,
        device,
        routes.unwrap_or_default(),
        &addrs,
        outgoing(family == Family::V4)?,
    ))
}

/// A table of the kernel; a family that it does not know has none.
fn read(path: &str) -> io::Result<Option<BufReader<File>>> {
    match File::open(path) {
        Ok(file) => Ok(Some(BufReader::new(file))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The choice of [`outside`], made from these routes, our addresses, and our address towards the internet.
fn choose(
    listening: IpAddr,
    device: Option<&str>,
    mut routes: Vec<Route>,
    addrs: &[Interface],
    outgoing: Option<IpAddr>,
) -> Outside {
    routes.sort_by_key(|route| route.metric);
    routes.retain(|route| device.is_none_or(|device| device == route.interface));
    let public = |ip: IpAddr| Scope::of(ip) == Scope::Public;
    if listening.is_ipv4() && public(listening) {
        return Outside::Public;
    }
    for route in routes {
        let family = |one: &&Interface| {
            let up = one.oper_status != IfOperStatus::Down;
            one.name == route.interface && up && one.ip().is_ipv4() == listening.is_ipv4()
        };
        let ours: Vec<&Interface> = addrs.iter().filter(family).collect();
        let client = match listening.is_unspecified() {
            false => ours.iter().find(|one| one.ip() == listening),
            // The address that trackers see, or else one in the router's network.
            true => ours
                .iter()
                .find(|one| Some(one.ip()) == outgoing)
                .or_else(|| ours.iter().find(|one| is_in(one, route.gateway)))
                .or_else(|| ours.first()),
        };
        let Some(one) = client else { continue };
        let client = one.ip();
        match client {
            IpAddr::V4(_) if public(client) => return Outside::Public,
            // A router cannot let callers in to an address that is not public.
            IpAddr::V6(_) if !public(client) => continue,
            _ => {}
        }
        return Outside::Router(Gateway {
            ip: route.gateway,
            scope_id: match route.gateway {
                IpAddr::V6(ip) if ip.is_unicast_link_local() => one.index.unwrap_or(0),
                _ => 0,
            },
            client,
        });
    }
    Outside::NoRouter
}

/// Whether an address is in the network of an interface.
fn is_in(one: &Interface, ip: IpAddr) -> bool {
    match (&one.addr, ip) {
        (IfAddr::V4(ours), IpAddr::V4(ip)) => {
            let mask = u32::from(ours.netmask);
            u32::from(ours.ip) & mask == u32::from(ip) & mask
        }
        _ => false,
    }
}

/// The default routes of `/proc/net/route`: columns of words, addresses in the machine's byte order.
fn routes_v4(text: impl BufRead) -> Vec<Route> {
    let word = |word: &str| {
        let number = u32::from_str_radix(word, 16).ok();
        number.map(|number| Ipv4Addr::from(number.to_ne_bytes()))
    };
    lines(text, |line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let &[
            interface,
            destination,
            gateway,
            flags,
            _,
            _,
            metric,
            mask,
            ..,
        ] = words.as_slice()
        else {
            return None;
        };
        let any = Some(Ipv4Addr::UNSPECIFIED);
        if word(destination) != any || word(mask) != any || !leads_on(flags) {
            return None;
        }
        Some(Route {
            interface: interface.to_owned(),
            metric: metric.parse().ok()?,
            gateway: word(gateway)?.into(),
        })
    })
}

/// The default routes of `/proc/net/ipv6_route`.
fn routes_v6(text: impl BufRead) -> Vec<Route> {
    lines(text, |line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let &[
            destination,
            bits,
            source,
            source_bits,
            next,
            metric,
            _,
            _,
            flags,
            interface,
        ] = words.as_slice()
        else {
            return None;
        };
        let zero = |word: &str| word.bytes().all(|b| b == b'0');
        let any = [destination, bits, source, source_bits]
            .iter()
            .all(|w| zero(w));
        if !any || !leads_on(flags) {
            return None;
        }
        Some(Route {
            interface: interface.to_owned(),
            metric: u32::from_str_radix(metric, 16).ok()?,
            gateway: Ipv6Addr::from(u128::from_str_radix(next, 16).ok()?).into(),
        })
    })
}

/// Whether a route is up and leads through a router.
fn leads_on(flags: &str) -> bool {
    const UP_BY_ROUTER: u32 = 3;
    let flags = u32::from_str_radix(flags, 16).unwrap_or(0);
    flags & UP_BY_ROUTER == UP_BY_ROUTER
}

fn lines(text: impl BufRead, read: impl Fn(&str) -> Option<Route>) -> Vec<Route> {
    let lines = text.take(READ_MAX).lines().map_while(Result::ok);
    let routes = lines.filter_map(|line| read(&line));
    // A route to an unspecified gateway leads nowhere.
    let routes = routes.filter(|route| !route.gateway.is_unspecified());
    routes.take(ROUTES_MAX).collect()
}

/// The most bytes that are read, and the most default routes that are considered.
const READ_MAX: u64 = 256 * 1024;
const ROUTES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use if_addrs::{Ifv4Addr, Ifv6Addr};

    /// As the machine has it in memory.
    fn hex(ip: [u8; 4]) -> String {
        format!("{:08X}", u32::from_ne_bytes(ip))
    }

    fn route(interface: &str, metric: u32, gateway: &str) -> Route {
        Route {
            interface: interface.into(),
            metric,
            gateway: gateway.parse().unwrap(),
        }
    }

    #[test]
    fn what_the_kernel_shows() {
        let gateway = hex([192, 168, 1, 1]);
        let (zero, net, mask) = ("00000000", hex([192, 168, 1, 0]), hex([255, 255, 255, 0]));
        let text = format!(
            "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
             eth0\t{zero}\t{gateway}\t0003\t0\t0\t100\t{zero}\t0\t0\t0\n\
             eth0\t{net}\t{zero}\t0001\t0\t0\t100\t{mask}\t0\t0\t0\n\
             wg0\t{zero}\t{zero}\t0001\t0\t0\t50\t{zero}\t0\t0\t0\n\
             wg1\t{zero}\t{zero}\t0003\t0\t0\t50\t{zero}\t0\t0\t0\n\
             eth1\t{zero}\t{gateway}\t0002\t0\t0\t50\t{zero}\t0\t0\t0\n\
             eth2\t{zero}\t{gateway}\n\nx\n"
        );
        let expected = [route("eth0", 100, "192.168.1.1")];
        assert_eq!(routes_v4(text.as_bytes()), expected);
        let (any, to) = ("0".repeat(32), "fe800000000000000000000000000001");
        let text = format!(
            "{any} 00 {any} 00 {to} 00000400 00000001 00000000 00000003     eth0\n\
             {any} 00 {any} 00 {any} ffffffff 00000001 00000000 00200200       lo\n\
             20010db8{} 40 {any} 00 {any} 00000100 00000001 00000000 00000001     eth0\n\
             {any} 00 {any} 00 {any} 00000100 00000001 00000000 00000003     wg0\n",
            "0".repeat(24)
        );
        let expected = [route("eth0", 0x400, "fe80::1")];
        assert_eq!(routes_v6(text.as_bytes()), expected);
        assert_eq!(routes_v4("x\n".repeat(1 << 20).as_bytes()), []);
    }

    fn interface(name: &str, ip: &str) -> Interface {
        let addr = match ip.parse().unwrap() {
            IpAddr::V4(ip) => IfAddr::V4(Ifv4Addr {
                ip,
                netmask: Ipv4Addr::new(255, 255, 255, 0),
                prefixlen: 24,
                broadcast: None,
            }),
            IpAddr::V6(ip) => IfAddr::V6(Ifv6Addr {
                ip,
                netmask: Ipv6Addr::UNSPECIFIED,
                prefixlen: 64,
                broadcast: None,
            }),
        };
        Interface {
            name: name.into(),
            addr,
            index: Some(7),
            oper_status: IfOperStatus::Up,
            is_p2p: false,
        }
    }

    #[test]
    fn which_router_is_asked() {
        let addrs = [
            interface("eth0", "192.168.1.2"),
            interface("eth0", "fe80::2"),
            interface("eth0", "2001:db8::2"),
            interface("eth0", "2001:db8::3"),
            interface("eth1", "192.168.9.2"),
            interface("eth1", "192.168.2.2"),
            interface("eth2", "203.0.113.5"),
            interface("eth3", "fd00::2"),
        ];
        let router = |ip: &str, scope_id, client: &str| {
            Outside::Router(Gateway {
                ip: ip.parse().unwrap(),
                scope_id,
                client: client.parse().unwrap(),
            })
        };
        let eth0 = || route("eth0", 100, "192.168.1.1");
        let eth1 = || route("eth1", 50, "192.168.2.1");
        let of_eth0 = router("192.168.1.1", 0, "192.168.1.2");
        let of_eth1 = router("192.168.2.1", 0, "192.168.2.2");
        let v6 = || route("eth0", 1, "fe80::1");
        for (listening, device, routes, outgoing, expected) in [
            ("0.0.0.0", None, vec![eth0()], None, of_eth0),
            ("0.0.0.0", None, vec![eth0(), eth1()], None, of_eth1),
            ("192.168.1.2", None, vec![eth1(), eth0()], None, of_eth0),
            ("0.0.0.0", Some("eth0"), vec![eth1(), eth0()], None, of_eth0),
            (
                "0.0.0.0",
                Some("wg0"),
                vec![eth0()],
                None,
                Outside::NoRouter,
            ),
            ("192.168.7.7", None, vec![eth0()], None, Outside::NoRouter),
            ("0.0.0.0", None, vec![], None, Outside::NoRouter),
            // A public address of our own.
            (
                "0.0.0.0",
                None,
                vec![route("eth2", 1, "203.0.113.1")],
                None,
                Outside::Public,
            ),
            ("203.0.113.5", None, vec![eth0()], None, Outside::Public),
            (
                "::",
                None,
                vec![v6()],
                Some("2001:db8::3"),
                router("fe80::1", 7, "2001:db8::3"),
            ),
            (
                "2001:db8::2",
                None,
                vec![v6()],
                None,
                router("fe80::1", 7, "2001:db8::2"),
            ),
            (
                "::",
                None,
                vec![route("eth3", 1, "fe80::1")],
                Some("fd00::2"),
                Outside::NoRouter,
            ),
        ] {
            let outgoing = outgoing.map(|ip: &str| ip.parse().unwrap());
            let listening = listening.parse().unwrap();
            let chosen = choose(listening, device, routes.clone(), &addrs, outgoing);
            assert_eq!(chosen, expected, "{listening} {device:?} {routes:?}");
        }
    }
}
