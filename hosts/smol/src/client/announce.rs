//! One announce to one HTTP or HTTPS tracker, over each of its address families. Also the lookup of UDP trackers'
//! addresses; the node itself speaks to those.
//!
//! A tracker learns a peer's address from the packet's source, so a dual-stack peer must announce twice (BEP 7).
//! [`announce`] does both at the same time. One answer is a success: not every tracker has both families, and not
//! every home has IPv6.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use everseed_core::tracker::http::{Peer, Response, ResponseError, write_url};
use everseed_core::tracker::{Family, Intervals, Report, Text};
use everseed_node::discovery::udp_tracker::UdpError;
use everseed_node::discovery::udp_trackers::URL_MAX;
use smol::future::{FutureExt as _, or};

use crate::client::http::{self, Caller, HttpFault, Limits};
use crate::net::scope::Scope;
use crate::net::way::Way;
use crate::secrets::mask;
use crate::url::{Url, UrlError};

/// A tracker's answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// When to announce again.
    pub intervals: Intervals,
    /// Peers, at most [`MAX_PEERS`]. A public tracker cannot name addresses inside this network.
    pub peers: Vec<SocketAddr>,
    /// The number of complete peers, if the tracker says.
    pub seeders: Option<u32>,
    /// The number of downloading peers, if the tracker says.
    pub leechers: Option<u32>,
    /// The tracker id for the next announce; empty if the tracker gave none.
    pub tracker_id: Vec<u8>,
    /// A warning that the tracker wants to be shown.
    pub warning: Option<Text>,
}

/// A failed announce: the tracker and the fault.
#[derive(Debug)]
pub struct AnnounceError {
    /// The host as the URL names it; the whole URL if it names none.
    pub host: String,
    /// The cause.
    pub fault: AnnounceFault,
}

/// Why an announce failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum AnnounceFault {
    /// No HTTP answer came, or the URL cannot be used.
    Http(HttpFault),
    /// The answer's status is neither success nor redirect.
    Status {
        /// The status.
        code: u16,
        /// The time for which the server does not want to be asked.
        retry_in: Option<Duration>,
    },
    /// The answer is not a tracker's.
    Malformed,
    /// The tracker refused.
    Refused {
        /// The tracker's reason, fit to be shown.
        reason: String,
        /// The time for which the tracker does not want to be asked (BEP 31, or its least interval).
        retry_in: Option<Duration>,
    },
    /// The UDP tracker's name has no address of a family that we listen on.
    NoAddress,
    /// A proxy is configured, and the tracker speaks UDP.
    Proxied,
    /// The network sends no datagram to this tracker.
    Unreachable,
    /// No UDP answer came.
    Silent,
}

impl fmt::Display for AnnounceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", mask(&self.host))?;
        match &self.fault {
            AnnounceFault::Http(fault) => write!(f, "{fault}"),
            AnnounceFault::Status { code, .. } => {
                write!(f, "the tracker answered with HTTP {code}")
            }
            AnnounceFault::Malformed => f.write_str("the answer is not a tracker's"),
            AnnounceFault::Refused { reason, .. } if reason.is_empty() => {
                f.write_str("the tracker refuses, and does not say why")
            }
            AnnounceFault::Refused { reason, .. } => {
                write!(f, "the tracker says: {}", mask(reason))
            }
            AnnounceFault::NoAddress => write!(f, "{}", HttpFault::NoAddress),
            AnnounceFault::Proxied => {
                f.write_str("it speaks UDP, and is not asked as long as a proxy is set")
            }
            AnnounceFault::Unreachable => {
                f.write_str("cannot reach the tracker: no datagram gets there")
            }
            AnnounceFault::Silent => f.write_str("the tracker does not answer"),
        }
    }
}

impl std::error::Error for AnnounceError {}

impl AnnounceError {
    /// The time for which the tracker does not want to be asked, if it named one.
    pub fn retry_in(&self) -> Option<Duration> {
        match self.fault {
            AnnounceFault::Refused { retry_in, .. } | AnnounceFault::Status { retry_in, .. } => {
                retry_in
            }
            _ => None,
        }
    }
}

