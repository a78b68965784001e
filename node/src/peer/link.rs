//! [`Link`] of a connection: its address, the progress of the handshake, what is being read and written.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use everseed_core::geometry::TorrentId;
use everseed_core::time::Instant;
use everseed_core::wire::{Decoder, Features, Handshake, PeerId};

use crate::memory::ids::NONE;
use crate::peer::outbox::Outbox;
use crate::peer::reason::Reason;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) state: LinkState,
    pub(crate) addr: SocketAddr,
    /// Whether the peer dialled us.
    pub(crate) incoming: bool,
    /// The port on which it says that it can be called, if it dialled us (BEP 10); 0 if untold.
    pub(crate) listen_port: u16,
    /// Its place among the candidates, if we dialled it or were told to.
    pub(crate) candidate: Option<u16>,
    pub(crate) torrent: Option<TorrentId>,
    /// Whether it named its torrent by the second info-hash.
    pub(crate) by_second_hash: bool,
    /// Whether its peer called us, too, at the same time.
    pub(crate) crossed: bool,
    pub(crate) peer_id: PeerId,
    /// The extensions that both sides support.
    pub(crate) features: Features,

    /// The peer's handshake, of which `handshake_len` bytes are here.
    pub(crate) handshake: [u8; Handshake::LEN],
    pub(crate) handshake_len: u8,
    pub(crate) decoder: Decoder,
    pub(crate) payload: Payload,
    /// Bytes that came besides blocks.
    pub(crate) talked: u64,

    pub(crate) outbox: Outbox,
    pub(crate) opened_at: Instant,
    pub(crate) last_received_at: Instant,
    /// When bytes were sent last, or when there began to be something to send.
    pub(crate) last_sent_at: Instant,

    /// Whether it is in the ready list, and the next one there.
    pub(crate) ready: bool,
    pub(crate) next_ready: u16,
}

/// How far a connection has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LinkState {
    /// No connection.
    Free,
    /// The host is to dial.
    Dial,
    /// The host dials.
    Dialling,
    /// Connected; the peer's handshake is not complete.
    Greeting,
    /// It named a torrent that is asleep: the host is to wake it.
    Wake,
    /// The host wakes it.
    Waking,
    /// Both know which torrent it is about.
    Open,
    /// To be dropped by the host.
    Closing(Reason),
}

/// The purpose of the payload that is being received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Payload {
    Skip,
    Bitfield {
        at: u32,
    },
    /// An extended message for this id (BEP 10), of which so many bytes have passed.
    Extended {
        id: u8,
        at: u32,
    },
    /// The dictionary before a block of metadata (BEP 9), gathered in the pending block that arrives.
    MetadataHead,
    /// The block of the pending block that arrives.
    Block,
    /// A block that nobody waits for.
    Unrequested,
}

impl Link {
    pub(crate) const EMPTY: Link = Link {
        state: LinkState::Free,
        addr: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        incoming: false,
        listen_port: 0,
        candidate: None,
        torrent: None,
        by_second_hash: false,
        crossed: false,
        peer_id: [0; 20],
        features: Features {
            fast: false,
            extended: false,
            dht: false,
        },
        handshake: [0; Handshake::LEN],
        handshake_len: 0,
        decoder: Decoder::new(),
        payload: Payload::Skip,
        talked: 0,
        outbox: Outbox::NEW,
        opened_at: Instant::ZERO,
        last_received_at: Instant::ZERO,
        last_sent_at: Instant::ZERO,
        ready: false,
        next_ready: NONE,
    };
}
