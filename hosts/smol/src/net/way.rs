//! Which way calls leave this machine: from which of our addresses, by which interface, through which proxy.
//!
//! Invariant: if an interface was named, nothing is called another way. While it is away nobody is called at
//! all; see `Way::is_shut`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use everseed_core::tracker::Family;
use socket2::Socket;

use crate::net::proxy::Proxy;
use crate::net::scope::Scope;

/// From where others are called. A tracker hands out the address that it was called from, so it must be one where
/// we can be reached.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Way {
    /// One for each family at most.
    exits: Vec<Exit>,
    /// Whether nobody is called from elsewhere.
    only: bool,
    /// Who calls trackers for us.
    proxy: Option<Arc<Proxy>>,
}

/// An address of ours to call from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exit {
    /// An unspecified one leaves the choice to the system.
    ip: IpAddr,
    /// The interface that nothing leaves but by. Without one the routes decide.
    device: Option<String>,
}

impl Exit {
    pub(crate) fn new(ip: IpAddr, device: Option<String>) -> Exit {
        Exit { ip, device }
    }

    /// Ties a socket to the interface and to the address, with this port.
    pub(crate) fn tie(&self, socket: &Socket, port: u16) -> io::Result<()> {
        if let Some(device) = &self.device {
            socket.bind_device(Some(device.as_bytes()))?;
        }
        socket.bind(&SocketAddr::new(self.ip, port).into())
    }

    /// The same for a socket that has no port yet and needs none.
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
    /// From these addresses of ours and no others, by whichever interface the routes say.
    pub fn from(ips: &[IpAddr]) -> Way {
        let exits = ips.iter().map(|&ip| Exit::new(ip, None));
        Way::by(exits.collect(), true)
    }

    /// By these exits, of which the first of each family counts, and if `only` is set never otherwise.
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

    /// The same, but trackers are called through a proxy.
    pub fn through(self, proxy: Option<Arc<Proxy>>) -> Way {
        Way { proxy, ..self }
    }

    /// Who calls trackers for us, if that is not us.
    pub(crate) fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_deref()
    }

    /// The way to a proxy: one on this machine is reached whichever way calls leave it.
    pub(crate) fn to_proxy(&self, ip: IpAddr) -> Way {
        match Scope::of(ip) {
            Scope::Loopback => Way::default(),
            _ => self.clone(),
        }
    }

    /// Whether nobody is called from elsewhere.
    pub(crate) fn is_tied(&self) -> bool {
        self.only
    }

    /// Whether nobody can be called.
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

    /// Whether an address may be called, and from where if that is not left to the system.
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
