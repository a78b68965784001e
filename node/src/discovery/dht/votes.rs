//! The vote on our own address: nodes that answer say which one they see (BEP 42), and may lie.
//!
//! A network (/16, IPv6: /32) has one vote, its latest. The first address for which [`ENOUGH`] networks vote is ours.
//! Another one replaces it only by a majority over time. From the first vote against ours on, votes are counted for
//! [`SPAN`] at least; then the other needs [`ENOUGH`], and more than twice as many as ours got meanwhile. Every answer
//! is a vote, so a few who lie in concert are outvoted, from however many networks they answer. When our address has
//! really changed, nobody votes for the old one. Without a decision within [`LONGEST`] the count begins anew.

use core::net::IpAddr;
use core::time::Duration;

use everseed_core::time::Instant;

use super::endpoint::Endpoint;

/// See the module; for one family.
#[derive(Debug)]
pub(crate) struct Votes {
    /// Those that are not ours, as far as we know.
    candidates: [Tally; CANDIDATES],
    /// The place that is looked at first for the next candidate.
    turn: usize,
    /// The address that is ours, and the votes for it since the first against it.
    elected: Tally,
    /// When there was the first vote against it.
    since: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Tally {
    ip: Option<IpAddr>,
    voters: [u32; MOST],
    count: usize,
}

impl Tally {
    const NOBODY: Tally = Tally {
        ip: None,
        voters: [0; MOST],
        count: 0,
    };

    fn new(ip: IpAddr) -> Tally {
        Tally {
            ip: Some(ip),
            ..Tally::NOBODY
        }
    }

    fn add(&mut self, voter: u32) {
        if let Some(place) = self.voters.get_mut(self.count) {
            *place = voter;
            self.count += 1;
        }
    }

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
            candidates: [Tally::NOBODY; CANDIDATES],
            turn: 0,
            elected: Tally::NOBODY,
            since: None,
        }
    }

    /// The address that is ours, if enough agree.
    pub(crate) fn elected(&self) -> Option<IpAddr> {
        self.elected.ip
    }

    /// Counts a vote; answers whether it decided that our address is another one than before.
    pub(crate) fn vote(&mut self, now: Instant, voter: Endpoint, ip: IpAddr) -> bool {
        // In a private network we have an address that says nothing.
        if voter.is_local() || everseed_core::krpc::is_local(ip) || ip.is_unspecified() {
            return false;
        }
        let network = voter.wide_network();
        let all = self.candidates.iter_mut().chain([&mut self.elected]);
        all.for_each(|candidate| candidate.withdraw(network));
        if self.elected.ip == Some(ip) {
            if self.since.is_some() {
                self.elected.add(network);
            }
        } else {
            self.vote_against(now, network, ip);
        }
        self.decide(now)
    }

    fn vote_against(&mut self, now: Instant, network: u32, ip: IpAddr) {
        let known = self.candidates.iter().position(|c| c.ip == Some(ip));
        let mut places = (0..CANDIDATES).map(|n| (self.turn + n) % CANDIDATES);
        let place = known.or_else(|| places.find(|&place| self.candidates[place].count <= 1));
        let Some(place) = place else { return };
        if self.candidates[place].ip != Some(ip) {
            self.candidates[place] = Tally::new(ip);
            self.turn = place + 1;
        }
        self.candidates[place].add(network);
        self.since.get_or_insert(now);
    }

    /// Whether another address is ours from now on.
    fn decide(&mut self, now: Instant) -> bool {
        let Some(since) = self.since else {
            return false;
        };
        let first = self.elected.ip.is_none();
        if !first && now - since < SPAN {
            return false;
        }
        let leader = self.candidates.iter().max_by_key(|c| c.count);
        let (ip, votes) = leader.map_or((None, 0), |c| (c.ip, c.count));
        let wins = votes >= ENOUGH && votes > 2 * self.elected.count;
        if wins {
            self.elected.ip = ip;
        } else if votes > self.elected.count && now - since < LONGEST {
            return false;
        }
        // The next one begins with the next vote against it.
        self.candidates = [Tally::NOBODY; CANDIDATES];
        self.elected.count = 0;
        self.since = None;
        wins
    }
}

