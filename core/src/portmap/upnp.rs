//! HTTP requests to a UPnP router, and the bodies of their answers: its description, and actions of three services
//! (WANIPConnection 1 and 2, WANPPPConnection 1, WANIPv6FirewallControl 1).
//!
//! Names are not resolved: a router that is to be believed names itself by its address.

use core::fmt::{self, Write as _};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Transport;
use super::ssdp::Host;
use super::xml::{Tag, Xml, plain, text_of};
use crate::text::Bytes;

/// Room that is enough for every request.
pub const REQUEST_MAX: usize = 1536;

/// Bytes of a path that are kept. A service with a longer one is left out.
pub const PATH_MAX: usize = 200;

/// Services that are kept of a description, the first ones.
pub const SERVICES: usize = 4;

/// Path and query of a URL.
pub type Path = heapless::String<PATH_MAX>;

/// What a router offers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServiceKind {
    /// Forwards ports of IPv4.
    Ip,
    /// The same where it dials its provider.
    Ppp,
    /// Lets callers of IPv6 in.
    Firewall,
}

/// One of the services that are used here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// Which one.
    pub kind: ServiceKind,
    /// Its version, from 1.
    pub version: u8,
    /// Where it is called.
    pub path: Path,
    /// The port there, if it is another one than the description's.
    pub port: Option<u16>,
}

impl Service {
    fn name(&self) -> &'static str {
        match self.kind {
            ServiceKind::Ip => "WANIPConnection",
            ServiceKind::Ppp => "WANPPPConnection",
            ServiceKind::Firewall => "WANIPv6FirewallControl",
        }
    }
}

/// Splits a URL that a router names into IP address, port and path. It has to be HTTP, and to name its host by
/// address. The number of an interface is left out, as it is the router's and not ours.
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

/// Reads a description that came from `ip`. What names another address than that is left out.
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

/// The path of a service, and its port if that is named.
fn control(url: &str, ip: IpAddr) -> Option<(Path, Option<u16>)> {
    let (rest, port) = match url.contains("://") {
        true => {
            let (_, port, path) = parse_url(url).filter(|parsed| parsed.0 == ip)?;
            (path, Some(port))
        }
        false => (url, None),
    };
    // `//host/path` names another one.
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

/// Which service a type names, and of which version.
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

/// What a service is called for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Which address it has outside.
    ExternalAddress,
    /// Forward a port.
    AddMapping {
        /// Of which kind.
        transport: Transport,
        /// The port outside.
        external: u16,
        /// To whom.
        client: Ipv4Addr,
        /// The port there.
        internal: u16,
        /// For how long; 0 is for ever.
        lease_s: u32,
    },
    /// Forward it no longer.
    DeleteMapping {
        /// Of which kind.
        transport: Transport,
        /// The port outside.
        external: u16,
    },
    /// Let callers in.
    AddPinhole {
        /// Of which kind.
        transport: Transport,
        /// To whom.
        client: Ipv6Addr,
        /// The port there.
        internal: u16,
        /// For how long.
        lease_s: u32,
    },
    /// Let them in no longer.
    DeletePinhole {
        /// What the router called it.
        id: u16,
    },
}

impl Action {
    fn name(&self) -> &'static str {
        match self {
            Action::ExternalAddress => "GetExternalIPAddress",
            Action::AddMapping { .. } => "AddPortMapping",
            Action::DeleteMapping { .. } => "DeletePortMapping",
            Action::AddPinhole { .. } => "AddPinhole",
            Action::DeletePinhole { .. } => "DeletePinhole",
        }
    }
}

/// Writes the request for a description; answers with its length in bytes, or `None` when `out` has no room for it.
pub fn describe(host: SocketAddr, path: &str, out: &mut [u8]) -> Option<usize> {
    let mut out = Bytes::new(out);
    let slash = if path.starts_with('/') { "" } else { "/" };
    write!(
        out,
        "GET {slash}{path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        Host(host)
    )
    .ok()?;
    Some(out.len())
}

/// Writes a call of a service; answers with its length in bytes, or `None` when `out` has no room for it.
pub fn call(host: SocketAddr, service: &Service, action: &Action, out: &mut [u8]) -> Option<usize> {
    let mut out = Bytes::new(out);
    let envelope = Envelope { service, action };
    let mut length = Length(0);
    write!(length, "{envelope}").ok()?;
    write!(
        out,
        "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: text/xml; charset=\"utf-8\"\r\n\
         SOAPAction: \"urn:schemas-upnp-org:service:{}:{}#{}\"\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{envelope}",
        service.path,
        Host(host),
        service.name(),
        service.version,
        action.name(),
        length.0,
    )
    .ok()?;
    Some(out.len())
}

/// The body of a call.
struct Envelope<'a> {
    service: &'a Service,
    action: &'a Action,
}

