//! The everseed daemon as a library.
//!
//! # How it runs
//!
//! One thread drives all peers: it waits for sockets by epoll, tells the node of
//! `everseed-node`, and carries out its actions; see `engine`. A second one does what waits for a
//! disk; see `worker`. Announces, names and the built-in tracker's clients are futures on smol, on
//! the first thread; see `slow`.
//!
//! Peers' sockets are not in smol's reactor, by measurement: serving a block through it costs an
//! allocation for the wakers of each wake-up and two more system calls for the timer and for arming
//! the socket anew, where this loop allocates nothing at all and makes one read, one `preadv2` and
//! one send.
//!
//! | module | what it is |
//! |---|---|
//! | `seed` | the command that does the main job |
//! | `engine`, `epoll`, `socket`, `worker`, `alarm`, `slow`, `clock`, `memory` | the loop and its parts |
//! | [`listen`] | where peers connect |
//! | `state` | what outlives a run |
//! | [`announce`], [`http`], [`way`], [`proxy`], `trackers` | talking to trackers |
//! | [`tracker`] | the built-in tracker |
//! | `place` | which disk content belongs to |
//! | [`config`], [`rates`], `notify` | what a service needs besides |
//! | [`cli`], [`magnet`], `secrets` | what people see |

// But for the one module that calls the kernel by numbers.
#![deny(unsafe_code)]

mod address;
mod alarm;
pub mod announce;
mod catalogue;
pub mod cli;
mod clock;
pub mod config;
mod contents;
mod described;
mod engine;
mod epoll;
pub mod http;
pub mod listen;
pub mod magnet;
mod memory;
mod notify;
mod place;
pub mod proxy;
mod prune;
pub mod rates;
mod scope;
mod secrets;
pub mod seed;
mod slow;
mod socket;
mod sockopt;
mod state;
mod trace;
pub mod tracker;
mod trackers;
pub mod url;
pub mod way;
mod worker;
