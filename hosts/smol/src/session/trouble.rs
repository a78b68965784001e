//! Why something cannot be seeded.

/// Why something cannot be seeded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Trouble {
    /// A disk that it needs is not there.
    Away(String),
    /// There is no room for it now.
    Full(String),
    /// It is no better until it is changed.
    Bad(String),
    /// It may be better another time.
    Failed(String),
    /// It is there, and is not what slept.
    Changed(String),
    /// It is a magnet link whose metadata is not here.
    Unknown(String),
    /// It belongs to a torrent, and nobody asked for it by name.
    Described(String),
}

impl Trouble {
    /// What to say.
    pub(crate) fn text(self) -> String {
        let (Trouble::Away(text)
        | Trouble::Full(text)
        | Trouble::Bad(text)
        | Trouble::Failed(text)
        | Trouble::Changed(text)
        | Trouble::Unknown(text)
        | Trouble::Described(text)) = self;
        text
    }
}

impl From<String> for Trouble {
    fn from(text: String) -> Trouble {
        Trouble::Failed(text)
    }
}
