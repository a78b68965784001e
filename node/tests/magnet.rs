//! Torrents of which only the info-hash is known: peers send the metadata, wrong metadata, or nothing.

#![allow(clippy::cast_possible_truncation)]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{PIECES, Setup, World};
use everseed_core::geometry::BLOCK;
use everseed_core::metadata::METADATA_MAX;
use everseed_core::rng::Rng;
use everseed_core::wire::Message;
use everseed_node::{Have, Reason};

/// The length of the metadata in bytes: four blocks, the last one short.
const INFO: u32 = 3 * BLOCK + 777;

fn setup() -> Setup {
    Setup {
        blocks: 12,
        ..Setup::default()
    }
}

fn world() -> World {
    World::magnet(&setup(), INFO)
}

fn minute() -> Duration {
    Duration::from_secs(60)
}

#[test]
fn from_one_peer_and_on_with_the_same_connection() {
    for fast in [true, false] {
        let mut world = world();
        let seed = world.metadata_peer(fast, INFO);
        if fast {
            world.peers[seed].say(&[Message::HaveAll]);
        } else {
            world.peers[seed].say(&[Message::Bitfield { len: 3 }]);
            world.peers[seed].inbox.extend([0xff, 0xff, 0xf0]);
        }
        world.peers[seed].say(&[Message::Unchoke]);
        world.settle();
        let stats = world.node.metadata(world.torrent).unwrap();
        assert_eq!((stats.peers, stats.offers), (1, 1));
        assert_eq!((stats.size, stats.missing), (INFO, 4));
        world.give_info(seed);
        assert!(world.fetched);
        assert_eq!(world.node.blocks_free(), 12);
        let told = |world: &World, message| world.peers[seed].messages.contains(&message);
        assert_eq!(told(&world, Message::HaveNone), fast);
        assert!(!told(&world, Message::Interested));
        assert_eq!(world.node.torrent(world.torrent).unwrap().downloaded, 0);
        world.begin_content(Have::Nothing);
        assert!(told(&world, Message::Interested) && world.peers[seed].requests() > 0);
        let hello = String::from_utf8_lossy(world.peers[seed].extended.last().unwrap());
        assert!(
            hello.contains(&format!("13:metadata_sizei{INFO}e")),
            "{hello}"
        );
        while world.peers[seed].give() {
            world.settle();
        }
        assert!(world.node.is_complete(world.torrent));
    }
}

/// The host prepares the files between the metadata and the download. Seeds are of use meanwhile: none is told that we
/// need nothing, and none is disconnected.
#[test]
fn seeds_stay_until_the_download_begins() {
    let mut world = world();
    let seed = world.metadata_peer(true, INFO);
    world.peers[seed].say(&[Message::HaveAll, Message::Unchoke]);
    world.settle();
    world.give_info(seed);
    world.add_content(Have::Nothing);
    world.settle();
    let other = world.metadata_peer(true, INFO);
    world.peers[other].say(&[Message::HaveAll]);
    world.settle();
    for peer in [seed, other] {
        let handshake = String::from_utf8_lossy(world.peers[peer].extended.last().unwrap());
        assert!(handshake.contains("11:upload_onlyi0e"), "{handshake}");
    }
    assert_eq!(world.closed.len(), 0, "{:?}", world.closed);
    world.download_content();
    while world.peers[seed].give() {
        world.settle();
    }
    assert!(world.node.is_complete(world.torrent));
}

/// The metadata arrives in any order, cut anywhere, with other messages between.
#[test]
fn however_it_comes() {
    for round in 0..200 {
        let mut rng = Rng::new(round);
        let mut world = world();
        let peers = [(); 3].map(|()| world.metadata_peer(true, INFO));
        let info = world.info.clone();
        let mut turns = 0;
        while !world.fetched {
            turns += 1;
            assert!(turns < 500, "round {round}");
            let peer = peers[rng.below(3) as usize];
            let mut asked = Vec::new();
            while let Some(piece) = world.peers[peer].info_request() {
                asked.push(piece);
            }
            if rng.below(2) == 0 {
                asked.reverse();
            }
            let before = std::mem::take(&mut world.peers[peer].inbox);
            for piece in asked {
                match rng.below(6) {
                    0 => world.peers[peer].extended(1, b"d8:msg_typei0e5:piecei0ee"),
                    1 => world.peers[peer].say(&[Message::Have(7), Message::KeepAlive]),
                    _ => {}
                }
                world.peers[peer].send_info(piece, INFO, &info);
            }
            let mut bytes = std::mem::replace(&mut world.peers[peer].inbox, before);
            while !bytes.is_empty() {
                let most = if rng.below(2) == 0 { 40 } else { 20_000 };
                let len = bytes.len().min(1 + rng.below(most) as usize);
                world.peers[peer].inbox.extend(bytes.drain(..len));
                world.settle();
            }
        }
        assert_eq!(world.node.blocks_free(), 12, "round {round}");
        world.begin_content(Have::Nothing);
    }
}

