//! What the tracker answers: [`PeerTable::respond`], from a request's head to a response.

use std::net::{IpAddr, SocketAddr};

use everseed_core::hash::InfoHash;
use everseed_core::time::Instant;
use everseed_core::tracker::http::percent_decode;
use everseed_core::tracker::reply::{ANNOUNCED_BASE, Announced, encode_failure, encode_scrape};
use everseed_core::tracker::{AnnounceEvent, Scrape};

use super::callers;
use super::table::{
    Announce, Chosen, DEFAULT_PEERS_TOLD, INTERVAL_S, MAX_PEERS_TOLD, MIN_INTERVAL_S, PeerTable,
};
use crate::net::scope::Scope;

impl PeerTable {
    /// Answers a request from a peer at `from`, which reached us at `local`; `head` is everything up to the empty
    /// line. The response is put into `out`. If a torrent file is requested, its info-hash is returned, `out` is
    /// empty, and the caller sends the file. `ours` tells whether a torrent is seeded here that the table does not
    /// hold.
    pub fn respond(
        &mut self,
        now: Instant,
        from: IpAddr,
        local: SocketAddr,
        head: &[u8],
        ours: &dyn Fn(InfoHash) -> bool,
        out: &mut Vec<u8>,
    ) -> Option<InfoHash> {
        out.clear();
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        let complete = request.parse(head).is_ok_and(|status| status.is_complete());
        let (Some(method), Some(target), true) = (request.method, request.path, complete) else {
            text(out, "400 Bad Request", "This is not an HTTP request.\n");
            return None;
        };
        if method != "GET" {
            text(out, "405 Method Not Allowed", "Only GET works here.\n");
            return None;
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        // People may follow a link to a torrent file; a request for one has no effects.
        if let Some(info_hash) = torrent_file(path) {
            return Some(info_hash);
        }
        if let Some(reason) = callers::refusal(request.headers, &[&self.names, &self.learned]) {
            text(out, "403 Forbidden", reason);
            return None;
        }
        match path {
            "/announce" => {
                let announce = self.heard(now, from.to_canonical(), local, query);
                if let Ok(announce) = &announce {
                    self.admit(announce.info_hash, ours);
                }
                self.respond_announce(now, announce, local, out);
            }
            "/scrape" => self.respond_scrape(query, out),
            "/" => text(out, "200 OK", GREETING),
            _ => text(out, "404 Not Found", NOT_FOUND),
        }
        None
    }

    /// Parses an announce, unless this address may not announce now.
    fn heard(
        &mut self,
        now: Instant,
        from: IpAddr,
        local: SocketAddr,
        query: &str,
    ) -> Result<Announce, &'static str> {
        // Others are told this address and we call it, so they and we must mean the same by it.
        let (theirs, ours) = (Scope::of(from), Scope::of(local.ip()));
        if theirs == Scope::Nowhere || theirs <= Scope::Link && theirs != ours {
            return Err("peers at such an address cannot be reached from here");
        }
        if !self.rates.admit(now, from) {
            return Err("too many announces from this address; wait a minute");
        }
        parse(from, query)
    }

    /// Adds a torrent of ours that the table does not hold.
    fn admit(&mut self, info_hash: InfoHash, ours: &dyn Fn(InfoHash) -> bool) {
        if self.find(info_hash).is_none() && ours(info_hash) && self.add(info_hash).is_err() {
            log::warn!("the built-in tracker has no room for {info_hash} now");
        }
    }

    fn respond_announce(
        &mut self,
        now: Instant,
        announce: Result<Announce, &'static str>,
        local: SocketAddr,
        out: &mut Vec<u8>,
    ) {
        let announced =
            announce.and_then(|announce| self.announce(now, &announce, local).ok_or(UNKNOWN));
        match announced {
            Ok((numbers, chosen)) => announced_body(out, numbers, &chosen),
            Err(reason) => failure(out, reason),
        }
    }

    /// The numbers of the requested torrents, as far as there is room. Nobody is told which torrents there are.
    fn respond_scrape(&mut self, query: &str, out: &mut Vec<u8>) {
        let asked = fields(query).filter(|(key, _)| *key == "info_hash");
        let mut info_hashes: Vec<_> = asked.filter_map(|(_, value)| hash(value)).collect();
        if info_hashes.is_empty() {
            return failure(out, "a scrape has to name its torrents by info_hash");
        }
        info_hashes.sort_unstable();
        info_hashes.dedup();
        let files = info_hashes
            .into_iter()
            .filter_map(|info_hash| Some((info_hash, self.scrape(info_hash)?)));
        let mut body = [0; MAX_BODY];
        let len = encode_scrape(files, &mut body).unwrap_or(0);
        respond_with(out, "200 OK", "text/plain", &body[..len]);
    }
}

