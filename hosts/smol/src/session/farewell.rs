//! The end of a session: its state is saved, peers are disconnected, and trackers are told.

use std::io;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::{SAVE, Session};

impl Session {
    /// Saves the state, disconnects all peers and tells the trackers, within a time limit. Nothing new is begun.
    /// Another signal ends this at once.
    pub(super) fn farewell(&mut self) -> io::Result<ExitCode> {
        log::info!("it stops");
        self.ending = true;
        // Unfinished work of its threads ends with the process.
        self.library.give_up();
        if !self.again {
            self.manager.stopping();
        }
        let engine = Rc::clone(&self.engine);
        for torrent in self
            .torrents
            .awake
            .iter_mut()
            .filter(|t| !t.is_downloading())
        {
            torrent.save_in_haste(&engine.borrow(), &self.torrents.state);
        }
        let state = &self.torrents.state;
        self.neighbours.keep(&engine.borrow(), state);
        self.torrents.paused.write_at_end();
        state.sync();
        engine.borrow_mut().stop();
        self.port_map.stop();
        // The routers' tasks have to hear of it.
        self.torrents.alarm.ring();
        let begin = Instant::now();
        self.next_save = begin + SAVE;
        let farewell = farewell(self.library.is_service);
        loop {
            let router = match self.port_map.is_done() {
                true => Duration::ZERO,
                false => ROUTER.saturating_sub(begin.elapsed()),
            };
            let at_rest = self.engine.borrow().is_at_rest();
            let left = match at_rest {
                true => router,
                false => farewell.saturating_sub(begin.elapsed()),
            };
            if left.is_zero() {
                break;
            }
            if self.turn(left)? > 0 && begin.elapsed() > SAME_SIGNAL {
                return Ok(ExitCode::from(INTERRUPTED));
            }
        }
        // The last blocks had to be written first.
        let engine = engine.borrow();
        for torrent in self
            .torrents
            .awake
            .iter_mut()
            .filter(|t| t.is_downloading())
        {
            torrent.save_and_wait(&engine, &self.torrents.state);
        }
        if self.library.is_service {
            // A service is never complete, so stopping it is no failure.
            return Ok(ExitCode::SUCCESS);
        }
        self.torrents
            .awake
            .iter()
            .for_each(|t| t.say_unfinished(&engine));
        let code = self.library.exit_code(&self.torrents, &engine);
        Ok(ExitCode::from(code))
    }
}

/// How long trackers have to hear that we are gone. A service stops within a second, the rest of which is for the
/// state: a machine that goes down has no more patience.
fn farewell(is_service: bool) -> Duration {
    match is_service {
        true => Duration::from_millis(600),
        false => Duration::from_secs(5),
    }
}

/// The time that a router has to hear that it need not forward our port any more.
const ROUTER: Duration = Duration::from_millis(900);

/// One Ctrl-C may arrive twice: from the terminal, and passed on by `sudo` or `timeout`.
const SAME_SIGNAL: Duration = Duration::from_millis(100);

/// The exit code after a second signal.
const INTERRUPTED: u8 = 130;

#[cfg(test)]
mod tests {
    use super::*;

    /// Trackers that do not answer, or names that nobody resolves, do not keep a service from stopping within a second.
    #[test]
    fn a_service_stops_within_a_second() {
        assert!(farewell(true).max(ROUTER) < Duration::from_secs(1));
        assert!(farewell(false) > farewell(true));
    }
}
