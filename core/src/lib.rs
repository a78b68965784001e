//! BitTorrent's formats and arithmetic, for a machine of any size.
//!
//! Everything here is a function of bytes: no sockets, no files, no clock, no heap. A microcontroller
//! and a server parse the same torrent in the same few hundred bytes of stack.
//!
//! | module | what it is | source |
//! |---|---|---|
//! | [`geometry`] | pieces, blocks and spans; the only index arithmetic | BEP 3 |
//! | [`bits`] | one bit per piece, in wire order | BEP 3 |
//! | [`hash`] | SHA-1 behind one seam, info-hashes | BEP 3 |
//! | [`wire`] | handshake and messages between peers | BEP 3, 6, 10 |
//! | [`time`], [`rng`] | a moment and a seed, passed in | |

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

pub mod bits;
pub mod geometry;
pub mod hash;
pub mod rng;
pub mod time;
pub mod wire;
