//! The extended handshake (BEP 10), with `upload_only` (BEP 21).
//!
//! Each side sends one dictionary after the handshake. Ours is an [`OurHandshake`]; it offers `ut_metadata`
//! (BEP 9) and `ut_pex` (BEP 11). A [`PeerHandshake`] keeps what is used here of a peer's. Unknown keys, and values of
//! the wrong type, are skipped: a peer that says one thing badly may be fine otherwise.

use core::fmt::Write as _;

use embedded_io::ErrorType;

use crate::bencode::{Error, Reader, Type};
use crate::metadata::OUR_ID;
use crate::pex;
use crate::text::{Bytes, printable};

/// The extended handshake of a peer.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PeerHandshake {
    /// The peer will never download (BEP 21).
    pub upload_only: bool,
    /// The id by which the peer wants the messages of BEP 9, if at all.
    pub ut_metadata: Option<u8>,
    /// The id by which the peer wants the messages of PEX (BEP 11), if at all.
    pub ut_pex: Option<u8>,
    /// The peer prefers encrypted connections.
    pub encryption: bool,
    /// The length in bytes of the `info` that the peer offers (BEP 9).
    pub metadata_size: Option<u32>,
    /// The most requests that the peer queues.
    pub reqq: Option<u16>,
    /// The TCP port on which the peer can be reached.
    pub port: Option<u16>,
    /// The name and version of its client, fit to be shown; empty if untold.
    pub client: heapless::String<48>,
}

/// The dictionary cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotBencoded;

impl PeerHandshake {
    /// Reads a handshake: the payload after the extended message's id 0.
    pub fn decode(bytes: &[u8]) -> Result<PeerHandshake, NotBencoded> {
        read(bytes).map_err(|_| NotBencoded)
    }
}

/// The part of our handshake about a torrent's `info` (BEP 9).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Metadata {
    /// We neither hand `info` out nor want it.
    Silent,
    /// We want `info`.
    Wanted,
    /// We hand `info` out; its length in bytes.
    Offered(u32),
}

/// Our extended handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OurHandshake<'a> {
    /// The TCP port on which we can be reached; 0 if on none.
    pub port: u16,
    /// Requests of a peer that we queue at a time.
    pub reqq: u16,
    /// We will never download.
    pub upload_only: bool,
    /// The part about `info` (BEP 9).
    pub metadata: Metadata,
    /// Whether we want to be told of peers (BEP 11).
    pub pex: bool,
    /// Our name and version; of a longer one the first [`MAX_CLIENT`] bytes.
    pub client: &'a str,
}

impl OurHandshake<'_> {
    /// Writes the payload; answers with its length in bytes, at most [`OUR_HANDSHAKE_MAX`], or `None` when
    /// `out` has no room.
    pub fn encode(&self, out: &mut [u8]) -> Option<usize> {
        let mut out = Bytes::new(out);
        out.put(b"d1:md")?;
        if self.metadata != Metadata::Silent {
            write!(out, "11:ut_metadatai{OUR_ID}e").ok()?;
        }
        if self.pex {
            write!(out, "6:ut_pexi{}e", pex::OUR_ID).ok()?;
        }
        out.put(b"e")?;
        if let Metadata::Offered(size) = self.metadata {
            write!(out, "13:metadata_sizei{size}e").ok()?;
        }
        if self.port != 0 {
            write!(out, "1:pi{}e", self.port).ok()?;
        }
        let upload_only = u8::from(self.upload_only);
        write!(out, "4:reqqi{}e11:upload_onlyi{upload_only}e", self.reqq).ok()?;
        let client = front(self.client);
        write!(out, "1:v{}:{client}e", client.len()).ok()?;
        Some(out.len())
    }
}

/// Bytes of our name that are told.
pub const MAX_CLIENT: usize = 32;

/// The longest [`OurHandshake`] in bytes.
pub const OUR_HANDSHAKE_MAX: usize = 176;

/// As much of a name as is told, cut between characters.
fn front(client: &str) -> &str {
    let ends = client
        .char_indices()
        .map(|(at, c)| at.saturating_add(c.len_utf8()));
    let end = ends.take_while(|&end| end <= MAX_CLIENT).last();
    client.get(..end.unwrap_or(0)).unwrap_or("")
}

