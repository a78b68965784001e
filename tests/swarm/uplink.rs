//! Peers of different speeds share a slow uplink fairly.

use std::time::Duration;

use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::download::{BLOCK, Wish};
use everseed_tests::net::{Family, Net};
use everseed_tests::seeder::{Seeder, Setup, pieces};
use everseed_tests::uplink::{Guest, Pace, Party, jain};

const RATE: u64 = 2_500_000;

/// When more peers come, each gets a smaller share of the memory. Peers that were served before stay connected.
#[test]
fn nobody_leaves_when_others_come() {
    let net = Net::new();
    let dir = Dir::new("uplink");
    let content = Content::file("shared.bin", 32 << 20, 92);
    let setup = Setup::new(content.path(), net.addr(Family::V4)).args(["--memory", "4M"]);
    let mut seeder = setup.start(&dir);
    let party = party(&seeder, Duration::from_secs(22));
    // They read more slowly than everseed sends, so that each fills its share of the kernel's memory.
    let guest = |seconds| Guest {
        calls: Duration::from_secs(seconds),
        pace: Pace::Bps(150_000),
    };
    let guests = [vec![guest(0); 8], vec![guest(12); 30]].concat();
    let taken = party.hold(&guests);
    for (number, taken) in taken.iter().enumerate() {
        assert!(!taken.hung_up, "{number} was let go");
    }
    seeder.stop();
}

/// Of forty leechers thirty are equals, five are slow and five stop reading. The equals get the same. A newcomer has
/// its first block before the others have got one second's worth of bytes. All together never get more than the limit
/// and a burst of half a second. None of this depends on how busy the machine is.
#[test]
fn forty_leechers_and_a_newcomer() {
    let net = Net::new();
    let dir = Dir::new("uplink");
    let content = Content::file("shared.bin", 32 << 20, 91);
    let setup = Setup::new(content.path(), net.addr(Family::V4)).up_bps(Some(RATE));
    let mut seeder = setup.start(&dir);
    let party = party(&seeder, Duration::from_secs(15));
    let pace = |number: u64| match number {
        0..5 => Pace::Stops,
        5..10 => Pace::Bps(10_000 * number),
        _ => Pace::Full,
    };
    let mut guests: Vec<_> = (0..40)
        .map(|number| Guest {
            calls: Duration::ZERO,
            pace: pace(number),
        })
        .collect();
    let newcomer = Guest {
        calls: party.time / 2,
        pace: Pace::Full,
    };
    guests.push(newcomer);
    let taken = party.hold(&guests);
    let equals: Vec<_> = taken[10..40]
        .iter()
        .map(|taken| taken.between(party.time / 5, party.time))
        .collect();
    let fair = jain(&equals);
    let all = |from, to| taken.iter().map(|taken| taken.between(from, to)).sum();
    let new = &taken[40];
    let first = new.first.expect("a newcomer's first block");
    let meanwhile: u64 = all(new.called, first);
    println!("Jain {fair:.4}; {meanwhile} bytes to all while a newcomer waited");
    assert!(fair >= 0.95, "{fair}: {equals:?}");
    assert!(meanwhile < RATE, "{meanwhile} bytes");
    for tenth in 1..=10_u32 {
        let end = party.time * tenth / 10;
        let (came, allowed): (u64, _) = (all(Duration::ZERO, end), end.as_secs_f64() + 0.5);
        let allowed = allowed * RATE as f64;
        assert!(came as f64 <= allowed, "{came} bytes in {end:?}");
    }
    seeder.stop();
}

fn party(seeder: &Seeder, time: Duration) -> Party {
    let torrent_pieces = pieces(&seeder.torrent()) as u64;
    Party {
        to: seeder.addr(),
        from: None,
        wish: Wish {
            hash: seeder.info_hash(),
            piece_len: u32::try_from((32 << 20) / torrent_pieces).unwrap(),
            blocks: (32 << 20) / BLOCK,
            from: 0,
            wanted: 1 << 20,
            depth: 32,
        },
        time,
    }
}
