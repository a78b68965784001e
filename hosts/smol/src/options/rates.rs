//! Rate limits by hour and day, in local time.
//!
//! They follow the system's clock. While that is wrong, as on machines without a battery before they have asked a
//! time server, the hours are wrong too.

use std::time::Duration;

use tz::TimeZone;

use crate::options::args::number;

/// Rate limits for some hours of some days.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rates {
    /// Upload limit in bytes per second; `None`: the general limit.
    pub up: Option<u64>,
    /// Download limit in bytes per second; `None`: the general limit.
    pub down: Option<u64>,
    /// Minutes of a day: begin and end. If the end is earlier than the begin, it is on the next day.
    hours: (u16, u16),
    /// A bit for each day on which the hours begin; Monday is the lowest bit.
    days: u8,
}

impl Default for Rates {
    /// Every hour of every day.
    fn default() -> Rates {
        Rates {
            up: None,
            down: None,
            hours: (0, DAY),
            days: ALL_DAYS,
        }
    }
}

impl Rates {
    /// Parses hours such as `08:00-23:00` or `22:30-06:00`.
    pub(crate) fn set_hours(&mut self, text: &str) -> Option<()> {
        let (from, to) = text.split_once('-')?;
        let (from, to) = (minute(from.trim())?, minute(to.trim())?);
        (from < DAY && to > 0 && from != to).then(|| self.hours = (from, to))
    }

    /// Parses days such as `mon-fri` or `sat, sun`.
    pub(crate) fn set_days(&mut self, text: &str) -> Option<()> {
        let mut days = 0;
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (day(first.trim())?, day(last.trim())?);
            let mut next = first;
            loop {
                days |= 1 << next;
                if next == last {
                    break;
                }
                next = (next + 1) % 7;
            }
        }
        self.days = days;
        Some(())
    }

    fn holds(&self, at: Moment) -> bool {
        let (from, to) = self.hours;
        let on = |day: u8| self.days & 1 << day != 0;
        let (today, yesterday) = (on(at.day), on((at.day + 6) % 7));
        match from < to {
            true => today && (from..to).contains(&at.minute),
            false => today && at.minute >= from || yesterday && at.minute < to,
        }
    }
}

/// The upload and download limits at a moment: those of the first matching `Rates`, or else `usual`.
pub(crate) fn at(
    rates: &[Rates],
    at: Moment,
    usual: (Option<u64>, Option<u64>),
) -> (Option<u64>, Option<u64>) {
    let (up, down) = usual;
    match rates.iter().find(|rates| rates.holds(at)) {
        Some(rates) => (rates.up.or(up), rates.down.or(down)),
        None => usual,
    }
}

/// A minute of a week, in local time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Moment {
    /// The day of the week; Monday is 0.
    day: u8,
    minute: u16,
}

impl Moment {
    /// The local time at `since_1970` (UTC) in a time zone.
    pub(crate) fn new(since_1970: Duration, zone: &TimeZone) -> Moment {
        let s = i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX);
        let offset = zone
            .find_local_time_type(s)
            .map_or(0, |kind| kind.ut_offset());
        let minutes = s.saturating_add(offset.into()).div_euclid(60);
        let days = minutes.div_euclid(DAY.into());
        // 1970 began on a Thursday.
        let day = u8::try_from((days + 3).rem_euclid(7)).unwrap_or(0);
        let minute = u16::try_from(minutes.rem_euclid(DAY.into())).unwrap_or(0);
        Moment { day, minute }
    }
}

/// This machine's time zone: from the variable TZ, or the system's.
pub(crate) fn zone() -> TimeZone {
    let named = match std::env::var("TZ") {
        Ok(zone) if zone.is_empty() => return TimeZone::utc(),
        Ok(zone) => TimeZone::from_posix_tz(&zone),
        // Systems without zone files, such as OpenWrt, keep the zone's rule in a file.
        Err(_) => TimeZone::local().or_else(|error| {
            let rule = std::fs::read_to_string("/etc/TZ").map_err(|_| error)?;
            TimeZone::from_posix_tz(rule.trim())
        }),
    };
    named.unwrap_or_else(|error| {
        log::warn!(
            "this system does not tell its time zone ({error}): the hours of [[rates]] are UTC; set TZ"
        );
        TimeZone::utc()
    })
}

fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let digits = |text: &str| (1..=2).contains(&text.len());
    let (hours, minutes): (u16, u16) = (number(hour, 0, 24)?, number(minute, 0, 59)?);
    let at = hours * 60 + minutes;
    (digits(hour) && minute.len() == 2 && at <= DAY).then_some(at)
}

fn day(text: &str) -> Option<u8> {
    let names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let at = names
        .iter()
        .position(|name| text.eq_ignore_ascii_case(name))?;
    u8::try_from(at).ok()
}

/// Minutes of a day.
const DAY: u16 = 24 * 60;

