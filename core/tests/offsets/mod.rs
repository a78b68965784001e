//! Bytes from the network and from files may lie at any address, so each decoder gets the same bytes at several
//! offsets.

use everseed_core::extension;
use everseed_core::geometry::BlockRef;
use everseed_core::hash::{InfoHash, Sha1, Smol};
use everseed_core::metainfo::Metainfo;
use everseed_core::resume::{Record, Verified};
use everseed_core::tracker::{Family, http, udp};
use everseed_core::wire::{Decoder, Features, Handshake, Item, Message};

/// Runs all decoders at sixteen offsets from an aligned address.
pub(crate) fn all() {
    handshakes();
    messages();
    hashes();
    torrents();
    extensions();
    records();
    trackers();
}

/// Calls `look` with the bytes at each offset.
fn at_each(bytes: &[u8], look: &mut dyn FnMut(&[u8])) {
    let mut room = Room([0; 256]);
    for offset in 0..16 {
        let place = &mut room.0[offset..offset + bytes.len()];
        place.copy_from_slice(bytes);
        look(place);
    }
}

#[repr(align(16))]
struct Room([u8; 256]);

fn handshakes() {
    let hello = Handshake {
        features: Features {
            fast: true,
            extended: true,
            dht: false,
        },
        info_hash: InfoHash([7; 20]),
        peer_id: [9; 20],
    };
    at_each(&hello.encode(), &mut |bytes| {
        assert_eq!(Handshake::decode(bytes.try_into().unwrap()), Some(hello));
    });
}

fn messages() {
    let block = BlockRef {
        index: 0x0102_0304,
        begin: 0x0506_0708,
        len: 0x4000,
    };
    for message in [
        Message::Have(0x0102_0304),
        Message::Request(block),
        Message::Port(6881),
    ] {
        at_each(message.encode().bytes(), &mut |mut bytes| {
            let item = Decoder::new().next(&mut bytes);
            assert!(matches!(item, Ok(Some(Item::Message(read))) if read == message));
        });
    }
}

/// Hashes more than a block of SHA-1, in two parts.
fn hashes() {
    at_each(&[b'a'; 200], &mut |bytes| {
        let mut hash = Smol::default();
        let (front, back) = bytes.split_at(67);
        hash.update(front);
        hash.update(back);
        let told = InfoHash::from_hex(b"e61cfffe0d9195a525fc6cf06ca2d77119c24a40");
        assert_eq!(Some(InfoHash(hash.finish())), told);
    });
}

fn torrents() {
    let torrent = b"d8:announce9:udp://t:14:infod6:lengthi70000e4:name1:a12:piece lengthi65536e\
        6:pieces40:aaaaaaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbee";
    at_each(torrent, &mut |bytes| {
        let metainfo = Metainfo::read::<Smol, _>(bytes).unwrap();
        assert_eq!(metainfo.geometry.total(), 70_000);
        assert_eq!(metainfo.geometry.pieces(), 2);
    });
}

fn extensions() {
    at_each(b"d1:md11:ut_metadatai3ee4:reqqi250ee", &mut |bytes| {
        assert!(extension::PeerHandshake::decode(bytes).is_ok());
    });
}

fn records() {
    let record = Record {
        info_hash: InfoHash([5; 20]),
        uploaded: 0x0102_0304_0506_0708,
        fingerprint: u64::MAX,
        verified: Verified::Some(&[0xa5, 0x5a, 0xff]),
    };
    let mut room = [0; 128];
    let len = record.encode(&mut room).unwrap();
    at_each(&room[..len], &mut |bytes| {
        assert_eq!(Record::decode(bytes), Ok(record));
    });
}

fn trackers() {
    let answer =
        b"d8:completei5e8:intervali900e5:peers12:\xc0\0\x02\x01\x1a\xe1\xc0\0\x02\x02\0\x50e";
    at_each(answer, &mut |bytes| {
        let mut ports = 0;
        let read = http::Response::read(bytes, &mut |peer| {
            if let http::Peer::At(addr) = peer {
                ports += u32::from(addr.port());
            }
        });
        assert_eq!((read.unwrap().complete, ports), (Some(5), 6881 + 80));
    });
    let packet =
        b"\0\0\0\x01\x01\x02\x03\x04\0\0\x07\x08\0\0\0\x04\0\0\0\x05\xc0\0\x02\x01\x1a\xe1";
    at_each(packet, &mut |bytes| {
        let Some((
            0x0102_0304,
            udp::Response::Announce {
                interval_s: 1800,
                seeders: 5,
                peers,
                ..
            },
        )) = udp::Response::decode(bytes, Family::V4)
        else {
            panic!("another answer");
        };
        assert!(peers.map(|peer| peer.port()).eq([6881]));
    });
}
