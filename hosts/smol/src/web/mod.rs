//! What is served by HTTP: the built-in tracker.

pub(crate) mod clients;
pub mod tracker;
