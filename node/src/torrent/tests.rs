//! What is known of the pieces of torrents.

use super::*;
use crate::torrent::registry::Registered;

fn geometry(pieces: u64) -> Geometry {
    Geometry::new(pieces * 16, 16).unwrap()
}

fn hash(n: u8) -> InfoHash {
    InfoHash([n; 20])
}

#[test]
fn complete_torrents_cost_no_bits() {
    let (mut entries, mut slots) = ([Registered::EMPTY; 4], [Torrent::EMPTY; 3]);
    let mut torrents = Torrents::new(Registry::new(&mut entries), &mut slots, &mut []);
    let a = torrents.add(hash(1), geometry(100), Have::All).unwrap();
    let b = torrents.add(hash(2), geometry(100), Have::Nothing).unwrap();
    assert_eq!(
        torrents.add(hash(1), geometry(1), Have::All),
        Err(AddError::Duplicate)
    );
    assert_eq!(
        torrents.add(hash(3), geometry(9), Have::Unverified),
        Err(AddError::Bits)
    );
    let piece = geometry(100).piece(7).unwrap();
    assert!(torrents.contains(torrents.get(a).unwrap().good, piece));
    assert!(!torrents.contains(torrents.get(b).unwrap().good, piece));
}

#[test]
fn lazily_verified_until_complete() {
    let mut entries = [Registered::EMPTY; 8];
    let (mut slots, mut bits) = ([Torrent::EMPTY; 1], [0u8; 2]);
    let mut torrents = Torrents::new(Registry::new(&mut entries), &mut slots, &mut bits);
    let g = geometry(10);
    let id = torrents.add(hash(1), g, Have::Unverified).unwrap();
    for piece in g.all_pieces() {
        let t = torrents.get(id).unwrap();
        assert!(torrents.contains(t.have, piece) && !torrents.contains(t.good, piece));
        assert!(torrents.verified(id, piece, true));
    }
    assert_eq!(torrents.get(id).unwrap().good, Bits::All);
}

#[test]
fn a_bad_piece_is_no_longer_had() {
    let mut entries = [Registered::EMPTY; 8];
    let (mut slots, mut bits) = ([Torrent::EMPTY; 1], [0u8; 4]);
    let mut torrents = Torrents::new(Registry::new(&mut entries), &mut slots, &mut bits);
    let g = geometry(10);
    let id = torrents.add(hash(1), g, Have::Unverified).unwrap();
    let piece = g.piece(3).unwrap();
    assert!(torrents.verified(id, piece, false));
    let t = *torrents.get(id).unwrap();
    assert!(!torrents.contains(t.have, piece) && !torrents.contains(t.good, piece));
    assert_eq!(torrents.count(t.have, 10), 9);
    assert!(torrents.verified(id, piece, true));
    assert_eq!(torrents.get(id).unwrap().have, Bits::All);
}

#[test]
fn bits_are_reused_and_never_shared() {
    let mut entries = [Registered::EMPTY; 8];
    let (mut slots, mut bits) = ([Torrent::EMPTY; 4], [0u8; 6]);
    let mut torrents = Torrents::new(Registry::new(&mut entries), &mut slots, &mut bits);
    let some = Have::Some(&[0x80, 0]);
    let ids = [1, 2, 3].map(|n| torrents.add(hash(n), geometry(16), some).unwrap());
    assert_eq!(
        torrents.add(hash(4), geometry(1), Have::Unverified),
        Err(AddError::Bits)
    );
    torrents.remove(ids[1]);
    assert!(torrents.get(ids[1]).is_none());
    let d = torrents
        .add(hash(5), geometry(12), Have::Some(&[0x0f, 0xf0]))
        .unwrap();
    let set = torrents.get(d).unwrap().have;
    assert_eq!(torrents.bytes(set), [0x0f, 0xf0]);
    for id in [ids[0], ids[2]] {
        let set = torrents.get(id).unwrap().have;
        assert_eq!(torrents.bytes(set), [0x80, 0]);
    }
}

#[test]
fn presumed_pieces_are_had_and_not_good() {
    let mut entries = [Registered::EMPTY; 8];
    let (mut slots, mut bits) = ([Torrent::EMPTY; 1], [0u8; 4]);
    let mut torrents = Torrents::new(Registry::new(&mut entries), &mut slots, &mut bits);
    let g = geometry(10);
    // The bits past the tenth piece are nonsense and must not be told to anybody.
    let presumed = Have::Presumed(&[0x81, 0x7f]);
    let id = torrents.add(hash(1), g, presumed).unwrap();
    let t = *torrents.get(id).unwrap();
    assert_eq!(torrents.bytes(t.have), [0x81, 0x40]);
    assert_eq!(
        (torrents.count(t.have, 10), torrents.count(t.good, 10)),
        (3, 0)
    );
    assert!(torrents.verified(id, g.piece(7).unwrap(), true));
    let t = *torrents.get(id).unwrap();
    assert_eq!(
        (torrents.count(t.have, 10), torrents.count(t.good, 10)),
        (3, 1)
    );
}

#[test]
fn a_full_bitfield_is_all() {
    let mut entries = [Registered::EMPTY; 8];
    let (mut slots, mut bits) = ([Torrent::EMPTY; 1], [0u8; 2]);
    let mut torrents = Torrents::new(Registry::new(&mut entries), &mut slots, &mut bits);
    let id = torrents
        .add(hash(1), geometry(9), Have::Some(&[0xff, 0x80]))
        .unwrap();
    assert_eq!(torrents.get(id).unwrap().have, Bits::All);
}
