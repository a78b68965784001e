//! Names from torrents, spelled so that they are safe as names of files.
//!
//! Invariant: a path is relative, UTF-8 and at most [`MAX_PATH`] bytes long. No component is empty, `.`, `..` or
//! longer than [`MAX_NAME`] bytes, or has a NUL or `/` in it. So nothing lies outside the folder that it is joined
//! to, where `/` alone separates folders.
//!
//! No torrent is refused for a name. A fixed rule spells each name: that of libtorrent, if it has one, so that data
//! which it wrote is found. `.` is dropped. An empty name, or one that becomes `..`, is `_`. `\`, NUL and the marks
//! that turn the direction of text are left out. Other control characters, and bytes that are not UTF-8, become `_`. So
//! does `/`, which libtorrent leaves out and Transmission replaces, so that a name stays readable. A component is cut
//! at 240 bytes, and keeps an extension of up to eight letters. A path that is still too long keeps the folders that
//! fit in [`KEPT`] bytes. One folder of 16 hex digits stands for the others; the file's name follows.
//!
//! Other programs, and everseed 0.1.0, spell some names differently: see [`Spelling`]. The host has to find out whether
//! two files get the same path.

use core::fmt::Write;

use heapless::String;

use crate::hash::InfoHash;

/// The longest name of a file or folder, in bytes: what Linux file systems allow.
pub const MAX_NAME: usize = 255;

/// The longest path within a torrent's folder, in bytes.
pub const MAX_PATH: usize = 1024;

/// A name that is safe, one component.
pub type Name = String<MAX_NAME>;

/// The rule by which names in a torrent become names of files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spelling {
    /// The rule of this module, by which everseed names the files that it makes.
    Fixed,
    /// The rule of libtorrent 1.2 and 2.0, which drop `/`, and names of which nothing remains.
    Libtorrent2,
    /// The rule of everseed 0.1.0: `/` and NUL became `_`, bytes that were not UTF-8 became U+FFFD, all else stayed.
    Everseed01,
}

impl Spelling {
    /// All spellings, in the order in which files are searched for.
    pub const ALL: [Spelling; 3] = [Spelling::Fixed, Spelling::Everseed01, Spelling::Libtorrent2];
}

/// A path as it is built, component by component.
#[derive(Debug)]
pub(super) struct SafePath {
    text: String<MAX_PATH>,
    spelling: Spelling,
    /// The length that is kept of it if it becomes too long.
    kept: usize,
    /// If it is too long: a hash of the part that is left out, and the last component.
    cut: Option<(u64, Name)>,
    exact: bool,
    refused: bool,
    /// Whether it has a component that is not just a replacement.
    says: bool,
}

impl SafePath {
    pub(super) fn new(spelling: Spelling) -> SafePath {
        SafePath {
            text: String::new(),
            spelling,
            kept: 0,
            cut: None,
            exact: true,
            refused: false,
            says: false,
        }
    }

    /// The path of a single file: its name, if it has one in this spelling.
    pub(super) fn of(name: Option<Name>, exact: bool, spelling: Spelling) -> SafePath {
        let mut path = SafePath::new(spelling);
        (path.exact, path.refused) = (exact, name.is_none());
        path.append(name.unwrap_or_default());
        path
    }

    /// The path of padding without a path, which is never on disk.
    pub(super) fn of_padding(len: u64, spelling: Spelling) -> SafePath {
        let mut path = SafePath::new(spelling);
        let _ = write!(path.text, ".pad/{len}");
        path
    }

    pub(super) fn spelling(&self) -> Spelling {
        self.spelling
    }

    /// The path; empty if there can be none.
    pub(super) fn as_str(&self) -> &str {
        if self.refused { "" } else { &self.text }
    }

    /// Whether it has the same bytes as in the torrent.
    pub(super) fn is_exact(&self) -> bool {
        self.exact
    }

    /// Whether any component comes from the torrent, and is not just a replacement.
    pub(super) fn says(&self) -> bool {
        self.says
    }

