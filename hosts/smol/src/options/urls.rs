//! URLs among the options: of trackers and of web seeds.

use crate::url::{Scheme, Url};

/// An announce URL of a scheme that everseed speaks.
pub fn tracker(text: &str) -> Option<String> {
    url(text, &[Scheme::Http, Scheme::Https, Scheme::Udp])
}

/// The URL of a web seed.
pub fn webseed(text: &str) -> Option<String> {
    url(text, &[Scheme::Http, Scheme::Https])
}

/// Announce URLs separated by commas. A comma that no scheme follows belongs to its URL, unless it is at its end.
pub fn trackers(text: &str) -> Option<Vec<String>> {
    let mut urls: Vec<String> = Vec::new();
    for part in text.split(',') {
        match urls.last_mut() {
            Some(last) if !part.contains("://") => {
                last.push(',');
                last.push_str(part);
            }
            _ => urls.push(part.trim().to_owned()),
        }
    }
    for url in &mut urls {
        url.truncate(url.trim_end_matches([',', ' ']).len());
    }
    urls.retain(|url| !url.is_empty());
    let known = urls.iter().all(|url| tracker(url).is_some());
    (known && !urls.is_empty()).then_some(urls)
}

/// The URL, if everseed would use it. A space in it is taken for a mistake, as two may have been meant.
fn url(text: &str, spoken: &[Scheme]) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let good = spoken.contains(&url.scheme) && !text.contains(' ');
    good.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::tracker;

    #[test]
    fn tiers() {
        let cases: [(&str, &[&str]); 6] = [
            ("http://t/a", &["http://t/a"]),
            ("http://t/a,,udp://u:1", &["http://t/a", "udp://u:1"]),
            (",http://t/a, ", &["http://t/a"]),
            ("http://t/a,udp://u:1", &["http://t/a", "udp://u:1"]),
            ("http://t/a, udp://u:1", &["http://t/a", "udp://u:1"]),
            (
                "http://t/a?x=1,2,udp://u:1",
                &["http://t/a?x=1,2", "udp://u:1"],
            ),
        ];
        for (text, urls) in cases {
            assert_eq!(super::trackers(text).unwrap(), urls, "{text}");
        }
        for bad in [
            "",
            ",",
            "http://t/a,ws://u",
            "http://t/a,udp://u:0",
            "u,http://t",
        ] {
            assert_eq!(super::trackers(bad), None, "{bad}");
        }
    }

    #[test]
    fn trackers() {
        for good in [
            "http://t/a",
            "HTTPS://t:443/announce?x=1",
            "udp://t:80",
            "udp://t/a",
        ] {
            assert_eq!(tracker(good).as_deref(), Some(good));
        }
        for bad in [
            "",
            "t/a",
            "wss://t/a",
            "http://",
            "http:///a",
            "http://t/a b",
            "udp://t\n",
            // What is made has to be usable afterwards.
            "udp://t:0/a",
            "http://t:0/a",
        ] {
            assert_eq!(tracker(bad), None, "{bad}");
        }
    }
}