#[test]
fn requests_of_others_are_refused_meanwhile() {
    let mut world = world();
    let peer = world.metadata_peer(true, INFO);
    world.peers[peer].extended(1, b"d8:msg_typei0e5:piecei0ee");
    world.settle();
    let reject = b"d8:msg_typei2e5:piecei0ee".to_vec();
    assert!(world.peers[peer].extended.contains(&reject));
    world.give_info(peer);
    world.begin_content(Have::Nothing);
    world.peers[peer].extended(1, b"d8:msg_typei0e5:piecei3ee");
    world.settle();
    let last = world.peers[peer].extended.last().unwrap();
    assert!(last.starts_with(b"d8:msg_typei1e5:piecei3e"));
}

/// A peer that rejects a request gets the next one after half a minute at the earliest.
#[test]
fn endless_rejects() {
    let mut world = world();
    let peer = world.metadata_peer(true, INFO);
    let mut refused = 0;
    for _ in 0..60 {
        while let Some(piece) = world.peers[peer].info_request() {
            world.peers[peer].refuse_info(piece);
            refused += 1;
            world.settle();
        }
        world.pass(Duration::from_secs(5));
    }
    assert!((10..=24).contains(&refused), "{refused} in five minutes");
    // A peer that sends metadata gets its requests at once.
    let honest = world.metadata_peer(true, INFO);
    world.give_info(honest);
    assert!(world.fetched);
}

#[test]
fn silence() {
    let mut world = world();
    let silent = world.metadata_peer(true, INFO);
    assert!(world.peers[silent].info_request().is_some());
    // Blocks that were requested from a silent peer are requested from other peers too, at once.
    let honest = world.metadata_peer(true, INFO);
    world.give_info(honest);
    assert!(world.fetched);
}

#[test]
fn a_size_that_nobody_else_tells() {
    for lie in [1, BLOCK, INFO - 1, INFO + 1, METADATA_MAX] {
        let mut setup = setup();
        setup.blocks = 512;
        let mut world = World::magnet(&setup, INFO);
        let liar = world.metadata_peer(true, lie);
        assert_eq!(world.node.metadata(world.torrent).unwrap().size, lie);
        let honest = [(); 2].map(|()| world.metadata_peer(true, INFO));
        assert_eq!(
            world.peers[honest[0]].info_request(),
            None,
            "one size at a time"
        );
        // The liar does not answer, so after a while the other size is tried.
        let mut turns = 0;
        while !world.fetched {
            world.pass(Duration::from_secs(5));
            for peer in honest {
                world.give_info(peer);
            }
            turns += 1;
            assert!(turns <= 12, "{lie}");
        }
        assert!(world.peers[liar].open);
    }
}

/// Sizes above the limit are not tried, and the largest one is reported.
#[test]
fn sizes_beyond_the_limit() {
    let mut world = world();
    for (size, told) in [
        (METADATA_MAX + 1, METADATA_MAX + 1),
        (u32::MAX, u32::MAX),
        (0, u32::MAX),
    ] {
        let peer = world.metadata_peer(true, size);
        assert_eq!(world.peers[peer].info_request(), None);
        let stats = world.node.metadata(world.torrent).unwrap();
        assert_eq!((stats.size, stats.too_large), (0, told));
    }
    // A size is not tried either if there is no memory for it; here there is memory for 96 blocks.
    let peer = world.metadata_peer(true, 97 * BLOCK);
    assert_eq!(world.peers[peer].info_request(), None);
    let peer = world.metadata_peer(true, 96 * BLOCK);
    assert!(world.peers[peer].info_request().is_some());
}

