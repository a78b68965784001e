//! The owner's choice of which files of a folder become part of a torrent.
//!
//! A pattern matches a file or folder by its name, or by its path within the shared folder. A matched folder stands
//! for everything in it. In a pattern `*` is any text, `?` any letter, `[a-z]` one of these letters and `[!a-z]` none
//! of them. `**/` at its start is any folders, also none.

use std::ffi::OsStr;
use std::path::Path;

use everseed_core::metainfo::MAX_PATH;

use crate::walk::Skipped;

/// Patterns that choose files of a folder.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Choice {
    /// If there are any, only files that match one of these patterns are taken.
    pub include: Vec<String>,
    /// Files that match one of these patterns are never taken, not even if they are included.
    pub exclude: Vec<String>,
    /// Also take the files that [`is_unwanted`] names.
    pub all: bool,
}

impl Choice {
    /// Why a file or folder is left out. `path` is relative to the shared folder; no folder above it was left out.
    pub(crate) fn leaves_out(&self, path: &Path, folder: bool) -> Option<Skipped> {
        let name = path.file_name().unwrap_or_default();
        let any = |patterns: &[String], path: &Path| {
            let mut patterns = patterns.iter();
            patterns.any(|pattern| means(pattern, path))
        };
        if any(&self.exclude, path) {
            return Some(Skipped::Excluded);
        }
        let included = || path.ancestors().any(|above| any(&self.include, above));
        if !folder && !self.include.is_empty() && !included() {
            return Some(Skipped::NotIncluded);
        }
        if !self.all && is_unwanted(name, folder) {
            return Some(Skipped::Unwanted);
        }
        // Last, so that nobody is told of a fault in what was not to be taken.
        match path.to_str() {
            None => Some(Skipped::NotUtf8),
            Some(text) => (text.len() > MAX_PATH).then_some(Skipped::TooLong),
        }
    }
}

/// Whether a pattern matches a file or folder, whose path is relative to the shared folder.
pub fn means(pattern: &str, path: &Path) -> bool {
    // A name that is not UTF-8 can be excluded too: '?' stands for what is none.
    let fits = |part: &OsStr| fits(pattern, &part.to_string_lossy());
    fits(path.as_os_str()) || path.file_name().is_some_and(fits)
}

/// Whether file managers, NAS systems or unfinished downloads leave files of this name in folders, which nobody wants
/// to have. The case of letters does not count.
pub fn is_unwanted(name: &OsStr, folder: bool) -> bool {
    let name = name.to_string_lossy().to_ascii_lowercase();
    let list = if folder { FOLDERS } else { FILES };
    list.iter().any(|pattern| fits(pattern, &name))
}

/// Files of macOS, Windows, KDE, NFS and FUSE, of office programs, and unfinished downloads. Windows notes in the file
/// `NAME:Zone.Identifier` from which address NAME was downloaded; a passkey may be in it.
const FILES: &[&str] = &[
    ".ds_store",
    "._*",
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "*:zone.identifier",
    ".directory",
    ".nfs0*",
    ".fuse_hidden*",
    ".~lock.*#",
    "*.part",
    "*.!qb",
    "*.!ut",
    "*.!bt",
    "*.bc!",
    "*.az!",
    "*.aria2",
    "*.crdownload",
    "*.opdownload",
    "*.filepart",
];

/// Folders of Synology and QNAP, macOS, Windows, recycle bins and file systems.
const FOLDERS: &[&str] = &[
    "@eadir",
    "#recycle",
    "@recycle",
    ".@__thumb",
    ".appledouble",
    ".spotlight-v100",
    ".fseventsd",
    ".temporaryitems",
    ".trashes",
    ".trash-*",
    "$recycle.bin",
    "system volume information",
    "lost+found",
];

/// Whether `text` matches a pattern, or is the same letter for letter.
pub fn fits(pattern: &str, text: &str) -> bool {
    let below = pattern.strip_prefix("**/");
    if pattern == text || below.is_some_and(|below| fits(below, text)) {
        return true;
    }
    let (mut pattern, mut text) = (pattern, text);
    // After the last star: the rest of the pattern, and the rest of the text at which it is tried next.
    let mut star: Option<(&str, &str)> = None;
    loop {
        if let Some(rest) = pattern.strip_prefix('*') {
            star = Some((rest, text));
            pattern = rest;
            continue;
        }
        let mut letters = text.chars();
        let Some(letter) = letters.next() else {
            return pattern.is_empty();
        };
        if let Some(rest) = one(pattern, letter) {
            (pattern, text) = (rest, letters.as_str());
        } else if let Some((rest, from)) = star {
            // The star takes one more letter.
            let mut taken = from.chars();
            taken.next();
            star = Some((rest, taken.as_str()));
            (pattern, text) = (rest, taken.as_str());
        } else {
            return false;
        }
    }
}

/// The rest of a pattern after `letter`, if its beginning matches that letter.
fn one(pattern: &str, letter: char) -> Option<&str> {
    let mut rest = pattern.chars();
    let first = rest.next()?;
    if first == '?' {
        return Some(rest.as_str());
    }
    if first == '['
        && let Some((set, after)) = set(rest.as_str())
    {
        let (set, wanted) = match set.strip_prefix(['!', '^']) {
            Some(set) => (set, false),
            None => (set, true),
        };
        return (in_set(set, letter) == wanted).then_some(after);
    }
    (first == letter).then_some(rest.as_str())
}

/// The letters in brackets, and the text after them. A `]` that stands first is a letter.
fn set(text: &str) -> Option<(&str, &str)> {
    let skipped = usize::from(text.starts_with(['!', '^']));
    let first = text.get(skipped..)?.chars().next()?.len_utf8();
    let end = skipped + first + text.get(skipped + first..)?.find(']')?;
    Some((text.get(..end)?, text.get(end + 1..)?))
}

