//! The built-in tracker: makes a torrent work with nothing else installed (BEP 3, 7, 23, 48).
//!
//! It knows the torrents that are being seeded here and no others, so nobody can use it for their
//! own. All memory is taken at the start:
//!
//! | table | when it is full |
//! |---|---|
//! | torrents | one without peers leaves, and comes back when somebody names it; else [`PeerTable::add`] refuses |
//! | peers of all torrents | the one that has been silent longest leaves |
//! | peers of one address (or one IPv6 /64) | the one of them that has been silent longest leaves |
//!
//! A peer is an address and a port; it is forgotten when it has missed two announces. Its address is
//! where its request came from, whatever the request says, and it is told to those only who are as near
//! to it as we are: see `scope`. So is the seeder itself, under the address by which
//! the asker reached it, and to everybody under its public address if it has one.
//!
//! Which torrents there are is told to nobody. Private ones are not among them (BEP 27), unless they name
//! this tracker. Torrent files are given out where the owner says so. Browsers are refused: see `callers`.
//!
//! [`PeerTable`] is a function of requests to responses; [`serve`] moves them.

mod callers;
mod share;
mod table;
mod web;

pub use table::PeerTable;
pub use web::serve;