fn read(bytes: &[u8]) -> Result<PeerHandshake, Error<<&[u8] as ErrorType>::Error>> {
    let mut handshake = PeerHandshake::default();
    let mut reader: Reader<_> = Reader::new(bytes);
    // Longer than any key that is known, so that none is taken for the start of another.
    let mut key_room = [0; 16];
    let mut room = [0; 64];
    reader.dict()?;
    while let Some(key) = reader.key(&mut key_room)? {
        match (key, reader.peek()?) {
            (b"upload_only", Type::Integer) => {
                handshake.upload_only = reader.integer_clamped()? != 0
            }
            (b"reqq", Type::Integer) => handshake.reqq = positive(reader.integer_clamped()?),
            (b"m", Type::Dict) => extensions(&mut reader, &mut handshake)?,
            (b"e", Type::Integer) => handshake.encryption = reader.integer_clamped()? > 0,
            (b"metadata_size", Type::Integer) => {
                let told = u32::try_from(reader.integer_clamped()?);
                handshake.metadata_size = told.ok().filter(|&size| size > 0);
            }
            (b"p", Type::Integer) => handshake.port = positive(reader.integer_clamped()?),
            (b"v", Type::String) => handshake.client = printable(reader.string_start(&mut room)?),
            _ => {}
        }
    }
    Ok(handshake)
}

/// The ids in the dictionary of a peer's extensions; 0 takes one back (BEP 10).
fn extensions(
    reader: &mut Reader<&[u8]>,
    handshake: &mut PeerHandshake,
) -> Result<(), Error<<&'static [u8] as ErrorType>::Error>> {
    let mut room = [0; 16];
    reader.dict()?;
    while let Some(name) = reader.key(&mut room)? {
        let id = match (name, reader.peek()?) {
            (b"ut_metadata", Type::Integer) => &mut handshake.ut_metadata,
            (b"ut_pex", Type::Integer) => &mut handshake.ut_pex,
            _ => continue,
        };
        let told = u8::try_from(reader.integer_clamped()?).ok();
        *id = told.filter(|&told| told > 0);
    }
    Ok(())
}

