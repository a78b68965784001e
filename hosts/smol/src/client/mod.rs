//! Clients of servers: HTTP requests, announces to trackers, and requests to routers for port forwarding.

pub mod announce;
pub mod http;
pub(crate) mod router;
pub(crate) mod trackers;
