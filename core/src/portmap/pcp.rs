//! Packets of the Port Control Protocol (RFC 6887): the opcode MAP, for IPv4 and IPv6.

use core::net::{IpAddr, Ipv6Addr};

use super::Transport;
use crate::text::Bytes;

/// The length of a request without options, in bytes.
pub const REQUEST_LEN: usize = 60;

/// A number of our choice, by which a router knows again who asked for a port. Nobody else may change that mapping.
pub type Nonce = [u8; 12];

/// A request to forward a port; with a lifetime of 0, to stop that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// Seconds for which the port is to be forwarded; 0 ends that.
    pub lifetime_s: u32,
    /// The address from which this is sent. If the router sees another one, there is a NAT in between, and it says so.
    pub client: IpAddr,
    /// The nonce, the same in each request for this port.
    pub nonce: Nonce,
    /// The transport protocol of the port.
    pub transport: Transport,
    /// Our port.
    pub internal: u16,
    /// The public port that we want; 0 for any.
    pub external: u16,
    /// The public address that we want; an unspecified one for any of this family.
    pub outside: IpAddr,
}

impl Request {
    /// Writes the packet. Returns its length in bytes, or `None` if it does not fit in `out`.
    pub fn encode(&self, out: &mut [u8]) -> Option<usize> {
        let mut out = Bytes::new(out);
        out.put(&[VERSION, MAP, 0, 0])?;
        out.put(&self.lifetime_s.to_be_bytes())?;
        out.put(&v6(self.client).octets())?;
        out.put(&self.nonce)?;
        out.put(&[self.transport.number(), 0, 0, 0])?;
        out.put(&self.internal.to_be_bytes())?;
        out.put(&self.external.to_be_bytes())?;
        out.put(&v6(self.outside).octets())?;
        Some(out.len())
    }
}

/// The packet of a router.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Response {
    /// Seconds since the router began with an empty table, see [`Epoch`](super::Epoch).
    pub epoch_s: u32,
    /// The result.
    pub answer: Answer,
}

/// The result of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The router forwards the port; with a lifetime of 0 it does so no longer.
    Mapped {
        /// The nonce of the request.
        nonce: Nonce,
        /// The protocol number of the transport in the request.
        transport: u8,
        /// Our port.
        internal: u16,
        /// The public port.
        external: u16,
        /// The public address.
        outside: IpAddr,
        /// Seconds for which the port is forwarded.
        lifetime_s: u32,
    },
    /// The router does not forward the port.
    Refused {
        /// The reason.
        refusal: Refusal,
        /// Seconds for which the router does not want to be asked again.
        lifetime_s: u32,
        /// The nonce of the request, if it is in the answer.
        nonce: Option<Nonce>,
    },
}

/// The reason why a router refuses (RFC 6887, section 7.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The router does not know this version: it speaks NAT-PMP at most.
    Version,
    /// The owner of the router does not allow it.
    NotAllowed,
    /// The router has no network outside just now.
    NoNetwork,
    /// The table of the router, or our share of it, is full.
    Full,
    /// The port that we insisted on is taken.
    Taken,
    /// The router sees us at another address: there is another NAT between.
    OtherAddress,
    /// Another result code.
    Other(u8),
}

impl Response {
    /// Reads a packet; `None` if it is no answer to such a request. A router that does not support this version may
    /// answer with a packet of another version. Of such a packet only the version is read.
    pub fn decode(packet: &[u8]) -> Option<Response> {
        let (&[version, opcode, reserved, result], rest) = packet.split_first_chunk::<4>()?;
        if version != VERSION {
            return (version == 0).then(|| natpmp(packet)).flatten();
        }
        let (lifetime, rest) = rest.split_first_chunk::<4>()?;
        let (epoch, rest) = rest.split_first_chunk::<4>()?;
        let (_, rest) = rest.split_first_chunk::<12>()?;
        let _ = reserved;
        let lifetime_s = u32::from_be_bytes(*lifetime);
        let epoch_s = u32::from_be_bytes(*epoch);
        let nonce = rest.first_chunk::<12>().copied();
        let refusal = match result {
            0 => None,
            1 => Some(Refusal::Version),
            2 => Some(Refusal::NotAllowed),
            7 => Some(Refusal::NoNetwork),
            8 | 10 => Some(Refusal::Full),
            11 => Some(Refusal::Taken),
            12 => Some(Refusal::OtherAddress),
            other => Some(Refusal::Other(other)),
        };
        if opcode != ANSWER | MAP && refusal != Some(Refusal::Version) {
            return None;
        }
        if let Some(refusal) = refusal {
            let answer = Answer::Refused {
                refusal,
                lifetime_s,
                nonce,
            };
            return Some(Response { epoch_s, answer });
        }
        let (nonce, rest) = rest.split_first_chunk::<12>()?;
        let (&[transport, ..], rest) = rest.split_first_chunk::<4>()?;
        let (internal, rest) = rest.split_first_chunk::<2>()?;
        let (external, rest) = rest.split_first_chunk::<2>()?;
        let outside = Ipv6Addr::from(*rest.first_chunk::<16>()?);
        let answer = Answer::Mapped {
            nonce: *nonce,
            transport,
            internal: u16::from_be_bytes(*internal),
            external: u16::from_be_bytes(*external),
            outside: IpAddr::V6(outside).to_canonical(),
            lifetime_s,
        };
        Some(Response { epoch_s, answer })
    }
}

