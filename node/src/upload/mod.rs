//! Peers are served here: their requests wait, and the choker and the rate limits say who is next.

pub mod choker;
pub(crate) mod rates;
pub mod request_queue;
pub(crate) mod suspicion;
