//! The front end of a session, which sends commands and hears notices.

use std::time::Duration;

use super::command::Commands;
use super::notice::Notices;

/// The receiver of a session's notices and sender of its commands. Keep a clone of `commands` to send some while the
/// session runs:
///
/// ```no_run
/// use everseed::options::run::Config;
/// use everseed::session::{self, Attendance, Command, Front, Which};
///
/// # fn configured() -> Config { unimplemented!() }
/// let front = Front::nobody();
/// let commands = front.commands.clone();
/// let session = std::thread::spawn(|| {
///     let code = session::run(configured(), Attendance::Attended, front);
///     code.is_ok()
/// });
/// assert!(commands.send(Command::Pause(Which::All)));
/// assert!(commands.send(Command::Stop));
/// assert!(session.join().unwrap());
/// ```
#[derive(Clone, Debug)]
pub struct Front {
    /// The receiver.
    pub notices: Notices,
    /// The interval at which it wants the session's numbers, if at all; the argument is whether `--quiet` was given.
    pub numbers: fn(bool) -> Option<Duration>,
    /// The sender.
    pub commands: Commands,
}

impl Front {
    /// A front end that hears nothing.
    pub fn nobody() -> Front {
        Front {
            notices: Notices::nobody(),
            numbers: |_| None,
            commands: Commands::default(),
        }
    }
}
