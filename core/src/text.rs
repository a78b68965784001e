//! Makes text from strangers safe to print, and writes text into a buffer of fixed size.

use core::fmt::{self, Write as _};

/// Makes a stranger's bytes safe to print, as many as fit. No character is left that moves a terminal's
/// cursor, changes its colours or turns its direction of writing. Bytes that are not printable UTF-8 become `?`.
pub fn printable<const N: usize>(bytes: &[u8]) -> heapless::String<N> {
    let mut text = heapless::String::new();
    for chunk in bytes.utf8_chunks() {
        let strange = (!chunk.invalid().is_empty()).then_some('?');
        for c in chunk.valid().chars().chain(strange) {
            let c = if is_printable(c) { c } else { '?' };
            if text.write_char(c).is_err() {
                return text;
            }
        }
    }
    text
}

fn is_printable(c: char) -> bool {
    // Besides control characters: zero-width and direction marks, line separators, the byte order mark.
    let hidden =
        matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}');
    !c.is_control() && !hidden && c != '\u{feff}'
}

/// A message while it is written. Invariant: `len <= out.len()`.
pub(crate) struct Bytes<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl<'a> Bytes<'a> {
    pub(crate) fn new(out: &'a mut [u8]) -> Bytes<'a> {
        Bytes { out, len: 0 }
    }

    /// The number of bytes written so far.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Appends all of `bytes`, or nothing if they do not fit.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.len.checked_add(bytes.len())?;
        self.out.get_mut(self.len..end)?.copy_from_slice(bytes);
        self.len = end;
        Some(())
    }
}

impl fmt::Write for Bytes<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.put(text.as_bytes()).ok_or(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    extern crate std;

    #[test]
    fn strangers_words_are_harmless() {
        let table: [(&[u8], &str); 5] = [
            (b"unregistered torrent", "unregistered torrent"),
            (b"\x1b[31mred\r\n", "?[31mred??"),
            (b"caf\xc3\xa9 \xff\xfe", "caf\u{e9} ??"),
            ("a\u{202e}b\u{feff}".as_bytes(), "a?b?"),
            (b"", ""),
        ];
        for (bytes, expected) in table {
            assert_eq!(printable::<40>(bytes).as_str(), expected);
        }
        assert_eq!(printable::<40>(&[b'x'; 1000]).len(), 40);
        let accents = "\u{e9}".repeat(500);
        assert_eq!(printable::<41>(accents.as_bytes()).len(), 40);
    }

    #[test]
    fn room_is_never_overrun() {
        let mut room = [0; 4];
        let mut bytes = Bytes::new(&mut room);
        assert_eq!(bytes.put(b"abc"), Some(()));
        assert_eq!(bytes.put(b"de"), None);
        assert!(write!(bytes, "{}", 7).is_ok() && write!(bytes, "x").is_err());
        assert_eq!((bytes.len(), &room), (4, b"abc7"));
    }
}