/// Announces `report` to the HTTP tracker at `url`, which `caller` named. `tracker_id` is the id of its last answer,
/// or empty. `way` gives our own address of each family.
///
/// # Errors
/// If no family brings an answer; the error is that of the family that tells more.
pub async fn announce(
    url: &str,
    caller: Caller,
    report: &Report,
    tracker_id: &[u8],
    way: &Way,
    limits: &Limits,
) -> Result<Answer, AnnounceError> {
    let parsed = parse(url)?;
    let failed = |fault| AnnounceError {
        host: parsed.host.to_owned(),
        fault,
    };
    if way.proxy().is_some() {
        // A proxy has one address, and itself calls the tracker over whichever family that has.
        return by_http(url, caller, report, tracker_id, way, limits)
            .await
            .map_err(failed);
    }
    let by = |family| async move {
        if way.is_shut() {
            return Err(AnnounceFault::Http(HttpFault::Shut));
        }
        let way = way.of(family).ok_or(AnnounceFault::NoAddress)?;
        by_http(url, caller, &report.by(family), tracker_id, &way, limits).await
    };
    let mut v4 = pin!(by(Family::V4));
    let mut v6 = pin!(by(Family::V6));
    let first = or(async { (Family::V4, (&mut v4).await) }, async {
        (Family::V6, (&mut v6).await)
    });
    let (family, first) = first.await;
    let other = async {
        match family {
            Family::V4 => v6.await,
            Family::V6 => v4.await,
        }
    };
    let second = match first.is_ok() {
        // A family without a route must not delay the other one's answer.
        true => other.or(too_late()).await,
        false => other.await,
    };
    join(first, second).map_err(failed)
}

/// Parses a tracker's URL.
pub fn parse(url: &str) -> Result<Url<'_>, AnnounceError> {
    Url::parse(url).map_err(|error| AnnounceError {
        host: url.to_owned(),
        fault: AnnounceFault::Http(HttpFault::Url(error)),
    })
}

async fn too_late() -> Result<Answer, AnnounceFault> {
    smol::Timer::after(GRACE).await;
    Err(AnnounceFault::Silent)
}

/// Combines the results of two families into one.
fn join(
    first: Result<Answer, AnnounceFault>,
    second: Result<Answer, AnnounceFault>,
) -> Result<Answer, AnnounceFault> {
    match (first, second) {
        (Ok(mut answer), Ok(other)) => {
            for peer in other.peers {
                if answer.peers.len() < MAX_PEERS && !answer.peers.contains(&peer) {
                    answer.peers.push(peer);
                }
            }
            answer.intervals = answer.intervals.longer(other.intervals);
            answer.warning = answer.warning.or(other.warning);
            Ok(answer)
        }
        (Ok(answer), Err(_)) | (Err(_), Ok(answer)) => Ok(answer),
        (Err(first), Err(second)) => match telling(&second) > telling(&first) {
            true => Err(second),
            false => Err(first),
        },
    }
}

/// A rank of errors: those that are about the tracker rank above those about our own network.
fn telling(fault: &AnnounceFault) -> u8 {
    let unreachable = |error: &io::Error| {
        use io::ErrorKind::{AddrNotAvailable, HostUnreachable, NetworkUnreachable};
        let kind = error.kind();
        matches!(
            kind,
            AddrNotAvailable | HostUnreachable | NetworkUnreachable
        )
    };
    match fault {
        AnnounceFault::NoAddress | AnnounceFault::Http(HttpFault::NoAddress) => 0,
        AnnounceFault::Unreachable => 1,
        AnnounceFault::Http(HttpFault::Connect(error)) if unreachable(error) => 1,
        AnnounceFault::Refused { .. } => 3,
        _ => 2,
    }
}