fn in_set(set: &str, letter: char) -> bool {
    let letters: Vec<char> = set.chars().collect();
    let mut at = 0;
    while let Some(&from) = letters.get(at) {
        match (letters.get(at + 1), letters.get(at + 2)) {
            (Some('-'), Some(&to)) => {
                if (from..=to).contains(&letter) {
                    return true;
                }
                at += 3;
            }
            _ if from == letter => return true,
            _ => at += 1,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let table = [
            ("*.flac", "a/b.flac", true),
            ("*.flac", "a/b.flac.txt", false),
            ("a/?.txt", "a/b.txt", true),
            ("a/?.txt", "a/bb.txt", false),
            ("?", "é", true),
            ("*", "", true),
            ("**/x", "a/b/x", true),
            ("**/x", "x", true),
            ("**/x", "ax", false),
            ("**/**/x", "a/x", true),
            ("**/a/**", "a/b", true),
            ("**/a/**", "c/a/b", true),
            ("**/a/**", "ca/b", false),
            ("*a*b*", "xaxxbx", true),
            ("*a*b*", "xbxxax", false),
            ("*ab", "aab", true),
            ("", "", true),
            ("", "a", false),
            ("a", "ab", false),
            ("*.r[0-9][0-9]", "x.r07", true),
            ("*.r[0-9][0-9]", "x.rar", false),
            ("[!a-c]x", "dx", true),
            ("[!a-c]x", "bx", false),
            ("[^a]x", "bx", true),
            ("[]x]", "]", true),
            ("[]x]", "y", false),
            ("[a-]", "-", true),
            ("[z-a]", "m", false),
            // Brackets in names, and ones that are never closed.
            ("[group] film.mkv", "[group] film.mkv", true),
            ("[group*", "[group] film.mkv", true),
            ("[", "[", true),
            ("[!", "[!", true),
            ("[]", "[]", true),
        ];
        for (pattern, text, expected) in table {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }

    /// Many stars cost no more than the product of both lengths.
    #[test]
    fn stars_end() {
        let (pattern, text) = ("*a".repeat(200), "a".repeat(2000));
        assert!(fits(&pattern, &text) && !fits(&(pattern + "b"), &text));
    }

    #[test]
    fn what_is_taken() {
        let list = |patterns: &[&str]| patterns.iter().map(|&p| p.to_owned()).collect();
        let choice = |include: &[&str], exclude: &[&str], all| Choice {
            include: list(include),
            exclude: list(exclude),
            all,
        };
        use Skipped::{Excluded, NotIncluded, NotUtf8, TooLong, Unwanted};
        let plain = || choice(&[], &[], false);
        let long = "d/".repeat(600) + "x";
        let table = [
            (plain(), "film.mkv", false, None),
            (plain(), "a/.hidden", false, None),
            (plain(), "a/.DS_Store", false, Some(Unwanted)),
            (plain(), "THUMBS.DB", false, Some(Unwanted)),
            (plain(), "@eaDir", true, Some(Unwanted)),
            (plain(), "@eaDir", false, None),
            (plain(), "x.part", false, Some(Unwanted)),
            (plain(), "x.part", true, None),
            (plain(), "x.part1.rar", false, None),
            (plain(), "film.mkv.!qB", false, Some(Unwanted)),
            (plain(), "a/lost+found", true, Some(Unwanted)),
            (choice(&[], &[], true), "a/.DS_Store", false, None),
            (plain(), &long, false, Some(TooLong)),
            (
                choice(&[], &["*.nfo"], true),
                "a/x.nfo",
                false,
                Some(Excluded),
            ),
            (choice(&[], &["a/*"], true), "a/x", false, Some(Excluded)),
            (choice(&[], &["x"], true), "a/x", true, Some(Excluded)),
            (choice(&[], &["x"], true), "a/xy", true, None),
            (choice(&["*.mkv"], &[], false), "a/x.mkv", false, None),
            (
                choice(&["*.mkv"], &[], false),
                "a/x.nfo",
                false,
                Some(NotIncluded),
            ),
            (choice(&["*.mkv"], &[], false), "a", true, None),
            (choice(&["a"], &[], false), "a/b/x.nfo", false, None),
            (choice(&["a/b"], &[], false), "a/b/x.nfo", false, None),
            (
                choice(&["a"], &["x*"], false),
                "a/b/x.nfo",
                false,
                Some(Excluded),
            ),
            (
                choice(&["a"], &[], false),
                "a/.DS_Store",
                false,
                Some(Unwanted),
            ),
        ];
        for (choice, path, folder, expected) in table {
            let left_out = choice.leaves_out(Path::new(path), folder);
            assert_eq!(left_out, expected, "{choice:?} {path}");
        }
        use std::os::unix::ffi::OsStrExt;
        let latin1 = |text| Path::new(OsStr::from_bytes(text));
        for (choice, path, expected) in [
            (plain(), &b"caf\xe9"[..], NotUtf8),
            (choice(&[], &["caf*"], false), b"caf\xe9", Excluded),
            (
                choice(&[], &["caf?.txt"], false),
                b"a/caf\xe9.txt",
                Excluded,
            ),
            (choice(&["*.mkv"], &[], false), b"caf\xe9.txt", NotIncluded),
            (plain(), b"\xe9.part", Unwanted),
        ] {
            let left_out = choice.leaves_out(latin1(path), false);
            assert_eq!(left_out, Some(expected), "{choice:?} {path:?}");
        }
    }
}
