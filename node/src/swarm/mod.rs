//! Connections live here: who is let in, what is said on them, and when they end.
//!
//! | module | what it does |
//! |---|---|
//! | `admission` | who gets a place, and who leaves when there is none for others |
//! | `connections` | a connection's slot from the call to the end |
//! | `inbound`, [`outbound`] | the messages that come, and those that are owed |
//! | `ready_list` | the connections that need something of the host |
//! | `timers` | what time alone brings about |
//! | `bans` | the addresses that sent bad pieces |

pub(crate) mod admission;
pub(crate) mod bans;
pub(crate) mod connections;
pub(crate) mod inbound;
pub(crate) mod outbound;
pub(crate) mod ready_list;
pub(crate) mod timers;
