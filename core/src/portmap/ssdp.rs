//! SSDP, the protocol to find a UPnP router. A search is sent to a multicast group or to the router only (UPnP Device
//! Architecture 1.1, section 1.3).

use core::fmt::Write as _;
use core::net::SocketAddr;

use crate::text::Bytes;

/// The length of the longest search.
pub const REQUEST_MAX: usize = 256;

/// The UDP port for searches, to the group or to one device.
pub const PORT: u16 = 1900;

/// The kind of device that is searched for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// A router of this version. Routers of version 2 answer searches for version 1 too.
    Gateway(u8),
    /// Any device, because some routers answer only to this.
    Root,
}

/// Writes a search for the devices that receive it at `to`, a group or one router. Answers with its length in bytes, or
/// `None` when `out` has no room.
pub fn search(target: Target, to: SocketAddr, out: &mut [u8]) -> Option<usize> {
    let mut out = Bytes::new(out);
    // Devices spread their answers over `MX` seconds. One second is the shortest.
    write!(
        out,
        "M-SEARCH * HTTP/1.1\r\nHOST: {}\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: ",
        Host(to)
    )
    .ok()?;
    match target {
        Target::Gateway(version) => write!(
            out,
            "urn:schemas-upnp-org:device:InternetGatewayDevice:{version}"
        ),
        Target::Root => out.write_str("upnp:rootdevice"),
    }
    .ok()?;
    out.put(b"\r\n\r\n")?;
    Some(out.len())
}

/// An address in a header: without the number of an interface, which other machines cannot use.
pub(crate) struct Host(pub(crate) SocketAddr);

impl core::fmt::Display for Host {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0 {
            SocketAddr::V4(addr) => write!(f, "{addr}"),
            SocketAddr::V6(addr) => write!(f, "[{}]:{}", addr.ip(), addr.port()),
        }
    }
}

/// The URL of the description that an answer names; `None` if the packet is no answer of a device.
pub fn location(packet: &[u8]) -> Option<&str> {
    let mut lines = packet.split(|&b| b == b'\n').map(<[u8]>::trim_ascii);
    let mut words = lines
        .next()?
        .split(|&b| b == b' ')
        .filter(|w| !w.is_empty());
    let (version, status) = (words.next()?, words.next()?);
    if !version.starts_with(b"HTTP/1.") || status != b"200" {
        return None;
    }
    let mut found = None;
    for line in lines {
        if line.is_empty() {
            break;
        }
        let colon = line.iter().position(|&b| b == b':')?;
        let (name, value) = line.split_at(colon);
        if name.trim_ascii().eq_ignore_ascii_case(b"location") {
            // If there are two that differ, neither is used.
            if found.is_some() {
                return None;
            }
            found = Some(value.get(1..)?.trim_ascii());
        }
    }
    let url = str::from_utf8(found?).ok()?;
    let plain = url.bytes().all(|b| b.is_ascii_graphic());
    (plain && !url.is_empty()).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    extern crate std;
    use std::format;

    #[test]
    fn a_question() {
        let mut out = [0; REQUEST_MAX];
        let to = "239.255.255.250:1900".parse().unwrap();
        let len = search(Target::Gateway(1), to, &mut out).unwrap();
        let expected = "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\n\
                        ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n";
        assert_eq!(str::from_utf8(&out[..len]), Ok(expected));
        let to = SocketAddr::V6(core::net::SocketAddrV6::new(
            "ff02::c".parse().unwrap(),
            PORT,
            0,
            7,
        ));
        let len = search(Target::Root, to, &mut out).unwrap();
        let text = str::from_utf8(&out[..len]).unwrap();
        assert!(text.contains("\r\nHOST: [ff02::c]:1900\r\n"));
        assert!(text.ends_with("\r\nST: upnp:rootdevice\r\n\r\n"));
        assert_eq!(search(Target::Root, to, &mut out[..20]), None);
    }

    #[test]
    fn answers_and_nonsense() {
        let url = "http://192.168.1.1:5000/rootDesc.xml";
        let plain = format!("HTTP/1.1 200 OK\r\nST: x\r\nLOCATION: {url}\r\n\r\n");
        let found = [
            plain.clone(),
            format!("HTTP/1.0 200 OK\nlocation:{url}\nno-end: x"),
            format!("HTTP/1.1  200\r\nLocation :  {url}  \r\nEXT:\r\n\r\nLOCATION: http://x/"),
        ];
        for text in &found {
            assert_eq!(location(text.as_bytes()), Some(url), "{text}");
        }
        for text in [
            "",
            "\r\n\r\n",
            "HTTP/1.1",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nLOCATION:\r\n\r\n",
            "HTTP/1.1 200 OK\r\nLOCATION: http://a/ b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nLOCATION: http://a/\x1b[1m\r\n\r\n",
            "HTTP/1.1 200 OK\r\nLOCATION: http://\u{e9}/\r\n\r\n",
            "HTTP/1.1 200 OK\r\nLOCATION: http://a/\r\nLOCATION: http://b/\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\nLOCATION: http://a/\r\n\r\n",
            "HTTP/2 200 OK\r\nLOCATION: http://a/\r\n\r\n",
            // Announcements of devices, and searches of others.
            "NOTIFY * HTTP/1.1\r\nLOCATION: http://a/\r\n\r\n",
            "M-SEARCH * HTTP/1.1\r\nLOCATION: http://a/\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\nLOCATION: http://a/\r\n\r\n",
        ] {
            assert_eq!(location(text.as_bytes()), None, "{text}");
        }
        // Flipped bits.
        let mut rng = Rng::new(1900);
        for _ in 0..5_000 {
            let mut bytes = plain.clone().into_bytes();
            for _ in 0..1 + rng.below(6) {
                let at = rng.below(bytes.len() as u32) as usize;
                bytes[at] = rng.bits32() as u8;
            }
            let read = location(&bytes);
            assert!(read.is_none_or(|url| url.bytes().all(|b| b.is_ascii_graphic())));
        }
    }
}
