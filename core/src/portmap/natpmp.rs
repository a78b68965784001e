//! Packets of NAT-PMP (RFC 6886), for IPv4.

use core::net::Ipv4Addr;

use super::Transport;
use crate::text::Bytes;

/// The length of the longest request.
pub const REQUEST_MAX: usize = 12;

/// A request to a router.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// Asks for the address of the router outside.
    Address,
    /// Asks the router to forward a port; with a lifetime of 0, to do so no longer.
    Map {
        /// The transport protocol of the port.
        transport: Transport,
        /// Our port.
        internal: u16,
        /// The public port that we want; 0 to stop.
        external: u16,
        /// Seconds for which the port is to be forwarded; 0 ends that.
        lifetime_s: u32,
    },
}

impl Request {
    /// Writes the packet. Returns its length in bytes, or `None` if it does not fit in `out`.
    pub fn encode(&self, out: &mut [u8]) -> Option<usize> {
        let mut out = Bytes::new(out);
        match *self {
            Request::Address => out.put(&[VERSION, ADDRESS])?,
            Request::Map {
                transport,
                internal,
                external,
                lifetime_s,
            } => {
                out.put(&[VERSION, opcode(transport), 0, 0])?;
                out.put(&internal.to_be_bytes())?;
                out.put(&external.to_be_bytes())?;
                out.put(&lifetime_s.to_be_bytes())?;
            }
        }
        Some(out.len())
    }
}

/// The packet of a router.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Response {
    /// Seconds since the router began with an empty table, see [`Epoch`](super::Epoch).
    pub epoch_s: u32,
    /// The answer to the request.
    pub answer: Answer,
}

/// The result of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The address of the router outside.
    Address(Ipv4Addr),
    /// The router forwards the port.
    Mapped {
        /// The transport protocol of the port.
        transport: Transport,
        /// Our port.
        internal: u16,
        /// The public port.
        external: u16,
        /// Seconds for which the port is forwarded.
        lifetime_s: u32,
    },
    /// The router does not do what it was asked.
    Refused(Refusal),
}

/// The reason why a router refuses (RFC 6886, section 3.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The router does not know this version: it speaks only an older or a newer one.
    Version,
    /// The owner of the router does not allow it.
    NotAllowed,
    /// The router has no network outside just now.
    NoNetwork,
    /// The table of the router is full.
    Full,
    /// Another result code.
    Other(u16),
}

impl Response {
    /// Reads a packet; `None` if it is no answer of this version to a request.
    pub fn decode(packet: &[u8]) -> Option<Response> {
        let (&[version, opcode, r1, r0], rest) = packet.split_first_chunk::<4>()?;
        let result = u16::from_be_bytes([r1, r0]);
        let request = opcode.checked_sub(ANSWER)?;
        if version != VERSION || request > MAP_TCP {
            return None;
        }
        let (epoch, rest) = rest.split_first_chunk::<4>()?;
        let refusal = match result {
            0 => None,
            1 => Some(Refusal::Version),
            2 => Some(Refusal::NotAllowed),
            3 => Some(Refusal::NoNetwork),
            4 => Some(Refusal::Full),
            other => Some(Refusal::Other(other)),
        };
        let transport = match request {
            MAP_UDP => Transport::Udp,
            _ => Transport::Tcp,
        };
        let answer = match refusal {
            Some(refusal) => Answer::Refused(refusal),
            None if request == ADDRESS => {
                Answer::Address(Ipv4Addr::from(*rest.first_chunk::<4>()?))
            }
            None => {
                let &[i1, i0, e1, e0, l3, l2, l1, l0] = rest.first_chunk::<8>()?;
                Answer::Mapped {
                    transport,
                    internal: u16::from_be_bytes([i1, i0]),
                    external: u16::from_be_bytes([e1, e0]),
                    lifetime_s: u32::from_be_bytes([l3, l2, l1, l0]),
                }
            }
        };
        Some(Response {
            epoch_s: u32::from_be_bytes(*epoch),
            answer,
        })
    }
}

