//! Substitute names for files on a file system that refuses their own.
//!
//! FAT, exFAT and NTFS refuse some letters, encrypted folders (eCryptfs) names above 143 bytes, and some mounts all
//! but ASCII. A substitute is a fixed function of the name, so that the file is found again. There are two: refused
//! letters become `_`, and the name is cut at [`MODEST`] bytes; or it becomes ASCII and is cut at [`SHORT`]. Eight
//! hex digits of the original name's hash keep it apart from other names.

use std::path::{Path, PathBuf};

/// The longest substitute of the first kind, in bytes. Encrypted folders (eCryptfs) allow 143.
const MODEST: usize = 140;

/// The longest substitute of the second kind, in bytes.
const SHORT: usize = 60;

/// The paths to try in order for a file whose `path` is refused; none of them equals `path`.
pub(crate) fn fitting(path: &Path) -> impl Iterator<Item = PathBuf> {
    let modest = with(path, |name| fit(name, MODEST, |_| true));
    let short = with(path, |name| fit(name, SHORT, |c| c.is_ascii()));
    let path = path.to_owned();
    let differs = move |fitting: &PathBuf| *fitting != path;
    let second = (short != modest).then_some(short);
    Some(modest).into_iter().chain(second).filter(differs)
}

/// Whether no file system refuses this path, so that it has no substitutes.
pub(crate) fn fits_everywhere(path: &Path) -> bool {
    path.iter().all(|name| {
        let name = name.as_encoded_bytes();
        let is_fine = |byte: &u8| matches!(byte, b' '..=b'~') && !MARKS.contains(byte);
        let stem = name.split(|&byte| byte == b'.').next().unwrap_or_default();
        name.len() <= SHORT
            && name.iter().all(is_fine)
            && !matches!(name.last(), Some(b' ' | b'.'))
            && !is_reserved(stem)
    })
}

fn with(path: &Path, fit: impl Fn(&str) -> String) -> PathBuf {
    let names = path.iter().map(|name| fit(&name.to_string_lossy()));
    names.collect()
}

fn fit(name: &str, most: usize, is_known: impl Fn(char) -> bool) -> String {
    let is_mark = |c: char| u8::try_from(c).is_ok_and(|byte| MARKS.contains(&byte));
    let is_fine = |c: char| is_known(c) && !c.is_control() && !is_mark(c);
    let mut fitting: String = name
        .chars()
        .map(|c| if is_fine(c) { c } else { '_' })
        .collect();
    let trimmed = fitting.trim_end_matches([' ', '.']).len();
    if trimmed < fitting.len() {
        fitting.truncate(trimmed);
        fitting.push('_');
    }
    let stem = fitting.split('.').next().unwrap_or_default();
    if is_reserved(stem.as_bytes()) {
        fitting.insert(0, '_');
    }
    if fitting == name && name.len() <= most {
        return fitting;
    }
    let dot = fitting
        .rfind('.')
        .filter(|&dot| dot > 0 && fitting.len() - dot <= EXTENSION);
    let (stem, extension) = fitting.split_at(dot.unwrap_or(fitting.len()));
    let room = most - MARK - extension.len();
    let stem = cut(stem, room);
    format!("{stem}.{:08x}{extension}", mark(name))
}

fn is_reserved(stem: &[u8]) -> bool {
    let is = |name: &&str| name.as_bytes().eq_ignore_ascii_case(stem);
    RESERVED.iter().any(is)
}

/// The beginning of a text, at most `most` bytes of it.
pub(crate) fn cut(text: &str, most: usize) -> &str {
    let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
    let end = ends.take_while(|&end| end <= most).last();
    &text[..end.unwrap_or(0)]
}

/// What FAT, exFAT and NTFS refuse within a name.
const MARKS: &[u8] = b":*?\"<>|\\";

/// The longest extension that is kept, in bytes with its dot.
const EXTENSION: usize = 9;

/// Length of a dot and eight digits.
const MARK: usize = 9;

/// 32 bits of FNV-1a.
fn mark(name: &str) -> u32 {
    let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    name.bytes().fold(0x811c_9dc5, step)
}

/// Device names of Windows, which its file systems refuse.
const RESERVED: &[&str] = &[
    "con", "prn", "aux", "nul", "com1", "com2", "com3", "com4", "com5", "com6", "com7", "com8",
    "com9", "lpt1", "lpt2", "lpt3", "lpt4", "lpt5", "lpt6", "lpt7", "lpt8", "lpt9",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn both(path: &str) -> Vec<String> {
        let paths = fitting(Path::new(path));
        paths.map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn what_is_made_of_names() {
        let cases: [(&str, &[&str]); 7] = [
            ("film.mkv", &[]),
            ("a/b.c/d", &[]),
            ("what: a *star*?.txt", &["what_ a _star__.2db01c6b.txt"]),
            ("a./b ", &["a_.01248e26/b_.7d2c0d1f"]),
            ("CON.txt/x", &["_CON.e767390d.txt/x"]),
            ("né.txt", &["n_.29fe106b.txt"]),
            ("né?.txt", &["né_.d6cef230.txt", "n__.d6cef230.txt"]),
        ];
        for (path, expected) in cases {
            assert_eq!(both(path), expected, "{path}");
            let is_fine = fits_everywhere(Path::new(path));
            assert_eq!(is_fine, expected.is_empty(), "{path}");
        }
    }

    /// What is looked at quickly and what is made of it say the same.
    #[test]
    fn what_fits_everywhere_has_no_substitute() {
        let parts = ["a", ".", " ", "é", "con", "LPT9", "\u{7f}", ":", "\\", "x"];
        let long = ["n".repeat(59), "n".repeat(60), "n".repeat(140)];
        let all: Vec<&str> = parts.into_iter().chain(long.iter().map(|s| &**s)).collect();
        for one in &all {
            for two in &all {
                for end in ["", ".txt", "/b", "."] {
                    let path = format!("{one}{two}{end}");
                    let is_fine = fits_everywhere(Path::new(&path));
                    assert_eq!(is_fine, both(&path).is_empty(), "{path:?}");
                }
            }
        }
    }

    #[test]
    fn they_fit_and_differ() {
        let mut seen = std::collections::HashSet::new();
        for n in 0..100 {
            let long = format!("{}{n}.mkv", "é".repeat(100));
            let [modest, short] = both(&long).try_into().unwrap();
            assert!(
                modest.len() <= MODEST && modest.ends_with(".mkv"),
                "{modest}"
            );
            assert!(short.len() <= SHORT && short.is_ascii(), "{short}");
            assert!(seen.insert(modest) && seen.insert(short));
        }
    }
}