/// Voters of different networks that must agree.
pub(crate) const ENOUGH: usize = 8;

/// Votes that are counted for one address, at most: so few that an address with [`ENOUGH`] votes is never voted out.
const MOST: usize = 2 * ENOUGH;

/// Addresses that stand for election.
const CANDIDATES: usize = 3;

/// For so long votes are counted before our address is another one.
const SPAN: Duration = Duration::from_secs(300);

/// And no longer than this.
const LONGEST: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::SocketAddr;

    const START: Instant = Instant::from_secs(1000);

    fn voter(net: u8, host: u8) -> Endpoint {
        SocketAddr::from(([20, net, 0, host], 6881)).into()
    }

    fn ours() -> IpAddr {
        IpAddr::from([198, 51, 100, 1])
    }

    fn other() -> IpAddr {
        IpAddr::from([198, 51, 100, 2])
    }

    fn after(secs: u64) -> Instant {
        START + Duration::from_secs(secs)
    }

    /// Our address is known.
    fn decided() -> Votes {
        let mut votes = Votes::new();
        assert_eq!(
            (1..9)
                .filter(|&net| votes.vote(START, voter(net, 1), ours()))
                .count(),
            1
        );
        votes
    }

    #[test]
    fn eight_networks_decide_at_first() {
        let mut votes = Votes::new();
        // A hundred votes of one network are one.
        assert!((0..100).all(|host| !votes.vote(START, voter(1, host), other())));
        assert!((2..9).all(|net| !votes.vote(START, voter(net, 1), ours())));
        assert_eq!(votes.elected(), None);
        // Who changes its mind votes once.
        assert!(votes.vote(START, voter(1, 1), ours()));
        assert_eq!(votes.elected(), Some(ours()));
        // The same again is no news.
        assert!((1..9).all(|net| !votes.vote(after(9999), voter(net, 1), ours())));
    }

    /// Nobody votes for the former one any more: it takes five minutes.
    #[test]
    fn another_address() {
        let mut votes = decided();
        for secs in 0..300 {
            let net = u8::try_from(secs % 20).unwrap();
            assert!(!votes.vote(after(secs), voter(net, 1), other()), "{secs}");
        }
        assert!(votes.vote(after(300), voter(1, 1), other()));
        assert_eq!(votes.elected(), Some(other()));
    }

    /// However many lie in concert, as long as half as many do not.
    #[test]
    fn colluders_are_outvoted() {
        for (liars, honest, change) in
            [(8, 4, false), (16, 8, false), (40, 8, false), (12, 3, true)]
        {
            let mut votes = decided();
            let mut changes = 0;
            for secs in 0..4 * 3600 {
                let liar = u8::try_from(100 + secs % liars).unwrap();
                changes += u32::from(votes.vote(after(secs), voter(liar, 1), other()));
                if secs % 10 == 0 {
                    let net = u8::try_from(secs / 10 % honest).unwrap();
                    votes.vote(after(secs), voter(net, 1), ours());
                }
            }
            assert_eq!(changes > 0, change, "{liars} liars, {honest} others");
        }
    }

    #[test]
    fn liars_do_not_crowd_out_the_truth() {
        let mut votes = Votes::new();
        for net in 0..30 {
            let lie = IpAddr::from([203, 0, 113, 10 * (net % 25)]);
            votes.vote(START, voter(100 + net, 1), lie);
            votes.vote(START, voter(net, 1), ours());
        }
        assert_eq!(votes.elected(), Some(ours()));
    }

    #[test]
    fn private_addresses_do_not_vote() {
        let mut votes = Votes::new();
        for net in 0..20 {
            let local = SocketAddr::from(([10, net, 0, 1], 1)).into();
            assert!(!votes.vote(START, local, ours()));
            assert!(!votes.vote(START, voter(net, 1), IpAddr::from([192, 168, 1, 1])));
        }
        assert_eq!(votes.elected(), None);
    }
}
