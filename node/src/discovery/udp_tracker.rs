//! One exchange with one address of a UDP tracker (BEP 15): connect, announce, and again if there is no answer.
//!
//! A packet is ignored if it does not have the transaction id of this exchange, or is not the expected answer:
//! anybody could have sent it. A tracker with several addresses may answer from another one than was asked, so the
//! address proves nothing. But only [`GUESSES`] packets with wrong ids are accepted from other addresses.
//!
//! A silent tracker is asked [`TRIES`] times, and given up after two minutes at most. BEP 15 would go on for an hour, but
//! the announcer tries again itself.

use core::net::SocketAddr;
use core::time::Duration;

use everseed_core::rng::Rng;
use everseed_core::time::Instant;
use everseed_core::tracker::udp::{Request, Response};
use everseed_core::tracker::{Family, Intervals, Report, Text};

/// An announce to one address of a UDP tracker.
///
/// Send the packets of [`poll_datagram`](Self::poll_datagram), pass packets that arrive to
/// [`datagram`](Self::datagram), poll again after each and at the [`deadline`](Self::deadline), until
/// there is an [`outcome`](Self::outcome).
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    tracker: SocketAddr,
    /// Transaction ids of the connect and of the announce.
    transactions: [u32; 2],
    /// The tracker's connection id, and the time at which it came.
    connection: Option<(u64, Instant)>,
    /// The number of unanswered requests, of both kinds together.
    tries: u32,
    /// The number of packets with a wrong transaction id from other addresses.
    guesses: u32,
    /// The time to send, or to give up.
    next_at: Instant,
    outcome: Option<Result<Announced, UdpError>>,
}

/// The answer of a tracker, without the peers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Announced {
    /// The time until the next announce.
    pub intervals: Intervals,
    /// The number of peers that are complete.
    pub seeders: u32,
    /// The number of peers that are downloading.
    pub leechers: u32,
}

/// The reason why there is no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum UdpError {
    /// The tracker refused, with this reason.
    Refused(Text),
    /// The tracker did not answer.
    Silent,
    /// The host cannot send datagrams to it.
    Unreachable,
    /// The torrent is not announced any more.
    Cancelled,
}

impl Exchange {
    /// The address family by which the tracker is asked.
    pub(crate) fn family(&self) -> Family {
        Family::of(self.tracker.ip())
    }

    /// An exchange that begins at once. The transaction ids come from `rng`. Strangers must not know its seed.
    pub(crate) fn new(now: Instant, tracker: SocketAddr, rng: &mut Rng) -> Exchange {
        Exchange {
            tracker,
            transactions: [rng.bits32(), rng.bits32()],
            connection: None,
            tries: 0,
            guesses: 0,
            next_at: now,
            outcome: None,
        }
    }

    /// The next packet to send, if one is due: its destination, and its length in `packet`, which has room
    /// for [`REQUEST_MAX`](everseed_core::tracker::udp::REQUEST_MAX) bytes. `url_data` is path and query of
    /// the tracker's URL (BEP 41).
    pub(crate) fn poll_datagram(
        &mut self,
        now: Instant,
        report: &Report,
        url_data: &str,
        packet: &mut [u8],
    ) -> Option<(SocketAddr, usize)> {
        if self.outcome.is_some() || now < self.next_at || self.tries == TRIES {
            return None;
        }
        let fresh = |&(_, at): &(u64, Instant)| now - at < CONNECTION_LIFETIME;
        self.connection = self.connection.filter(fresh);
        let [connect, announce] = self.transactions;
        let len = match self.connection {
            None => Request::Connect.encode(connect, packet),
            Some((connection, _)) => Request::Announce {
                connection,
                report,
                url_data,
            }
            .encode(announce, packet),
        }?;
        // BEP 15: 15 * 2^n seconds.
        self.next_at = now + PATIENCE * (1 << self.tries);
        self.tries += 1;
        Some((self.tracker, len))
    }

