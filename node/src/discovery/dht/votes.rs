//! Our own address as others see it (BEP 42).
//!
//! Every answer tells the address that it was sent to. One that voters of [`ENOUGH`] different /16s (IPv6: /32s)
//! agree on is ours. A voter's last vote counts. Few addresses can stand for election at a time; a new one takes the
//! place of one with a single vote, or is not counted.

use core::net::IpAddr;

use super::endpoint::Endpoint;

/// See the module; for one family.
#[derive(Debug)]
pub(crate) struct Votes {
    candidates: [Candidate; CANDIDATES],
    /// The place that is looked at first for the next candidate.
    turn: usize,
    elected: Option<IpAddr>,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    ip: Option<IpAddr>,
    voters: [u32; ENOUGH],
    count: usize,
}

impl Candidate {
    const NOBODY: Candidate = Candidate {
        ip: None,
        voters: [0; ENOUGH],
        count: 0,
    };

    fn withdraw(&mut self, voter: u32) {
        if let Some(at) = self.voters[..self.count].iter().position(|v| *v == voter) {
            self.count -= 1;
            self.voters[at] = self.voters[self.count];
        }
    }
}

impl Votes {
    pub(crate) const fn new() -> Votes {
        Votes {
            candidates: [Candidate::NOBODY; CANDIDATES],
            turn: 0,
            elected: None,
        }
    }

    /// The address that is ours, if enough agree.
    pub(crate) fn elected(&self) -> Option<IpAddr> {
        self.elected
    }

    /// Counts a vote; answers whether it decided that our address is another one than before.
    pub(crate) fn vote(&mut self, voter: Endpoint, ip: IpAddr) -> bool {
        // In a private network we have an address that says nothing.
        if voter.is_local() || everseed_core::krpc::is_local(ip) || ip.is_unspecified() {
            return false;
        }
        let network = voter.wide_network();
        for candidate in &mut self.candidates {
            candidate.withdraw(network);
        }
        let known = self.candidates.iter().position(|c| c.ip == Some(ip));
        let mut places = (0..CANDIDATES).map(|n| (self.turn + n) % CANDIDATES);
        let place = known.or_else(|| places.find(|&place| self.candidates[place].count <= 1));
        let Some(place) = place else { return false };
        let candidate = &mut self.candidates[place];
        if candidate.ip != Some(ip) {
            *candidate = Candidate {
                ip: Some(ip),
                ..Candidate::NOBODY
            };
            self.turn = place + 1;
        }
        candidate.voters[candidate.count] = network;
        candidate.count += 1;
        if candidate.count < ENOUGH {
            return false;
        }
        // The next election begins anew, so that a changed address is noticed.
        self.candidates = [Candidate::NOBODY; CANDIDATES];
        let changed = self.elected != Some(ip);
        self.elected = Some(ip);
        changed
    }
}

/// Voters of different networks that must agree.
pub(crate) const ENOUGH: usize = 8;

/// Addresses that stand for election.
const CANDIDATES: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::SocketAddr;

    fn voter(net: u8, host: u8) -> Endpoint {
        SocketAddr::from(([20, net, 0, host], 6881)).into()
    }

    #[test]
    fn eight_networks_decide() {
        let (ours, other) = (
            IpAddr::from([198, 51, 100, 1]),
            IpAddr::from([198, 51, 100, 2]),
        );
        let mut votes = Votes::new();
        // A hundred votes of one network are one.
        assert!((0..100).all(|host| !votes.vote(voter(1, host), other)));
        assert!((2..9).all(|net| !votes.vote(voter(net, 1), ours)));
        assert_eq!(votes.elected(), None);
        // Who changes its mind votes once.
        assert!(votes.vote(voter(1, 1), ours));
        assert_eq!(votes.elected(), Some(ours));
        // The same again is no news; another address is.
        let again = (1..9).filter(|&net| votes.vote(voter(net, 1), ours));
        assert_eq!(again.count(), 0);
        let changes = (1..9).filter(|&net| votes.vote(voter(net, 1), other));
        assert_eq!(changes.count(), 1);
        assert_eq!(votes.elected(), Some(other));
    }

    #[test]
    fn liars_do_not_crowd_out_the_truth() {
        let ours = IpAddr::from([198, 51, 100, 1]);
        let mut votes = Votes::new();
        for net in 0..30 {
            votes.vote(
                voter(100 + net, 1),
                IpAddr::from([203, 0, 113, 10 * (net % 25)]),
            );
            votes.vote(voter(net, 1), ours);
        }
        assert_eq!(votes.elected(), Some(ours));
    }

    #[test]
    fn private_addresses_do_not_vote() {
        let mut votes = Votes::new();
        for net in 0..20 {
            let local = SocketAddr::from(([10, net, 0, 1], 1)).into();
            assert!(!votes.vote(local, IpAddr::from([198, 51, 100, 1])));
            assert!(!votes.vote(voter(net, 1), IpAddr::from([192, 168, 1, 1])));
        }
        assert_eq!(votes.elected(), None);
    }
}
