//! Announces that the node asked for, and what is said about trackers that do not answer.

use std::collections::VecDeque;
use std::rc::Rc;

use everseed_core::hash::InfoHash;
use everseed_core::tracker::Intervals;
use everseed_node::{Event, PeerSource};
use log::Level;

use super::{Session, asleep, random};
use crate::client::announce::{AnnounceError, AnnounceFault, Answer, announce};
use crate::client::http::{self, Caller};
use crate::net::engine::{Announce, Engine};
use crate::secrets::mask;

/// Trackers that do not answer or that refuse, the latest last: each is complained of once, and not for each of
/// ten thousand torrents. When there are too many the earliest is forgotten, and complained of again.
#[derive(Debug, Default)]
pub(super) struct Failing {
    urls: VecDeque<(String, Kind)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// It does not answer.
    Silent,
    /// It knows some torrent not, or not us; others it may know.
    Refuses,
}

impl Failing {
    /// Notes that a tracker did not answer; answers whether that is news.
    fn add(&mut self, url: &str, kind: Kind) -> bool {
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
            .retain(|(other, kind)| other != url || *kind == Kind::Refuses);
        self.urls.len() < before
    }
}

impl Session {
    /// Makes an announce, and tells the node how it went.
    pub(super) fn announce(&mut self, task: Announce) {
        let Announce { job, report } = task;
        let torrent = self.torrents.iter().find(|t| t.id() == Some(job.torrent));
        let url = match torrent {
            Some(torrent) => torrent.tracker_url(job.tier, job.tracker),
            None => asleep::tracker_url(&self.catalogue.borrow(), &self.state, &job),
        };
        let Some(url) = url else {
            let event = Event::AnnounceFailed(job.id, None);
            return self.engine.borrow_mut().tell(event);
        };
        if url == self.own_tracker || self.reach.was_ours(&url) {
            // Whoever asks the built-in tracker is told of us anyway.
            let event = Event::Announced(job.id, Intervals::told(None, None));
            return self.engine.borrow_mut().tell(event);
        }
        let (engine, failing) = (Rc::clone(&self.engine), Rc::clone(&self.failing));
        let way = engine.borrow().way_out.clone();
        let caller = match self.named_trackers.contains(&url) {
            true => Caller::Owner,
            false => Caller::Torrent,
        };
        self.slow.spawn(async move {
            let limits = http::Limits::default();
            let answer = announce(&url, caller, &report, &[], &way, &limits, random()).await;
            say(&mut failing.borrow_mut(), report.info_hash, &url, &answer);
            let mut engine = engine.borrow_mut();
            match answer {
                Ok(answer) => answered(&mut engine, task, answer),
                Err(error) => engine.tell(Event::AnnounceFailed(job.id, error.retry_in())),
            }
        });
    }
}

/// Logs what is news about a tracker.
fn say(
    failing: &mut Failing,
    info_hash: InfoHash,
    url: &str,
    answer: &Result<Answer, AnnounceError>,
) {
    let shown = mask(url);
    match answer {
        Ok(answer) => {
            if failing.remove(url) {
                log::warn!("{shown}: it answers again");
            }
            log::info!("{shown}: announced, {} peers", answer.peers.len());
            if let Some(warning) = &answer.warning {
                log::warn!("{shown}: the tracker warns: {}", mask(warning));
            }
        }
        Err(error) => {
            let (kind, again) = match error.fault {
                AnnounceFault::Refused { .. } => (Kind::Refuses, "for other torrents"),
                _ => (Kind::Silent, "until it answers"),
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
        engine.news.wakes.push((job.torrent, answer.peers));
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
        let (silent, refuses) = (Kind::Silent, Kind::Refuses);
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
