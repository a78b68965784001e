//! The front end of a session, which sends commands and hears notices.

use std::time::Duration;

use super::notice::Notices;

/// The receiver of a session's notices.
#[derive(Clone, Debug)]
pub struct Front {
    /// The receiver.
    pub notices: Notices,
    /// The interval at which it wants the session's numbers, if at all; the argument is whether `--quiet` was given.
    pub numbers: fn(bool) -> Option<Duration>,
}

impl Front {
    /// A front end that hears nothing.
    pub fn nobody() -> Front {
        Front {
            notices: Notices::nobody(),
            numbers: |_| None,
        }
    }
}
