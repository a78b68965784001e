//! A tracker that names no peers. rTorrent does not seed a torrent without a tracker.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// Starts a tracker at `addr` that runs until this program ends. Returns its announce URL.
pub(crate) fn start(addr: SocketAddr) -> String {
    let listener = TcpListener::bind(addr).unwrap_or_else(|e| panic!("{addr}: {e}"));
    thread::spawn(move || listener.incoming().flatten().for_each(answer));
    format!("http://{addr}/announce")
}

fn answer(mut stream: TcpStream) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut bytes = [0; 2048];
        match stream.read(&mut bytes) {
            Ok(len) if len > 0 => request.extend_from_slice(&bytes[..len]),
            _ => return,
        }
    }
    let body = "d8:intervali1800e5:peers0:e";
    let (len, head) = (body.len(), "HTTP/1.1 200 OK\r\nConnection: close");
    let _ = write!(stream, "{head}\r\nContent-Length: {len}\r\n\r\n{body}");
}
