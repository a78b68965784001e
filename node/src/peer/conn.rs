//! [`Conn`]: the slot of one connection, made of its parts; and [`ConnId`], its id.

use core::net::{IpAddr, SocketAddr};

use everseed_core::time::Instant;
use serde::{Deserialize, Serialize};

use crate::peer::download::DownloadSide;
use crate::peer::extensions::Extensions;
use crate::peer::link::{Link, LinkState};
use crate::peer::upload::UploadSide;

/// A connection's slot and the tenancy that it was given for; a stale id matches nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
pub struct ConnId {
    /// Index of the slot, below the number of slots lent: hosts may index their sockets by it.
    pub slot: u16,
    /// How often the slot had been let before.
    pub tenancy: u16,
}

/// A lent slot for one connection.
#[derive(Clone, Debug)]
pub(crate) struct Conn {
    pub(crate) tenancy: u16,
    /// The socket, the handshake, and what is being read and written.
    pub(crate) link: Link,
    /// The state of our uploads to the peer.
    pub(crate) upload: UploadSide,
    /// The state of our downloads from the peer.
    pub(crate) download: DownloadSide,
    /// What the extension handshake agreed on (BEP 10).
    pub(crate) extensions: Extensions,
}

impl Conn {
    /// An unused slot.
    pub(crate) const EMPTY: Conn = Conn {
        tenancy: 0,
        link: Link::EMPTY,
        upload: UploadSide::EMPTY,
        download: DownloadSide::EMPTY,
        extensions: Extensions::EMPTY,
    };

    /// A connection that begins now.
    pub(crate) fn new(now: Instant, tenancy: u16, addr: SocketAddr, incoming: bool) -> Conn {
        let mut conn = Conn {
            tenancy,
            ..Conn::EMPTY
        };
        conn.link.addr = addr;
        conn.link.incoming = incoming;
        conn.link.state = match incoming {
            true => LinkState::Greeting,
            false => LinkState::Dial,
        };
        conn.link.opened_at = now;
        conn.link.last_received_at = now;
        conn.link.last_sent_at = now;
        conn.upload.choke_changed_at = now;
        conn
    }

    /// Whether there is a socket, or soon will be.
    pub(crate) fn is_live(&self) -> bool {
        !matches!(self.link.state, LinkState::Free | LinkState::Closing(_))
    }

    pub(crate) fn is_open(&self) -> bool {
        self.link.state == LinkState::Open
    }

    /// Whether it called us and has not finished its handshake.
    pub(crate) fn is_silent_caller(&self) -> bool {
        self.link.incoming && self.link.state == LinkState::Greeting
    }

    /// Whether it has a share of the blocks that are on their way.
    pub(crate) fn shares(&self) -> bool {
        self.is_open() && self.download.shares()
    }

    /// Where it can be called, as far as we know.
    pub(crate) fn callable(&self) -> Option<SocketAddr> {
        let port = match self.link.incoming {
            true => self.link.listen_port,
            false => self.link.addr.port(),
        };
        (port > 0).then(|| SocketAddr::new(self.link.addr.ip().to_canonical(), port))
    }
}

/// The number of an origin: an IPv4 address, or the /64 that an IPv6 host chooses freely in.
#[allow(clippy::cast_possible_truncation)] // The upper half of 128 bits.
pub(crate) fn origin(addr: SocketAddr) -> u64 {
    match addr.ip().to_canonical() {
        IpAddr::V4(ip) => u64::from(ip.to_bits()),
        IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64,
    }
}

const _: () = assert!(size_of::<Conn>() <= 640);