/// A number from 1 on; one that is too big counts as the biggest.
fn positive(told: i64) -> Option<u16> {
    (told > 0).then(|| u16::try_from(told).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    extern crate std;

    const OURS: OurHandshake<'static> = OurHandshake {
        port: 6881,
        reqq: 250,
        upload_only: true,
        metadata: Metadata::Silent,
        pex: false,
        client: "everseed 0.1.0",
    };

    #[test]
    fn both_ways() {
        let table: [(OurHandshake<'_>, &[u8]); 2] = [
            (
                OURS,
                b"d1:mde1:pi6881e4:reqqi250e11:upload_onlyi1e1:v14:everseed 0.1.0e",
            ),
            (
                OurHandshake {
                    port: 0,
                    reqq: 1,
                    upload_only: false,
                    metadata: Metadata::Silent,
                    pex: false,
                    client: "",
                },
                b"d1:mde4:reqqi1e11:upload_onlyi0e1:v0:e",
            ),
        ];
        for (ours, bytes) in table {
            let mut out = [0; OUR_HANDSHAKE_MAX];
            let len = ours.encode(&mut out).unwrap();
            assert_eq!(&out[..len], bytes);
            for short in 0..len {
                assert_eq!(ours.encode(&mut out[..short]), None);
            }
            let back = PeerHandshake::decode(bytes).unwrap();
            assert_eq!(back.port, (ours.port != 0).then_some(ours.port));
            assert_eq!(back.reqq, Some(ours.reqq));
            assert_eq!(back.upload_only, ours.upload_only);
            assert_eq!(back.client.as_str(), ours.client);
        }
    }

    #[test]
    fn metadata_is_offered() {
        let ours = OurHandshake {
            metadata: Metadata::Offered(u32::MAX),
            port: u16::MAX,
            ..OURS
        };
        let mut out = [0; OUR_HANDSHAKE_MAX];
        let len = ours.encode(&mut out).unwrap();
        assert!(out.starts_with(b"d1:md11:ut_metadatai1ee13:metadata_sizei4294967295e1:p"));
        let back = PeerHandshake::decode(&out[..len]).unwrap();
        assert_eq!(
            (back.ut_metadata, back.metadata_size),
            (Some(OUR_ID), Some(u32::MAX))
        );
        let wanted = OurHandshake {
            metadata: Metadata::Wanted,
            ..OURS
        };
        let len = wanted.encode(&mut out).unwrap();
        let back = PeerHandshake::decode(&out[..len]).unwrap();
        assert_eq!((back.ut_metadata, back.metadata_size), (Some(OUR_ID), None));
        for (size, told) in [
            ("i0e", None),
            ("i-1e", None),
            ("i4294967296e", None),
            ("1:x", None),
        ] {
            let text = std::format!("d13:metadata_size{size}1:pi7ee");
            let back = PeerHandshake::decode(text.as_bytes()).unwrap();
            assert_eq!((back.metadata_size, back.port), (told, Some(7)), "{size}");
        }
        for (m, id) in [
            ("i3e", Some(3)),
            ("i0e", None),
            ("i256e", None),
            ("1:x", None),
        ] {
            let text = std::format!("d1:md6:ut_pexi2e11:ut_metadata{m}e1:pi7ee");
            let back = PeerHandshake::decode(text.as_bytes()).unwrap();
            assert_eq!((back.ut_metadata, back.port), (id, Some(7)), "{m}");
        }
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        let name = "\u{20ac}".repeat(50);
        let ours = OurHandshake {
            port: u16::MAX,
            reqq: u16::MAX,
            client: &name,
            ..OURS
        };
        let mut out = [0; OUR_HANDSHAKE_MAX];
        let len = ours.encode(&mut out).unwrap();
        let back = PeerHandshake::decode(&out[..len]).unwrap();
        assert_eq!(back.client.as_str(), "\u{20ac}".repeat(10));
        let name = "x".repeat(50);
        let ours = OurHandshake {
            client: &name,
            ..ours
        };
        let len = ours.encode(&mut out).unwrap();
        assert!(len <= OUR_HANDSHAKE_MAX);
        assert_eq!(PeerHandshake::decode(&out[..len]).unwrap().client.len(), 32);
    }

    #[test]
    fn peers_are_understood_as_far_as_possible() {
        let none = PeerHandshake::default();
        let libtorrent =
            b"d12:complete_agoi1e1:md11:upload_onlyi3e11:ut_metadatai2ee13:metadata_sizei5e\
            4:reqqi2000e11:upload_onlyi1e1:v5:a\x1bb\xff!6:yourip4:\x7f\0\0\x01e";
        let told = PeerHandshake::decode(libtorrent).unwrap();
        assert_eq!(
            (told.upload_only, told.reqq, told.port, told.metadata_size),
            (true, Some(2000), None, Some(5))
        );
        assert_eq!(told.client, "a?b?!");
        let table: [(&[u8], Result<PeerHandshake, NotBencoded>); 8] = [
            (b"de", Ok(none.clone())),
            (
                b"d1:mi1e1:pi0e4:reqqi-4e11:upload_only1:11:vlee",
                Ok(none.clone()),
            ),
            (
                b"d4:reqqi99999999eejunk",
                Ok(PeerHandshake {
                    reqq: Some(u16::MAX),
                    ..none
                }),
            ),
            (b"", Err(NotBencoded)),
            (b"le", Err(NotBencoded)),
            (b"d1:m", Err(NotBencoded)),
            (b"d1:md1:ai1e", Err(NotBencoded)),
            (b"di1ei1ee", Err(NotBencoded)),
        ];
        for (bytes, expected) in table {
            assert_eq!(PeerHandshake::decode(bytes), expected);
        }
    }

    #[test]
    fn damage_never_panics() {
        let good = b"d1:md11:ut_metadatai2ee1:pi6881e4:reqqi250e1:v5:hello6:yourip4:abcde";
        let mut rng = Rng::new(10);
        for _ in 0..30_000 {
            let mut bytes = *good;
            for _ in 0..rng.below(4) {
                bytes[rng.below(good.len() as u32) as usize] = rng.below(256) as u8;
            }
            let len = rng.below(2 * good.len() as u32) as usize;
            let _ = PeerHandshake::decode(&bytes[..len.min(good.len())]);
        }
    }
}
