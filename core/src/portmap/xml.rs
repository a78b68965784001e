//! A small XML reader for the answers of routers: elements by their names, and the text in them.
//!
//! Only the five entities that XML itself defines are expanded, and no document type is read. The reader keeps no list
//! of open elements. So every document costs only one pass over its bytes.

/// A cursor over the tags of a document.
pub(super) struct Xml<'a> {
    rest: &'a [u8],
}

/// The begin or the end of an element.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tag<'a> {
    /// The begin: the name without its prefix.
    Begin(&'a [u8]),
    /// The end: the name without its prefix, and the text since the last tag, with its entities.
    End(&'a [u8], &'a [u8]),
}

impl<'a> Xml<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Xml<'a> {
        Xml { rest: bytes }
    }

    /// Skips everything up to and with `end`, such as the end of a comment.
    fn skip(&mut self, end: &[u8]) -> Option<()> {
        let at = self.rest.windows(end.len()).position(|w| w == end)?;
        self.rest = self.rest.get(at.checked_add(end.len())?..)?;
        Some(())
    }
}

impl<'a> Iterator for Xml<'a> {
    type Item = Tag<'a>;

    fn next(&mut self) -> Option<Tag<'a>> {
        loop {
            let at = self.rest.iter().position(|&b| b == b'<')?;
            let (text, tag) = self.rest.split_at(at);
            self.rest = tag.get(1..)?;
            match self.rest {
                [b'!', b'-', b'-', ..] => {
                    self.skip(b"-->")?;
                    continue;
                }
                [b'?' | b'!', ..] => {
                    self.skip(b">")?;
                    continue;
                }
                _ => {}
            }
            let end = self.rest.iter().position(|&b| b == b'>')?;
            let (inside, rest) = self.rest.split_at(end);
            self.rest = rest.get(1..)?;
            let (closes, inside) = match inside.strip_prefix(b"/") {
                Some(inside) => (true, inside),
                None => (false, inside),
            };
            let stop = |b: &u8| b.is_ascii_whitespace() || *b == b'/';
            let name = inside.split(stop).next().unwrap_or_default();
            let name = name.rsplit(|&b| b == b':').next().unwrap_or_default();
            return Some(match closes {
                true => Tag::End(name, text.trim_ascii()),
                false => Tag::Begin(name),
            });
        }
    }
}

/// The text of the first element with this name.
pub(super) fn text_of<'a>(bytes: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut begun = false;
    for tag in Xml::new(bytes) {
        match tag {
            Tag::Begin(other) => begun = other == name,
            Tag::End(other, text) if begun && other == name => return Some(text),
            Tag::End(..) => begun = false,
        }
    }
    None
}

/// Replaces the entities of a text. `None` if there is no room for it, or if it is not printable ASCII.
pub(super) fn plain<const N: usize>(text: &[u8]) -> Option<heapless::String<N>> {
    let mut out = heapless::String::new();
    let mut rest = text;
    while let Some((&b, after)) = rest.split_first() {
        let (c, after) = match b {
            b'&' => {
                let entity = ENTITIES.iter().find(|(name, _)| after.starts_with(name));
                let (name, c) = entity?;
                (*c, after.get(name.len()..)?)
            }
            b' '..=b'~' => (char::from(b), after),
            _ => return None,
        };
        out.push(c).ok()?;
        rest = after;
    }
    Some(out)
}

const ENTITIES: [(&[u8], char); 5] = [
    (b"amp;", '&'),
    (b"lt;", '<'),
    (b"gt;", '>'),
    (b"quot;", '"'),
    (b"apos;", '\''),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_elements() {
        let text = |xml: &str, name: &str| {
            text_of(xml.as_bytes(), name.as_bytes()).map(|t| str::from_utf8(t).unwrap().to_owned())
        };
        extern crate std;
        use std::borrow::ToOwned as _;
        for (xml, expected) in [
            ("<a>b</a>", Some("b")),
            (
                "<?xml version=\"1.0\"?><x><s:a y='z'> b </s:a></x>",
                Some("b"),
            ),
            ("<!-- <a>c</a> --><a>b</a>", Some("b")),
            ("<!DOCTYPE a [<!ENTITY b \"c\">]><a>b</a>", Some("b")),
            ("<a\n>b</a\n>", Some("b")),
            ("<a></a><a>b</a>", Some("")),
            ("<a><c>d</c></a>", None),
            ("<a/>", None),
            ("<a>b", None),
            ("<a>b</", None),
            ("<a>b</a", None),
            ("<", None),
            ("<!--", None),
            ("<?", None),
            ("a", None),
            ("", None),
            ("<aa>b</aa>", None),
        ] {
            assert_eq!(text(xml, "a").as_deref(), expected, "{xml}");
        }
    }

    #[test]
    fn entities() {
        for (text, expected) in [
            ("/a?b&amp;c", Some("/a?b&c")),
            ("&lt;&gt;&quot;&apos;", Some("<>\"'")),
            ("&amp;amp;", Some("&amp;")),
            ("&#47;", None),
            ("&x;", None),
            ("&", None),
            ("a\u{e9}", None),
            ("a\nb", None),
            ("123456789", None),
        ] {
            let read = plain::<8>(text.as_bytes());
            assert_eq!(read.as_deref(), expected, "{text}");
        }
    }
}
