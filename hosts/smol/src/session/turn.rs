//! One turn of the session: the engine's reports are handled, and chores are done.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use everseed_node::{Event, PeerSource};

use super::item::ItemStage;
use super::library::Library;
use super::notice::Notice;
use super::numbers::{Numbers, in_short};
use super::torrent::ManagedTorrent;
use super::torrents::{Torrents, numbers};
use super::{SAVE, Session, announcing};
use crate::logging::flood;
use crate::net::engine::{Engine, TurnReport};
use crate::web::tracker::serve;

impl Session {
    /// Runs until a signal asks to stop.
    pub(super) fn run(&mut self) -> io::Result<ExitCode> {
        self.tasks.turn();
        let goes_on = |s: &Session| !s.again && !s.stopped && !s.is_all_done();
        while self.turn(CHORES)? == 0 && goes_on(self) {}
        self.torrents.notices.tell(Notice::Ending);
        let code = self.farewell();
        flood::tell(true);
        code
    }

    /// Takes one turn, which waits at most `limit`. Returns the number of stop signals.
    pub(super) fn turn(&mut self, limit: Duration) -> io::Result<u32> {
        let engine = Rc::clone(&self.engine);
        let mut engine = engine.borrow_mut();
        let patience = self.patience(&engine, limit);
        engine.turn(patience)?;
        let TurnReport {
            signals,
            rung,
            web,
            files,
            announces,
            udp_outcomes,
            wakes,
            fetched,
            unspooled,
            caller,
            finds_nodes,
        } = std::mem::take(&mut engine.report);
        let unknown = &mut self.torrents.unknown;
        let known = unknown.handle_fetched(&mut engine, &fetched, unspooled);
        if !known.is_empty() {
            self.library.fetched(&known);
            self.torrents.checked = true;
        }
        self.torrents.wakes.extend(wakes);
        self.torrents.hear_of_files(&mut engine, files);
        let (torrents, listening) = (&mut self.torrents, &self.listening);
        self.port_map
            .run_due(&mut engine, torrents, listening, &self.tasks, caller);
        let (shared, state) = (&self.engine, &self.torrents.state);
        let beyond = listening.is_beyond();
        self.neighbours
            .run_due(&mut engine, shared, state, &self.tasks, finds_nodes, beyond);
        self.chores(&mut engine);
        if !self.ending {
            self.look_after(&mut engine);
        }
        drop(engine);
        let woken = rung || !web.is_empty() || !announces.is_empty();
        web.into_iter()
            .for_each(|(stream, addr)| self.welcome(stream, addr));
        for task in announces {
            let (engine, failing) = (&self.engine, &self.failing);
            announcing::carry_out(task, &self.torrents, engine, failing, &self.tasks);
        }
        for outcome in udp_outcomes {
            announcing::announced_by_udp(&mut self.failing.borrow_mut(), outcome);
        }
        if woken {
            self.tasks.turn();
        }
        // A signal may also be the one to reload the configuration.
        Ok(if signals > 0 { self.signals.stops() } else { 0 })
    }
}

/// The parts of a turn.
impl Session {
    /// The time until something is due, at most `limit`.
    fn patience(&self, engine: &Engine, limit: Duration) -> Duration {
        let now = Instant::now();
        let until = |at: Instant| at.saturating_duration_since(now);
        let Session {
            torrents, library, ..
        } = self;
        let awake = &torrents.awake;
        let calls = torrents.tracker.borrow().has_uncalled()
            || awake.iter().any(ManagedTorrent::is_downloading);
        let own = [
            self.numbers.map(|_| until(self.next_numbers)),
            self.manager.next().map(until),
            calls.then_some(PEERS),
            engine.worker.has_open_files().then_some(CLOSE),
        ];
        let patience = own.into_iter().flatten().fold(limit, Duration::min);
        match self.ending {
            true => patience,
            false => library.patience(patience),
        }
    }

    /// Carries out commands, and handles what is due.
    fn look_after(&mut self, engine: &mut Engine) {
        self.manager.alive(Instant::now());
        if self.signals.asked() {
            return;
        }
        if let Some(hangup) = &self.hangup {
            if self.signals.reloads() {
                self.manager.reloading();
                hangup.read(&self.library.config);
            }
            if hangup.send_configuration() {
                self.manager.ready();
            }
        }
        // What it found in watched folders are commands, too.
        let any = self.library.take_reports(&mut self.torrents, engine);
        self.execute_all(engine);
        if self.again || self.stopped {
            return;
        }
        let (torrents, listening) = (&mut self.torrents, &self.listening);
        self.library.run_due(torrents, engine, listening, any);
        if let Some(write) = torrents.paused.write_due() {
            self.tasks.spawn(smol::unblock(write));
        }
        self.again |= self.library.outgrown;
    }

    /// Whether an attended session has nothing more to do.
    fn is_all_done(&self) -> bool {
        self.library
            .is_all_done(&self.torrents, &self.engine.borrow())
    }

