//! The sockets and timers of a [`PortMapper`], which asks one router to forward our port.
//!
//! No socket is open while nothing is waited for, which is most of the time. An HTTP answer of a router is read up to
//! 64 KiB and for five seconds.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use everseed_core::time::Instant;
use everseed_node::discovery::port_mapper::{
    Gateway, PACKET_MAX, PortMapper, REQUEST_MAX, Standing,
};
use smol::channel::{Receiver, Sender, bounded};
use smol::future::{FutureExt as _, pending};
use smol::{Async, Task, Timer};
use socket2::{Domain, Socket, Type};

use crate::alarm::Alarm;
use crate::async_tasks::AsyncTasks;
use crate::client::http::{Limits, ask};
use crate::clock::Clock;
use crate::net::way::Way;

/// A router that is asked to forward our port; dropping this ends the requests.
pub(crate) struct AskedRouter {
    pub(crate) gateway: Gateway,
    /// The port to forward, for TCP and UDP.
    pub(crate) port: u16,
    shared: Rc<Shared>,
    stop: Sender<()>,
    _task: Task<()>,
}

/// The state that the task and [`AskedRouter`] share.
struct Shared {
    standing: Cell<Standing>,
    done: Cell<bool>,
}

impl AskedRouter {
    /// Begins to ask the router; `alarm` is rung whenever its standing changes. `seed` must not be guessable.
    pub(crate) fn begin(
        gateway: Gateway,
        port: u16,
        seed: u64,
        tasks: &AsyncTasks,
        alarm: Arc<Alarm>,
    ) -> AskedRouter {
        let shared = Rc::new(Shared {
            standing: Cell::new(Standing::Asking),
            done: Cell::new(false),
        });
        let (stop, stopped) = bounded(1);
        let clock = Clock::new();
        let mapping = MappingTask {
            mapper: PortMapper::new(clock.now(), gateway, port, Some(port), seed),
            gateway,
            clock,
            sockets: None,
            call: None,
            stopped,
            stopping: false,
        };
        let (told, ring) = (Rc::clone(&shared), Arc::clone(&alarm));
        let task = tasks.begin(async move { mapping.run(&told, &ring).await });
        // The task begins when the executor is next polled.
        alarm.ring();
        AskedRouter {
            gateway,
            port,
            shared,
            stop,
            _task: task,
        }
    }

    pub(crate) fn standing(&self) -> Standing {
        self.shared.standing.get()
    }

    /// Asks the router to end its forwarding.
    pub(crate) fn stop(&self) {
        self.stop.close();
    }

    /// Whether the forwarding has ended, or never began.
    pub(crate) fn is_done(&self) -> bool {
        self.shared.done.get()
    }
}

/// The task that talks to the router.
struct MappingTask {
    mapper: PortMapper,
    gateway: Gateway,
    clock: Clock,
    sockets: Option<Sockets>,
    call: Option<Call>,
    stopped: Receiver<()>,
    stopping: bool,
}

/// A running HTTP request.
type Call = Pin<Box<dyn Future<Output = Option<(u16, Vec<u8>)>>>>;

/// The events for which the task waits.
enum Wakeup {
    Router(io::Result<usize>),
    Search(io::Result<(usize, SocketAddr)>),
    Called(Option<(u16, Vec<u8>)>),
    Stop,
    Time,
}

impl MappingTask {
    async fn run(mut self, shared: &Shared, alarm: &Alarm) {
        let mut packet = [0; ANSWER_MAX];
        loop {
            let now = self.clock.now();
            self.send(now);
            // TCP and UDP are reported together.
            let standing = match self.mapper.standing() {
                Standing::Mapped { .. } if self.mapper.is_busy(now) => shared.standing.get(),
                standing => standing,
            };
            let done = self.mapper.is_done();
            if shared.standing.replace(standing) != standing || done {
                shared.done.set(done);
                alarm.ring();
            }
            if done {
                return;
            }
            let wait = self.mapper.deadline(now).since(now);
            if wait > REST && self.call.is_none() {
                self.sockets = None;
            }
            let event = self.next(wait.min(LONGEST), &mut packet).await;
            let now = self.clock.now();
            match event {
                Wakeup::Router(Ok(len)) => self.mapper.router_said(now, &packet[..len]),
                Wakeup::Router(Err(error)) => self.deaf(now, &error),
                Wakeup::Search(Ok((len, from))) => {
                    self.mapper.search_answered(now, from, &packet[..len]);
                }
                Wakeup::Search(Err(error)) => log::debug!("the search for a router: {error}"),
                Wakeup::Called(answer) => {
                    self.call = None;
                    let answer = answer.as_ref();
                    let answer = answer.map(|(status, body)| (*status, body.as_slice()));
                    self.mapper.called(now, answer);
                }
                Wakeup::Stop => {
                    self.stopping = true;
                    self.mapper.stop(now);
                }
                Wakeup::Time => {}
            }
        }
    }

