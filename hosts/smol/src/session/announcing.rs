//! Announces that the node asked for, and what is said about trackers that do not answer.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use everseed_core::hash::InfoHash;
use everseed_core::tracker::Intervals;
use everseed_node::discovery::udp_trackers::UdpOutcome;
use everseed_node::{AnnounceId, Event, PeerSource};
use log::Level;

use super::identity::random;
use super::torrents::Torrents;
use crate::async_tasks::AsyncTasks;
use crate::client::announce::{
    AnnounceError, AnnounceFault, Answer, announce, find_udp_tracker, parse, udp_fault,
};
use crate::client::http::{self, Caller};
use crate::logging::flood::EVENT;
use crate::net::engine::{Announce, Engine};
use crate::secrets::mask;
use crate::url::Scheme;

/// Trackers that do not answer or that refuse, the latest last: each is complained of once, and not for each of
/// ten thousand torrents. When there are too many the earliest is forgotten, and complained of again.
#[derive(Debug, Default)]
pub(super) struct Failing {
    urls: VecDeque<(String, TrackerFault)>,
    /// Announces by UDP that the node makes: of which torrent, and to which tracker.
    by_udp: Vec<(AnnounceId, InfoHash, String)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum TrackerFault {
    /// It does not answer.
    Silent,
    /// It knows some torrent not, or not us; others it may know.
    Refuses,
}

impl Failing {
    /// Notes that a tracker did not answer; answers whether that is news.
    fn add(&mut self, url: &str, kind: TrackerFault) -> bool {
        if self
            .urls
            .iter()
            .any(|(other, of)| other == url && *of == kind)
        {
            return false;
        }
        if self.urls.len() == FAILING_MAX {
            self.urls.pop_front();
        }
        self.urls.push_back((url.to_owned(), kind));
        true
    }

    /// Notes that one answered; answers whether that is news.
    fn remove(&mut self, url: &str) -> bool {
        let before = self.urls.len();
        self.urls
            .retain(|(other, kind)| other != url || *kind == TrackerFault::Refuses);
        self.urls.len() < before
    }
}

/// Makes an announce, and tells the node how it went.
pub(super) fn carry_out(
    task: Announce,
    torrents: &Torrents,
    engine: &Rc<RefCell<Engine>>,
    failing: &Rc<RefCell<Failing>>,
    tasks: &AsyncTasks,
) {
    let Announce { job, report } = task;
    let Some(url) = torrents.tracker_url(&job) else {
        let event = Event::AnnounceFailed(job.id, None);
        return engine.borrow_mut().tell(event);
    };
    if url == torrents.reach.own_tracker || torrents.reach.was_ours(&url) {
        // Whoever asks the built-in tracker is told of us anyway.
        let event = Event::Announced(job.id, Intervals::told(None, None));
        return engine.borrow_mut().tell(event);
    }
    let (engine, failing) = (Rc::clone(engine), Rc::clone(failing));
    let way = engine.borrow().way_out.clone();
    let caller = match torrents
        .named_trackers
        .iter()
        .flatten()
        .any(|named| *named == url)
    {
        true => Caller::Owner,
        false => Caller::Torrent,
    };
    tasks.spawn(async move {
        let limits = http::Limits::default();
        let parsed = parse(&url).ok();
        let answer = match parsed.filter(|url| url.scheme == Scheme::Udp) {
            None => announce(&url, caller, &report, &[], &way, &limits).await,
            Some(parsed) => match find_udp_tracker(&parsed, caller, &way, &limits).await {
                Err(error) => Err(error),
                Ok(addrs) => {
                    let mut engine = engine.borrow_mut();
                    if !engine.announce_by_udp(job, addrs, parsed.target, random()) {
                        return engine.tell(Event::AnnounceFailed(job.id, None));
                    }
                    let begun = (job.id, report.info_hash, url);
                    return failing.borrow_mut().by_udp.push(begun);
                }
            },
        };
        let told = answer.as_ref().map(Told::by);
        say(&mut failing.borrow_mut(), report.info_hash, &url, told);
        let mut engine = engine.borrow_mut();
        match answer {
            Ok(answer) => answered(&mut engine, task, answer),
            Err(error) => engine.tell(Event::AnnounceFailed(job.id, error.retry_in())),
        }
    });
}

/// Says how an announce went that the node made by UDP.
pub(super) fn announced_by_udp(failing: &mut Failing, outcome: UdpOutcome) {
    let its = |(id, ..): &(AnnounceId, InfoHash, String)| *id == outcome.job.id;
    let Some(at) = failing.by_udp.iter().position(its) else {
        return;
    };
    let (_, info_hash, url) = failing.by_udp.swap_remove(at);
    let fault = match outcome.result {
        Ok(_) => {
            let told = Told {
                peers: outcome.peers.into(),
                warning: None,
            };
            return say(failing, info_hash, &url, Ok(told));
        }
        Err(error) => udp_fault(error),
    };
    let host = parse(&url).map_or_else(|_| url.clone(), |url| url.host.to_owned());
    if let Some(fault) = fault {
        let error = AnnounceError { host, fault };
        say(failing, info_hash, &url, Err(&error));
    }
}

/// What is said of a tracker's answer.
struct Told<'a> {
    peers: usize,
    warning: Option<&'a str>,
}