impl fmt::Display for Envelope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, service) = (self.action.name(), self.service);
        write!(
            f,
            "<?xml version=\"1.0\"?>\r\n<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
             s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body>\
             <u:{name} xmlns:u=\"urn:schemas-upnp-org:service:{}:{}\">",
            service.name(),
            service.version
        )?;
        // The order is that of the service's own description, on which old routers insist.
        match *self.action {
            Action::ExternalAddress => {}
            Action::AddMapping {
                transport,
                external,
                client,
                internal,
                lease_s,
            } => write!(
                f,
                "<NewRemoteHost></NewRemoteHost><NewExternalPort>{external}</NewExternalPort>\
                 <NewProtocol>{}</NewProtocol><NewInternalPort>{internal}</NewInternalPort>\
                 <NewInternalClient>{client}</NewInternalClient><NewEnabled>1</NewEnabled>\
                 <NewPortMappingDescription>everseed</NewPortMappingDescription>\
                 <NewLeaseDuration>{lease_s}</NewLeaseDuration>",
                transport.name()
            )?,
            Action::DeleteMapping {
                transport,
                external,
            } => write!(
                f,
                "<NewRemoteHost></NewRemoteHost><NewExternalPort>{external}</NewExternalPort>\
                 <NewProtocol>{}</NewProtocol>",
                transport.name()
            )?,
            Action::AddPinhole {
                transport,
                client,
                internal,
                lease_s,
            } => write!(
                f,
                "<RemoteHost></RemoteHost><RemotePort>0</RemotePort><InternalClient>{client}</InternalClient>\
                 <InternalPort>{internal}</InternalPort><Protocol>{}</Protocol><LeaseTime>{lease_s}</LeaseTime>",
                transport.number()
            )?,
            Action::DeletePinhole { id } => write!(f, "<UniqueID>{id}</UniqueID>")?,
        }
        write!(f, "</u:{name}></s:Body></s:Envelope>\r\n")
    }
}

/// Counts what is written.
struct Length(usize);

impl fmt::Write for Length {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 = self.0.checked_add(text.len()).ok_or(fmt::Error)?;
        Ok(())
    }
}

/// What a service answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It was done.
    Done,
    /// Its address outside.
    Address(Ipv4Addr),
    /// Callers are let in, and this is what the router calls that.
    Pinhole(u16),
}

/// Why a service does not do what it was called for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallError {
    /// With this number, which is that of UPnP or of the service.
    Code(u16),
    /// What came is no answer to the call.
    Malformed,
}

/// Reads the answer to a call: its status in HTTP, and the body.
///
/// # Errors
/// See [`CallError`].
pub fn answer(action: &Action, status: u16, body: &[u8]) -> Result<Answer, CallError> {
    if let Some(code) = text_of(body, b"errorCode").and_then(number) {
        return Err(CallError::Code(code));
    }
    let response = |name: &[u8]| name.strip_suffix(b"Response") == Some(action.name().as_bytes());
    let mut tags = Xml::new(body);
    let answers = tags.any(|tag| matches!(tag, Tag::Begin(name) if response(name)));
    if status != 200 || !answers {
        return Err(CallError::Malformed);
    }
    let answer = match action {
        Action::ExternalAddress => {
            let text = text_of(body, b"NewExternalIPAddress").map(str::from_utf8);
            let ip = text.and_then(|text| text.ok()?.parse().ok());
            ip.map(Answer::Address)
        }
        Action::AddPinhole { .. } => text_of(body, b"UniqueID")
            .and_then(number)
            .map(Answer::Pinhole),
        _ => Some(Answer::Done),
    };
    answer.ok_or(CallError::Malformed)
}