    /// Gives up a tracker that was silent for long enough.
    pub(crate) fn tick(&mut self, now: Instant) {
        if self.outcome.is_none() && self.tries == TRIES && now >= self.next_at {
            self.outcome = Some(Err(UdpError::Silent));
        }
    }

    /// Ends the exchange, because the tracker cannot be reached.
    pub(crate) fn fail(&mut self) {
        self.outcome.get_or_insert(Err(UdpError::Unreachable));
    }

    /// Takes a packet. Returns whether it was meant for this exchange. Peers of the answer are passed to
    /// `on_peer`.
    pub(crate) fn datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        packet: &[u8],
        on_peer: &mut dyn FnMut(SocketAddr),
    ) -> bool {
        if self.outcome.is_some() || self.tries == 0 {
            return false;
        }
        let elsewhere = !self.is_tracker(from);
        let family = Family::of(self.tracker.ip());
        if elsewhere && (Family::of(from.ip()) != family || self.guesses >= GUESSES) {
            return false;
        }
        let Some((transaction, response)) = Response::decode(packet, family) else {
            return false;
        };
        let [connect, announce] = self.transactions;
        let connecting = self.connection.is_none();
        if transaction != if connecting { connect } else { announce } {
            return false;
        }
        match response {
            Response::Connect { connection } if connecting => {
                self.connection = Some((connection, now));
                // The tracker is there, so packets that were lost before do not count any more.
                self.tries -= 1;
                self.next_at = now;
            }
            Response::Announce {
                interval_s,
                leechers,
                seeders,
                peers,
            } if !connecting => {
                peers.for_each(on_peer);
                self.outcome = Some(Ok(Announced {
                    intervals: Intervals::told(Some(interval_s.into()), None),
                    seeders,
                    leechers,
                }));
            }
            Response::Error(reason) => self.outcome = Some(Err(UdpError::Refused(reason))),
            _ => {}
        }
        true
    }

    /// Counts an unexpected answer, if its sender may have guessed.
    pub(crate) fn count_guess(&mut self, from: SocketAddr) {
        let family = Family::of(self.tracker.ip());
        if Family::of(from.ip()) == family && !self.is_tracker(from) {
            self.guesses = self.guesses.saturating_add(1);
        }
    }

    /// The outcome, once there is one.
    pub(crate) fn outcome(&self) -> Option<&Result<Announced, UdpError>> {
        self.outcome.as_ref()
    }

    /// The time to poll again; `None` once there is an outcome.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.outcome.is_none().then_some(self.next_at)
    }

    /// The address that is asked.
    pub(crate) fn tracker(&self) -> SocketAddr {
        self.tracker
    }

    /// Whether an address is the tracker's; a scope or flow label may differ.
    pub(crate) fn is_tracker(&self, from: SocketAddr) -> bool {
        from.ip() == self.tracker.ip() && from.port() == self.tracker.port()
    }
}

/// The number of unanswered requests after which a tracker counts as silent.
pub const TRIES: u32 = 3;

/// How many wrong packets from other addresses are accepted. After that only the tracker's own address
/// is believed. So a stranger guesses with a chance of one in 60 million.
pub const GUESSES: u32 = 64;

/// The wait for the first answer; it doubles each time (BEP 15).
const PATIENCE: Duration = Duration::from_secs(15);

