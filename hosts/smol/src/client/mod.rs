//! Asking servers: HTTP requests, and announces to trackers.

pub mod announce;
pub mod http;
pub(crate) mod trackers;
