//! HTTP requests to a UPnP router, and the bodies of their answers: its description, and actions of three services
//! (WANIPConnection 1 and 2, WANPPPConnection 1, WANIPv6FirewallControl 1).
//!
//! Names are not resolved: a router that is to be believed names itself by its address.

mod answer;
mod call;
mod description;

pub use answer::{Answer, CallError, answer};
pub use call::{Action, call, describe};
pub use description::{SERVICES, Service, ServiceKind, parse_url, services};

/// Room that is enough for every request.
pub const REQUEST_MAX: usize = 1536;

/// Bytes of a path that are kept. A service with a longer one is left out.
pub const PATH_MAX: usize = 200;

/// Path and query of a URL.
pub type Path = heapless::String<PATH_MAX>;
