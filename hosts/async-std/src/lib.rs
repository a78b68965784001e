//! everseed's node inside an async-std program: one torrent, seeded to whoever connects.
//!
//! **async-std has been discontinued in favour of smol.** This crate is for programs that still run on it. It also
//! proves that the node is tied to no runtime. It stays as small as it is; new programs take the `everseed` package,
//! which runs the same node on smol and does much more.
//!
//! ```no_run
//! # use everseed_disk::{Content, read_torrent};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let torrent = "debian.iso.torrent".as_ref();
//! let metainfo = read_torrent(torrent)?;
//! let content = Content::open(torrent, &metainfo, "downloads".as_ref(), "state".as_ref())?;
//! let have = everseed_node::Have::Unverified;
//! let seeder = everseed_async_std::Seeder::new(content, have, "0.0.0.0:6881".parse()?)?;
//! let why = async_std::task::block_on(seeder.run());
//! # Err(why.into())
//! # }
//! ```
//!
//! `examples/seed.rs` is a whole program:
//! `cargo run -p everseed-async-std --example seed -- FILE.torrent DIR [IP:PORT]`.
//!
//! # How it drives the node
//!
//! The node is behind one lock. Each connection has two tasks: one reads, one writes. Each poll of a task takes the
//! lock, moves bytes between the socket and the node, carries out the node's actions and releases the lock. Nothing
//! of the node is borrowed across an `await`. Actions for another connection wake its tasks; there is no channel and
//! no queue.
//!
//! # Limits
//!
//! At most 50 connections, 8 of them served at a time, 16 open files and one buffer of 64 KiB for all. A connection
//! that waits for its file also has one block. Files that are not in the page cache are read on async-std's threads
//! for blocking work, and pieces are verified there: at most one job for each connection and one verification. The
//! node's memory, some 70 KiB and two bits for each piece, is allocated when a [`Seeder`] is made and never freed.
//!
//! # What this crate does not do
//!
//! It announces to no tracker and uses no DHT: peers have to know its address, or be named to [`Handle::call`]. It
//! keeps no state, limits no rate, downloads nothing, and seeds one torrent. It does not notice whether its files
//! changed or came back. The daemon does all of that.

#![forbid(unsafe_code)]

mod engine;
mod memory;

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_std::net::TcpListener;
use async_std::{future, task};
use everseed_disk::{Content, ReadError};
use everseed_node::{Have, Stats};

use crate::engine::Engine;

/// A seeder of one torrent.
#[derive(Debug)]
pub struct Seeder {
    engine: Arc<Engine>,
    listener: TcpListener,
}

impl Seeder {
    /// Listens at `listen` for peers that want `content`, of which the pieces in `have` are good. Port 0 is any free
    /// one.
    ///
    /// # Errors
    /// When the address cannot be listened at.
    pub fn new(content: Content, have: Have<'_>, listen: SocketAddr) -> io::Result<Seeder> {
        let listener = std::net::TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        Ok(Seeder {
            engine: Arc::new(Engine::new(content, have, port)?),
            listener: listener.into(),
        })
    }

    /// The address on which it listens.
    ///
    /// # Errors
    /// What the operating system says; there is none for a listening socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// A handle to the running seeder.
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.engine))
    }

    /// Serves until the content cannot be read, and returns the error; the program may then make another seeder.
    ///
    /// To stop, drop the future or cancel its task: all peers are disconnected.
    pub async fn run(self) -> ReadError {
        let engine = &self.engine;
        let _stop = Stop(engine);
        let mut accepting = pin!(accept(engine, &self.listener));
        let mut ticking = pin!(keep_time(engine));
        poll_fn(|cx| {
            // First, so that a later change wakes this task.
            let failure = engine.poll_failure(cx);
            let _: Poll<Infallible> = accepting.as_mut().poll(cx);
            let _: Poll<Infallible> = ticking.as_mut().poll(cx);
            failure
        })
        .await
    }
}

/// A handle to a running [`Seeder`], for use from any task.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Engine>);

impl Handle {
    /// Names a peer that may want the torrent. It is called when there is a free connection, and again later if it
    /// cannot be reached.
    pub fn call(&self, addr: SocketAddr) {
        self.0.call(addr);
    }

    /// The numbers of peers, and of bytes sent to them.
    pub fn stats(&self) -> Stats {
        self.0.stats()
    }
}

/// Disconnects all peers when [`Seeder::run`] ends or is dropped.
struct Stop<'a>(&'a Arc<Engine>);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

async fn accept(engine: &Arc<Engine>, listener: &TcpListener) -> Infallible {
    loop {
        match listener.accept().await {
            Ok((stream, addr)) => engine.welcome(stream, addr),
            // That connection ended before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                log::warn!("no new connections for a second: {error}");
                task::sleep(Duration::from_secs(1)).await;
            }
        }
        task::yield_now().await;
    }
}

async fn keep_time(engine: &Arc<Engine>) -> Infallible {
    loop {
        let due = engine.deadline();
        let wait = due.map_or(LONGEST, |at| at.since(engine.now()));
        // A change of the deadline wakes this task. Then the tick comes early, which is harmless.
        let moved = poll_fn(|_| match engine.deadline() == due {
            true => Poll::Pending,
            false => Poll::Ready(()),
        });
        let _ = future::timeout(wait.max(SHORTEST), moved).await;
        engine.tick();
    }
}

/// The longest time between ticks when nothing is due, and the shortest, in fairness to other tasks.
const LONGEST: Duration = Duration::from_secs(3600);
const SHORTEST: Duration = Duration::from_millis(1);
