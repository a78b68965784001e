//! The description of a UPnP router: its services and their URLs.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::portmap::xml::{Tag, Xml, plain};

/// The longest path in bytes. A service with a longer one is left out.
pub const PATH_MAX: usize = 200;

/// The path and the query of a URL.
pub type Path = heapless::String<PATH_MAX>;

/// The number of services that are kept: the first ones.
pub const SERVICES: usize = 4;

/// The kind of a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServiceKind {
    /// WANIPConnection: it forwards ports of IPv4.
    Ip,
    /// WANPPPConnection: the same, in a router that dials its provider.
    Ppp,
    /// WANIPv6FirewallControl: it lets callers of IPv6 in.
    Firewall,
}

/// A service of a router.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// The kind of the service.
    pub kind: ServiceKind,
    /// The version of the service, from 1.
    pub version: u8,
    /// The path of the URL at which the service is called.
    pub path: Path,
    /// The port of that URL, if it is another one than that of the description.
    pub port: Option<u16>,
}

impl Service {
    pub(super) fn name(&self) -> &'static str {
        match self.kind {
            ServiceKind::Ip => "WANIPConnection",
            ServiceKind::Ppp => "WANPPPConnection",
            ServiceKind::Firewall => "WANIPv6FirewallControl",
        }
    }
}

/// Splits a URL from a router into IP address, port and path. It has to be HTTP, and its host has to be an IP
/// address. The number of an interface is left out, because it is the router's and not ours.
pub fn parse_url(url: &str) -> Option<(IpAddr, u16, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("http") {
        return None;
    }
    let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(at)?;
    let (ip, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (ip, port) = rest.split_once(']')?;
            let ip = ip.split('%').next()?;
            (ip.parse::<Ipv6Addr>().ok()?.into(), port)
        }
        None => {
            let at = authority.find(':').unwrap_or(authority.len());
            let (ip, port) = authority.split_at_checked(at)?;
            (ip.parse::<Ipv4Addr>().ok()?.into(), port)
        }
    };
    let port = match port.strip_prefix(':') {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok()?,
        None if port.is_empty() => 80,
        _ => return None,
    };
    let path = path.split('#').next().unwrap_or_default();
    (port != 0 && path.bytes().all(|b| b.is_ascii_graphic())).then_some((ip, port, path))
}

/// The services in a description that came from `ip`, at most [`SERVICES`]. A service at another address is left out.
pub fn services(body: &[u8], ip: IpAddr) -> heapless::Vec<Service, SERVICES> {
    let mut services = heapless::Vec::new();
    let mut base_port = None;
    let (mut kind, mut path) = (None, None);
    for tag in Xml::new(body) {
        match tag {
            Tag::Begin(b"service") => (kind, path) = (None, None),
            Tag::End(b"URLBase", text) => {
                let url = plain::<PATH_MAX>(text);
                let parsed = url.as_ref().and_then(|url| parse_url(url));
                base_port = parsed
                    .filter(|parsed| parsed.0 == ip)
                    .map(|(_, port, _)| port);
            }
            Tag::End(b"serviceType", text) => kind = service_type(text),
            Tag::End(b"controlURL", text) => path = plain::<PATH_MAX>(text),
            Tag::End(b"service", _) => {
                let (Some((kind, version)), Some(url)) = (kind.take(), path.take()) else {
                    continue;
                };
                let (path, port) = match control(&url, ip) {
                    Some((path, port)) => (path, port.or(base_port)),
                    None => continue,
                };
                let full = services.push(Service {
                    kind,
                    version,
                    path,
                    port,
                });
                if full.is_err() {
                    break;
                }
            }
            _ => {}
        }
    }
    services
}

/// The path of a service's URL, and its port if the URL has one.
fn control(url: &str, ip: IpAddr) -> Option<(Path, Option<u16>)> {
    let (rest, port) = match url.contains("://") {
        true => {
            let (_, port, path) = parse_url(url).filter(|parsed| parsed.0 == ip)?;
            (path, Some(port))
        }
        false => (url, None),
    };
    // `//host/path` is a URL on another host.
    let rest = rest.strip_prefix('/').unwrap_or(rest);
    let graphic = rest.bytes().all(|b| b.is_ascii_graphic());
    if rest.starts_with('/') || !graphic {
        return None;
    }
    let mut path = Path::new();
    path.push('/').ok()?;
    path.push_str(rest).ok()?;
    Some((path, port))
}