fn opcode(transport: Transport) -> u8 {
    match transport {
        Transport::Udp => MAP_UDP,
        Transport::Tcp => MAP_TCP,
    }
}

const VERSION: u8 = 0;
const ADDRESS: u8 = 0;
const MAP_UDP: u8 = 1;
const MAP_TCP: u8 = 2;

/// The bit that an answer's opcode has in addition to the request's.
const ANSWER: u8 = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn requests() {
        let map = Request::Map {
            transport: Transport::Tcp,
            internal: 6881,
            external: 6882,
            lifetime_s: 3600,
        };
        let mut out = [0; REQUEST_MAX];
        assert_eq!(map.encode(&mut out), Some(12));
        assert_eq!(out, [0, 2, 0, 0, 0x1a, 0xe1, 0x1a, 0xe2, 0, 0, 0x0e, 0x10]);
        assert_eq!(map.encode(&mut out[..11]), None);
        assert_eq!(Request::Address.encode(&mut out), Some(2));
        assert_eq!(out[..2], [0, 0]);
    }

    #[test]
    fn answers_and_nonsense() {
        let mapped = |transport| Answer::Mapped {
            transport,
            internal: 6881,
            external: 6882,
            lifetime_s: 3600,
        };
        let refused = |refusal| Some(Answer::Refused(refusal));
        let map: &[u8] = &[
            0, 130, 0, 0, 0, 0, 1, 0, 0x1a, 0xe1, 0x1a, 0xe2, 0, 0, 0x0e, 0x10,
        ];
        let table: &[(&[u8], Option<Answer>)] = &[
            (
                &[0, 128, 0, 0, 0, 0, 1, 0, 203, 0, 113, 5],
                Some(Answer::Address(Ipv4Addr::new(203, 0, 113, 5))),
            ),
            (map, Some(mapped(Transport::Tcp))),
            // A later revision may have longer ones.
            (&[map, &[1; 8]].concat(), Some(mapped(Transport::Tcp))),
            (&[0, 128, 0, 1, 0, 0, 1, 0], refused(Refusal::Version)),
            (&[0, 129, 0, 2, 0, 0, 1, 0], refused(Refusal::NotAllowed)),
            (&[0, 130, 0, 3, 0, 0, 1, 0], refused(Refusal::NoNetwork)),
            (&[0, 130, 0, 4, 0, 0, 1, 0], refused(Refusal::Full)),
            (&[0, 130, 1, 4, 0, 0, 1, 0], refused(Refusal::Other(260))),
            // One that is short, of another version, a request, or of an unknown kind.
            (&[], None),
            (&[0], None),
            (&[0, 128, 0], None),
            (&map[..7], None),
            (&map[..15], None),
            (&[0, 128, 0, 0, 0, 0, 1, 0, 203, 0, 113], None),
            (&[2, 130, 0, 0, 0, 0, 1, 0], None),
            (&[0, 2, 0, 0, 0, 0, 1, 0], None),
            (&[0, 131, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0], None),
            (&[0, 255, 0, 0, 0, 0, 1, 0], None),
        ];
        for (packet, expected) in table {
            let read = Response::decode(packet);
            assert_eq!(read.map(|r| r.answer), *expected, "{packet:?}");
            assert!(read.is_none_or(|r| r.epoch_s == 256));
        }
    }

    #[test]
    fn whatever_comes() {
        let mut rng = Rng::new(6886);
        let mut packet = [0; 24];
        for _ in 0..20_000 {
            let len = rng.below(25) as usize;
            rng.fill(&mut packet[..len]);
            if len > 4 && rng.below(3) > 0 {
                packet[..4].copy_from_slice(&[0, 128 + rng.below(4) as u8, 0, rng.below(6) as u8]);
            }
            if let Some(Response {
                answer: Answer::Mapped { .. },
                ..
            }) = Response::decode(&packet[..len])
            {
                assert!(len >= 16);
            }
        }
    }
}
