//! [`Stash`]: the buffer of an extended message that arrives in parts (BEP 10).

use crate::peer::ConnId;

/// The bytes so far of an extended message, of one connection at a time.
#[derive(Debug, Default)]
pub(crate) struct Stash {
    pub(crate) owner: Option<ConnId>,
    pub(crate) bytes: heapless::Vec<u8, 2048>,
}

impl Stash {
    pub(crate) fn of(owner: ConnId) -> Stash {
        Stash {
            owner: Some(owner),
            ..Stash::default()
        }
    }

    /// Whether the connection that it is for is still there.
    pub(crate) fn is_held(&self, is_there: impl Fn(ConnId) -> bool) -> bool {
        self.owner.is_some_and(is_there)
    }
}
