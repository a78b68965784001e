//! The reasons why an item cannot be seeded.

use everseed_core::hash::InfoHash;

use crate::failure::FAILURE;

/// Why an item cannot be seeded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Trouble {
    /// A disk that it needs is not mounted.
    Away(String),
    /// There is no room for it now.
    Full(String),
    /// Other torrents have all places.
    NoPlace(String),
    /// It cannot be used until it is changed.
    Bad(String),
    /// It may succeed at a later try.
    Failed(String),
    /// It exists, but is not what slept.
    Changed(String),
    /// It is this magnet link, and its metadata is not here.
    Unknown(String),
    /// It was to be opened once, and ends with this exit code.
    Refused(String, u8),
    /// The same torrent is there already, under another name.
    Twin(String, InfoHash),
    /// It belongs to a torrent, and nobody named it.
    Described(String),
}

impl Trouble {
    /// The exit code of a session that ends with it.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Trouble::Refused(_, code) => *code,
            _ => FAILURE,
        }
    }

    /// The message.
    pub(crate) fn text(self) -> String {
        let (Trouble::Away(text)
        | Trouble::Full(text)
        | Trouble::NoPlace(text)
        | Trouble::Bad(text)
        | Trouble::Failed(text)
        | Trouble::Changed(text)
        | Trouble::Unknown(text)
        | Trouble::Refused(text, _)
        | Trouble::Twin(text, _)
        | Trouble::Described(text)) = self;
        text
    }
}

impl From<String> for Trouble {
    fn from(text: String) -> Trouble {
        Trouble::Failed(text)
    }
}