async fn by_http(
    url: &str,
    caller: Caller,
    report: &Report,
    tracker_id: &[u8],
    way: &Way,
    limits: &Limits,
) -> Result<Answer, AnnounceFault> {
    let mut full = String::with_capacity(url.len() + 256);
    // Writing to a String does not fail.
    let _ = write_url(&mut full, url, report, tracker_id);
    let response = http::get(&full, caller, way, limits)
        .await
        .map_err(|error| AnnounceFault::Http(error.fault))?;
    let mut peers = Vec::new();
    // Only the proxy knows the tracker's address.
    let tracker = response.from.map_or(Scope::Public, Scope::of);
    let mut named: Vec<(String, u16)> = Vec::new();
    let read = Response::read(&response.body[..], &mut |peer| match peer {
        Peer::At(addr) => keep(&mut peers, tracker, addr),
        Peer::Named(name, port) if named.len() < MAX_NAMED => {
            named.push((name.to_owned(), port));
        }
        Peer::Named(..) => {}
    });
    let good = (200..300).contains(&response.status);
    if good && read.is_ok() {
        resolve(named, tracker, &mut peers).await;
    }
    match read {
        Ok(answer) if good => Ok(Answer {
            intervals: answer.intervals,
            peers,
            seeders: answer.complete,
            leechers: answer.incomplete,
            tracker_id: answer.tracker_id.to_vec(),
            warning: answer.warning,
        }),
        // Some trackers send their reason with an HTTP status of failure.
        Err(ResponseError::Refused { reason, retry_in }) => Err(AnnounceFault::Refused {
            reason: reason.as_str().to_owned(),
            retry_in: retry_in.or(response.retry_after),
        }),
        _ if !good => Err(AnnounceFault::Status {
            code: response.status,
            retry_in: response.retry_after,
        }),
        _ => Err(AnnounceFault::Malformed),
    }
}

/// Looks up the addresses of peers that have host names, within one time limit for all.
async fn resolve(named: Vec<(String, u16)>, tracker: Scope, peers: &mut Vec<SocketAddr>) {
    let work = async {
        for (name, port) in named {
            let found = smol::net::resolve((name, port)).await.unwrap_or_default();
            for addr in found.into_iter().take(MAX_ADDRESSES) {
                keep(peers, tracker, addr);
            }
        }
    };
    let slow = async {
        smol::Timer::after(GRACE).await;
    };
    work.or(slow).await;
}

/// Keeps a peer of a tracker's answer, unless the peer is inside this network and the tracker is not.
fn keep(peers: &mut Vec<SocketAddr>, tracker: Scope, peer: SocketAddr) {
    if peers.len() < MAX_PEERS && tracker.may_name(peer.ip()) {
        peers.push(peer);
    }
}

/// Finds the addresses of the UDP tracker at `url`, which `caller` named: one of each family that `way` can reach.
///
/// # Errors
/// If no address of it may be called.
pub async fn find_udp_tracker(
    url: &Url<'_>,
    caller: Caller,
    way: &Way,
    limits: &Limits,
) -> Result<[Option<SocketAddr>; 2], AnnounceError> {
    let found = resolve_udp(url, caller, way, limits).await;
    found.map_err(|fault| AnnounceError {
        host: url.host.to_owned(),
        fault,
    })
}

async fn resolve_udp(
    url: &Url<'_>,
    caller: Caller,
    way: &Way,
    limits: &Limits,
) -> Result<[Option<SocketAddr>; 2], AnnounceFault> {
    if way.proxy().is_some() {
        return Err(AnnounceFault::Proxied);
    }
    if way.is_shut() {
        return Err(AnnounceFault::Http(HttpFault::Shut));
    }
    if url.target.len() > URL_MAX {
        return Err(AnnounceFault::Http(HttpFault::Url(UrlError::Length)));
    }
    let resolve = async { url.resolve().await.map_err(HttpFault::Resolve) };
    let slow = async {
        smol::Timer::after(limits.connect).await;
        Err(HttpFault::Slow)
    };
    let mut all = resolve.or(slow).await.map_err(AnnounceFault::Http)?;
    all.retain(|addr| way.exit(Family::of(addr.ip())).is_some());
    let first = all.first().ok_or(AnnounceFault::NoAddress)?.ip();
    all.retain(|addr| caller.may_ask(url.target, addr.ip()));
    if all.is_empty() {
        return Err(AnnounceFault::Http(HttpFault::Inside(first)));
    }
    let of = |family| {
        let mut all = all.iter().copied();
        all.find(|addr| Family::of(addr.ip()) == family)
    };
    Ok([of(Family::V4), of(Family::V6)])
}