/// The answer of a router that supports only NAT-PMP (RFC 6886, section 3.5, and RFC 6887, appendix A).
fn natpmp(packet: &[u8]) -> Option<Response> {
    let refused = packet.get(1).is_some_and(|opcode| opcode & ANSWER != 0);
    let result = packet.get(3).copied()?;
    (refused && result != 0).then_some(Response {
        epoch_s: 0,
        answer: Answer::Refused {
            refusal: Refusal::Version,
            lifetime_s: 0,
            nonce: None,
        },
    })
}

/// Writes an address as IPv6. An IPv4 address becomes an IPv4-mapped one (RFC 6887, section 5).
fn v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

const VERSION: u8 = 2;
const MAP: u8 = 1;

/// The bit of an opcode that marks an answer.
const ANSWER: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use core::net::Ipv4Addr;

    extern crate std;
    use std::vec::Vec;

    const NONCE: Nonce = *b"nonce-nonce!";

    fn answer(result: u8) -> Vec<u8> {
        let mut bytes = [2, 0x81, 0, result, 0, 0, 0x0e, 0x10, 0, 0, 1, 0].to_vec();
        bytes.extend([0; 12]);
        bytes.extend(NONCE);
        bytes.extend([6, 0, 0, 0, 0x1a, 0xe1, 0x1a, 0xe2]);
        bytes.extend(Ipv4Addr::new(203, 0, 113, 5).to_ipv6_mapped().octets());
        bytes
    }

    #[test]
    fn fields_stand_where_rfc_6887_wants_them() {
        let request = Request {
            lifetime_s: 3600,
            client: Ipv4Addr::new(192, 168, 1, 2).into(),
            nonce: NONCE,
            transport: Transport::Udp,
            internal: 6881,
            external: 6882,
            outside: Ipv4Addr::UNSPECIFIED.into(),
        };
        let mut out = [0xff; REQUEST_LEN];
        assert_eq!(request.encode(&mut out), Some(REQUEST_LEN));
        let mut expected = [2, 1, 0, 0, 0, 0, 0x0e, 0x10].to_vec();
        expected.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 168, 1, 2]);
        expected.extend(NONCE);
        expected.extend([17, 0, 0, 0, 0x1a, 0xe1, 0x1a, 0xe2]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0]);
        assert_eq!(out[..], expected[..]);
        assert_eq!(request.encode(&mut out[..59]), None);
    }

    #[test]
    fn answers() {
        let mapped = Answer::Mapped {
            nonce: NONCE,
            transport: 6,
            internal: 6881,
            external: 6882,
            outside: Ipv4Addr::new(203, 0, 113, 5).into(),
            lifetime_s: 3600,
        };
        let read = Response::decode(&answer(0)).unwrap();
        assert_eq!((read.answer, read.epoch_s), (mapped, 256));
        for (result, refusal) in [
            (1, Refusal::Version),
            (2, Refusal::NotAllowed),
            (3, Refusal::Other(3)),
            (7, Refusal::NoNetwork),
            (8, Refusal::Full),
            (10, Refusal::Full),
            (11, Refusal::Taken),
            (12, Refusal::OtherAddress),
            (255, Refusal::Other(255)),
        ] {
            let expected = Answer::Refused {
                refusal,
                lifetime_s: 3600,
                nonce: Some(NONCE),
            };
            let read = Response::decode(&answer(result)).unwrap();
            assert_eq!(read.answer, expected, "{result}");
        }
    }

    #[test]
    fn nonsense() {
        let whole = answer(0);
        for short in 0..whole.len() {
            assert_eq!(Response::decode(&whole[..short]), None, "{short}");
        }
        let changed = |at: usize, to: u8| {
            let mut bytes = whole.clone();
            bytes[at] = to;
            Response::decode(&bytes)
        };
        // A request, an answer with another opcode, one of another version.
        assert_eq!(changed(1, 1), None);
        assert_eq!(changed(1, 0x82), None);
        assert_eq!(changed(0, 1), None);
        assert_eq!(changed(0, 0), None);
        // Answers of routers that support only NAT-PMP.
        let version = |bytes: &[u8]| {
            let answer = Response::decode(bytes)?.answer;
            Some(matches!(answer, Answer::Refused { refusal, .. } if refusal == Refusal::Version))
        };
        assert_eq!(version(&[0, 129, 0, 1, 0, 0, 0, 9]), Some(true));
        assert_eq!(version(&[0, 128, 0, 1]), Some(true));
        assert_eq!(version(&[0, 1, 0, 1]), None);
        assert_eq!(version(&[0, 130, 0, 0, 0, 0, 0, 9]), None);
        // A router with a later version has a shorter answer.
        let mut later = whole[..24].to_vec();
        (later[1], later[3]) = (0xff, 1);
        assert_eq!(version(&later), Some(true));
    }

    #[test]
    fn whatever_comes() {
        let mut rng = Rng::new(6887);
        let mut packet = [0; 80];
        for _ in 0..20_000 {
            let len = rng.below(80) as usize;
            rng.fill(&mut packet[..len]);
            if len > 4 && rng.below(3) > 0 {
                packet[..4].copy_from_slice(&[2, 0x81, 0, rng.below(14) as u8]);
            }
            if let Some(Response {
                answer: Answer::Mapped { .. },
                ..
            }) = Response::decode(&packet[..len])
            {
                assert!(len >= REQUEST_LEN);
            }
        }
    }
}