/// A peer that sends another size than it named before, or a block of the wrong length, gets no more requests.
#[test]
fn who_contradicts_itself() {
    type Lie = fn(&mut World, usize, u32);
    let lies: [Lie; 6] = [
        |world, peer, piece| {
            let info = world.info.clone();
            world.peers[peer].send_info(piece, INFO + 1, &info);
        },
        |world, peer, piece| {
            let info = world.info[..world.info.len() - 1].to_vec();
            let short = if piece == 3 {
                info
            } else {
                vec![0; 10 + (piece * BLOCK) as usize]
            };
            world.peers[peer].send_info(piece, INFO, &short);
        },
        |world, peer, _| world.peers[peer].extended(1, b"d8:msg_typei1e5:piecei0ee"),
        |world, peer, _| world.peers[peer].extended(1, &[b'd'; 2000]),
        |world, peer, _| world.peers[peer].extended(1, b"d1:x"),
        |world, peer, _| world.peers[peer].extended(1, b"x"),
    ];
    for (n, lie) in lies.into_iter().enumerate() {
        let mut world = world();
        let liar = world.metadata_peer(true, INFO);
        let piece = world.peers[liar].info_request().unwrap();
        lie(&mut world, liar, piece);
        world.settle();
        while world.peers[liar].info_request().is_some() {}
        world.pass(3 * minute());
        assert_eq!(world.peers[liar].info_request(), None, "lie {n}");
        let honest = world.metadata_peer(true, INFO);
        world.give_info(honest);
        assert!(world.fetched, "lie {n}");
    }
}

/// A peer that alone sent a whole wrong copy is banned, though others name the same size.
#[test]
fn wrong_bytes() {
    let mut world = world();
    let liar = world.metadata_peer(true, INFO);
    while let Some(piece) = world.peers[liar].info_request() {
        world.peers[liar].send_info(piece, INFO, &[0; INFO as usize]);
        world.settle();
    }
    assert_eq!(world.node.metadata(world.torrent).unwrap().bad_copies, 1);
    let addr = world.peers[liar].addr;
    assert_eq!(world.closed.get(&addr), Some(&Reason::BadPieces));
    assert_eq!(world.connect_from(addr), None);
    let honest = world.metadata_peer(true, INFO);
    world.give_info(honest);
    assert!(world.fetched);
}

/// If several peers sent a wrong copy, no one of them can be blamed. The next copies come from one peer alone.
#[test]
fn wrong_bytes_among_right_ones() {
    for liars_first in [true, false] {
        let mut world = world();
        let (a, b) = (
            world.metadata_peer(true, INFO),
            world.metadata_peer(true, INFO),
        );
        let (liar, honest) = if liars_first { (a, b) } else { (b, a) };
        let (info, wrong) = (world.info.clone(), vec![0; INFO as usize]);
        let mut turns = 0;
        while !world.fetched {
            for (peer, info) in [(liar, &wrong), (honest, &info)] {
                if let Some(piece) = world.peers[peer]
                    .info_request()
                    .filter(|_| world.peers[peer].open)
                {
                    world.peers[peer].send_info(piece, INFO, info);
                }
                world.settle();
            }
            turns += 1;
            assert!(turns < 100);
        }
        assert!(world.peers[honest].open, "nobody is blamed for another");
        world.begin_content(Have::Nothing);
        assert!(world.node.metadata(world.torrent).is_none());
    }
}

/// A size that only liars name costs at most one wrong copy for each of their addresses.
#[test]
fn many_liars_of_one_size() {
    let mut world = world();
    let wrong = vec![1; BLOCK as usize * 4];
    let liars = [(); 8].map(|()| world.metadata_peer(true, 4 * BLOCK));
    let honest = world.metadata_peer(true, INFO);
    let mut turns = 0;
    while !world.fetched {
        for liar in liars
            .into_iter()
            .filter(|&l| world.peers[l].open)
            .collect::<Vec<_>>()
        {
            while let Some(piece) = world.peers[liar].info_request() {
                world.peers[liar].send_info(piece, 4 * BLOCK, &wrong);
                world.settle();
            }
        }
        world.give_info(honest);
        turns += 1;
        assert!(turns < 20);
    }
    assert!(world.peers[honest].open);
}