    /// Appends a component. Only [`ROOM`] bytes of it are read.
    pub(super) fn push(&mut self, raw: &[u8]) {
        let spelled = self.spelling.spell(raw);
        self.says |= spelled.is_some() && !raw.is_empty();
        let name = match (spelled, self.spelling) {
            (Some(name), _) => name,
            (None, Spelling::Fixed) if raw != b"." => stand_in(),
            (None, Spelling::Everseed01) if !matches!(raw, b"" | b".") => {
                self.refused = true;
                return;
            }
            (None, _) => {
                self.exact = false;
                return;
            }
        };
        self.exact &= name.as_bytes() == raw;
        self.append(name);
    }

    /// Appends a name that is spelled already.
    pub(super) fn append(&mut self, name: Name) {
        let len = self.text.len();
        if let Some((hash, last)) = &mut self.cut {
            *hash = fnv(fnv(*hash, last.as_bytes()), b"/");
            *last = name;
        } else if len.saturating_add(name.len()) >= MAX_PATH {
            let rest = self.text.as_bytes().get(self.kept..).unwrap_or_default();
            self.cut = Some((fnv(FNV, rest), name));
        } else {
            if !self.text.is_empty() {
                let _ = self.text.push('/');
            }
            let _ = self.text.push_str(&name);
            if self.text.len() <= KEPT {
                self.kept = self.text.len();
            }
        }
    }

    /// Finishes the path.
    pub(super) fn finish(&mut self) {
        if let Some((hash, last)) = self.cut.take() {
            self.exact = false;
            self.refused |= self.spelling == Spelling::Everseed01;
            self.text.truncate(self.kept);
            let slash = if self.text.is_empty() { "" } else { "/" };
            let _ = write!(self.text, "{slash}{hash:016x}/{last}");
        }
        if self.text.is_empty() {
            self.refused |= self.spelling == Spelling::Everseed01;
            self.exact = false;
            let _ = self.text.push('_');
        }
    }
}

/// The name of the torrent's file or folder; `None` if it has none in that spelling.
pub(super) fn whole(raw: &[u8], spelling: Spelling, info_hash: InfoHash) -> Option<Name> {
    let spelled = match (raw, spelling) {
        // libtorrent 2.1 uses the info-hash, and earlier ones the name that they use for every empty name.
        (b"", Spelling::Libtorrent2) => Some(stand_in()),
        (b"", _) => None,
        _ => spelling.spell(raw),
    };
    match spelling {
        Spelling::Everseed01 => spelled,
        _ => Some(spelled.unwrap_or_else(|| {
            let mut name = Name::new();
            let _ = write!(name, "{info_hash}");
            name
        })),
    }
}

/// Whether the name of the torrent's file or folder is more than a replacement.
pub(super) fn is_usable(raw: &[u8]) -> bool {
    !raw.is_empty() && Spelling::Fixed.spell(raw).is_some()
}

impl Spelling {
    /// Spells one component; `None` if nothing remains of it, or it cannot be spelled.
    fn spell(self, raw: &[u8]) -> Option<Name> {
        match (self, raw) {
            (_, b"." | b"..") => None,
            (Spelling::Everseed01, b"") => None,
            (Spelling::Everseed01, _) => spell_01(raw),
            (_, b"") => Some(stand_in()),
            (_, raw) if raw.iter().all(|byte| b"/\\\0".contains(byte)) => None,
            _ => {
                let name = self.spell_with(raw, false);
                let name = name.or_else(|| self.spell_with(raw, true));
                // Nothing, one dot or two dots are no name.
                name.filter(|name| !matches!(name.as_str(), "" | "." | ".."))
            }
        }
    }

