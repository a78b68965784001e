//! SIGHUP: the configuration is read anew, and a session that runs is asked to go on with it.
//!
//! Invariant: the session hears only of a configuration of which everything can be carried out; what is wrong in
//! another one is said, each with its line.

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

/// Reads the configuration file of a service.
pub(super) struct Hangup {
    args: RunArgs,
    commands: Commands,
    alarm: Arc<Alarm>,
    spawner: Spawner,
    /// A configuration that was read and looked at.
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

    /// Has the file read, and what it names looked at, beside those who are served.
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

    /// Sends what was read on its way; answers whether something was read and is not.
    pub(super) fn mind(&self) -> bool {
        match self.read.take().map(|read| self.judge(read)) {
            None => false,
            Some(Ok(config)) => {
                self.commands.send(Command::Reload(Box::new(config)));
                false
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

    /// The configuration if it can be carried out; or all that is wrong.
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
