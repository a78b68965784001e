//! The memory of the DHT: slices that the host lends.

use super::budget::Destination;
use super::calls::Call;
use super::flood::Asker;
use super::lookup::Lookup;
use super::routes::Route;
use super::store::StoredPeer;
use crate::memory::lender::Lender;

/// Slices that the host lends once. Every length is a limit, whose rule stands in the module named.
///
/// | slice | what | when it is full |
/// |---|---|---|
/// | `routes_v4`, `routes_v6` | nodes, 8 for each bucket | who failed gives way, else the new one is dropped (`routes`) |
/// | `lookups` | lookups at a time | [`search`](super::Dht::search) refuses |
/// | `store` | peers that others announced | no token is given (`store`) |
/// | `calls` | queries without an answer | nothing more is asked (`calls`) |
/// | `destinations` | addresses asked in two minutes | queries to others wait (`budget`) |
/// | `askers` | addresses that ask us | whoever asked least gives way (`flood`) |
#[derive(Debug)]
pub struct Memory<'m> {
    pub(crate) routes_v4: &'m mut [Route],
    pub(crate) routes_v6: &'m mut [Route],
    pub(crate) lookups: &'m mut [Lookup],
    pub(crate) store: &'m mut [StoredPeer],
    pub(crate) calls: &'m mut [Call],
    pub(crate) destinations: &'m mut [Destination],
    pub(crate) askers: &'m mut [Asker],
}

/// The lengths of what is in [`Memory`], in elements.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// Nodes by IPv4.
    pub routes_v4: u32,
    /// Nodes by IPv6.
    pub routes_v6: u32,
    /// Lookups at a time, one for each family; at most 255.
    pub lookups: u32,
    /// Peers that others announced.
    pub store: u32,
    /// Queries without an answer; at most 255.
    pub calls: u32,
    /// Addresses asked in two minutes.
    pub destinations: u32,
    /// Addresses that ask us.
    pub askers: u32,
}

impl Sizes {
    /// What a node has that takes part.
    pub const FULL: Sizes = Sizes {
        routes_v4: 20 * 8,
        routes_v6: 12 * 8,
        lookups: 4,
        store: 400,
        calls: 20,
        destinations: 200,
        askers: 20,
    };

    /// What a node has that does not.
    pub const NONE: Sizes = Sizes {
        routes_v4: 0,
        routes_v6: 0,
        lookups: 0,
        store: 0,
        calls: 0,
        destinations: 0,
        askers: 0,
    };

    /// Bytes of memory of these sizes.
    pub const fn bytes(&self) -> usize {
        (self.routes_v4 + self.routes_v6) as usize * size_of::<Route>()
            + self.lookups as usize * size_of::<Lookup>()
            + self.store as usize * size_of::<StoredPeer>()
            + self.calls as usize * size_of::<Call>()
            + self.destinations as usize * size_of::<Destination>()
            + self.askers as usize * size_of::<Asker>()
    }
}

impl<'m> Memory<'m> {
    /// Whether there is any.
    pub(crate) fn is_lent(&self) -> bool {
        !self.calls.is_empty()
    }

    /// Memory of these sizes.
    pub fn lend(sizes: &Sizes, lender: &mut impl Lender<'m>) -> Memory<'m> {
        Memory {
            routes_v4: lender.filled(Route::EMPTY, sizes.routes_v4 as usize),
            routes_v6: lender.filled(Route::EMPTY, sizes.routes_v6 as usize),
            lookups: lender.filled(Lookup::EMPTY, sizes.lookups as usize),
            store: lender.filled(StoredPeer::EMPTY, sizes.store as usize),
            calls: lender.filled(Call::EMPTY, sizes.calls as usize),
            destinations: lender.filled(Destination::EMPTY, sizes.destinations as usize),
            askers: lender.filled(Asker::EMPTY, sizes.askers as usize),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::dht::Dht;

    #[test]
    fn it_fits_into_40_kib() {
        let inside = size_of::<Dht<'_>>();
        let all = Sizes::FULL.bytes() + inside;
        assert!(all <= 40 * 1024, "{all} bytes, {inside} of them inside");
    }
}