impl Told<'_> {
    fn by(answer: &Answer) -> Told<'_> {
        Told {
            peers: answer.peers.len(),
            warning: answer.warning.as_deref(),
        }
    }
}

/// Logs what is news about a tracker.
fn say(
    failing: &mut Failing,
    info_hash: InfoHash,
    url: &str,
    answer: Result<Told<'_>, &AnnounceError>,
) {
    let shown = mask(url);
    match answer {
        Ok(answer) => {
            if failing.remove(url) {
                log::warn!(target: EVENT, "{shown}: it answers again");
            }
            log::info!("{shown}: announced, {} peers", answer.peers);
            if let Some(warning) = answer.warning {
                log::warn!("{shown}: the tracker warns: {}", mask(warning));
            }
        }
        Err(error) => {
            let (kind, again) = match error.fault {
                AnnounceFault::Refused { .. } => (TrackerFault::Refuses, "for other torrents"),
                _ => (TrackerFault::Silent, "until it answers"),
            };
            let level = match failing.add(url, kind) {
                true => Level::Warn,
                false => Level::Info,
            };
            log::log!(
                level,
                "announce of {info_hash} to {shown} failed: {error}; it is tried again, and this is not \
                 said again {again}"
            );
        }
    }
}

fn answered(engine: &mut Engine, Announce { job, .. }: Announce, answer: Answer) {
    if !engine.node.is_asleep(job.torrent) {
        for peer in answer.peers {
            engine.tell(Event::Peer(job.torrent, peer, PeerSource::Tracker));
        }
    } else if !answer.peers.is_empty() && answer.leechers != Some(0) {
        // Perhaps they cannot call us.
        engine.report.wakes.push((job.torrent, answer.peers));
    }
    engine.tell(Event::Announced(job.id, answer.intervals));
}

/// Trackers that are remembered not to answer.
const FAILING_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tracker_is_complained_of_once() {
        let mut failing = Failing::default();
        let (silent, refuses) = (TrackerFault::Silent, TrackerFault::Refuses);
        assert!(failing.add("a", silent) && !failing.add("a", silent));
        assert!(failing.add("a", refuses) && !failing.add("a", refuses));
        assert!(failing.remove("a") && !failing.remove("a"));
        assert!(failing.add("a", silent) && !failing.add("a", refuses));
        for n in 0..=FAILING_MAX {
            assert!(failing.add(&n.to_string(), silent));
        }
        assert_eq!(failing.urls.len(), FAILING_MAX);
        assert!(failing.add("0", silent) && !failing.add("2", silent));
    }
}
