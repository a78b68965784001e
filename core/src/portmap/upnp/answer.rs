//! The answer of a UPnP router to a call.

use core::net::Ipv4Addr;

use crate::portmap::upnp::call::Action;
use crate::portmap::xml::{Tag, Xml, text_of};

/// The answer of a service to a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The service did what it was asked.
    Done,
    /// The address of the router outside.
    Address(Ipv4Addr),
    /// The firewall lets callers in; this is the id by which that is ended.
    Pinhole(u16),
}

/// The reason why a call failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallError {
    /// The error code of UPnP or of the service.
    Code(u16),
    /// The bytes are no answer to the call.
    Malformed,
}

/// Reads the answer to a call from its HTTP status and its body.
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
    use crate::portmap::Transport;
    use crate::portmap::upnp::description::tests::{GATEWAY, service};
    use crate::portmap::upnp::services;
    use crate::rng::Rng;
    use core::net::Ipv6Addr;

    extern crate std;
    use std::format;
    use std::string::{String, ToString as _};

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
            // Some routers send an error with a status of success.
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
