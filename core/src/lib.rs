//! BitTorrent's formats and arithmetic, for a machine of any size.
//!
//! Everything here is a function of bytes: no sockets, no files, no clock, no heap. A microcontroller
//! and a server parse the same torrent in the same few kilobytes of stack, however large it is.
//!
//! | module | what it is | source |
//! |---|---|---|
//! | [`geometry`] | pieces, blocks and spans; the only index arithmetic | BEP 3 |
//! | [`bencode`] | the encoding of torrent files and trackers' answers | BEP 3 |
//! | [`krpc`] | messages between nodes of the distributed hash table | BEP 5, 32, 33, 42, 43, 51 |
//! | [`metadata`] | `info` handed to peers that came by a magnet link | BEP 9 |
//! | [`magnet`] | magnet links | BEP 9, 53 |
//! | [`metainfo`] | torrent files | BEP 3, 5, 12, 19, 27, 47 |
//! | [`bits`] | one bit per piece, in wire order | BEP 3 |
//! | [`hash`] | SHA-1 behind one trait, info-hashes | BEP 3 |
//! | [`wire`] | handshake and messages between peers | BEP 3, 6, 10 |
//! | [`extension`] | the extended handshake | BEP 10, 21 |
//! | [`pex`] | addresses of peers that peers send each other | BEP 11 |
//! | [`lsd`] | multicast packets that name torrents to the local network | BEP 14 |
//! | [`priority`] | which peer is preferred when there is no room for all | BEP 40 |
//! | [`tracker`] | what peers and trackers say to each other | BEP 3, 7, 15, 23, 41 |
//! | [`portmap`] | PCP, NAT-PMP and UPnP: a router is asked to forward a port | RFC 6886, 6887, UPnP |
//! | [`resume`] | the record of which pieces were verified, kept between runs | |
//! | [`text`] | text from strangers, made safe to print | |
//! | [`time`], [`rng`] | a moment and a seed, passed in | |
//! | [`sums`] | sums by which copies of a piece are compared | |
//! | [`pool`] | a pool of block buffers | |
//!
//! # Example
//!
//! A torrent file is read as a stream; only the fields of [`Metainfo`](metainfo::Metainfo) are kept.
//!
//! ```
//! use everseed_core::hash::Smol;
//! use everseed_core::metainfo::Metainfo;
//!
//! let torrent = b"d8:announce23:http://tracker/announce4:infod6:lengthi40000e4:name8:film.mkv\
//!                 12:piece lengthi32768e6:pieces40:aaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbee";
//! let metainfo = Metainfo::read::<Smol, _>(&torrent[..]).unwrap();
//! assert!(metainfo.single && !metainfo.private);
//! assert_eq!((metainfo.geometry.pieces(), metainfo.geometry.total()), (2, 40_000));
//!
//! // The second piece is the short one, and one block long.
//! let last = metainfo.geometry.piece(1).unwrap();
//! assert_eq!(metainfo.geometry.piece_size(last), 40_000 - 32_768);
//!
//! // By it peers and trackers know the torrent: the SHA-1 of the value of `info`.
//! assert_eq!(metainfo.info_range(), 43..torrent.len() as u64 - 1);
//! println!("{}", metainfo.info_hash);
//! ```

#![no_std]
#![forbid(unsafe_code)]
#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects
)]
#![cfg_attr(
    test,
    allow(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation
    )
)]

pub mod bencode;
pub mod bits;
mod crc32c;
pub mod extension;
pub mod geometry;
pub mod hash;
pub mod krpc;
pub mod lsd;
pub mod magnet;
pub mod metadata;
pub mod metainfo;
pub mod pex;
pub mod pool;
pub mod portmap;
pub mod priority;
pub mod resume;
pub mod rng;
pub mod sums;
pub mod text;
pub mod time;
pub mod tracker;
pub mod wire;
