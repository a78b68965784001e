//! The everseed daemon as a library.
//!
//! # How it runs
//!
//! One thread drives all peers: it waits for sockets with epoll, tells the node of `everseed-node` about them, and
//! carries out its actions; see `net::engine`. A second thread does what waits for a disk; see `storage::worker`. The
//! session has the main thread, and runs announces, lookups of names and clients of the built-in tracker there as
//! smol's futures; see `async_tasks`.
//!
//! Peers' sockets are not in smol's reactor, for reasons that were measured. Serving a block through it costs an
//! allocation for each wake-up, and two more system calls for the timer and for arming the socket again. This loop
//! allocates nothing, and makes one read, one `preadv2` and one send.
//!
//! | module | contents |
//! |---|---|
//! | [`cli`] | the commands, and what they print |
//! | [`options`] | options of the command line, and the configuration file |
//! | [`session`] | the torrents, and what is done with them |
//! | [`net`] | the loop that drives the peers, and their sockets |
//! | `storage` | the thread that waits for disks, and the state that outlives a run |
//! | [`client`] | requests to servers and routers: HTTP, announces, port mapping |
//! | [`web`] | the HTTP server: the built-in tracker |
//! | `descriptors`, `allocator`, `async_tasks`, `alarm`, `clock`, `trace` | used by all of them |
//! | [`text`], [`url`], [`magnet`], `secrets`, `logging`, `failure` | texts for people |

// Except in two modules: one calls the kernel by numbers, one the allocator.
#![deny(unsafe_code)]

mod alarm;
mod allocator;
mod async_tasks;
pub mod cli;
pub mod client;
mod clock;
mod descriptors;
mod failure;
mod logging;
pub mod magnet;
pub mod net;
pub mod options;
mod printing;
mod secrets;
pub mod session;
mod storage;
pub mod text;
mod trace;
pub mod url;
pub mod web;
