//! Replacing a file as a whole: a reader finds the old or the new one, also after a power cut.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Writes `path` by way of a temporary file beside it, which `write` fills, and which is synced and renamed. On an
/// error the temporary file is removed and `path` is as before. A replaced file keeps its permissions; a new one is
/// for its owner alone.
pub fn replace(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    replace_with(path, OWNER, write)
}

/// As [`replace`], but others may read a new file as far as the process's umask allows.
pub(crate) fn replace_for_all(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    replace_with(path, ALL, write)
}

fn replace_with(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    swap(path, mode, true, write)?;
    // The rename is durable when the folder is synced. A file system that cannot sync folders is left as it is.
    let _ = sync_folder(folder_of(path));
    Ok(())
}

/// As [`replace`], but without waiting for the disk. A reader finds the old or the new file. After a power cut within
/// the next seconds it may find neither, so the content has to show by itself that it is whole.
pub fn replace_soon(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    swap(path, OWNER, false, write)
}

/// Syncs a folder, which makes the names in it durable.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn swap(
    path: &Path,
    mode: u32,
    sync: bool,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let temporary = beside(path)?;
    // A process of the same id may have died here. The file is created anew, so that no link is written through.
    let _ = fs::remove_file(&temporary);
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)?;
    if let Ok(before) = fs::symlink_metadata(path)
        && before.is_file()
    {
        // A file system without permissions is left as it is.
        let _ = file.set_permissions(before.permissions());
    }
    let done = fill(file, sync, write).and_then(|()| fs::rename(&temporary, path));
    if done.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    done
}

fn fill(
    file: File,
    sync: bool,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let mut writer = BufWriter::with_capacity(16 * 1024, file);
    write(&mut writer)?;
    writer.flush()?;
    match sync {
        true => writer.get_ref().sync_all(),
        false => Ok(()),
    }
}

fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    // Cut, so that the temporary name of the longest possible name still fits.
    let bytes = name.as_encoded_bytes();
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // Two threads may replace the same file at the same time.
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let temporary = format!(".everseed-{hash:016x}-{}-{number}.part", std::process::id());
    Ok(folder_of(path).join(temporary))
}

static NEXT: AtomicU32 = AtomicU32::new(0);

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Permissions of a new file: for its owner alone, or for all as far as the umask allows.
const OWNER: u32 = 0o600;
const ALL: u32 = 0o666;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn who_may_read() {
        use std::os::unix::fs::PermissionsExt;
        let scratch = Scratch::new("modes");
        let (ours, all) = (scratch.path().join("ours"), scratch.path().join("all"));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        replace(&ours, |_| Ok(())).unwrap();
        replace_for_all(&all, |_| Ok(())).unwrap();
        assert_eq!((mode(&ours), mode(&all) & 0o600), (0o600, 0o600));
        assert!(mode(&ours) <= mode(&all));
        fs::set_permissions(&all, fs::Permissions::from_mode(0o664)).unwrap();
        replace(&all, |_| Ok(())).unwrap();
        replace_soon(&ours, |_| Ok(())).unwrap();
        assert_eq!((mode(&ours), mode(&all)), (0o600, 0o664));
    }

    #[test]
    fn all_or_nothing() {
        let scratch = Scratch::new("replace");
        let path = scratch.path().join("n".repeat(255));
        replace(&path, |file| file.write_all(b"one")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one");
        let failed = replace(&path, |file| {
            file.write_all(b"half")?;
            Err(io::ErrorKind::Other.into())
        });
        assert!(failed.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"one");
        replace_soon(&path, |file| file.write_all(b"two")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        sync_folder(scratch.path()).unwrap();
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
        assert!(replace(Path::new("/"), |_| Ok(())).is_err());
    }
}
