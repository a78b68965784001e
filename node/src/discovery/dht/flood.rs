//! The flood filter: askers that send too many queries are ignored for a while.
//!
//! An asker is an address, or a /64 of IPv6 outside of private networks. It may ask [`MOST`] times in [`SPAN`]; one that
//! asks more is ignored for [`SILENCE`]. When all slots are taken, the asker that asked least gives way. So a flood from
//! many addresses is bounded by the budget of answers alone.

use core::time::Duration;

use everseed_core::time::Instant;

use super::endpoint::Endpoint;

/// A lent slot for one asker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    key: u32,
    asked: u32,
    since: Instant,
}

impl Asker {
    /// Nobody.
    pub(crate) const EMPTY: Asker = Asker {
        key: 0,
        asked: 0,
        since: Instant::ZERO,
    };

    fn is_over(&self, now: Instant) -> bool {
        let lasts = if self.asked > MOST { SILENCE } else { SPAN };
        self.asked == 0 || now - self.since >= lasts
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Askers<'m>(&'m mut [Asker]);

impl<'m> Askers<'m> {
    pub(crate) fn new(slots: &'m mut [Asker]) -> Askers<'m> {
        slots.fill(Asker::EMPTY);
        Askers(slots)
    }

    /// Whether a query from `from` is to be heard.
    pub(crate) fn admit(&mut self, now: Instant, from: Endpoint) -> bool {
        let key = from.source_key();
        let slots = &mut self.0;
        let known = slots.iter().position(|s| s.key == key && !s.is_over(now));
        if let Some(known) = known {
            let source = &mut slots[known];
            source.asked += 1;
            if source.asked == MOST + 1 {
                source.since = now;
            }
            return source.asked <= MOST;
        }
        let least = slots
            .iter_mut()
            .min_by_key(|s| (!s.is_over(now), s.asked, s.since));
        if let Some(slot) = least {
            *slot = Asker {
                key,
                asked: 1,
                since: now,
            };
        }
        true
    }
}

/// Queries of one asker that are heard in [`SPAN`].
pub(crate) const MOST: u32 = 50;

/// Queries are counted over this time.
pub(crate) const SPAN: Duration = Duration::from_secs(10);

/// For so long an asker that asked more is ignored.
pub(crate) const SILENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::SocketAddr;

    fn at(last: u8, port: u16) -> Endpoint {
        SocketAddr::from(([192, 0, 2, last], port)).into()
    }

    #[test]
    fn a_flood_is_not_heard_and_others_are() {
        let mut room = [Asker::EMPTY; 4];
        let mut sources = Askers::new(&mut room);
        let start = Instant::from_secs(7);
        let heard = (0..500).filter(|n| sources.admit(start, at(1, 1000 + n)));
        assert_eq!(heard.count(), MOST as usize);
        assert!((2..200).all(|other| sources.admit(start, at(other, 1))));
        let after = |secs| start + Duration::from_secs(secs);
        assert!(!sources.admit(after(59), at(1, 1)));
        assert!(sources.admit(after(60), at(1, 1)));
    }

    #[test]
    fn whoever_asks_now_and_then_is_heard() {
        let mut room = [Asker::EMPTY; 4];
        let mut sources = Askers::new(&mut room);
        for n in 0..1000 {
            assert!(sources.admit(Instant::from_micros(n * 250_000), at(1, 1)));
        }
        assert!(Askers::new(&mut []).admit(Instant::ZERO, at(1, 1)));
    }
}
