//! HTTP requests to a UPnP router and the bodies of its answers: its description, and the actions of three services
//! (WANIPConnection 1 and 2, WANPPPConnection 1, WANIPv6FirewallControl 1).
//!
//! Names are not resolved: URLs of a router have to have its IP address.

mod answer;
mod call;
mod description;

pub use answer::{Answer, CallError, answer};
pub use call::{Action, REQUEST_MAX, call, describe};
pub use description::{PATH_MAX, Path, SERVICES, Service, ServiceKind, parse_url, services};
