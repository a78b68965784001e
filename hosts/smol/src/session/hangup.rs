//! SIGHUP: reads the configuration again, and asks the running session to change to it.
//!
//! Invariant: the session gets only a configuration that can be carried out as a whole. The errors of any other one
//! are logged, each with its line.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use super::command::{Command, Commands};
use super::foresee::{ReadConfig, foresee};
use crate::alarm::Alarm;
use crate::async_tasks::Spawner;
use crate::logging::flood::EVENT;
use crate::options::finding::Weight;
use crate::options::run::{Config, RunArgs};

/// The reader of a service's configuration file.
pub(super) struct Hangup {
    args: RunArgs,
    commands: Commands,
    alarm: Arc<Alarm>,
    spawner: Spawner,
    /// The configuration that was read and checked.
    read: Rc<Cell<Option<ReadConfig>>>,
}

impl Hangup {
    pub(super) fn new(
        args: RunArgs,
        commands: Commands,
        alarm: Arc<Alarm>,
        spawner: Spawner,
    ) -> Hangup {
        Hangup {
            args,
            commands,
            alarm,
            spawner,
            read: Rc::default(),
        }
    }

    /// Reads and checks the file on another thread, while peers are served.
    pub(super) fn read(&self, running: &Config) {
        let (args, running) = (self.args.clone(), running.clone());
        let (place, alarm) = (Rc::clone(&self.read), Arc::clone(&self.alarm));
        self.spawner.spawn(async move {
            let read = smol::unblock(move || {
                let (config, lines, wrong) = Config::read(&args)?;
                let found = foresee(&config, &lines, wrong, Some(&running));
                Ok((config, found))
            });
            place.set(Some(read.await));
            alarm.ring();
        });
    }

    /// Sends the session the configuration that was read, or logs its errors. Returns whether it had errors.
    pub(super) fn send_configuration(&self) -> bool {
        match self.read.take().map(|read| self.judge(read)) {
            None => false,
            Some(Ok(config)) => {
                let sent = self.commands.send(Command::Reload(Box::new(config)));
                if !sent {
                    log::error!(
                        target: EVENT,
                        "too many commands wait, so it goes on with the configuration as it was; send SIGHUP again"
                    );
                }
                !sent
            }
            Some(Err(wrong)) => {
                wrong
                    .iter()
                    .for_each(|wrong| log::error!(target: EVENT, "{wrong}"));
                log::error!(target: EVENT, "it goes on with the configuration as it was");
                true
            }
        }
    }

    /// The configuration, or all findings against it.
    fn judge(&self, read: ReadConfig) -> Result<Config, Vec<String>> {
        let (config, found) = read.map_err(|text| vec![text])?;
        let (waits, wrong): (Vec<_>, Vec<_>) =
            found.iter().partition(|f| f.weight == Weight::Waits);
        for finding in waits {
            log::warn!(target: EVENT, "{}", self.args.tell(finding));
        }
        let wrong: Vec<_> = wrong.into_iter().map(|f| self.args.tell(f)).collect();
        match wrong.is_empty() {
            true => Ok(config),
            false => Err(wrong),
        }
    }
}
