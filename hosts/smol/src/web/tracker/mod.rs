//! The built-in tracker, with which a torrent works without any other program (BEP 3, 7, 23, 48).
//!
//! It serves only torrents that are seeded here, so nobody can use it for their own. All memory is allocated at the
//! start:
//!
//! | table | when it is full |
//! |---|---|
//! | torrents | one without peers is removed, and added again when somebody asks for it; else [`PeerTable::add`] refuses |
//! | peers of all torrents | the one that has been silent longest is removed |
//! | peers of one address (or one IPv6 /64) | the one of them that has been silent longest is removed |
//!
//! A peer is an address and a port; it is forgotten after missing two announces. Its address is the source of its
//! request, whatever the request says. It is told only to peers that are as near to it as we are: see `scope`. The
//! same holds for the seeder itself, under the address by which the client reached it; its public address, if it has
//! one, is told to everybody.
//!
//! Nobody is told which torrents there are. Private ones are served only if they name this tracker (BEP 27). Torrent
//! files are given out only if the owner allows it. Browsers are refused: see `callers`.
//!
//! [`PeerTable`] is a function of requests to responses; [`serve`] moves them over a connection.

mod answer;
mod callers;
mod share;
mod table;
mod web;

pub use table::PeerTable;
pub use web::serve;