/// How long a connection id is valid (BEP 15).
const CONNECTION_LIFETIME: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use everseed_core::hash::InfoHash;
    use everseed_core::tracker::AnnounceEvent;
    use everseed_core::tracker::udp::REQUEST_MAX;

    extern crate std;
    use std::vec::Vec;

    const REPORT: Report = Report {
        port_v6: 0,
        info_hash: InfoHash([1; 20]),
        peer_id: [2; 20],
        port: 6881,
        uploaded: 0,
        downloaded: 0,
        left: 0,
        key: 5,
        num_want: 50,
        event: AnnounceEvent::Started,
    };

    fn tracker() -> SocketAddr {
        "192.0.2.1:6969".parse().unwrap()
    }

    fn begin(now: Instant) -> Exchange {
        Exchange::new(now, tracker(), &mut Rng::new(1))
    }

    fn send(exchange: &mut Exchange, now: Instant) -> Option<Vec<u8>> {
        let mut packet = [0; REQUEST_MAX];
        exchange.tick(now);
        let (to, len) = exchange.poll_datagram(now, &REPORT, "/announce", &mut packet)?;
        assert_eq!(to, tracker());
        Some(packet[..len].to_vec())
    }

    /// An answer to `request`: its action and transaction, then `rest`.
    fn answer(request: &[u8], rest: &[u8]) -> Vec<u8> {
        [&request[8..16], rest].concat()
    }

    fn hand(exchange: &mut Exchange, now: Instant, packet: &[u8]) -> Vec<SocketAddr> {
        let mut peers = Vec::new();
        exchange.datagram(now, tracker(), packet, &mut |peer| peers.push(peer));
        peers
    }

    const ANSWER: [u8; 18] = [0, 0, 7, 8, 0, 0, 0, 1, 0, 0, 0, 2, 192, 0, 2, 9, 0, 80];

    #[test]
    fn connect_announce_answer() {
        let now = Instant::from_secs(5);
        let mut exchange = begin(now);
        let connect = send(&mut exchange, now).unwrap();
        assert_eq!(connect.len(), 16);
        assert_eq!(send(&mut exchange, now), None);
        hand(&mut exchange, now, &answer(&connect, &[9; 8]));
        let announce = send(&mut exchange, now).unwrap();
        assert_eq!(announce[..8], [9; 8]);
        assert_eq!(announce.len(), 98 + 2 + 9);
        assert_ne!(announce[12..16], connect[12..16]);
        let peers = hand(&mut exchange, now, &answer(&announce, &ANSWER));
        assert_eq!(peers, ["192.0.2.9:80".parse().unwrap()]);
        let announced = exchange.outcome().unwrap().as_ref().unwrap();
        assert_eq!(announced.intervals.interval_s(), 1800);
        assert_eq!((announced.leechers, announced.seeders), (1, 2));
        let later = now + Duration::from_secs(1000);
        assert_eq!(send(&mut exchange, later), None);
        assert_eq!(hand(&mut exchange, later, &answer(&announce, &ANSWER)), []);
    }

    #[test]
    fn a_silent_tracker_is_given_up() {
        let start = Instant::from_secs(5);
        let mut exchange = begin(start);
        let mut sent = Vec::new();
        let mut now = start;
        while exchange.outcome().is_none() {
            if send(&mut exchange, now).is_some() {
                sent.push((now - start).as_secs());
            }
            let Some(next) = exchange.deadline() else {
                break;
            };
            now = next;
        }
        assert_eq!(sent, [0, 15, 45]);
        assert_eq!((now - start).as_secs(), 105);
        assert_eq!(exchange.outcome(), Some(&Err(UdpError::Silent)));
    }

    #[test]
    fn lost_packets_are_sent_again_and_old_ids_renewed() {
        let at = |s| Instant::from_secs(s);
        let mut exchange = begin(at(0));
        let first = send(&mut exchange, at(0)).unwrap();
        let again = send(&mut exchange, at(15)).unwrap();
        assert_eq!(first, again, "a late answer to the first is good too");
        hand(&mut exchange, at(16), &answer(&first, &[9; 8]));
        let announce = send(&mut exchange, at(16)).unwrap();
        assert_eq!(exchange.deadline(), Some(at(46)));
        assert_eq!(send(&mut exchange, at(45)), None);
        assert_eq!(send(&mut exchange, at(46)).unwrap(), announce);
        // Had the host slept, the connection id would be too old.
        let mut exchange = begin(at(0));
        let connect = send(&mut exchange, at(0)).unwrap();
        hand(&mut exchange, at(0), &answer(&connect, &[9; 8]));
        send(&mut exchange, at(0)).unwrap();
        assert_eq!(send(&mut exchange, at(60)).unwrap(), connect);
    }

    #[test]
    fn a_refusal_has_its_reason() {
        let now = Instant::ZERO;
        for connected in [false, true] {
            let mut exchange = begin(now);
            let mut request = send(&mut exchange, now).unwrap();
            if connected {
                hand(&mut exchange, now, &answer(&request, &[9; 8]));
                request = send(&mut exchange, now).unwrap();
            }
            request[8..12].copy_from_slice(&[0, 0, 0, 3]);
            hand(&mut exchange, now, &answer(&request, b"go away"));
            assert!(matches!(
                exchange.outcome(),
                Some(Err(UdpError::Refused(reason))) if reason == "go away"
            ));
        }
    }

    #[test]
    fn a_tracker_of_several_addresses() {
        let now = Instant::ZERO;
        let elsewhere: SocketAddr = "192.0.2.2:6970".parse().unwrap();
        let mut exchange = begin(now);
        let connect = send(&mut exchange, now).unwrap();
        exchange.datagram(now, elsewhere, &answer(&connect, &[9; 8]), &mut |_| {});
        let announce = send(&mut exchange, now).unwrap();
        let mut peers = 0;
        exchange.datagram(now, elsewhere, &answer(&announce, &ANSWER), &mut |_| {
            peers += 1
        });
        assert_eq!(peers, 1);
        assert!(matches!(exchange.outcome(), Some(Ok(_))));
        // A few guesses are accepted. The tracker is still heard afterwards.
        let mut exchange = begin(now);
        let connect = send(&mut exchange, now).unwrap();
        let good = answer(&connect, &[9; 8]);
        let mut wrong = good.clone();
        wrong[7] ^= 1;
        for _ in 0..GUESSES {
            assert!(!exchange.datagram(now, elsewhere, &wrong, &mut |_| {}));
            exchange.count_guess(elsewhere);
        }
        exchange.datagram(now, elsewhere, &good, &mut |_| {});
        assert_eq!(send(&mut exchange, now), None, "the guess is not believed");
        hand(&mut exchange, now, &good);
        assert!(send(&mut exchange, now).is_some());
    }

    #[test]
    fn strangers_and_noise_are_ignored() {
        let now = Instant::ZERO;
        let mut exchange = begin(now);
        let mut rng = Rng::new(3);
        hand(&mut exchange, now, &[0; 16]);
        let connect = send(&mut exchange, now).unwrap();
        let good = answer(&connect, &[9; 8]);
        let mut nobody = |_| panic!("no peer was told");
        exchange.datagram(now, "[::1]:6969".parse().unwrap(), &good, &mut nobody);
        for _ in 0..10_000 {
            let mut packet = good.clone();
            packet[rng.below(8) as usize] ^= 1 << rng.below(8);
            packet.truncate(rng.below(17) as usize);
            if packet[..packet.len().min(8)] != good[..packet.len().min(8)] {
                exchange.datagram(now, tracker(), &packet, &mut nobody);
            }
        }
        // The right id, but another action than the expected one.
        let mut early = answer(&connect, &ANSWER);
        early[3] = 1;
        exchange.datagram(now, tracker(), &early, &mut nobody);
        assert_eq!(exchange.outcome(), None);
        assert_eq!(
            send(&mut exchange, now),
            None,
            "still waiting for a connection"
        );
        hand(&mut exchange, now, &good);
        let announce = send(&mut exchange, now).unwrap();
        hand(&mut exchange, now, &good);
        for cut in 0..20 {
            hand(&mut exchange, now, &answer(&announce, &ANSWER)[..cut]);
        }
        assert_eq!(exchange.outcome(), None);
        assert_eq!(
            hand(&mut exchange, now, &answer(&announce, &ANSWER)).len(),
            1
        );
    }
}
