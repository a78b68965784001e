//! The way by which calls leave this machine: from which address, by which interface, through which proxy.
//!
//! Invariant: if an interface was named, every call leaves by it. While it is absent nobody is called; see
//! `Way::is_shut`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use everseed_core::tracker::Family;
use socket2::Socket;

use crate::net::proxy::Proxy;
use crate::net::scope::Scope;

/// The addresses from which others are called. A tracker hands out the address that it was called from, so peers must
/// be able to reach us there.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Way {
    /// At most one for each family.
    exits: Vec<Exit>,
    /// Whether no other address may be used.
    only: bool,
    /// The proxy that calls trackers for us.
    proxy: Option<Arc<Proxy>>,
}

/// An address of ours to call from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exit {
    /// The address; an unspecified one leaves the choice to the system.
    ip: IpAddr,
    /// The only interface that may be used. `None`: the routes decide.
    device: Option<String>,
}

impl Exit {
    pub(crate) fn new(ip: IpAddr, device: Option<String>) -> Exit {
        Exit { ip, device }
    }

    /// Binds a socket to the interface, the address and this port.
    pub(crate) fn tie(&self, socket: &Socket, port: u16) -> io::Result<()> {
        if let Some(device) = &self.device {
            socket.bind_device(Some(device.as_bytes()))?;
        }
        socket.bind(&SocketAddr::new(self.ip, port).into())
    }

    /// Binds a socket to the interface and the address, without a port of its own.
    pub(crate) fn tie_any(&self, socket: &Socket) -> io::Result<()> {
        match self.ip.is_unspecified() && self.device.is_none() {
            true => Ok(()),
            false => self.tie(socket, 0),
        }
    }

    /// The address.
    pub(crate) fn ip(&self) -> IpAddr {
        self.ip
    }
}

impl Way {
    /// A way from these addresses only, by whichever interface the routes say.
    pub fn from(ips: &[IpAddr]) -> Way {
        let exits = ips.iter().map(|&ip| Exit::new(ip, None));
        Way::by(exits.collect(), true)
    }

    /// A way by the first of these exits for each family. With `only`, families without an exit are not called.
    pub(crate) fn by(mut all: Vec<Exit>, only: bool) -> Way {
        let mut seen = Vec::with_capacity(2);
        all.retain(|exit| {
            let family = Family::of(exit.ip);
            let new = !seen.contains(&family);
            seen.push(family);
            new
        });
        Way {
            exits: all,
            only,
            proxy: None,
        }
    }

    /// The same way with a proxy for calls to trackers.
    pub fn through(self, proxy: Option<Arc<Proxy>>) -> Way {
        Way { proxy, ..self }
    }

    /// The proxy that calls trackers for us, if there is one.
    pub(crate) fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_deref()
    }

    /// The way to the proxy itself. A proxy on this machine is reached whichever way calls leave.
    pub(crate) fn to_proxy(&self, ip: IpAddr) -> Way {
        match Scope::of(ip) {
            Scope::Loopback => Way::default(),
            _ => self.clone(),
        }
    }

    /// Whether only the interface may be used.
    pub(crate) fn is_tied(&self) -> bool {
        self.only
    }

    /// Whether nobody can be called now.
    pub(crate) fn is_shut(&self) -> bool {
        self.only && self.exits.is_empty()
    }

    /// The exit of a family.
    pub(crate) fn exit(&self, family: Family) -> Option<&Exit> {
        self.exits.iter().find(|exit| Family::of(exit.ip) == family)
    }

    /// The same way for one family alone.
    pub(crate) fn of(&self, family: Family) -> Option<Way> {
        let exits = vec![self.exit(family)?.clone()];
        Some(Way {
            exits,
            only: true,
            proxy: self.proxy.clone(),
        })
    }

    /// Whether an address may be called: `None` if not. The exit to use; without one the system chooses.
    pub(crate) fn to(&self, ip: IpAddr) -> Option<Option<&Exit>> {
        match self.exit(Family::of(ip)) {
            None if self.only => None,
            exit => Some(exit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_another_way() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let (v4, other, v6) = (ip("10.0.0.1"), ip("10.0.0.2"), ip("fd00::1"));
        let from = |way: &Way, to: &str| way.to(ip(to)).map(|exit| exit.map(Exit::ip));
        let any = Way::default();
        assert_eq!(from(&any, "192.0.2.1"), Some(None));
        assert!(!any.is_shut() && any.of(Family::V4).is_none());
        let way = Way::from(&[v4, other]);
        assert_eq!(from(&way, "192.0.2.1"), Some(Some(v4)));
        assert_eq!(from(&way, "2001:db8::1"), None);
        let exits = vec![Exit::new(v4, None), Exit::new(v6, Some("wg0".into()))];
        let both = Way::by(exits, false);
        let of = both.of(Family::V6).unwrap();
        assert_eq!(from(&of, "2001:db8::1"), Some(Some(v6)));
        assert_eq!(from(&of, "192.0.2.1"), None);
        let away = Way::by(Vec::new(), true);
        assert!(away.is_shut());
        assert_eq!((from(&away, "192.0.2.1"), from(&away, "::1")), (None, None));
        // A proxy on this machine is called however the rest is.
        let exits = vec![Exit::new(v4, Some("wg0".into()))];
        let tied = Way::by(exits, true);
        let to_proxy = |text: &str| from(&tied.to_proxy(ip(text)), text);
        assert_eq!(to_proxy("127.0.0.1"), Some(None));
        assert_eq!(to_proxy("::1"), Some(None));
        assert_eq!(to_proxy("192.168.1.1"), Some(Some(v4)));
        assert_eq!(to_proxy("2001:db8::1"), None);
    }
}