/// The fault behind a failed UDP announce; `None` if it was cancelled.
pub fn udp_fault(error: UdpError) -> Option<AnnounceFault> {
    Some(match error {
        UdpError::Silent => AnnounceFault::Silent,
        UdpError::Unreachable => AnnounceFault::Unreachable,
        UdpError::Refused(reason) => AnnounceFault::Refused {
            reason: reason.as_str().to_owned(),
            retry_in: None,
        },
        UdpError::Cancelled => return None,
    })
}

/// The most peers of one answer that are kept.
pub const MAX_PEERS: usize = 200;

/// The most peers of one answer whose names are looked up, and the most addresses that are kept of each.
const MAX_NAMED: usize = 8;
const MAX_ADDRESSES: usize = 2;

/// The wait for the second family after the first has answered, and the wait for peers' names.
const GRACE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(interval: i64, peers: &[&str]) -> Answer {
        Answer {
            intervals: Intervals::told(Some(interval), None),
            peers: peers.iter().map(|peer| peer.parse().unwrap()).collect(),
            seeders: None,
            leechers: None,
            tracker_id: Vec::new(),
            warning: None,
        }
    }

    #[test]
    fn two_answers_make_one() {
        let v4 = answer(900, &["192.0.2.1:1", "[2001:db8::1]:1"]);
        let v6 = answer(1800, &["[2001:db8::1]:1", "[2001:db8::2]:1"]);
        let joined = join(Ok(v4), Ok(v6)).unwrap();
        let peers = ["192.0.2.1:1", "[2001:db8::1]:1", "[2001:db8::2]:1"];
        assert_eq!(joined, answer(1800, &peers));
        for (told, expected) in [
            ([(900, Some(600)), (1800, None)], (1800, 600)),
            ([(1800, None), (900, Some(600))], (1800, 600)),
            ([(900, Some(300)), (900, Some(600))], (900, 600)),
        ] {
            let [one, other] = told.map(|(interval, min)| Answer {
                intervals: Intervals::told(Some(interval), min),
                ..answer(0, &[])
            });
            let joined = join(Ok(one), Ok(other)).unwrap().intervals;
            let joined = (joined.interval_s(), joined.min_interval_s());
            assert_eq!(joined, expected, "{told:?}");
        }
        let many = Answer {
            peers: (1..=150).map(|n| ([192, 0, 2, 1], n).into()).collect(),
            ..answer(900, &[])
        };
        let more = Answer {
            peers: (101..=300).map(|n| ([192, 0, 2, 1], n).into()).collect(),
            ..answer(900, &[])
        };
        assert_eq!(join(Ok(many), Ok(more)).unwrap().peers.len(), MAX_PEERS);
    }

    #[test]
    fn one_answer_is_enough_and_the_telling_error_is_told() {
        let good = answer(900, &["192.0.2.1:1"]);
        assert!(join(Ok(good.clone()), Err(AnnounceFault::Silent)).is_ok());
        assert!(join(Err(AnnounceFault::Silent), Ok(good)).is_ok());
        let unreachable = || AnnounceFault::Unreachable;
        let refused = || AnnounceFault::Refused {
            reason: String::new(),
            retry_in: None,
        };
        let shown = |a, b| {
            let fault = join(Err(a), Err(b)).unwrap_err();
            let host = "t".to_owned();
            AnnounceError { host, fault }.to_string()
        };
        let silent = || AnnounceFault::Silent;
        let no_address = || AnnounceFault::NoAddress;
        let says_silent = "t: the tracker does not answer";
        assert_eq!(shown(no_address(), silent()), says_silent);
        assert_eq!(shown(silent(), no_address()), says_silent);
        assert_eq!(shown(unreachable(), silent()), says_silent);
        assert_eq!(shown(silent(), unreachable()), says_silent);
        let says_nothing = "t: the tracker refuses, and does not say why";
        assert_eq!(shown(silent(), refused()), says_nothing);
        assert!(shown(no_address(), unreachable()).contains("cannot reach"));
    }
}
