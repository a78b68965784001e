//! Masking of secrets in URLs: user names, passwords, and the passkeys by which private trackers know their users.
//!
//! Every text that is printed, logged or sent to others goes through [`mask`]. Secrets are shown only where their
//! owner asks for them: by `everseed show --secrets`, and in the torrent file itself.

use std::fmt::{self, Write as _};

/// A URL, or a text that may hold some, for display with `***` in place of each secret.
pub(crate) fn mask(text: &str) -> Masked<'_> {
    Masked(text)
}

/// As [`mask`], for a text of the owner's, in which only URLs can hold secrets.
pub(crate) fn mask_urls(text: &str) -> String {
    let words = text.split_inclusive(char::is_whitespace);
    let shown = words.map(|word| match word.contains("://") {
        true => mask(word).to_string(),
        false => word.to_owned(),
    });
    shown.collect()
}

/// The displayable result of [`mask`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Masked<'a>(&'a str);

/// Whether [`mask`] would hide something of a URL.
pub(crate) fn has_secret(url: &str) -> bool {
    mask(url).to_string() != url
}

impl fmt::Display for Masked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for word in self.0.split_inclusive(char::is_whitespace) {
            match word.split_once("://") {
                Some((scheme, rest)) => {
                    path(f, scheme)?;
                    f.write_str("://")?;
                    url(f, rest)?;
                }
                None => path(f, word)?,
            }
        }
        Ok(())
    }
}

/// Masks the part of a URL after `://`.
fn url(f: &mut fmt::Formatter<'_>, rest: &str) -> fmt::Result {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    match authority.rsplit_once('@') {
        Some((_, host)) => write!(f, "{HIDDEN}@{host}")?,
        None => f.write_str(authority)?,
    }
    let (before, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    path(f, before)?;
    let Some(query) = query.strip_prefix('?') else {
        return Ok(());
    };
    // Only the tracker knows which query fields are secret: fields with such a name, and long values, are masked.
    let (query, after) = query.split_at(query.find(char::is_whitespace).unwrap_or(query.len()));
    for (n, field) in query.split('&').enumerate() {
        f.write_char(if n == 0 { '?' } else { '&' })?;
        match field.split_once('=') {
            Some((key, value)) if value.len() < LONG && !names_a_secret(key) => {
                write!(f, "{key}={value}")?;
            }
            Some((key, "")) => write!(f, "{key}=")?,
            Some((key, _)) => write!(f, "{key}={HIDDEN}")?,
            None => path(f, field)?,
        }
    }
    f.write_str(after)
}

fn names_a_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let secret = [
        "key", "pass", "pid", "uid", "user", "auth", "token", "secret", "sid", "pw",
    ];
    secret.iter().any(|part| key.contains(part))
}

/// Masks a path or words: each run of letters, digits, `-` and `_` that looks random is hidden.
fn path(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let mut rest = text;
    while !rest.is_empty() {
        let run = rest.find(|c| !plain(c)).unwrap_or(rest.len());
        let (token, after) = rest.split_at(run);
        f.write_str(if is_random(token) { HIDDEN } else { token })?;
        let other = after.find(plain).unwrap_or(after.len());
        f.write_str(&after[..other])?;
        rest = &after[other..];
    }
    Ok(())
}

/// Whether a run does not look like a word that a person would write: long with digits in between, hexadecimal, or
/// longer than words are.
fn is_random(token: &str) -> bool {
    let letters = token.bytes().filter(u8::is_ascii_alphabetic).count();
    let digits = token.bytes().filter(u8::is_ascii_digit).count();
    let hex = |part: &str| part.bytes().all(|b| b.is_ascii_hexdigit());
    if digits > 0 && letters + digits >= 16 && token.split(['-', '_']).all(hex) {
        return true;
    }
    token.split(['-', '_']).any(|part| {
        let digit = |b: u8| b.is_ascii_digit();
        let mixed = part.bytes().any(digit) && !part.bytes().all(digit);
        part.len() >= 10 && mixed || part.len() >= 16 && part.bytes().all(digit) || part.len() >= 24
    })
}