/// Parses the query of an announce; the error is the reason that the client is told.
fn parse(from: IpAddr, query: &str) -> Result<Announce, &'static str> {
    let mut info_hash = None;
    let mut port = 0;
    let mut announce = Announce {
        info_hash: InfoHash([0; 20]),
        addr: SocketAddr::new(from, 0),
        complete: false,
        num_want: DEFAULT_PEERS_TOLD,
        event: AnnounceEvent::None,
    };
    for (key, value) in fields(query) {
        match key {
            "info_hash" => info_hash = hash(value),
            "port" => port = value.parse().unwrap_or(0),
            "left" => announce.complete = value == "0",
            // Some clients send -1 for "as many as you like".
            "numwant" => announce.num_want = value.parse().unwrap_or(DEFAULT_PEERS_TOLD),
            "event" => {
                announce.event = match value {
                    "started" => AnnounceEvent::Started,
                    "completed" => AnnounceEvent::Completed,
                    "stopped" => AnnounceEvent::Stopped,
                    _ => AnnounceEvent::None,
                }
            }
            _ => {}
        }
    }
    announce.info_hash = info_hash.ok_or("the announce has no valid info_hash")?;
    if port == 0 {
        return Err("the announce has no valid port");
    }
    announce.addr.set_port(port);
    Ok(announce)
}

fn fields(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter_map(|field| field.split_once('='))
}

fn hash(value: &str) -> Option<InfoHash> {
    let mut room = [0; 20];
    let bytes = percent_decode(value.as_bytes(), &mut room)?;
    Some(InfoHash(bytes.try_into().ok()?))
}

/// The info-hash in `/<40 hex digits>.torrent`.
fn torrent_file(path: &str) -> Option<InfoHash> {
    let hex = path.strip_prefix('/')?.strip_suffix(".torrent")?;
    InfoHash::from_hex(hex.as_bytes())
}

fn announced_body(out: &mut Vec<u8>, numbers: Scrape, chosen: &Chosen) {
    let reply = Announced {
        numbers,
        interval_s: INTERVAL_S,
        min_interval_s: MIN_INTERVAL_S,
        peers: &chosen.v4,
        peers6: &chosen.v6,
    };
    let mut body = [0; MAX_BODY];
    let len = reply.encode(&mut body).unwrap_or(0);
    respond_with(out, "200 OK", "text/plain", &body[..len]);
}

fn failure(out: &mut Vec<u8>, reason: &str) {
    let mut body = [0; 200];
    let len = encode_failure(reason, &mut body).unwrap_or(0);
    respond_with(out, "200 OK", "text/plain", &body[..len]);
}

pub(super) fn text(out: &mut Vec<u8>, status: &str, body: &str) {
    respond_with(out, status, "text/plain; charset=utf-8", body.as_bytes());
}

pub(super) fn respond_with(out: &mut Vec<u8>, status: &str, kind: &str, body: &[u8]) {
    let allow = match status.starts_with("405") {
        true => "Allow: GET\r\n",
        false => "",
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{allow}\
         Connection: close\r\n\r\n",
        body.len()
    );
    out.clear();
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(body);
}

const GREETING: &str = "everseed: a BitTorrent tracker for the torrents that are seeded here.\n\
    /announce and /scrape are for BitTorrent clients.\n";

pub(super) const NOT_FOUND: &str = "There is nothing here of that name.\n";

const UNKNOWN: &str = "this tracker does not know the torrent";

/// The most lines of a request's head.
const MAX_HEADERS: usize = 64;

/// The longest answer to an announce.
const MAX_BODY: usize = ANNOUNCED_BASE + MAX_PEERS_TOLD * 18;

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
mod tests {
    use super::*;
    use everseed_core::rng::Rng;

    const A: InfoHash = InfoHash(*b"aaaaaaaaaaaaaaaaaaa&");
    const A_ENCODED: &str = "aaaaaaaaaaaaaaaaaaa%26";

    /// One that is ours and not in the table.
    const ASLEEP: InfoHash = InfoHash(*b"ssssssssssssssssssss");

    #[test]
    fn torrents_that_are_asleep() {
        let mut table = table();
        let hash = "ssssssssssssssssssss";
        let announce = |hash| format!("/announce?info_hash={hash}&port=1&left=1");
        let (status, body, _) = get(&mut table, &announce(hash));
        assert_eq!(status, "200 OK");
        assert!(contains(&body, b"10:incompletei1e"), "{body:?}");
        let foreign = "cccccccccccccccccccc";
        assert!(contains(&get(&mut table, &announce(foreign)).1, b"failure"));
    }