const ALL_DAYS: u8 = 0x7f;

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(hours: &str, days: &str) -> Option<Rates> {
        let mut rates = Rates::default();
        rates.set_hours(hours)?;
        rates.set_days(days)?;
        Some(rates)
    }

    #[test]
    fn hours_and_days() {
        let at = |day, hour: u16, minute: u16| Moment {
            day,
            minute: hour * 60 + minute,
        };
        let (mon, fri, sat, sun) = (0, 4, 5, 6);
        let office = rates("08:00-17:30", "mon-fri").unwrap();
        let night = rates("22:00-6:00", "fri, Sat").unwrap();
        let weekend = rates("00:00-24:00", "sat-mon").unwrap();
        for (moment, holds) in [
            (at(mon, 7, 59), [false, false, true]),
            (at(mon, 8, 0), [true, false, true]),
            (at(fri, 17, 29), [true, false, false]),
            (at(fri, 17, 30), [false, false, false]),
            (at(fri, 22, 0), [false, true, false]),
            (at(sat, 5, 59), [false, true, true]),
            (at(sat, 6, 0), [false, false, true]),
            (at(sun, 5, 59), [false, true, true]),
            (at(sun, 23, 59), [false, false, true]),
            (at(mon, 0, 0), [false, false, true]),
            (at(fri, 5, 0), [false, false, false]),
        ] {
            let held = [&office, &night, &weekend].map(|rates| rates.holds(moment));
            assert_eq!(held, holds, "{moment:?}");
        }
        for (hours, days) in [
            ("08:00", "mon"),
            ("08:00-08:00", "mon"),
            ("24:00-08:00", "mon"),
            ("08:00-00:00", "mon"),
            ("08:00-24:01", "mon"),
            ("8-9", "mon"),
            ("08:60-09:00", "mon"),
            ("08:0-09:00", "mon"),
            ("+8:00-09:00", "mon"),
            ("008:00-09:00", "mon"),
            ("08:00-09:00", ""),
            ("08:00-09:00", "mo"),
            ("08:00-09:00", "mon-"),
            ("08:00-09:00", "mon,,tue"),
        ] {
            assert_eq!(rates(hours, days), None, "{hours} {days}");
        }
    }

    /// Nothing is remembered of earlier moments: a clock that jumps, or that is put forward or back for the summer, is
    /// followed at the next look.
    #[test]
    fn a_clock_that_jumps_is_followed() {
        let berlin = TimeZone::from_posix_tz("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let table = [
            Rates {
                up: Some(1),
                ..rates("02:30-03:30", "sun").unwrap()
            },
            Rates {
                up: Some(2),
                ..rates("22:00-02:30", "sat").unwrap()
            },
        ];
        let limit = |s| {
            let moment = Moment::new(Duration::from_secs(s), &berlin);
            at(&table, moment, (None, None)).0
        };
        // 01:00 UTC on 29 March and on 25 October of 2026, when the clocks are put forward and back.
        let (spring, autumn) = (1_774_746_000, 1_792_890_000);
        const MINUTE: u64 = 60;
        for (s, expected) in [
            // Until 01:59 the night's; then comes 03:00, for which half an hour of the others is left.
            (spring - 1, Some(2)),
            (spring, Some(1)),
            (spring + 30 * MINUTE - 1, Some(1)),
            (spring + 30 * MINUTE, None),
            // 02:30 comes twice: each hour is as its name says.
            (autumn - 31 * MINUTE, Some(2)),
            (autumn - 30 * MINUTE, Some(1)),
            (autumn - 1, Some(1)),
            (autumn, Some(2)),
            (autumn + 30 * MINUTE, Some(1)),
            (autumn + 90 * MINUTE, None),
            // The clock was never set, is set to the night, and put back.
            (0, None),
            (autumn - 2 * 60 * MINUTE, Some(2)),
            (MINUTE, None),
        ] {
            assert_eq!(limit(s), expected, "{s}");
        }
    }

    #[test]
    fn the_first_that_hold_count() {
        let table = |up, down, hours| Rates {
            up,
            down,
            ..rates(hours, "mon-sun").unwrap()
        };
        let all = [
            table(Some(1), None, "08:00-12:00"),
            table(Some(2), Some(3), "10:00-14:00"),
        ];
        for (hour, limits) in [
            (7, (Some(9), None)),
            (8, (Some(1), None)),
            (11, (Some(1), None)),
            (12, (Some(2), Some(3))),
            (14, (Some(9), None)),
        ] {
            let moment = Moment {
                day: 3,
                minute: hour * 60,
            };
            assert_eq!(at(&all, moment, (Some(9), None)), limits, "{hour}");
        }
    }

    #[test]
    fn local_time() {
        let moment = |s, zone: &str| {
            let zone = TimeZone::from_posix_tz(zone).unwrap();
            let Moment { day, minute } = Moment::new(Duration::from_secs(s), &zone);
            (day, minute / 60, minute % 60)
        };
        let berlin = "CET-1CEST,M3.5.0,M10.5.0/3";
        for (s, zone, local) in [
            (0, "UTC0", (3, 0, 0)),
            (0, "EST5", (2, 19, 0)),
            (59, "<+0530>-5:30", (3, 5, 30)),
            // Summer of 2026 begins at 01:00 UTC on Sunday, 29 March, and ends so on 25 October.
            (1_774_745_999, berlin, (6, 1, 59)),
            (1_774_746_000, berlin, (6, 3, 0)),
            (1_792_889_999, berlin, (6, 2, 59)),
            (1_792_890_000, berlin, (6, 2, 0)),
            // After 2038, and before anybody set the clock.
            (4_102_444_800, berlin, (4, 1, 0)),
            (u64::MAX, "UTC0", (6, 15, 30)),
        ] {
            assert_eq!(moment(s, zone), local, "{s} {zone}");
        }
    }
}
