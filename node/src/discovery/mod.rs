//! Peers are found here: whom to call, and when each tracker is told what.

pub mod announcer;
pub mod candidates;
pub mod udp_tracker;