    /// Spells a component. libtorrent cuts it only after a valid character, so one with many invalid bytes can
    /// become too long: then this is `None`. With `strict` it is cut after any character.
    fn spell_with(self, raw: &[u8], strict: bool) -> Option<Name> {
        let mut name = Name::new();
        let mut rest = raw;
        let mut found_extension = false;
        while let Some((c, len)) = decode(rest) {
            let here = rest;
            rest = rest.get(len..).unwrap_or_default();
            let c = match c {
                Some('/') if self == Spelling::Fixed => None,
                Some('\0' | '/' | '\\') => continue,
                Some('\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}') => continue,
                Some('\u{1}'..='\u{1f}') | None => None,
                good => good,
            };
            name.push(c.unwrap_or('_')).ok()?;
            if name.len() >= CUT && !found_extension && (strict || c.is_some()) {
                // After the character that was just taken, and in the last nine bytes.
                let behind = here.get(1..).unwrap_or_default();
                let last = behind.len().min(EXTENSION);
                let tail = behind.get(behind.len().saturating_sub(last)..);
                let tail = tail.unwrap_or_default();
                let Some(dot) = tail.iter().rposition(|&byte| byte == b'.') else {
                    break;
                };
                found_extension = true;
                rest = tail.get(dot..).unwrap_or_default();
            }
        }
        Some(name)
    }
}

/// The first character and its length in bytes, which may be more than there are. An invalid one has as
/// many bytes as its first byte says, as in libtorrent.
fn decode(bytes: &[u8]) -> Option<(Option<char>, usize)> {
    let len = match *bytes.first()? {
        0..0x80 => 1,
        0xc0..0xe0 => 2,
        0xe0..0xf0 => 3,
        0xf0..0xf8 => 4,
        0xf8..0xfc => 5,
        0x80..0xc0 | 0xfc.. => return Some((None, 1)),
    };
    let one = bytes.get(..len).and_then(|b| core::str::from_utf8(b).ok());
    Some((one.and_then(|text| text.chars().next()), len))
}

fn spell_01(raw: &[u8]) -> Option<Name> {
    let mut name = Name::new();
    for chunk in raw.utf8_chunks() {
        let strange = (!chunk.invalid().is_empty()).then_some(char::REPLACEMENT_CHARACTER);
        for c in chunk.valid().chars().chain(strange) {
            let c = if matches!(c, '/' | '\0') { '_' } else { c };
            name.push(c).ok()?;
        }
    }
    Some(name)
}

/// The replacement for an empty name.
fn stand_in() -> Name {
    Name::try_from("_").unwrap_or_default()
}

fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    let step = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    bytes.iter().fold(hash, step)
}

const FNV: u64 = 0xcbf2_9ce4_8422_2325;

/// The length to which a component is cut, in bytes.
const CUT: usize = 240;

/// The longest extension that a cut component keeps, in bytes with its dot.
const EXTENSION: usize = 9;

/// The length of the folders that are kept of a path that is too long, in bytes.
const KEPT: usize = 700;

const _: () = assert!(KEPT + 1 + 16 + 1 + MAX_NAME <= MAX_PATH);

/// The number of bytes of a component that are read: its first bytes, and its last [`LAST`] if it is longer.
pub(super) const ROOM: usize = 1024;

