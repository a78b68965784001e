//! Hints: addresses at which there may be a node that is not in the routing table.
//!
//! A given one (configured, resolved, by `PORT`) is asked as soon as the budget allows, and once more if it does not
//! answer: a lost packet must not cost the only honest node. One that was heard of (it asked
//! us something, or others named it) is asked when there is time. When all places are taken, a given one replaces the
//! oldest that was heard of, then the oldest; one that was heard of is dropped.

use super::endpoint::Endpoint;

/// Where an address comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Origin {
    /// Somebody gave it.
    Given,
    /// It was given and is asked now.
    Asked,
    /// It was given and did not answer.
    Silent,
    /// It was heard of.
    Heard,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Hints(heapless::Vec<(Endpoint, Origin), HINTS>);

impl Hints {
    pub(crate) const fn new() -> Hints {
        Hints(heapless::Vec::new())
    }

    pub(crate) fn add(&mut self, at: Endpoint, origin: Origin) {
        if !at.is_possible() {
            return;
        }
        if let Some(known) = self.0.iter_mut().find(|(known, _)| *known == at) {
            if origin == Origin::Given {
                known.1 = origin;
            }
            return;
        }
        if self.0.is_full() {
            if origin == Origin::Heard {
                return;
            }
            let heard = self.0.iter().position(|(_, o)| *o == Origin::Heard);
            self.0.remove(heard.unwrap_or(0));
        }
        // There is room, as was just made.
        let _ = self.0.push((at, origin));
    }

    /// The oldest of an origin; of given ones first those that were not asked yet.
    pub(crate) fn next(&self, origin: Origin) -> Option<Endpoint> {
        let oldest = |origin| self.0.iter().find(|(_, o)| *o == origin);
        let again = || match origin {
            Origin::Given => oldest(Origin::Silent),
            _ => None,
        };
        oldest(origin).or_else(again).map(|(at, _)| *at)
    }

    /// A given one is asked.
    pub(crate) fn asked(&mut self, at: Endpoint) {
        match self.0.iter_mut().find(|(known, _)| *known == at) {
            Some((_, origin @ Origin::Given)) => *origin = Origin::Asked,
            _ => self.remove(at),
        }
    }

    /// The address that was asked did not answer.
    pub(crate) fn silent(&mut self, at: Endpoint) {
        let asked = |hint: &&mut (Endpoint, Origin)| *hint == &(at, Origin::Asked);
        if let Some((_, origin)) = self.0.iter_mut().find(asked) {
            *origin = Origin::Silent;
        }
    }

    pub(crate) fn remove(&mut self, at: Endpoint) {
        self.0.retain(|(known, _)| *known != at);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Addresses at a time.
pub(crate) const HINTS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::SocketAddr;

    fn at(last: u8) -> Endpoint {
        SocketAddr::from(([192, 0, 2, last], 6881)).into()
    }

    #[test]
    fn given_ones_come_first_and_stay() {
        let mut hints = Hints::new();
        for n in 0..100 {
            hints.add(at(n), Origin::Heard);
        }
        for n in 100..104 {
            hints.add(at(n), Origin::Given);
            hints.add(at(n), Origin::Heard);
        }
        assert_eq!(hints.next(Origin::Given), Some(at(100)));
        assert_eq!(hints.next(Origin::Heard), Some(at(4)));
        for n in 104..200 {
            hints.add(at(n), Origin::Given);
        }
        assert_eq!(hints.next(Origin::Heard), None);
        assert_eq!(hints.next(Origin::Given), Some(at(184)));
        for n in 184..200 {
            hints.remove(at(n));
        }
        assert!(hints.is_empty());
        hints.add(SocketAddr::from(([0, 0, 0, 0], 6881)).into(), Origin::Given);
        assert!(hints.is_empty());
    }

    #[test]
    fn a_given_one_is_asked_twice() {
        let mut hints = Hints::new();
        hints.add(at(1), Origin::Given);
        hints.add(at(2), Origin::Given);
        hints.asked(at(1));
        assert_eq!(hints.next(Origin::Given), Some(at(2)));
        // Without an answer it comes after those that were not asked yet, and once.
        hints.silent(at(1));
        assert_eq!(hints.next(Origin::Given), Some(at(2)));
        hints.asked(at(2));
        assert_eq!(hints.next(Origin::Given), Some(at(1)));
        hints.asked(at(1));
        hints.silent(at(1));
        assert_eq!(hints.next(Origin::Given), None);
        hints.remove(at(2));
        assert!(hints.is_empty());
    }
}
