//! Answers of routers: PCP (RFC 6887), NAT-PMP (RFC 6886), SSDP, and UPnP's descriptions and answers. Nothing panics,
//! and accepted values are within their limits.
#![no_main]

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use everseed_core::portmap::{Transport, natpmp, pcp, ssdp, upnp};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(response) = pcp::Response::decode(bytes)
        && matches!(response.answer, pcp::Answer::Mapped { .. })
    {
        assert!(bytes.len() >= pcp::REQUEST_LEN);
    }
    if let Some(response) = natpmp::Response::decode(bytes)
        && matches!(response.answer, natpmp::Answer::Mapped { .. })
    {
        assert!(bytes.len() >= 16);
    }
    if let Some(url) = ssdp::location(bytes)
        && let Some((_, port, path)) = upnp::parse_url(url)
    {
        assert!(port > 0 && path.bytes().all(|b| b.is_ascii_graphic()));
    }
    let ip = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 1));
    let mut room = [0; upnp::REQUEST_MAX];
    for service in upnp::services(bytes, ip) {
        let path = service.path.as_bytes();
        assert!(path.starts_with(b"/") && path.iter().all(u8::is_ascii_graphic));
        let action = upnp::Action::ExternalAddress;
        assert!(upnp::call((ip, 80).into(), &service, &action, &mut room).is_some());
    }
    for action in [
        upnp::Action::ExternalAddress,
        upnp::Action::DeletePinhole { id: 1 },
        upnp::Action::AddPinhole {
            transport: Transport::Tcp,
            client: Ipv6Addr::LOCALHOST,
            internal: 1,
            lease_s: 1,
        },
    ] {
        let _ = upnp::answer(&action, 200, bytes);
    }
});