/// See [`ROOM`].
pub(super) const LAST: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    extern crate std;
    use std::string::String as Text;
    use std::vec::Vec;

    fn hash() -> InfoHash {
        InfoHash([0xab; 20])
    }

    fn path(spelling: Spelling, components: &[&[u8]]) -> Option<Text> {
        let mut path = SafePath::new(spelling);
        components.iter().for_each(|component| path.push(component));
        path.finish();
        (!path.as_str().is_empty()).then(|| path.as_str().into())
    }

    /// What libtorrent 2.0.8 does with each was looked up by running it; where it differs it is said.
    #[test]
    fn components() {
        let long = |n: usize, end: &str| [&std::vec![b'n'; n][..], end.as_bytes()].concat();
        let cases: [(&[u8], &str); 34] = [
            (b"film.mkv", "film.mkv"),
            (b".hidden", ".hidden"),
            (b"...", "..."),
            (b" ", " "),
            (b"a. ", "a. "),
            // `/` is ours; it leaves it out.
            (b"a/b", "a_b"),
            (b"/etc/passwd", "_etc_passwd"),
            (b"../x", ".._x"),
            (b"./.", "._."),
            (b"a\0b", "ab"),
            (b"a\\b", "ab"),
            (b"\x1b[2J\n\x7f", "_[2J_\x7f"),
            ("a\u{202e}b\u{200f}".as_bytes(), "ab"),
            (b"a\xe4\xb8", "a_"),
            (b"\xff", "_"),
            (b"\xe9ab", "_"),
            (b"\xe9abc", "_c"),
            (b"\xf8abcdefgh", "_efgh"),
            (b"\xfcabcdefgh", "_abcdefgh"),
            (b"\xc0\x80x", "_x"),
            (b"\xed\xa0\x80x", "_x"),
            (b"\xf4\x90\x80\x80x", "_x"),
            ("näme\u{fffd}".as_bytes(), "näme\u{fffd}"),
            (&long(300, ""), &Text::from_utf8(long(240, "")).unwrap()),
            (
                &long(240, ".mkv"),
                &Text::from_utf8(long(240, ".mkv")).unwrap(),
            ),
            (
                &long(236, ".12345678"),
                &Text::from_utf8(long(236, ".123")).unwrap(),
            ),
            (
                &long(300, ".12345678"),
                &Text::from_utf8(long(240, ".12345678")).unwrap(),
            ),
            (
                &long(300, ".123456789"),
                &Text::from_utf8(long(240, "")).unwrap(),
            ),
            // Cut by us alone, as no file can be called so.
            (&[0xff; 300], &"_".repeat(240)),
            // `..` and what becomes of it: 2.0.8 drops them beside others.
            (b"", "_"),
            (b".", "_"),
            (b"..", "_"),
            (b".\\.", "_"),
            (b"/", "_"),
        ];
        for (raw, expected) in cases {
            assert_eq!(path(Spelling::Fixed, &[raw]).unwrap(), expected, "{raw:?}");
        }
    }

    #[test]
    fn paths() {
        use Spelling::{Everseed01, Fixed, Libtorrent2};
        let all = |components: &[&[u8]]| {
            [Fixed, Libtorrent2, Everseed01].map(|spelling| path(spelling, components))
        };
        let some = |paths: [&str; 3]| paths.map(|path| Some(path.into()));
        assert_eq!(
            all(&[b"", b"a", b".", b"b", b""]),
            some(["_/a/b/_", "_/a/b/_", "a/b"])
        );
        let dots = [Some("a/_/b".into()), Some("a/b".into()), None];
        assert_eq!(all(&[b"a", b"..", b"b"]), dots);
        assert_eq!(all(&[]), [Some("_".into()), Some("_".into()), None]);
        assert_eq!(all(&[b"a\0", b"\xff"]), some(["a/_", "a/_", "a_/\u{fffd}"]));
        assert_eq!(all(&[b"a/b", b"/c"]), some(["a_b/_c", "ab/c", "a_b/_c"]));
    }

    #[test]
    fn a_long_path_keeps_its_ends() {
        let part = [b'x'; 200];
        assert_eq!(path(Spelling::Fixed, &[&part[..]; 5]).unwrap().len(), 1004);
        let mut seen = Vec::new();
        for count in [6, 7, 100] {
            let mut components = std::vec![&part[..]; count];
            components.push(b"film.mkv");
            let long = path(Spelling::Fixed, &components).unwrap();
            assert!(
                long.len() <= MAX_PATH && long.ends_with("/film.mkv"),
                "{long}"
            );
            assert_eq!(long.matches('/').count(), 4);
            assert!(!seen.contains(&long));
            seen.push(long);
            assert_eq!(path(Spelling::Everseed01, &components), None);
        }
    }

    #[test]
    fn the_whole() {
        let hex = "ab".repeat(20);
        let cases: [(&[u8], &str); 6] = [
            (b"a", "a"),
            (b"studio/game.tar.gz", "studio_game.tar.gz"),
            (b"", &hex),
            (b".", &hex),
            (b"..", &hex),
            (b"/", &hex),
        ];
        for (raw, expected) in cases {
            assert_eq!(whole(raw, Spelling::Fixed, hash()).unwrap(), expected);
        }
        assert_eq!(whole(b"", Spelling::Libtorrent2, hash()).unwrap(), "_");
        assert_eq!(whole(b"..", Spelling::Everseed01, hash()), None);
    }
}
