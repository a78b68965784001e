//! HTTP requests to a UPnP router, and the bodies of their answers: its description, and actions of three services
//! (WANIPConnection 1 and 2, WANPPPConnection 1, WANIPv6FirewallControl 1).
//!
//! Names are not resolved: a router that is to be believed names itself by its address.

mod answer;
mod call;
mod description;

pub use answer::{Answer, CallError, answer};
pub use call::{Action, REQUEST_MAX, call, describe};
pub use description::{PATH_MAX, Path, SERVICES, Service, ServiceKind, parse_url, services};
