//! Closes the state to everybody but its owner, because it holds trackers' passkeys. Its files are known by their names.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use everseed_core::hash::InfoHash;
use rustix::fs::OFlags;

/// Closes a state to others if it is open to them, as 0.1.0 left it. If a folder holds other files too, only our own
/// files are closed.
pub(super) fn tighten(folder: &Path) -> io::Result<()> {
    let about = fs::metadata(folder)?;
    if about.permissions().mode() & 0o077 == 0 {
        return Ok(());
    }
    let mut alone = about.permissions().mode() & 0o1000 == 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        match is_ours(name.as_bytes()) {
            true if kind.is_file() => close_to_others(&entry.path())?,
            true if kind.is_dir() => {
                fs::set_permissions(entry.path(), Permissions::from_mode(0o700))?
            }
            _ => alone = false,
        }
    }
    match alone {
        true => fs::set_permissions(folder, Permissions::from_mode(0o700)),
        false => Err(io::Error::other("it holds other things too")),
    }
}

/// Lets only the owner read and write a file.
pub(crate) fn close_to_others(path: &Path) -> io::Result<()> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let mut options = File::options();
    options.read(true).custom_flags(flags.cast_signed());
    let file = options.open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))
}

/// Whether a file in the state folder belongs to the state, by its name.
fn is_ours(name: &[u8]) -> bool {
    let known: [&[u8]; 9] = [
        b"lock",
        b"given",
        b"made",
        b"described",
        b"catalogue",
        b"paused",
        b"new.torrent",
        b"fetched.torrent",
        b"dht",
    ];
    let of_torrent = || {
        let (hash, rest) = name.split_at_checked(40)?;
        InfoHash::from_hex(hash)?;
        Some(KINDS.iter().any(|kind| kind.as_bytes() == rest))
    };
    let name = name.strip_suffix(b".damaged").unwrap_or(name);
    known.contains(&name) || name.starts_with(b".everseed-") || of_torrent() == Some(true)
}

/// The endings of the names of a torrent's state files, after the info-hash.
pub(crate) const KINDS: [&str; 9] = [
    ".torrent",
    ".seeded",
    ".resume",
    ".index",
    ".place",
    ".target",
    ".files",
    ".check",
    ".download",
];
