//! Many peers share a slow uplink, which `--up` limits, or a slow line.

use std::time::Duration;

use everseed_tests::download::{BLOCK, Wish};
use everseed_tests::far::{Far, Way};
use everseed_tests::uplink::{Guest, Pace, Party, Taken, burst, jain};

use crate::args::Row;
use crate::bench::Bench;
use crate::clients::Client;
use crate::figures::{Figure, Share};

/// The number of leechers at the start, and whether `--up` or the line is the limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) title: &'static str,
    leechers: usize,
    pub(crate) by_limit: bool,
}

/// The cases; a [`Figure`] holds an index into them.
pub(crate) const CASES: [Case; 4] = [
    case("--up 2.5M, 8 leechers", 8, true),
    case("--up 2.5M, 40 leechers", 40, true),
    case("20 Mbit/s line, 8 leechers", 8, false),
    case("20 Mbit/s line, 40 leechers", 40, false),
];

const fn case(title: &'static str, leechers: usize, by_limit: bool) -> Case {
    Case {
        title,
        leechers,
        by_limit,
    }
}

/// Measures all cases. Three of four leechers are equals that read all they get. The others read more slowly, each at
/// another speed, and one of them stops reading. A newcomer connects later.
pub(crate) fn uplink(bench: &mut Bench, client: Client) -> Result<(), String> {
    // Other clients are measured only on a line, which TCP shares for them. The floor is a plain TCP sender.
    let ours = client == Client::Everseed;
    if !ours && !matches!(client, Client::Floor | Client::Libtorrent) {
        return Ok(());
    }
    let size = bench.args.size;
    let set = bench.random(size.pick(64, 64, 2) << 20);
    let cases = (0..).zip(CASES).take(size.pick(4, 4, 1));
    let wanted: Vec<_> = cases
        .filter(|(_, case)| bench.args.wants(case.title) && (ours || !case.by_limit))
        .collect();
    let result = wanted.into_iter().try_for_each(|(number, case)| {
        let way = Way::new(Duration::from_millis(40), RATE * 8);
        let far = (!case.by_limit).then(|| {
            let far = Far::new(&bench.net, way);
            far.use_congestion_control(&bench.net, &bench.args.congestion);
            far
        });
        if case.by_limit {
            bench.args.also = vec!["--up".to_owned(), RATE.to_string()];
        }
        let started = bench.start_near(far.as_ref(), client, Row::Uplink, &set.torrents, &set);
        bench.args.also.clear();
        let (started, torrent) = (started?, set.first());
        bench.settle(1);
        let party = Party {
            to: started.running.addr,
            from: far.as_ref().map(Far::ip),
            wish: Wish {
                hash: torrent.hash,
                piece_len: u32::try_from(torrent.piece_len).expect("a small piece"),
                blocks: torrent.len / BLOCK,
                from: 0,
                wanted: 1 << 20,
                depth: 32,
            },
            time: size.pick(END, END, END / 5),
        };
        let guests = guests(case.leechers, party.time / 2);
        let taken = match &far {
            None => party.hold(&guests),
            Some(far) => far.inside(|| party.hold(&guests)),
        };
        note(bench, (number, client), &guests, &taken, party.time);
        Ok(())
    });
    bench.keep(set);
    result
}

fn guests(leechers: usize, newcomer: Duration) -> Vec<Guest> {
    let pace = |number: usize| match number {
        0 => Pace::Stops,
        _ if number < leechers / 4 => Pace::Bps(20_000 * number as u64),
        _ => Pace::Full,
    };
    let paces = (0..leechers).map(|number| (Duration::ZERO, pace(number)));
    let all = paces.chain([(newcomer, Pace::Full)]);
    all.map(|(calls, pace)| Guest { calls, pace }).collect()
}

fn note(
    bench: &mut Bench,
    (number, client): (u8, Client),
    guests: &[Guest],
    taken: &[Taken],
    end: Duration,
) {
    let (last, before) = (taken.last().expect("a newcomer"), &taken[..taken.len() - 1]);
    // Without the burst at the start, after a pause.
    let from = end / 10;
    let full = |(_, guest): &(&Taken, &Guest)| guest.pace == Pace::Full;
    let equals: Vec<_> = before.iter().zip(guests).filter(full).collect();
    let bytes: Vec<_> = equals.iter().map(|(t, _)| t.between(from, end)).collect();
    let all: u64 = taken.iter().map(|t| t.between(from, end)).sum();
    let first = last.first.map_or(end, |first| first) - last.called;
    let rate = all as f64 / (end - from).as_secs_f64() / RATE as f64;
    let mut add = |what, value| bench.add(Figure::Uplink(number, what), client, value);
    add(Share::Fair, jain(&bytes));
    add(Share::Newcomer, first.as_secs_f64());
    add(Share::Used, rate);
    add(Share::Burst, burst(taken, RATE) / RATE as f64);
}

/// Bytes per second.
const RATE: u64 = 2_500_000;

const END: Duration = Duration::from_secs(20);
