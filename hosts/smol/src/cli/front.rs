//! The front end of a session, the same for all commands that run one.

use std::time::Duration;

use crate::cli::notices;
use crate::failure::Failure;
use crate::printing;
use crate::session::{Commands, Front};

/// The front end of a session: a person who reads what is printed, or a log. Nobody who stops to do so holds it up.
pub(super) fn of(numbers: fn(bool) -> Option<Duration>) -> Result<Front, Failure> {
    printing::start().map_err(|error| Failure::Failed(format!("cannot start: {error}")))?;
    Ok(Front {
        notices: notices::printed(),
        numbers,
        commands: Commands::default(),
    })
}
