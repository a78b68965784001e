//! The content that an unusable .torrent claims by name. Its owner did not mean that content to be shared without the
//! torrent.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use everseed_core::bencode::{Error, ErrorKind, Reader, Type};
use everseed_core::metainfo::MAX_NAME;
use everseed_disk::{RegularError, Stream, TORRENT_MAX, open_regular};

/// The content that such a file claims.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Claims {
    /// None: it is not a torrent, and does not look like a part of one.
    Nothing,
    /// Files or folders of these names.
    Names(Vec<PathBuf>),
    /// Unknown: it cannot be read, or not as far as its name.
    Unknown,
}

/// Reads the names in a .torrent, even if it is damaged or cut off.
pub(super) fn claims(torrent: &Path) -> Claims {
    let file = match open_regular(torrent, u64::MAX) {
        Ok(file) => file,
        Err(RegularError::Io(error)) if error.kind() != io::ErrorKind::NotFound => {
            return Claims::Unknown;
        }
        Err(_) => return Claims::Nothing,
    };
    let mut names = Vec::new();
    let mut reader = Reader::new(Stream(io::BufReader::new(file.take(TORRENT_MAX))));
    match reader.peek() {
        Ok(Type::Dict) => {}
        Ok(_) => return Claims::Nothing,
        Err(error) => {
            return match error.kind {
                ErrorKind::Io(_) | ErrorKind::Truncated => Claims::Unknown,
                _ => Claims::Nothing,
            };
        }
    }
    let whole = read(&mut reader, &mut names).is_ok();
    match names.is_empty() {
        false => Claims::Names(names),
        true if whole => Claims::Nothing,
        true => Claims::Unknown,
    }
}

type Document = Reader<Stream<io::BufReader<io::Take<File>>>>;

fn read(reader: &mut Document, names: &mut Vec<PathBuf>) -> Result<(), Error<io::Error>> {
    let mut room = [0; KEY];
    reader.dict()?;
    while let Some(key) = reader.key(&mut room)? {
        if key != b"info" || reader.peek()? != Type::Dict {
            reader.skip()?;
            continue;
        }
        reader.dict()?;
        while let Some(key) = reader.key(&mut room)? {
            let wanted = matches!(key, b"name" | b"name.utf-8");
            if !wanted || reader.peek()? != Type::String {
                reader.skip()?;
                continue;
            }
            let mut room = [0; MAX_NAME + 1];
            names.extend(plain(reader.string_start(&mut room)?));
        }
    }
    Ok(())
}

/// The name as a path, if it stays in its folder.
fn plain(name: &[u8]) -> Option<PathBuf> {
    let path = PathBuf::from(std::ffi::OsString::from_vec(name.to_owned()));
    let mut components = path.components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(_)), None) if !name.contains(&0) => Some(path),
        _ => None,
    }
}

/// Longer than every key that is looked for.
const KEY: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn as_far_as_it_can_be_read() {
        let name = format!("everseed-claims-{}.torrent", std::process::id());
        let path = std::env::temp_dir().join(name);
        let named = |name: &str| Claims::Names(vec![name.into()]);
        for (text, expected) in [
            // Version 2 only, which is refused.
            (
                "d4:infod9:file treede12:meta versioni2e4:name3:abcee",
                named("abc"),
            ),
            // Cut off behind the name, before it, and at once.
            ("d4:infod6:lengthi5e4:name3:abc12:piece le", named("abc")),
            ("d4:infod6:lengthi5e4:nam", Claims::Unknown),
            ("d8:announce9:http", Claims::Unknown),
            ("", Claims::Unknown),
            // Damaged.
            ("d4:infod6:lengthi5e4:name3:abcXXee", named("abc")),
            ("d4:infod6:lenXthi5e4:nXmeee", Claims::Unknown),
            // None.
            ("Dear reader", Claims::Nothing),
            ("le", Claims::Nothing),
            ("de", Claims::Nothing),
            ("d4:infod4:name5:../xyee", Claims::Nothing),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(claims(&path), expected, "{text}");
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(claims(&path), Claims::Nothing);
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &path, fifo, mode, 0).unwrap();
        assert_eq!(claims(&path), Claims::Nothing);
        fs::remove_file(&path).unwrap();
    }
}
