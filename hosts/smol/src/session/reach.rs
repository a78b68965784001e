//! The addresses at which others reach us, for links and for messages about where these links work.
//!
//! Invariant: printed links are true. An address of our network means nothing outside, so a link with one is never
//! printed without a note. `--public-address` names an address that means the same everywhere.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use everseed_core::tracker::Family;

use super::notice::{Introduction, Notice, Notices};
use super::opener::OpenedTorrent;
use crate::async_tasks::AsyncTasks;
use crate::client::trackers;
use crate::magnet::magnet;
use crate::net::address::PublicAddress;
use crate::net::scope::Scope;
use crate::options::seed::SeedArgs;
use crate::secrets::has_secret;
use crate::url::Url;
use crate::web::tracker::PeerTable;

/// Our addresses as others see them.
pub(super) struct Reach {
    public: Option<PublicAddress>,
    /// The built-in tracker's announce URL.
    pub(super) own_tracker: String,
    /// Whether everybody may download torrent files.
    pub(super) share_torrent: bool,
    /// The port that we listen on.
    port: u16,
    /// The addresses at which routers forward callers to it, IPv4 first.
    pub(super) mapped: [Option<SocketAddr>; 2],
    /// Whether we can be reached from outside, in words.
    pub(super) reachable: Option<&'static str>,
    /// Former URLs of the built-in tracker: sleeping torrents may still name them.
    former: VecDeque<String>,
    /// The reach of links as it was last reported.
    reported: Option<Scope>,
    /// The time of the next lookup of the public name.
    next_look: Instant,
    /// Whether the last lookup succeeded; a failure is logged once.
    found: Rc<Cell<bool>>,
}

/// Our addresses and choices that links name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct OwnAddresses {
    pub(super) own_tracker: String,
    /// Whether everybody may download torrent files.
    share: bool,
    /// Our own address, as a peer.
    peer: Option<String>,
}

impl Reach {
    /// `local` is our address for others in our network.
    pub(super) fn new(args: &SeedArgs, local: SocketAddr) -> Reach {
        let mut reach = Reach {
            public: args.public_address.clone(),
            own_tracker: String::new(),
            share_torrent: args.share_torrent,
            port: local.port(),
            mapped: [None; 2],
            reachable: None,
            former: VecDeque::new(),
            reported: None,
            next_look: Instant::now(),
            found: Rc::new(Cell::new(true)),
        };
        reach.own_tracker = reach.tracker(local);
        reach
    }

    /// The port that we listen on.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// The port to tell a peer whose address is of this family.
    pub(super) fn told_port(&self, family: Family) -> u16 {
        let public = self.public.as_ref().and_then(|public| public.port);
        let mapped = self.mapped[usize::from(family == Family::V6)];
        public
            .or(mapped.map(|addr| addr.port()))
            .unwrap_or(self.port)
    }

    /// Our address for the internet: the owner's choice, or else the router's address.
    fn outside(&self) -> Option<String> {
        match &self.public {
            Some(public) => Some(public.with_port(self.port)),
            None => {
                let public = |addr: &&SocketAddr| Scope::of(addr.ip()) == Scope::Public;
                let mut mapped = self.mapped.iter().flatten();
                mapped.find(public).map(SocketAddr::to_string)
            }
        }
    }

    /// Remembers a former URL of the built-in tracker.
    pub(super) fn leave(&mut self, url: String) {
        self.former.retain(|other| *other != url);
        if self.former.len() == FORMER_MAX {
            self.former.pop_front();
        }
        self.former.push_back(url);
    }

    /// All URLs of the built-in tracker since the start.
    pub(super) fn own_trackers(&self) -> Vec<String> {
        let former = self.former.iter().cloned();
        former.chain([self.own_tracker.clone()]).collect()
    }

    /// The built-in tracker's announce URL, if `local` is our address in our network.
    pub(super) fn tracker(&self, local: SocketAddr) -> String {
        match &self.public {
            Some(public) => format!("http://{}/announce", public.with_port(self.port)),
            None => format!("http://{local}/announce"),
        }
    }

    pub(super) fn links(&self) -> OwnAddresses {
        OwnAddresses {
            own_tracker: self.own_tracker.clone(),
            share: self.share_torrent,
            peer: self.outside(),
        }
    }

    /// Reports once where links work that name only the built-in tracker.
    pub(super) fn say_where(&mut self, notices: &Notices) {
        let scope = scope_of(&self.own_tracker);
        if self.reported == Some(scope) {
            return;
        }
        self.reported = Some(scope);
        let within = match scope {
            Scope::Public | Scope::Nowhere => return,
            Scope::Loopback => "on this machine",
            Scope::Link | Scope::Private => "within your network",
        };
        notices.tell(Notice::WorksOnly {
            tracker: &self.own_tracker,
            within,
            port: self.port,
        });
    }

    /// Reports it again if it was reported and has changed.
    pub(super) fn say_where_again(&mut self, notices: &Notices) {
        if self.reported.is_some() {
            self.say_where(notices);
        }
    }

    /// Looks the public name up when that is due, for the built-in tracker's answers.
    pub(super) fn look_up(
        &mut self,
        now: Instant,
        tracker: &Rc<RefCell<PeerTable>>,
        tasks: &AsyncTasks,
    ) {
        let Some(public) = self.public.clone().filter(|_| now >= self.next_look) else {
            return;
        };
        self.next_look = now + LOOK_UP;
        let (tracker, port) = (Rc::clone(tracker), self.told_port(Family::V4));
        if let Ok(ip) = public.host.parse::<IpAddr>() {
            return tracker
                .borrow_mut()
                .set_public(&[SocketAddr::new(ip, port)]);
        }
        let before = Rc::clone(&self.found);
        tasks.spawn(async move {
            let host = public.host.as_str();
            let found = smol::net::resolve((host, port)).await;
            let said = !before.replace(found.is_ok());
            match found {
                Ok(found) => tracker.borrow_mut().set_public(&found),
                // A failed lookup leaves the former result valid.
                Err(error) if !said => {
                    let s = LOOK_UP.as_secs();
                    log::warn!(
                        "{host}: {error}; looked up again every {s} s, see --public-address"
                    );
                }
                Err(_) => {}
            }
        });
    }
}

