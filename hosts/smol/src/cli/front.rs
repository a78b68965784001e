//! The front end of a session, the same for all commands that run one.

use std::time::Duration;

use crate::cli::notices;
use crate::session::{Commands, Front};

/// The front end of a session: a person who reads what is printed, or a log.
pub(super) fn of(numbers: fn(bool) -> Option<Duration>) -> Front {
    Front {
        notices: notices::printed(),
        numbers,
        commands: Commands::default(),
    }
}
