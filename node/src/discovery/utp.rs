//! uTP (BEP 29) is not supported: its calls are refused.
//!
//! A client that tries uTP first would wait for a time-out, because our UDP socket is open. So it gets a RESET, and
//! calls by TCP at once.

use core::net::SocketAddr;

/// The length of a packet's header in bytes.
const HEADER: usize = 20;
/// The first byte of a call: type 4 (SYN), version 1.
const SYN: u8 = 0x41;
/// The first byte of a refusal: type 3 (RESET), version 1.
const RESET: u8 = 0x31;

/// The refusal that is sent next. A caller who gets none calls again, so a newer call replaces an older one.
#[derive(Default, Debug)]
pub(crate) struct Utp {
    refused: Option<(SocketAddr, [u8; HEADER])>,
}

impl Utp {
    /// Takes a packet. Returns whether it was a call. Only calls are answered, so that
    /// two nodes never answer each other's answers. A refusal is not longer than the call.
    pub(crate) fn datagram(&mut self, from: SocketAddr, packet: &[u8]) -> bool {
        let Some(call) = packet.first_chunk::<HEADER>().filter(|c| c[0] == SYN) else {
            return false;
        };
        let mut refusal = [0; HEADER];
        refusal[0] = RESET;
        // The caller recognizes its call by the connection id and the acknowledged packet number.
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
