//! uTP (BEP 29), which is not spoken here: its calls are refused.
//!
//! A client that tries uTP first would wait for a time-out, as our UDP socket takes its packets. So it gets a RESET, and
//! calls by TCP at once.

use core::net::SocketAddr;

/// Bytes of a packet's header.
const HEADER: usize = 20;
/// The first byte of a call: type 4 (SYN), version 1.
const SYN: u8 = 0x41;
/// The first byte of a refusal: type 3 (RESET), version 1.
const RESET: u8 = 0x31;

/// The caller who is to be refused next. Who calls before he was told calls again by himself: the newest has the place.
#[derive(Default, Debug)]
pub(crate) struct Utp {
    refused: Option<(SocketAddr, [u8; HEADER])>,
}

impl Utp {
    /// Takes a packet if it is a call, and says whether it was one. Nothing that is not a call is answered, so that
    /// two nodes never answer each other; and a refusal is not longer than what it answers.
    pub(crate) fn datagram(&mut self, from: SocketAddr, packet: &[u8]) -> bool {
        let Some(call) = packet.first_chunk::<HEADER>().filter(|c| c[0] == SYN) else {
            return false;
        };
        let mut refusal = [0; HEADER];
        refusal[0] = RESET;
        // By the connection's id, and by the number of the packet that is acknowledged, the caller knows what is meant.
        refusal[2..4].copy_from_slice(&call[2..4]);
        refusal[18..20].copy_from_slice(&call[16..18]);
        self.refused = Some((from, refusal));
        true
    }

    /// The next packet to send, if it fits.
    pub(crate) fn poll_datagram(&mut self, packet: &mut [u8]) -> Option<(SocketAddr, usize)> {
        let (to, refusal) = self.refused.take()?;
        packet.get_mut(..HEADER)?.copy_from_slice(&refusal);
        Some((to, HEADER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLER: SocketAddr = SocketAddr::new(
        core::net::IpAddr::V4(core::net::Ipv4Addr::new(10, 0, 0, 9)),
        6881,
    );

    #[test]
    fn a_call_is_refused_once_and_nothing_else_is_answered() {
        let mut call = [0; HEADER + 8];
        call[0] = SYN;
        call[2..4].copy_from_slice(&[0x12, 0x34]);
        call[16..18].copy_from_slice(&[0x56, 0x78]);
        let mut utp = Utp::default();
        let mut room = [0; 64];
        for other in [&b"d1:ad"[..], &call[..HEADER - 1], &[RESET; HEADER], &[]] {
            assert!(!utp.datagram(CALLER, other), "{other:?}");
            assert_eq!(utp.poll_datagram(&mut room), None);
        }
        assert!(utp.datagram(CALLER, &call));
        assert_eq!(utp.poll_datagram(&mut room), Some((CALLER, HEADER)));
        let refusal = &room[..HEADER];
        assert_eq!((refusal[0], refusal[1]), (RESET, 0));
        assert_eq!(refusal[2..4], [0x12, 0x34]);
        assert_eq!(refusal[18..20], [0x56, 0x78]);
        assert!(!utp.datagram(CALLER, refusal), "a refusal is no call");
        assert_eq!(utp.poll_datagram(&mut room), None);
    }
}