/// Messages about pieces that arrive before the metadata count later.
#[test]
fn pieces_told_before_they_could_be_counted() {
    let mut world = world();
    let some = world.metadata_peer(true, INFO);
    world.peers[some].say(&[Message::Bitfield { len: 3 }]);
    world.peers[some].inbox.extend([0x80, 0, 0x0f]);
    world.peers[some].say(&[
        Message::Have(9),
        Message::AllowedFast(3),
        Message::AllowedFast(900),
    ]);
    let wrong = world.metadata_peer(true, 0);
    world.peers[wrong].say(&[Message::Bitfield { len: 4 }]);
    world.peers[wrong].inbox.extend([0; 4]);
    let long = world.metadata_peer(true, 0);
    world.peers[long].say(&[Message::Bitfield { len: 100_000 }]);
    world.peers[long].inbox.extend(vec![0; 100_000]);
    let later = world.metadata_peer(true, 0);
    world.peers[later].say(&[Message::HaveNone, Message::Have(2)]);
    let none = world.metadata_peer(true, 0);
    world.peers[none].say(&[Message::HaveNone, Message::Suggest(5)]);
    let half = world.metadata_peer(true, 0);
    world.peers[half].say(&[Message::Bitfield { len: 3 }]);
    world.peers[half].inbox.extend([0; 2]);
    world.settle();
    assert_eq!(world.node.metadata(world.torrent).unwrap().peers, 6);
    world.give_info(some);
    assert!(world.fetched);
    world.begin_content(Have::Nothing);
    let reason = |world: &World, peer: usize| world.closed.get(&world.peers[peer].addr).copied();
    assert_eq!(reason(&world, some), None);
    assert_eq!(reason(&world, none), None);
    assert_eq!(reason(&world, wrong), Some(Reason::BadBitfield));
    for peer in [long, later, half] {
        assert_eq!(reason(&world, peer), Some(Reason::Unkept));
    }
    world.peers[some].say(&[Message::Unchoke]);
    world.settle();
    let asked: Vec<u32> = world.peers[some].asked.iter().map(|b| b.index).collect();
    assert!(
        !asked.is_empty() && asked.iter().all(|piece| [0, 9].contains(piece)),
        "{asked:?}"
    );
    assert!(world.peers[some].messages.contains(&Message::Interested));
    assert!(!world.peers[none].messages.contains(&Message::Interested));
}

/// Peers that got `have none` before the metadata get a `have` for each piece that is found on the disk.
#[test]
fn content_that_is_there_already() {
    let mut world = world();
    let (fast, slow) = (
        world.metadata_peer(true, INFO),
        world.metadata_peer(false, INFO),
    );
    world.give_info(fast);
    world.give_info(slow);
    world.begin_content(Have::Some(&[0xc0, 0, 0]));
    for peer in [fast, slow] {
        for piece in [0, 1] {
            assert!(world.peers[peer].messages.contains(&Message::Have(piece)));
        }
    }
    let mut world = self::world();
    let seed = world.metadata_peer(true, INFO);
    world.peers[seed].say(&[Message::HaveAll]);
    world.settle();
    world.give_info(seed);
    world.begin_content(Have::All);
    assert_eq!(world.node.torrent(world.torrent).unwrap().good, PIECES);
}

/// A torrent that is put to sleep or removed while its metadata arrives gives all blocks back.
#[test]
fn sleep_and_removal_in_the_middle() {
    for removed in [true, false] {
        let mut world = world();
        let peer = world.metadata_peer(true, INFO);
        let piece = world.peers[peer].info_request().unwrap();
        let info = world.info.clone();
        world.peers[peer].send_info(piece, INFO, &info);
        let cut = world.peers[peer].inbox.len() - 100;
        world.peers[peer].inbox.truncate(cut);
        world.settle();
        assert!(world.node.blocks_free() < 12);
        match removed {
            true => world.node.remove(world.now, world.torrent),
            false => world.node.sleep(world.torrent),
        }
        world.settle();
        assert_eq!(world.node.blocks_free(), 12);
        if removed {
            continue;
        }
        world.node.wake_unknown(world.now, world.torrent).unwrap();
        let addr = SocketAddr::from(([10, 0, 9, 9], 50_000));
        assert!(world.connect_from(addr).is_some());
        let peer = world.metadata_peer(true, INFO);
        world.give_info(peer);
        assert!(world.fetched);
    }
}

/// As long as the size is unknown, a tracker gets a `left` above 0.
#[test]
fn what_is_left_is_not_known() {
    let mut world = world();
    world.node.announce(world.now, world.torrent, 0, 1).unwrap();
    world.settle();
    let job = world.announces[0];
    assert!(world.node.report(&job).left > 0);
}
