//! Which address of this machine others should use.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// The address under which peers on the network reach a listener at `local`: itself, or if it
/// listens everywhere, the address that this machine uses for the world outside.
pub(crate) fn reachable(local: SocketAddr) -> SocketAddr {
    if !local.ip().is_unspecified() {
        return local;
    }
    let ip = outgoing(local.is_ipv4()).unwrap_or(match local {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    });
    SocketAddr::new(ip, local.port())
}

/// The addresses from which to call others, one for each family that is listened on: a tracker hands
/// out the address that it was called from, so it must be one where we can be reached. An
/// unspecified address leaves the choice to the system.
pub(crate) fn sources(listening: impl IntoIterator<Item = SocketAddr>) -> Vec<IpAddr> {
    let mut sources: Vec<IpAddr> = Vec::new();
    for ip in listening.into_iter().map(|addr| addr.ip()) {
        match sources.iter_mut().find(|s| s.is_ipv4() == ip.is_ipv4()) {
            Some(source) if ip.is_unspecified() => *source = ip,
            Some(_) => {}
            None => sources.push(ip),
        }
    }
    sources
}

/// The source address of a packet to a public address. Connecting a UDP socket asks the kernel's
/// routing table and sends nothing; the addresses are those reserved for documentation.
pub(crate) fn outgoing(v4: bool) -> Option<IpAddr> {
    let (any, far): (IpAddr, IpAddr) = if v4 {
        (
            Ipv4Addr::UNSPECIFIED.into(),
            Ipv4Addr::new(192, 0, 2, 1).into(),
        )
    } else {
        let far = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
        (Ipv6Addr::UNSPECIFIED.into(), far.into())
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((far, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_for_each_family() {
        let of = |addrs: &[&str]| sources(addrs.iter().map(|addr| addr.parse().unwrap()));
        let ips = |ips: &[&str]| {
            ips.iter()
                .map(|ip| ip.parse().unwrap())
                .collect::<Vec<IpAddr>>()
        };
        assert_eq!(of(&["10.1.2.3:4", "10.1.2.4:4"]), ips(&["10.1.2.3"]));
        assert_eq!(of(&["10.1.2.3:4", "[::1]:4"]), ips(&["10.1.2.3", "::1"]));
        assert_eq!(of(&["10.1.2.3:4", "0.0.0.0:4"]), ips(&["0.0.0.0"]));
    }

    #[test]
    fn a_chosen_address_stays() {
        for addr in ["127.0.0.1:7", "[::1]:7", "10.1.2.3:4"] {
            let addr: SocketAddr = addr.parse().unwrap();
            assert_eq!(reachable(addr), addr);
        }
        let any = reachable("0.0.0.0:6881".parse().unwrap());
        assert!(!any.ip().is_unspecified() && any.port() == 6881);
    }
}
