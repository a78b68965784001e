//! The HTTP server: the built-in tracker.

pub(crate) mod clients;
pub mod tracker;
