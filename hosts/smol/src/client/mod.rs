//! Asking servers: HTTP requests, announces to trackers, and routers that forward a port.

pub mod announce;
pub mod http;
pub(crate) mod router;
pub(crate) mod trackers;