const HIDDEN: &str = "***";

/// The length from which a query field may be a secret, whatever its name.
const LONG: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden() {
        let hex = "0123456789abcdef0123456789abcdef";
        let with = |text: &str| text.replace("HEX", hex);
        for (text, shown) in [
            ("http://t.example/announce", "http://t.example/announce"),
            ("udp://t.example:80", "udp://t.example:80"),
            (
                "http://192.168.1.2:6881/announce",
                "http://192.168.1.2:6881/announce",
            ),
            (
                "http://[2001:db8::1]:80/announce.php",
                "http://[2001:db8::1]:80/announce.php",
            ),
            ("http://t/HEX/announce", "http://t/***/announce"),
            ("http://t/announce/HEX", "http://t/announce/***"),
            ("https://t:443/a/HEX/x", "https://t:443/a/***/x"),
            (
                "http://t/SECRETPASSKEY0123456789/announce",
                "http://t/***/announce",
            ),
            (
                "http://t/deadbeef-dead-beef-dead-beefdead0001/announce",
                "http://t/***/announce",
            ),
            (
                "http://t/aZ9_kQ3-xY7wLm2PqR/announce",
                "http://t/***/announce",
            ),
            ("http://t/abcdefghijklmnopqrstuvwxyz/a", "http://t/***/a"),
            (
                "http://t/1234567890123456/announce",
                "http://t/***/announce",
            ),
            (
                "http://t/announce?passkey=abc&x=",
                "http://t/announce?passkey=***&x=",
            ),
            ("http://t/announce?HEX", "http://t/announce?***"),
            ("http://t?pass=a=b", "http://t?pass=***"),
            (
                "http://t/a?x=1&PID=7&y=secret",
                "http://t/a?x=1&PID=***&y=***",
            ),
            ("http://me:pw@t/announce", "http://***@t/announce"),
            ("http://me@x@t:80", "http://***@t:80"),
            ("udp://t:80/HEX", "udp://t:80/***"),
            (
                "https://e.org/debian-12.5.0-amd64-netinst.iso.torrent",
                "https://e.org/debian-12.5.0-amd64-netinst.iso.torrent",
            ),
            ("your passkey HEX is unknown", "your passkey *** is unknown"),
            (
                "see http://t/rules?id=5 or mail me",
                "see http://t/rules?id=5 or mail me",
            ),
            (
                "the tracker is down until 2026-11-25",
                "the tracker is down until 2026-11-25",
            ),
            ("HEX://t/HEX", "***://t/***"),
            ("", ""),
            ("://?", "://?"),
        ] {
            let text = with(text);
            assert_eq!(mask(&text).to_string(), with(shown), "{text}");
            assert_eq!(has_secret(&text), text != with(shown), "{text}");
        }
    }

    #[test]
    fn the_owners_own_words_are_shown() {
        let text = "there is no file1234567890abcdef in http://t/0123456789abcdef/a";
        let shown = "there is no file1234567890abcdef in http://t/***/a";
        assert_eq!(mask_urls(text), shown);
    }

    #[test]
    fn any_text_is_shown() {
        let mut rng = everseed_core::rng::Rng::new(3);
        let parts = [
            "http",
            "://",
            "@",
            "/",
            "?",
            "&",
            "=",
            "#",
            " ",
            "é",
            "0123456789abcdef",
            "a",
            "\n",
        ];
        for _ in 0..5000 {
            let text: String = (0..rng.below(12))
                .map(|_| parts[rng.below(13) as usize])
                .collect();
            let shown = mask(&text).to_string();
            // A host is shown, whatever it is called.
            let secret = shown.contains("0123456789abcdef") && !shown.contains("://");
            assert!(!secret, "{text}: {shown}");
        }
    }
}