    /// Sends all packets and requests that are due.
    fn send(&mut self, now: Instant) {
        let mut room = [0; REQUEST_MAX];
        loop {
            let packet = &mut room[..PACKET_MAX];
            if let Some(len) = self.mapper.poll_router(now, packet) {
                let to = self.mapper.router();
                let sent = self
                    .sockets(to)
                    .and_then(|s| s.router.get_ref().send(&room[..len]));
                if let Err(error) = sent {
                    self.deaf(now, &error);
                }
            } else if let Some((to, len)) = self.mapper.poll_search(now, packet) {
                let router = self.mapper.router();
                let sent = self.sockets(router);
                let sent = sent.and_then(|s| s.search.get_ref().send_to(&room[..len], to));
                if let Err(error) = sent {
                    log::debug!("{to}: {error}");
                }
            } else if self.call.is_none()
                && let Some((to, len)) = self.mapper.poll_call(now, &mut room)
            {
                let (request, way) = (room[..len].to_vec(), Way::from(&[self.gateway.client]));
                self.call = Some(Box::pin(async move {
                    let answer = ask(to, &request, &way, &LIMITS).await;
                    answer
                        .inspect_err(|error| log::debug!("{to}: {error}"))
                        .ok()
                }));
            } else {
                return;
            }
        }
    }

    fn sockets(&mut self, router: SocketAddr) -> io::Result<&Sockets> {
        if self.sockets.is_none() {
            self.sockets = Some(Sockets::open(&self.gateway, router)?);
        }
        self.sockets
            .as_ref()
            .ok_or(io::ErrorKind::NotConnected.into())
    }

    /// Tells the mapper that the router refuses packets, if the error says that nobody listens there.
    fn deaf(&mut self, now: Instant, error: &io::Error) {
        log::debug!("the router {}: {error}", self.gateway.ip);
        if error.kind() == io::ErrorKind::ConnectionRefused {
            self.mapper.router_is_deaf(now);
        }
    }

    async fn next(&mut self, wait: Duration, packet: &mut [u8]) -> Wakeup {
        let time = async {
            Timer::after(wait).await;
            Wakeup::Time
        };
        let (stopped, stopping) = (&self.stopped, self.stopping);
        let stop = async {
            match stopping {
                true => pending().await,
                false => _ = stopped.recv().await,
            }
            Wakeup::Stop
        };
        let call = async {
            match &mut self.call {
                Some(call) => Wakeup::Called(call.await),
                None => pending().await,
            }
        };
        let sockets = &self.sockets;
        let heard = async {
            match sockets {
                Some(sockets) => sockets.recv(packet).await,
                None => pending().await,
            }
        };
        stop.or(call).or(heard).or(time).await
    }
}

/// Sockets to a router. The kernel lets only the router's packets into the first one. The second takes packets from
/// anybody, because any address may answer a search.
struct Sockets {
    router: Async<UdpSocket>,
    search: Async<UdpSocket>,
}

impl Sockets {
    fn open(gateway: &Gateway, router: SocketAddr) -> io::Result<Sockets> {
        let open = || -> io::Result<Socket> {
            let socket = Socket::new(Domain::for_address(router), Type::DGRAM, None)?;
            socket.bind(&SocketAddr::new(gateway.client, 0).into())?;
            Ok(socket)
        };
        let (to_router, search) = (open()?, open()?);
        to_router.connect(&router.into())?;
        match gateway.client {
            IpAddr::V4(ip) => {
                search.set_multicast_if_v4(&ip)?;
                search.set_multicast_ttl_v4(TTL)?;
                search.set_multicast_loop_v4(false)?;
            }
            IpAddr::V6(_) => {
                if gateway.scope_id != 0 {
                    search.set_multicast_if_v6(gateway.scope_id)?;
                }
                search.set_multicast_hops_v6(TTL)?;
                search.set_multicast_loop_v6(false)?;
            }
        }
        Ok(Sockets {
            router: Async::new(to_router.into())?,
            search: Async::new(search.into())?,
        })
    }

    /// Receives the next packet. Bytes beyond `packet`'s length are lost.
    async fn recv(&self, packet: &mut [u8]) -> Wakeup {
        loop {
            match self.router.get_ref().recv(packet) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Wakeup::Router(done),
            }
            match self.search.get_ref().recv_from(packet) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Wakeup::Search(done),
            }
            // An error of the reactor shows with the next packet.
            let _ = self.router.readable().or(self.search.readable()).await;
        }
    }
}

/// The hop limit of searches that UPnP wants: no further than the router's network.
const TTL: u32 = 2;

/// The longest packet that is read. PCP has no longer ones.
const ANSWER_MAX: usize = 1100;

/// Sockets are closed if nothing is due for longer than this.
const REST: Duration = Duration::from_secs(20);

/// The longest sleep of the task.
const LONGEST: Duration = Duration::from_secs(3600);

/// Limits of each HTTP request.
const LIMITS: Limits = Limits {
    connect: Duration::from_secs(3),
    total: Duration::from_secs(5),
    body: 64 * 1024,
};
