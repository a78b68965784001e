//! HTTP requests of tests.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::peer::InfoHash;

/// Fetches `path`; returns the status code and the body.
pub fn get(addr: SocketAddr, path: &str) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(addr).unwrap_or_else(|e| panic!("{addr}: {e}"));
    let timeout = Some(Duration::from_secs(30));
    stream.set_read_timeout(timeout).expect("a timeout");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sending");
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    read.unwrap_or_else(|e| panic!("http://{addr}{path}: {e}"));
    let head_len = find(&answer, b"\r\n\r\n").unwrap_or_else(|| {
        let shown = String::from_utf8_lossy(&answer);
        panic!("http://{addr}{path} answered no HTTP: {shown}")
    });
    let head = String::from_utf8_lossy(&answer[..head_len]);
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no status: {head}"));
    (status, answer[head_len + 4..].to_vec())
}

/// The value of the `info_hash` parameter of announces and scrapes.
pub fn escape(hash: InfoHash) -> String {
    hash.0.map(|byte| format!("%{byte:02x}")).concat()
}

/// The number of complete peers of a torrent in a tracker's scrape.
pub fn seeds(tracker: SocketAddr, hash: InfoHash) -> u64 {
    let path = format!("/scrape?info_hash={}", escape(hash));
    integer(&get(tracker, &path).1, "complete").unwrap_or(0)
}

/// The value of the first integer with this key in bencoded bytes. The bytes are not parsed, because these answers
/// are simple.
pub fn integer(bencoded: &[u8], key: &str) -> Option<u64> {
    let key = format!("{}:{key}i", key.len());
    let from = find(bencoded, key.as_bytes())? + key.len();
    let rest = &bencoded[from..];
    let digits = &rest[..find(rest, b"e")?];
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The first string with this key in bencoded bytes.
pub fn string<'a>(bencoded: &'a [u8], key: &str) -> Option<&'a [u8]> {
    let key = format!("{}:{key}", key.len());
    let rest = &bencoded[find(bencoded, key.as_bytes())? + key.len()..];
    let colon = find(rest, b":")?;
    let len: usize = std::str::from_utf8(&rest[..colon]).ok()?.parse().ok()?;
    rest.get(colon + 1..colon + 1 + len)
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|w| w == what)
}
