//! The content that an unusable .torrent claims by name. Its owner did not mean that content to be shared without the
//! torrent.

use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use everseed_core::bencode::{Error, ErrorKind, Reader, Type};
use everseed_core::metainfo::MAX_NAME;
use everseed_disk::{RegularError, Stream, TORRENT_MAX, open_regular, unpacked};

/// The content that such a file claims.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Claims {
    /// None: it is a text, another bencoded document, or too long for a torrent.
    Nothing,
    /// Files or folders of these names.
    Names(Vec<PathBuf>),
    /// Unknown: it cannot be read, or not as far as its name, or is of an unknown format.
    Unknown,
}

/// Reads the names in a .torrent, even if it is compressed, damaged or cut off.
pub(super) fn claims(torrent: &Path) -> Claims {
    let file = match open_regular(torrent, u64::MAX) {
        Ok(file) => file,
        Err(RegularError::Io(error)) if error.kind() != io::ErrorKind::NotFound => {
            return Claims::Unknown;
        }
        Err(_) => return Claims::Nothing,
    };
    let Ok(bytes) = unpacked(file) else {
        return Claims::Unknown;
    };
    let mut names = Vec::new();
    let mut reader = Reader::new(Stream(io::BufReader::new(bytes)));
    match reader.peek() {
        Ok(Type::Dict) => {}
        Err(error) if matches!(error.kind, ErrorKind::Io(_) | ErrorKind::Truncated) => {
            return Claims::Unknown;
        }
        _ if is_no_torrent(torrent) => return Claims::Nothing,
        _ => return Claims::Unknown,
    }
    let whole = read(&mut reader, &mut names).is_ok();
    match names.is_empty() {
        false => Claims::Names(names),
        true if whole => Claims::Nothing,
        true => Claims::Unknown,
    }
}

/// Whether a file is longer than any torrent, or a text, such as a server's page. A torrent holds bytes that no text has,
/// wherever it was damaged; so do other compressed formats, and a file of zeros that a lost write leaves.
fn is_no_torrent(file: &Path) -> bool {
    let file = match open_regular(file, TORRENT_MAX) {
        Ok(file) => file,
        Err(error) => return matches!(error, RegularError::TooLong { .. }),
    };
    let mut bytes = io::BufReader::new(file.take(TEXT)).bytes();
    bytes.all(|byte| byte.is_ok_and(|byte| !byte.is_ascii_control() || byte.is_ascii_whitespace()))
}

/// The bytes at the start of a file that show whether it is a text. The hashes of a torrent begin among them.
const TEXT: u64 = 64 * 1024;

type Document = Reader<Stream<io::BufReader<Box<dyn Read>>>>;

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
pub(super) mod tests {
    use super::*;
    use std::fs;

    /// A gzip file of one stored block.
    pub(in crate::session) fn gzip(text: &[u8]) -> Vec<u8> {
        let len = u16::try_from(text.len()).unwrap();
        let block = [&[1][..], &len.to_le_bytes(), &(!len).to_le_bytes(), text];
        [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3], &block.concat()[..]].concat()
    }

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
        let whole = b"d4:infod6:lengthi5e4:name3:abc12:piece length";
        let packed = gzip(whole);
        let utf_16: Vec<u8> = whole.iter().flat_map(|&byte| [byte, 0]).collect();
        let rows: [(&[u8], Claims); 13] = [
            // Compressed: as far as it can be unpacked.
            (&packed[..], named("abc")),
            (&packed[..50], named("abc")),
            (&packed[..30], Claims::Unknown),
            (&packed[..2], Claims::Unknown),
            (&gzip(b"Dear reader"), Claims::Unknown),
            (b"\x1f\x8b\x08 damaged", Claims::Unknown),
            // Other formats, and none.
            (b"PK\x03\x04", Claims::Unknown),
            (b"7z\xbc\xaf\x27\x1c", Claims::Unknown),
            (b"BZh91AY&SY\x01", Claims::Unknown),
            (&utf_16, Claims::Unknown),
            (&[0; 512], Claims::Unknown),
            // Written behind a server's message.
            (b"Warning: x\n\nd4:infod6:pieces3:a\0bee", Claims::Unknown),
            (
                b"<!DOCTYPE html>\r\n\t<p>Gr\xc3\xbc\xc3\x9fe</p>",
                Claims::Nothing,
            ),
        ];
        for (bytes, expected) in rows {
            fs::write(&path, bytes).unwrap();
            assert_eq!(claims(&path), expected, "{}", bytes.escape_ascii());
        }
        for (longer, expected) in [(0, Claims::Unknown), (1, Claims::Nothing)] {
            let zeros = fs::File::create(&path).unwrap();
            zeros.set_len(TORRENT_MAX + longer).unwrap();
            assert_eq!(claims(&path), expected);
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