/// The host names by which the built-in tracker may be called.
pub(super) fn hosts(named: &[String], own_tracker: &str) -> Vec<String> {
    let urls = named.iter().map(String::as_str).chain([own_tracker]);
    let hosts = urls.filter_map(|url| Some(Url::parse(url).ok()?.host.to_owned()));
    hosts.collect()
}

/// The reach of a URL: from how far away it can be used.
fn scope_of(url: &str) -> Scope {
    let host = Url::parse(url).map_or("", |url| url.host);
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse();
    ip.map_or(Scope::Public, Scope::of)
}

/// The introduction of a torrent, and whether the built-in tracker is the only one that it names.
pub(super) fn introduction(
    source: &OpenedTorrent,
    links: &OwnAddresses,
) -> Result<(Introduction, bool), String> {
    let (torrent, metainfo) = (source.content.torrent_file(), source.content.metainfo());
    let own_tracker = links.own_tracker.as_str();
    let tiers = trackers::tiers(source.content.read_torrent_file(), metainfo)?;
    let mut trackers: Vec<&str> = tiers.iter().flatten().map(String::as_str).collect();
    if trackers.is_empty() && !metainfo.private {
        trackers.push(own_tracker);
    }
    let mut introduction = Introduction {
        torrent: torrent.as_os_str().as_encoded_bytes().to_owned(),
        info_hash: metainfo.info_hash,
        url: None,
        magnet: None,
    };
    let only_ours = trackers.iter().all(|url| *url == own_tracker);
    // A private torrent is joined with its torrent file alone, and nobody is given secrets.
    if metainfo.private {
        return Ok((introduction, only_ours));
    }
    let all = trackers.len();
    trackers.retain(|url| !has_secret(url));
    if links.share && trackers.len() == all {
        let site = own_tracker.trim_end_matches("/announce");
        let hash = metainfo.info_hash;
        introduction.url = Some(format!("{site}/{hash}.torrent"));
    }
    let name = source.content.name();
    let magnet = magnet(metainfo.info_hash, name, trackers, links.peer.as_deref());
    introduction.magnet = Some(magnet.to_string());
    Ok((introduction, only_ours))
}

/// The interval of lookups. The name may be a dynamic one, whose address changes every day.
const LOOK_UP: Duration = Duration::from_secs(300);

/// The most former URLs that are remembered.
const FORMER_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    /// A port that is forwarded by IPv4 is none of IPv6, and links name an address of the world alone.
    #[test]
    fn what_a_router_forwards() {
        for (v4, v6, told, peer) in [
            (None, None, [6881, 6881], None),
            (
                Some("203.0.113.5:7001"),
                None,
                [7001, 6881],
                Some("203.0.113.5:7001"),
            ),
            (Some("192.168.0.2:7001"), None, [7001, 6881], None),
            (
                Some("100.64.0.1:1"),
                Some("[2001:db8::1]:2"),
                [1, 2],
                Some("[2001:db8::1]:2"),
            ),
            (
                None,
                Some("[2001:db8::1]:6881"),
                [6881, 6881],
                Some("[2001:db8::1]:6881"),
            ),
        ] {
            let local = "192.168.1.2:6881".parse().unwrap();
            let mut reach = Reach::new(&SeedArgs::default(), local);
            reach.mapped = [v4, v6].map(|addr| addr.map(|addr: &str| addr.parse().unwrap()));
            let ports = [Family::V4, Family::V6].map(|family| reach.told_port(family));
            assert_eq!(
                (ports, reach.links().peer.as_deref()),
                (told, peer),
                "{v4:?} {v6:?}"
            );
        }
    }

    #[test]
    fn where_a_link_works() {
        for (url, scope) in [
            ("http://192.168.1.2:6881/announce", Scope::Private),
            ("http://127.0.0.1:6881/announce", Scope::Loopback),
            ("http://[fe80::1]:6881/announce", Scope::Link),
            ("http://[2001:db8::1]:6881/announce", Scope::Public),
            ("http://203.0.113.5:6881/announce", Scope::Public),
            ("http://session.example.org:6881/announce", Scope::Public),
        ] {
            assert_eq!(scope_of(url), scope, "{url}");
        }
    }

    #[test]
    fn what_others_are_told() {
        let local = "192.168.1.2:6881".parse().unwrap();
        for (public, tracker, port) in [
            (None, "http://192.168.1.2:6881/announce", 6881),
            (Some("a.example"), "http://a.example:6881/announce", 6881),
            (Some("a.example:80"), "http://a.example:80/announce", 80),
            (
                Some("[2001:db8::1]:9"),
                "http://[2001:db8::1]:9/announce",
                9,
            ),
            (
                Some("2001:db8::1"),
                "http://[2001:db8::1]:6881/announce",
                6881,
            ),
        ] {
            let args = SeedArgs {
                public_address: public.map(|text| PublicAddress::parse(text).unwrap()),
                ..SeedArgs::default()
            };
            let reach = Reach::new(&args, local);
            assert_eq!(reach.own_tracker, tracker);
            let told = [Family::V4, Family::V6].map(|family| reach.told_port(family));
            assert_eq!((told, reach.port()), ([port; 2], 6881));
        }
    }
}
