//! Writes calls to the services of a UPnP router (SOAP over HTTP), and the request for its description.

use core::fmt::{self, Write as _};
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::portmap::Transport;
use crate::portmap::ssdp::Host;
use crate::portmap::upnp::description::Service;
use crate::text::Bytes;

/// The length of the longest request.
pub const REQUEST_MAX: usize = 1536;

/// A call of a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Asks for the address of the router outside.
    ExternalAddress,
    /// Asks the router to forward a port.
    AddMapping {
        /// The transport protocol of the port.
        transport: Transport,
        /// The public port.
        external: u16,
        /// Our address in the network of the router.
        client: Ipv4Addr,
        /// Our port.
        internal: u16,
        /// Seconds for which the port is forwarded; 0 is for ever.
        lease_s: u32,
    },
    /// Asks the router to forward a port no longer.
    DeleteMapping {
        /// The transport protocol of the port.
        transport: Transport,
        /// The public port.
        external: u16,
    },
    /// Asks the firewall to let callers in.
    AddPinhole {
        /// The transport protocol of the port.
        transport: Transport,
        /// Our address.
        client: Ipv6Addr,
        /// Our port.
        internal: u16,
        /// Seconds for which callers are let in, at least 1.
        lease_s: u32,
    },
    /// Asks the firewall to let callers in no longer.
    DeletePinhole {
        /// The id that the answer to [`AddPinhole`](Action::AddPinhole) gave.
        id: u16,
    },
}

impl Action {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Action::ExternalAddress => "GetExternalIPAddress",
            Action::AddMapping { .. } => "AddPortMapping",
            Action::DeleteMapping { .. } => "DeletePortMapping",
            Action::AddPinhole { .. } => "AddPinhole",
            Action::DeletePinhole { .. } => "DeletePinhole",
        }
    }
}

/// Writes the request for a description. Returns its length in bytes, or `None` if it does not fit in `out`.
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

/// Writes a call to a service. Returns its length in bytes, or `None` if it does not fit in `out`.
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
        // Old routers insist on the order in the service's description.
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

/// Counts the bytes that are written.
struct Length(usize);

impl fmt::Write for Length {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 = self.0.checked_add(text.len()).ok_or(fmt::Error)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::portmap::upnp::{PATH_MAX, Path, ServiceKind};

    extern crate std;
    use std::format;

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
        // There is room for the longest path.
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
}
