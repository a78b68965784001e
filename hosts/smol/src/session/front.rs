//! Who is in front of a session: it sends commands and hears notices.

use std::time::Duration;

use super::notice::Notices;

/// See the module.
#[derive(Clone, Debug)]
pub struct Front {
    /// What it hears.
    pub notices: Notices,
    /// How often it wants to hear how everything stands, if at all; `quiet` or not.
    pub numbers: fn(bool) -> Option<Duration>,
}

impl Front {
    /// Nobody is there.
    pub fn nobody() -> Front {
        Front {
            notices: Notices::nobody(),
            numbers: |_| None,
        }
    }
}
