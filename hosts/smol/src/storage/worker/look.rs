//! Looks at a content's files: which are there, and how they were last seen.

use std::time::{Duration, Instant};

use everseed_disk::{Content, ReadError, WriteError, check, find, write};

use super::task::Look;

/// A piece counts as bad only while some other bytes can be read, because a disk that is gone proves nothing.
pub(super) fn still_there(content: &Content, good: bool) -> Result<bool, ReadError> {
    if !good {
        check::reachable(content)?;
    }
    Ok(good)
}

pub(super) fn look(content: &Content) -> Result<Look, ReadError> {
    let reached = check::reachable(content);
    let mut present = match reached {
        Ok(()) => check::present(content)?,
        Err(_) => None,
    };
    let missing = reached.is_err() || present.is_some();
    if !content.is_growing() && content.is_search_due(missing) {
        let until = Instant::now() + SEARCH;
        find::search(content, None, &mut || Instant::now() < until)?;
        check::reachable(content)?;
        present = check::present(content)?;
    } else {
        reached?;
    }
    Ok(Look {
        fingerprint: check::fingerprint(content)?,
        present,
    })
}

/// A look that does not search for anything.
pub(super) fn seen(content: &Content) -> Result<Look, ReadError> {
    let fingerprint = check::fingerprint(content)?;
    let present = check::present(content)?;
    Ok(Look {
        fingerprint,
        present,
    })
}

/// Syncs what was written of a download, and takes the fingerprint that goes with it.
pub(crate) fn settle(content: &Content) -> Result<u64, WriteError> {
    write::sync(content)?;
    check::fingerprint(content).map_err(WriteError::Place)
}

/// The longest search for moved files: others wait for it.
const SEARCH: Duration = Duration::from_secs(5);