    fn table() -> PeerTable {
        let mut table = PeerTable::new(4, 100, 6881, 1);
        table.add(A).unwrap();
        table
    }

    /// Asks from an IPv4 address over a dual-stack socket.
    fn ask(table: &mut PeerTable, head: &[u8]) -> (String, Vec<u8>, Option<InfoHash>) {
        let mut out = Vec::new();
        let from = "::ffff:192.0.2.1".parse().unwrap();
        let local = "[::ffff:203.0.113.1]:8000".parse().unwrap();
        let file = table.respond(
            Instant::ZERO,
            from,
            local,
            head,
            &|hash| hash == ASLEEP,
            &mut out,
        );
        if file.is_some() {
            assert!(out.is_empty());
            return (String::new(), Vec::new(), file);
        }
        let at = out.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(out[..at].to_vec()).unwrap();
        let body = out[at + 4..].to_vec();
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())));
        assert!(head.ends_with("\r\nConnection: close"));
        let status = head.lines().next().unwrap();
        (status["HTTP/1.1 ".len()..].to_owned(), body, None)
    }

    fn get(table: &mut PeerTable, target: &str) -> (String, Vec<u8>, Option<InfoHash>) {
        ask(
            table,
            format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes(),
        )
    }

    fn contains(body: &[u8], part: &[u8]) -> bool {
        body.windows(part.len()).any(|w| w == part)
    }

    #[test]
    fn announce_and_scrape() {
        let mut table = table();
        let target = format!(
            "/announce?info_hash={A_ENCODED}&peer_id=x&ip=10.0.0.1&port=51413&uploaded=0\
             &downloaded=0&left=5&compact=1&numwant=-1&event=started&ipv6=%3a%3a1"
        );
        let (status, body, _) = get(&mut table, &target);
        assert_eq!(status, "200 OK");
        assert!(contains(&body, b"8:intervali120e"));
        assert!(contains(&body, b"5:peers6:\xcb\x00\x71\x01\x1a\xe1e"));
        assert_eq!(table.peers[0].addr.to_string(), "192.0.2.1:51413");
        let (status, body, _) = get(&mut table, &format!("/scrape?info_hash={A_ENCODED}"));
        assert_eq!(status, "200 OK");
        let file =
            b"d5:filesd20:aaaaaaaaaaaaaaaaaaa&d8:completei1e10:downloadedi0e10:incompletei1eeee";
        assert_eq!(body, file);
        // Which torrents there are is told to nobody.
        for target in [
            "/scrape",
            "/scrape?",
            "/scrape?info_hash=",
            "/scrape?info_hash=abc",
        ] {
            let (_, body, _) = get(&mut table, target);
            assert!(contains(&body, b"failure reason") && !contains(&body, b"aaaa"));
        }
        let (_, body, _) = get(&mut table, "/scrape?info_hash=bbbbbbbbbbbbbbbbbbbb");
        assert_eq!(body, b"d5:filesdee");
    }

    #[test]
    fn web_pages_cannot_announce() {
        let announce = format!("GET /announce?info_hash={A_ENCODED}&port=25&left=1 HTTP/1.1\r\n");
        for header in [
            "Origin: https://evil.example",
            "Referer: https://evil.example/",
            "Sec-Fetch-Site: cross-site",
            "User-Agent: Mozilla/5.0",
            "Host: evil.example:6881",
        ] {
            let mut table = table();
            let head = format!("{announce}{header}\r\n\r\n");
            assert_eq!(ask(&mut table, head.as_bytes()).0, "403 Forbidden");
            assert_eq!(table.peers(), 0);
        }
        let mut table = table();
        table.set_names(vec!["seed.example.org".to_owned()]);
        let head = format!("{announce}Host: seed.example.org:6881\r\n\r\n");
        assert_eq!(ask(&mut table, head.as_bytes()).0, "200 OK");
        assert_eq!(table.peers(), 1);
        // What a torrent that is seeded here has as its tracker may be a name of ours.
        for (url, status) in [
            ("http://a.example.org:6881/announce", "200 OK"),
            ("http://a.example.org:80/announce", "403 Forbidden"),
            ("http://a.example.org:6881/", "403 Forbidden"),
            ("udp://a.example.org:6881/announce", "403 Forbidden"),
        ] {
            let mut table = self::table();
            table.learn(url);
            let head = format!("{announce}Host: a.example.org:6881\r\n\r\n");
            assert_eq!(ask(&mut table, head.as_bytes()).0, status, "{url}");
        }
        for n in 0..1000 {
            table.learn(&format!("http://{n}.example.org:6881/announce"));
        }
        assert_eq!(table.learned.len(), super::super::table::LEARNED);
    }

    #[test]
    fn announces_of_one_address_are_counted() {
        let mut table = table();
        let announce = format!("/announce?info_hash={A_ENCODED}&port=25&left=1");
        let mut refused = 0;
        for _ in 0..1000 {
            refused += usize::from(contains(&get(&mut table, &announce).1, b"too many"));
        }
        assert!((700..800).contains(&refused), "{refused}");
    }

    #[test]
    fn a_peer_is_as_near_as_we_are() {
        let head = format!("GET /announce?info_hash={A_ENCODED}&port=25&left=1 HTTP/1.1\r\n\r\n");
        for (from, local, taken) in [
            ("127.0.0.1", "127.0.0.1:1", true),
            ("127.0.0.1", "192.168.1.1:1", false),
            ("169.254.7.7", "169.254.7.1:1", true),
            ("fe80::7", "[2001:db8::1]:1", false),
            ("192.168.1.2", "203.0.113.1:1", true),
            ("224.0.0.1", "203.0.113.1:1", false),
        ] {
            let (mut table, mut out) = (table(), Vec::new());
            let (from, local) = (from.parse().unwrap(), local.parse().unwrap());
            table.respond(
                Instant::ZERO,
                from,
                local,
                head.as_bytes(),
                &|_| false,
                &mut out,
            );
            assert_eq!(table.peers() == 1, taken, "{from}");
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        let table_of_targets = [
            ("/announce", "200 OK", "no valid info_hash"),
            (
                "/announce?info_hash=abc&port=1",
                "200 OK",
                "no valid info_hash",
            ),
            (
                "/announce?info_hash=aaaaaaaaaaaaaaaaaaaaa&port=1",
                "200 OK",
                "no valid info_hash",
            ),
            (
                "/announce?info_hash=aaaaaaaaaaaaaaaaaaa%26",
                "200 OK",
                "no valid port",
            ),
            (
                "/announce?info_hash=aaaaaaaaaaaaaaaaaaa%26&port=0",
                "200 OK",
                "no valid port",
            ),
            (
                "/announce?info_hash=aaaaaaaaaaaaaaaaaaa%26&port=65536",
                "200 OK",
                "no valid port",
            ),
            (
                "/announce?info_hash=bbbbbbbbbbbbbbbbbbbb&port=1",
                "200 OK",
                "does not know",
            ),
            ("/", "200 OK", "everseed"),
            ("/favicon.ico", "404 Not Found", "nothing"),
            ("/../etc/passwd", "404 Not Found", "nothing"),
        ];
        for (target, status, part) in table_of_targets {
            let (told, body, file) = get(&mut table(), target);
            assert_eq!((told.as_str(), file), (status, None), "{target}");
            assert!(contains(&body, part.as_bytes()), "{target}");
        }
        let heads: [(&[u8], &str); 5] = [
            (b"", "400 Bad Request"),
            (b"\x13BitTorrent protocol\r\n\r\n", "400 Bad Request"),
            (b"GET / HTTP/1.1\r\nHost", "400 Bad Request"),
            (b"POST /announce HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
            (b"HEAD / HTTP/1.0\r\n\r\n", "405 Method Not Allowed"),
        ];
        for (head, status) in heads {
            assert_eq!(ask(&mut table(), head).0, status);
        }
    }

    /// Which of them are given out, and to whom, and whether there are any.
    #[test]
    fn torrent_files_are_the_callers() {
        for hash in [A, ASLEEP, InfoHash([0x62; 20])] {
            let target = format!("/{hash}.torrent");
            assert_eq!(get(&mut table(), &target).2, Some(hash));
        }
    }

    #[test]
    fn noise_gets_an_answer() {
        let mut table = table();
        let mut rng = Rng::new(8);
        let good = format!(
            "GET /announce?info_hash={A_ENCODED}&port=51413&left=5&numwant=7 HTTP/1.1\r\nHost: x\r\n\r\n"
        );
        for _ in 0..5000 {
            let mut head = good.clone().into_bytes();
            for _ in 0..rng.below(4) {
                let at = rng.below(head.len() as u32) as usize;
                head[at] = rng.below(256) as u8;
            }
            if rng.below(3) == 0 {
                head.truncate(rng.below(head.len() as u32) as usize);
            }
            let (status, body, file) = ask(&mut table, &head);
            assert!(file.is_none() && !status.is_empty() && !body.is_empty());
        }
        assert!(table.peers() <= super::super::table::MAX_PER_ORIGIN);
    }
}
