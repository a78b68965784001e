//! The stagnation of a download whose missing pieces no peer has, and the messages about it.

use std::time::Instant;

use everseed_node::Stuck;

/// The time since which no peer has the missing pieces, and what was reported.
#[derive(Debug, Default)]
pub(crate) struct Stagnation {
    pub(super) since: Option<Instant>,
    /// The number of missing pieces, the first of them, and its file.
    pub(super) named: Option<((u32, u32), String)>,
    /// The text in the status line while it lasts.
    pub(super) says: Option<String>,
}

/// The message about it; `file` holds the first missing piece.
pub(super) fn describe(stuck: &Stuck, file: &str) -> String {
    let missing = match stuck.pieces {
        1 => format!("1 piece is missing (file {file})"),
        n => format!("{n} pieces are missing (the first in file {file})"),
    };
    match stuck.peers {
        0 => format!("{missing}, and nobody is connected who has any of it"),
        1 => format!("{missing}, the 1 connected peer has none of it"),
        n => format!("{missing}, none of the {n} connected peers has any of it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use everseed_core::geometry::Geometry;

    #[test]
    fn what_is_said() {
        let first = Geometry::new(10, 2).unwrap().piece(3).unwrap();
        let table = [
            (
                1,
                3,
                "1 piece is missing (file a/b), none of the 3 connected peers has any of it",
            ),
            (
                1,
                1,
                "1 piece is missing (file a/b), the 1 connected peer has none of it",
            ),
            (
                2,
                0,
                "2 pieces are missing (the first in file a/b), and nobody is connected who has any of it",
            ),
        ];
        for (pieces, peers, text) in table {
            let stuck = Stuck {
                pieces,
                first,
                peers,
            };
            assert_eq!(describe(&stuck, "a/b"), text);
        }
    }
}