fn number(text: &[u8]) -> Option<u16> {
    let digits = text.iter().all(u8::is_ascii_digit);
    str::from_utf8(text).ok()?.parse().ok().filter(|_| digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    extern crate std;
    use std::string::{String, ToString as _};
    use std::{format, vec::Vec};

    const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 1));

    fn service(name: &str, url: &str) -> String {
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
            // Somebody else's base is none.
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

    #[test]
    fn calls() {
        let service = Service {
            kind: ServiceKind::Ip,
            version: 2,
            path: Path::try_from("/ctl").unwrap(),
            port: None,
        };
        let host = "192.168.1.1:5000".parse().unwrap();
        let mut out = [0; REQUEST_MAX];
        let len = describe(host, "/d?x", &mut out).unwrap();
        let text = str::from_utf8(&out[..len]).unwrap();
        assert!(text.starts_with("GET /d?x HTTP/1.1\r\nHost: 192.168.1.1:5000\r\n"));
        let actions = [
            Action::ExternalAddress,
            Action::AddMapping {
                transport: Transport::Tcp,
                external: 65535,
                client: Ipv4Addr::new(192, 168, 100, 200),
                internal: 65535,
                lease_s: 3600,
            },
            Action::DeleteMapping {
                transport: Transport::Udp,
                external: 6881,
            },
            Action::AddPinhole {
                transport: Transport::Tcp,
                client: Ipv6Addr::from([0xff; 16]),
                internal: 65535,
                lease_s: 86400,
            },
            Action::DeletePinhole { id: 7 },
        ];
        for action in actions {
            let len = call(host, &service, &action, &mut out).unwrap();
            let text = str::from_utf8(&out[..len]).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())));
            let name = action.name();
            let quoted = format!(
                "\r\nSOAPAction: \"urn:schemas-upnp-org:service:WANIPConnection:2#{name}\"\r\n"
            );
            assert!(head.contains(&quoted), "{head}");
            assert!(
                body.contains(&format!("<u:{name} ")) && body.contains(&format!("</u:{name}>"))
            );
            assert_eq!(call(host, &service, &action, &mut out[..len - 1]), None);
        }
        // The longest path has room.
        let service = Service {
            path: Path::try_from("/a".repeat(PATH_MAX / 2).as_str()).unwrap(),
            kind: ServiceKind::Firewall,
            ..service
        };
        let host = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"
            .parse()
            .unwrap();
        for action in actions {
            assert!(call(host, &service, &action, &mut out).is_some());
        }
    }

    #[test]
    fn answers_and_nonsense() {
        let add = Action::AddMapping {
            transport: Transport::Tcp,
            external: 1,
            client: Ipv4Addr::LOCALHOST,
            internal: 1,
            lease_s: 0,
        };
        let pinhole = Action::AddPinhole {
            transport: Transport::Tcp,
            client: Ipv6Addr::LOCALHOST,
            internal: 1,
            lease_s: 0,
        };
        let address = Action::ExternalAddress;
        let reply = |name: &str, inside: &str| {
            format!(
                "<s:Envelope><s:Body><u:{name}Response>{inside}</u:{name}Response></s:Body></s:Envelope>"
            )
        };
        let fault = |code: &str| {
            format!(
                "<s:Fault><detail><UPnPError><errorCode>{code}</errorCode></UPnPError></detail></s:Fault>"
            )
        };
        let outside = |text: &str| {
            reply(
                "GetExternalIPAddress",
                &format!("<NewExternalIPAddress>{text}</NewExternalIPAddress>"),
            )
        };
        let id = |text: &str| reply("AddPinhole", &format!("<UniqueID>{text}</UniqueID>"));
        use CallError::{Code, Malformed};
        for (action, status, body, expected) in [
            (&add, 200, reply("AddPortMapping", ""), Ok(Answer::Done)),
            (
                &address,
                200,
                outside("203.0.113.5"),
                Ok(Answer::Address(Ipv4Addr::new(203, 0, 113, 5))),
            ),
            (&pinhole, 200, id("7"), Ok(Answer::Pinhole(7))),
            (&add, 500, fault("718"), Err(Code(718))),
            (&add, 500, fault("725"), Err(Code(725))),
            // Some say so with a status of success.
            (&add, 200, fault("501"), Err(Code(501))),
            (&add, 500, fault("-1"), Err(Malformed)),
            (&add, 500, fault("+7"), Err(Malformed)),
            (&add, 500, fault("70000"), Err(Malformed)),
            (&add, 500, fault(""), Err(Malformed)),
            (&add, 500, reply("AddPortMapping", ""), Err(Malformed)),
            (&add, 200, reply("DeletePortMapping", ""), Err(Malformed)),
            (&add, 200, String::new(), Err(Malformed)),
            (&add, 200, "<html>log in</html>".to_string(), Err(Malformed)),
            (&address, 200, outside(""), Err(Malformed)),
            (&address, 200, outside("::1"), Err(Malformed)),
            (&address, 200, outside("256.1.1.1"), Err(Malformed)),
            (
                &address,
                200,
                reply("GetExternalIPAddress", ""),
                Err(Malformed),
            ),
            (&pinhole, 200, id("x"), Err(Malformed)),
            (&pinhole, 200, id("65536"), Err(Malformed)),
        ] {
            let read = answer(action, status, body.as_bytes());
            assert_eq!(read, expected, "{status} {body}");
        }
    }

    #[test]
    fn whatever_comes() {
        let mut rng = Rng::new(7);
        let whole = [
            "<?xml version=\"1.0\"?><!-- x --><root><URLBase>http://192.168.1.1:5/</URLBase>",
            &service("WANIPConnection:1", "/ctl/IPConn&amp;x"),
            "</root><errorCode>718</errorCode>",
        ];
        let whole = whole.concat().into_bytes();
        for _ in 0..20_000 {
            let mut bytes = whole.clone();
            for _ in 0..1 + rng.below(8) {
                let at = rng.below(bytes.len() as u32) as usize;
                match rng.below(3) {
                    0 => bytes[at] = rng.bits32() as u8,
                    1 => bytes.truncate(at + 1),
                    _ => bytes[at] = b"<>/:&!-?"[rng.below(8) as usize],
                }
            }
            for service in services(&bytes, GATEWAY) {
                assert!(service.path.starts_with('/'));
                assert!(service.path.bytes().all(|b| b.is_ascii_graphic()));
            }
            let _ = answer(&Action::ExternalAddress, 200, &bytes);
        }
    }
}
