//! The everseed daemon as a library.
//!
//! # How it runs
//!
//! One thread drives all peers: it waits for sockets by epoll, tells the node of
//! `everseed-node`, and carries out its actions; see `net::engine`. A second one does what waits for a
//! disk; see `storage::worker`. Announces, names and the built-in tracker's clients are futures on smol, on
//! the first thread; see `async_tasks`.
//!
//! Peers' sockets are not in smol's reactor, by measurement: serving a block through it costs an
//! allocation for the wakers of each wake-up and two more system calls for the timer and for arming
//! the socket anew, where this loop allocates nothing at all and makes one read, one `preadv2` and
//! one send.
//!
//! | module | what lives there |
//! |---|---|
//! | [`cli`] | the commands, and what they print |
//! | [`options`] | what can be asked for: options, the configuration file |
//! | [`session`] | the torrents that are shared, and what happens to them |
//! | [`net`] | the loop that drives the peers, and their sockets |
//! | `storage` | the thread that waits for disks, and what outlives a run |
//! | [`client`] | asking servers and routers: HTTP, announces, port mapping |
//! | [`web`] | what is served by HTTP: the built-in tracker |
//! | `memory`, `async_tasks`, `alarm`, `clock`, `trace` | what they all stand on |
//! | [`text`], [`url`], [`magnet`], `secrets`, `logging`, `failure` | words for people |

// But for the one module that calls the kernel by numbers.
#![deny(unsafe_code)]

mod alarm;
mod async_tasks;
pub mod cli;
pub mod client;
mod clock;
mod failure;
mod logging;
pub mod magnet;
mod memory;
pub mod net;
pub mod options;
mod secrets;
pub mod session;
mod storage;
pub mod text;
mod trace;
pub mod url;
pub mod web;
