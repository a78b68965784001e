//! How a session ends: what is known is kept, everybody is let go, and trackers are told.

use std::io;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::{SAVE, Session};

impl Session {
    /// Keeps the state, lets everybody go and tells the trackers, within a time that is
    /// set; nothing new is begun. Another signal ends it at once.
    pub(super) fn farewell(&mut self) -> io::Result<ExitCode> {
        log::info!("it stops");
        self.ending = true;
        // What its threads are in the middle of ends with the process.
        self.library.give_up();
        if !self.again {
            self.manager.stopping();
        }
        let engine = Rc::clone(&self.engine);
        for torrent in self
            .torrents
            .managed
            .iter_mut()
            .filter(|t| !t.is_downloading())
        {
            torrent.save_in_haste(&engine.borrow(), &self.torrents.state);
        }
        let state = &self.torrents.state;
        self.neighbours.keep(&engine.borrow(), state);
        state.sync();
        engine.borrow_mut().stop();
        self.port_map.stop();
        // The routers' tasks hear of it.
        self.torrents.alarm.ring();
        let begin = Instant::now();
        self.next_save = begin + SAVE;
        loop {
            let router = match self.port_map.is_done() {
                true => Duration::ZERO,
                false => ROUTER.saturating_sub(begin.elapsed()),
            };
            let at_rest = self.engine.borrow().is_at_rest();
            let left = match at_rest {
                true => router,
                false => self.farewell.saturating_sub(begin.elapsed()),
            };
            if left.is_zero() {
                break;
            }
            if self.turn(left)? > 0 && begin.elapsed() > SAME_SIGNAL {
                return Ok(ExitCode::from(INTERRUPTED));
            }
        }
        // Its last blocks had to be written first.
        let engine = engine.borrow();
        for torrent in self
            .torrents
            .managed
            .iter_mut()
            .filter(|t| t.is_downloading())
        {
            torrent.save(&engine, &self.torrents.state);
        }
        if self.library.is_service {
            // A service is never complete, so that being stopped is no failure.
            return Ok(ExitCode::SUCCESS);
        }
        self.torrents
            .managed
            .iter()
            .for_each(|t| t.say_unfinished(&engine));
        let code = self.library.exit_code(&self.torrents, &engine);
        Ok(ExitCode::from(code))
    }
}

/// How long a router has to hear that it need not forward our port any more.
const ROUTER: Duration = Duration::from_millis(900);

/// One press of Ctrl-C may arrive twice: from the terminal, and passed on by `sudo` or `timeout`.
const SAME_SIGNAL: Duration = Duration::from_millis(100);

/// The exit code when a second signal came.
const INTERRUPTED: u8 = 130;
