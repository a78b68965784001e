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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_held_as_long_as_its_connection_is_there() {
        let id = |tenancy| ConnId { slot: 3, tenancy };
        assert!(!Stash::default().is_held(|_| true), "it is nobody's");
        for (there, held) in [(id(7), true), (id(8), false)] {
            assert_eq!(Stash::of(id(7)).is_held(|conn| conn == there), held);
        }
    }
}
