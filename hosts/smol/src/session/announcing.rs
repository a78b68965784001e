//! Announces that the node asks for, and the log's lines about trackers that fail.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use everseed_core::hash::InfoHash;
use everseed_core::tracker::Intervals;
use everseed_node::discovery::udp_trackers::UdpOutcome;
use everseed_node::{AnnounceId, Event, PeerSource};
use log::Level;

use super::identity::random;
use super::lookups::{Lookups, patience};
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

/// Trackers that do not answer or that refuse, the latest last. Each is logged once, and not for each of ten thousand
/// torrents. If there are too many, the earliest is forgotten, and logged again when it fails again.
#[derive(Debug, Default)]
pub(super) struct Failing {
    urls: VecDeque<(String, TrackerFault)>,
    /// Running announces by UDP: the torrent and the tracker of each.
    by_udp: Vec<(AnnounceId, InfoHash, String)>,
    /// The look-ups of trackers' URLs.
    lookups: Lookups,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum TrackerFault {
    /// The tracker does not answer.
    Silent,
    /// The tracker refuses some torrent, or us. It may accept others.
    Refuses,
}

impl Failing {
    /// Notes that a tracker failed. Returns whether that is new.
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

    /// Notes that a tracker answered. Returns whether it had failed before.
    fn remove(&mut self, url: &str) -> bool {
        let before = self.urls.len();
        self.urls
            .retain(|(other, kind)| other != url || *kind == TrackerFault::Refuses);
        self.urls.len() < before
    }
}

/// Makes an announce, and tells the node the result.
pub(super) fn carry_out(
    task: Announce,
    torrents: &Torrents,
    engine: &Rc<RefCell<Engine>>,
    failing: &Rc<RefCell<Failing>>,
    tasks: &AsyncTasks,
) {
    let Announce { job, report } = task;
    let (url, own) = (torrents.tracker_url(&job), torrents.reach.own_trackers());
    let owners = Arc::clone(&torrents.named_trackers);
    let (engine, failing) = (Rc::clone(engine), Rc::clone(failing));
    let way = engine.borrow().way_out.clone();
    let lookups = failing.borrow().lookups.clone();
    tasks.spawn(async move {
        let url = lookups.run(url, patience()).await;
        if url.is_none() {
            log::warn!(
                "{}: not announced, as the disk does not answer on which its tracker's URL lies; tried again later",
                report.info_hash
            );
        }
        let Some(url) = url.flatten() else {
            let event = Event::AnnounceFailed(job.id, None);
            return engine.borrow_mut().tell(event);
        };
        if own.contains(&url) {
            // The built-in tracker names us to every client anyway.
            let event = Event::Announced(job.id, Intervals::told(None, None));
            return engine.borrow_mut().tell(event);
        }
        let caller = match owners.iter().flatten().any(|named| *named == url) {
            true => Caller::Owner,
            false => Caller::Torrent,
        };
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

/// Logs the result of an announce by UDP that the node made.
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

/// The parts of a tracker's answer that are logged.
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

/// Logs a tracker's answer or failure, if it is new.
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
        // Those peers may be unable to call us.
        engine.report.wakes.push((job.torrent, answer.peers));
    }
    engine.tell(Event::Announced(job.id, answer.intervals));
}

/// The most failing trackers that are remembered.
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