    /// What is due whether the session goes on or ends.
    fn chores(&mut self, engine: &mut Engine) {
        flood::tell(false);
        let now = Instant::now();
        let reach = &mut self.torrents.reach;
        reach.look_up(now, &self.torrents.tracker, &self.tasks);
        if self.listening.look_after(engine, now) {
            // Whether trackers have to be told is decided at once.
            self.library.next_poll = now;
        }
        self.torrents.run_due(engine, now);
        if now >= self.next_peers {
            self.next_peers = now + PEERS;
            self.call_peers(engine);
            for torrent in self.torrents.awake.iter_mut() {
                torrent.report_stuck(engine, now);
            }
        }
        if now >= self.next_close {
            self.next_close = now + CLOSE;
            engine.worker.close_unused();
        }
        if now >= self.next_save {
            self.next_save = now + SAVE;
            for torrent in self.torrents.awake.iter_mut() {
                if self.signals.asked() {
                    break;
                }
                torrent.save(engine, &self.torrents.state);
            }
        }
        self.tell_numbers(engine, now);
    }

    /// Tells the service manager and the front end the numbers, if that is due.
    fn tell_numbers(&mut self, engine: &Engine, now: Instant) {
        if self.library.is_service {
            self.torrents.unknown.say(engine, true);
        }
        self.torrents.reach.reachable = self.port_map.reachable();
        if self.manager.is_there() && now >= self.next_word {
            self.next_word = now + CHORES;
            let numbers = self.count(engine);
            self.manager.status(in_short(&numbers));
        }
        if let Some(interval) = self.numbers.filter(|_| now >= self.next_numbers) {
            self.next_numbers = now + interval;
            let numbers = Numbers {
                unknown: self.torrents.unknown.say(engine, false),
                ..self.count(engine)
            };
            self.torrents.notices.tell(Notice::Numbers(&numbers));
        }
    }

    fn count(&self, engine: &Engine) -> Numbers {
        let Session {
            torrents, library, ..
        } = self;
        let Torrents {
            awake,
            catalogue,
            wakes,
            reach,
            ..
        } = torrents;
        let Library { items, waking, .. } = library;
        let paused = items.iter().filter(|item| item.stage == ItemStage::Paused);
        Numbers {
            reachable: reach.reachable,
            waking: waking.len() + wakes.len(),
            paused: paused.count() + catalogue.borrow().paused(),
            ..numbers(engine, awake)
        }
    }

    /// Calls peers that asked the built-in tracker. They may be unable to call us, or slow to: some clients wait for
    /// minutes after a try over UDP.
    fn call_peers(&mut self, engine: &mut Engine) {
        let now = engine.now();
        let (torrents, wakes) = (&self.torrents.awake, &mut self.torrents.wakes);
        self.torrents
            .tracker
            .borrow_mut()
            .call(now, |info_hash, peer, complete| {
                let Some(id) = engine.node.find(info_hash) else {
                    return false;
                };
                let torrent = torrents.known_as(id);
                let needs = torrent.is_some_and(ManagedTorrent::is_downloading);
                if complete && !needs {
                    return true;
                }
                if engine.node.is_asleep(id) {
                    wakes.push((id, vec![peer]));
                } else {
                    engine.tell(Event::Peer(id, peer, PeerSource::Tracker));
                }
                true
            });
    }

    /// Serves an HTTP connection.
    fn welcome(&mut self, stream: TcpStream, from: SocketAddr) {
        let Ok(stream) = smol::Async::new(stream) else {
            return;
        };
        let table = Rc::clone(&self.torrents.tracker);
        let engine = Rc::clone(&self.engine);
        let (catalogue, state) = (
            Rc::clone(&self.torrents.catalogue),
            Arc::clone(&self.torrents.state),
        );
        let (own_tracker, share_torrent) = (
            self.torrents.reach.own_tracker.clone(),
            self.torrents.reach.share_torrent,
        );
        let task = self.tasks.begin(async move {
            let now = || engine.borrow().now();
            // Awake torrents are in the table already.
            let ours = |info_hash| {
                let id = engine.borrow().node.find(info_hash);
                id.is_some_and(|id| catalogue.borrow().is_tracked(id, &own_tracker))
            };
            let shared = |info_hash| {
                let id = engine
                    .borrow()
                    .node
                    .find(info_hash)
                    .filter(|_| share_torrent)?;
                let awake = engine.borrow().torrent_file(id);
                awake.or_else(|| catalogue.borrow().torrent_file(id, &state))
            };
            if let Err(error) = serve(stream, &table, &now, &ours, &shared).await {
                log::debug!("{from}: {error}");
            }
        });
        self.web.admit(from.ip(), task);
    }
}

/// The longest time between chores. It is short, so that a disk that is mounted again is served within half a minute.
pub(super) const CHORES: Duration = Duration::from_secs(10);

/// The interval at which peers of the built-in tracker are called.
const PEERS: Duration = Duration::from_secs(2);

/// The interval, while files are open, at which files are closed that were not used since the last time.
const CLOSE: Duration = Duration::from_secs(5);
