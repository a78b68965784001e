//! Peers are served here: their requests wait, and the choker and the rate limits say who is next.

pub(crate) mod choker;
pub(crate) mod rates;
pub(crate) mod request_queue;
pub(crate) mod suspicion;
