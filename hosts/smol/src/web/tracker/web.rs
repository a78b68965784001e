//! The tracker's connections: one request is read from each and answered, see `answer`.

use std::cell::RefCell;
use std::io::{self, Read as _};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use everseed_core::hash::InfoHash;
use everseed_core::time::Instant;
use smol::Async;
use smol::future::FutureExt as _;
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};
use smol::lock::Mutex;

use super::answer::{NOT_FOUND, text};
use super::share;
use super::table::PeerTable;
use crate::net::socket::UNSERVED_WRITTEN;

/// Takes one request from a connection, answers it, and closes. `now` is the time. `ours` tells whether a torrent is
/// seeded here that the table does not hold, and `shared` returns the path of a torrent file that may be given out.
/// The caller limits the number of connections.
///
/// # Errors
/// If the connection breaks or the peer is slow.
pub async fn serve(
    mut stream: Async<TcpStream>,
    table: &RefCell<PeerTable>,
    now: &dyn Fn() -> Instant,
    ours: &dyn Fn(InfoHash) -> bool,
    shared: &dyn Fn(InfoHash) -> Option<PathBuf>,
) -> io::Result<()> {
    let from = stream.get_ref().peer_addr()?.ip();
    let local = stream.get_ref().local_addr()?;
    let head = within(HEAD_TIMEOUT, read_head(&mut stream)).await?;
    let mut out = Vec::new();
    let file = table
        .borrow_mut()
        .respond(now(), from, local, &head, ours, &mut out);
    drop(head);
    let answer = async {
        if let Some(info_hash) = file {
            let path = shared(info_hash);
            if path.is_none()
                || !send_file(&mut stream, path.unwrap_or_default(), info_hash).await?
            {
                text(&mut out, "404 Not Found", NOT_FOUND);
            }
        }
        write(&mut stream, &out).await?;
        stream.get_ref().shutdown(Shutdown::Write)
    };
    within(ANSWER_TIMEOUT, answer).await?;
    // Closing a socket that holds unread bytes would destroy the answer on its way.
    let mut rest = [0; 512];
    let drain = async {
        for _ in 0..MAX_DRAIN {
            if stream.read(&mut rest).await? == 0 {
                break;
            }
        }
        Ok(())
    };
    let _ = within(DRAIN_TIMEOUT, drain).await;
    Ok(())
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let slow = async {
        smol::Timer::after(limit).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    work.or(slow).await
}

/// Reads up to the empty line. A head that is too long is cut, and is then no request.
async fn read_head(stream: &mut Async<TcpStream>) -> io::Result<Vec<u8>> {
    let mut head = vec![0; USUAL_HEAD];
    let mut len = 0;
    loop {
        let read = stream.read(&mut head[len..]).await?;
        // The empty line may straddle two reads.
        let from = len.saturating_sub(3);
        len += read;
        let ends = head[from..len].windows(4).any(|w| w == b"\r\n\r\n");
        if ends || read == 0 || len == MAX_HEAD {
            break;
        }
        if len == head.len() {
            head.resize(MAX_HEAD, 0);
        }
    }
    head.truncate(len);
    Ok(head)
}

/// Sends a torrent file in parts, so that a long one is never in memory; false if there is none.
///
/// Reads happen on a thread of smol's, one at a time, however many clients there are.
async fn send_file(
    stream: &mut Async<TcpStream>,
    path: PathBuf,
    info_hash: InfoHash,
) -> io::Result<bool> {
    static READER: Mutex<()> = Mutex::new(());
    let opened = {
        let _reader = READER.lock().await;
        smol::unblock(move || share::open(&path, info_hash)).await
    };
    let Some((mut file, len)) = opened else {
        return Ok(false);
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/x-bittorrent\r\n\
         Content-Length: {len}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let (mut chunk, mut left) = (vec![0; FILE_CHUNK], len);
    while left > 0 {
        let reader = READER.lock().await;
        let read;
        (file, chunk, read) = smol::unblock(move || {
            let part = usize::try_from(left).unwrap_or(FILE_CHUNK).min(FILE_CHUNK);
            let read = file.read(&mut chunk[..part]);
            (file, chunk, read)
        })
        .await;
        drop(reader);
        let read = read?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        write(stream, &chunk[..read]).await?;
        left = left.saturating_sub(read as u64);
    }
    Ok(true)
}

/// Writes in parts so small that the kernel holds no more for a client than for an unserved peer.
async fn write(stream: &mut Async<TcpStream>, bytes: &[u8]) -> io::Result<()> {
    for part in bytes.chunks(UNSERVED_WRITTEN) {
        stream.write_all(part).await?;
    }
    Ok(())
}

/// The usual and the longest head of a request in bytes.
const USUAL_HEAD: usize = 1024;
const MAX_HEAD: usize = 8 * 1024;

/// Bytes of a torrent file that are in memory at a time.
const FILE_CHUNK: usize = 4 * 1024;

const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// The time, and the number of reads, for which we wait until the client closes.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
const MAX_DRAIN: usize = 64;
