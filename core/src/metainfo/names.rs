//! Names from torrents, made safe to use as file names.
//!
//! Invariant: a path that comes out is relative, UTF-8, at most [`MAX_PATH`] bytes long, and none of
//! its components is empty, `.`, `..`, longer than [`MAX_NAME`] bytes or has a NUL or `/` in it. So
//! nothing lies outside the folder that it is joined to, where `/` alone separates folders.
//!
//! What other clients accept is accepted where that holds: empty components and `.` are dropped, a
//! `/` or NUL within a component becomes `_`, bytes that are no UTF-8 become U+FFFD. `..` and what is
//! too long is refused.
//!
//! Other control characters stay, because a torrent made of a file with such a name has to find that
//! file again; who shows a name escapes it. A backslash stays for the same reason: elsewhere than on
//! Windows it is a letter like any other, and a host to which it is more replaces it.

use heapless::String;

/// The longest name of a file or folder, in bytes: what Linux file systems allow.
pub const MAX_NAME: usize = 255;

/// The longest path within a torrent's folder, in bytes.
pub const MAX_PATH: usize = 1024;

/// A name that is safe, one component.
pub type Name = String<MAX_NAME>;

/// A path that is safe, components joined by `/`.
pub(super) type SafePath = String<MAX_PATH>;

/// Why a name is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NameError {
    /// It is `..`, or nothing remains of it.
    Unsafe,
    /// A component is longer than [`MAX_NAME`] bytes, or the path than [`MAX_PATH`].
    TooLong,
}

/// Makes a single name safe.
pub(super) fn safe_name(bytes: &[u8]) -> Result<Name, NameError> {
    let mut path = SafePath::new();
    push_component(&mut path, bytes)?;
    if path.is_empty() {
        return Err(NameError::Unsafe);
    }
    Name::try_from(path.as_str()).map_err(|_| NameError::TooLong)
}

/// Appends a component to a path, unless it says nothing.
pub(super) fn push_component(path: &mut SafePath, bytes: &[u8]) -> Result<(), NameError> {
    match bytes {
        b"" | b"." => return Ok(()),
        b".." => return Err(NameError::Unsafe),
        _ => {}
    }
    let too_long = |_| NameError::TooLong;
    if !path.is_empty() {
        path.push('/').map_err(too_long)?;
    }
    let before = path.len();
    for chunk in bytes.utf8_chunks() {
        let strange = (!chunk.invalid().is_empty()).then_some(char::REPLACEMENT_CHARACTER);
        for c in chunk.valid().chars().chain(strange) {
            let c = if matches!(c, '/' | '\0') { '_' } else { c };
            path.push(c).map_err(too_long)?;
        }
    }
    if path.len().saturating_sub(before) > MAX_NAME {
        return Err(NameError::TooLong);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    extern crate std;

    #[test]
    fn names() {
        let long = std::vec![b'n'; MAX_NAME + 1];
        let cases: [(&[u8], Result<&str, NameError>); 18] = [
            (b"film.mkv", Ok("film.mkv")),
            (b".hidden", Ok(".hidden")),
            (b"...", Ok("...")),
            (b" ", Ok(" ")),
            (b"a/b", Ok("a_b")),
            (b"/etc/passwd", Ok("_etc_passwd")),
            (b"../x", Ok(".._x")),
            (b"a\0b", Ok("a_b")),
            (b"a\\b", Ok("a\\b")),
            (b"\x1b[2J\n", Ok("\x1b[2J\n")),
            (b"a\xe4\xb8", Ok("a\u{fffd}")),
            (b"\xff", Ok("\u{fffd}")),
            ("näme".as_bytes(), Ok("näme")),
            (&long[1..], Ok(std::str::from_utf8(&long[1..]).unwrap())),
            (&long, Err(NameError::TooLong)),
            (b"", Err(NameError::Unsafe)),
            (b".", Err(NameError::Unsafe)),
            (b"..", Err(NameError::Unsafe)),
        ];
        for (bytes, expected) in cases {
            let name = safe_name(bytes);
            assert_eq!(
                name.as_ref().map(|n| n.as_str()),
                expected.as_ref().copied(),
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn paths() {
        let path = |components: &[&[u8]]| {
            let mut path = SafePath::new();
            for component in components {
                push_component(&mut path, component)?;
            }
            Ok(path)
        };
        assert_eq!(path(&[b"", b"a", b".", b"b", b""]).unwrap(), "a/b");
        assert_eq!(path(&[b"a", b"..", b"b"]), Err(NameError::Unsafe));
        assert_eq!(path(&[&[b'x'; 200][..]; 6]), Err(NameError::TooLong));
        assert_eq!(path(&[&[b'x'; 204][..]; 5]).unwrap().len(), 5 * 204 + 4);
    }
}