/// The kind and the version of a service, from its type.
fn service_type(text: &[u8]) -> Option<(ServiceKind, u8)> {
    let text = str::from_utf8(text).ok()?;
    let name = text.strip_prefix("urn:schemas-upnp-org:service:")?;
    let (name, version) = name.split_once(':')?;
    let kind = match name {
        "WANIPConnection" => ServiceKind::Ip,
        "WANPPPConnection" => ServiceKind::Ppp,
        "WANIPv6FirewallControl" => ServiceKind::Firewall,
        _ => return None,
    };
    let version = version.parse().ok().filter(|version| *version > 0)?;
    Some((kind, version))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    extern crate std;
    use std::string::{String, ToString as _};
    use std::{format, vec::Vec};

    pub(in super::super) const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 1));

    pub(in super::super) fn service(name: &str, url: &str) -> String {
        format!(
            "<service><serviceType>urn:schemas-upnp-org:service:{name}</serviceType>\
             <serviceId>x</serviceId><controlURL>{url}</controlURL></service>"
        )
    }

    fn described(xml: &str) -> Vec<(ServiceKind, u8, String, Option<u16>)> {
        let services = services(xml.as_bytes(), GATEWAY);
        let plain = services.into_iter();
        plain
            .map(|s| (s.kind, s.version, s.path.to_string(), s.port))
            .collect()
    }

    #[test]
    fn urls() {
        let v4 = |port, path| Some((GATEWAY, port, path));
        let v6 = |port, path| Some((IpAddr::V6("fe80::1".parse().unwrap()), port, path));
        for (url, expected) in [
            (
                "http://192.168.1.1:5000/rootDesc.xml",
                v4(5000, "/rootDesc.xml"),
            ),
            ("HTTP://192.168.1.1/", v4(80, "/")),
            ("http://192.168.1.1", v4(80, "")),
            ("http://192.168.1.1?a#b", v4(80, "?a")),
            ("http://[fe80::1]:5000/a", v6(5000, "/a")),
            ("http://[fe80::1%25eth0]/a", v6(80, "/a")),
            ("http://[fe80::1%2]", v6(80, "")),
            ("http://192.168.1.1:0/", None),
            ("http://192.168.1.1:65536/", None),
            ("http://192.168.1.1:+5/", None),
            ("http://192.168.1.1:/", None),
            ("http://192.168.1/", None),
            ("http://router/", None),
            ("http://me@192.168.1.1/", None),
            ("http://[192.168.1.1]/", None),
            ("http://[fe80::1/", None),
            ("https://192.168.1.1/", None),
            ("http:/192.168.1.1/", None),
            ("/rootDesc.xml", None),
            ("http://192.168.1.1/a b", None),
            ("http://192.168.1.1/\r\nX: y", None),
            ("", None),
        ] {
            assert_eq!(parse_url(url), expected, "{url}");
        }
    }

    #[test]
    fn descriptions_and_nonsense() {
        let ip = service("WANIPConnection:1", "/ctl/IPConn");
        let expected = |path: &str, port| [(ServiceKind::Ip, 1, path.to_string(), port)].to_vec();
        for (xml, path, port) in [
            (ip.clone(), "/ctl/IPConn", None),
            (service("WANIPConnection:1", "ctl"), "/ctl", None),
            (service("WANIPConnection:1", ""), "/", None),
            (
                service("WANIPConnection:1", "/a?b=1&amp;c"),
                "/a?b=1&c",
                None,
            ),
            (
                service("WANIPConnection:1", "http://192.168.1.1:49000/a"),
                "/a",
                Some(49000),
            ),
            (
                format!("<URLBase>http://192.168.1.1:81/</URLBase>{ip}"),
                "/ctl/IPConn",
                Some(81),
            ),
            // A base at another address is ignored.
            (
                format!("<URLBase>http://192.168.1.9:81/</URLBase>{ip}"),
                "/ctl/IPConn",
                None,
            ),
            (
                format!("{}{ip}", service("Layer3Forwarding:1", "/l3")),
                "/ctl/IPConn",
                None,
            ),
        ] {
            assert_eq!(described(&xml), expected(path, port), "{xml}");
        }
        let all = [
            service("WANIPConnection:2", "/a"),
            service("WANPPPConnection:1", "/b"),
            service("WANIPv6FirewallControl:1", "/c"),
        ];
        let kinds = described(&all.concat()).into_iter().map(|s| (s.0, s.1));
        let kinds: Vec<_> = kinds.collect();
        assert_eq!(
            kinds,
            [
                (ServiceKind::Ip, 2),
                (ServiceKind::Ppp, 1),
                (ServiceKind::Firewall, 1)
            ]
        );
        assert_eq!(described(&ip.repeat(100_000 / ip.len())).len(), SERVICES);
        for xml in [
            String::new(),
            "<html><body>404</body></html>".to_string(),
            "<service>".repeat(10_000),
            "<".repeat(10_000),
            format!("<service>{ip}").replace("</serviceType>", ""),
            service("WANIPConnection:0", "/a"),
            service("WANIPConnection:256", "/a"),
            service("WANIPConnection", "/a"),
            service("WANIPConnection:1", "http://192.168.1.9/a"),
            service("WANIPConnection:1", "https://192.168.1.1/a"),
            service("WANIPConnection:1", "//192.168.1.9/a"),
            service("WANIPConnection:1", "/a b"),
            service("WANIPConnection:1", "/a\r\nX-Evil: 1"),
            service("WANIPConnection:1", "/&evil;"),
            service("WANIPConnection:1", &"/a".repeat(200)),
            ip.replace("controlURL", "SCPDURL"),
            ip.replace("</service>", ""),
        ] {
            assert_eq!(described(&xml), [], "{xml:.200}");
        }
    }
}
