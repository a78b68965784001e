//! The options for making torrents, the same in `make`, `seed` and the configuration file.

use everseed_disk::make::Options;
use lexopt::Parser;

use crate::options::args::{self, Stop};
use crate::options::urls;

/// Options without a value.
pub(crate) const FLAGS: &[&str] = &["--private", "--align", "--all", "--strict", "--no-date"];

/// Parses the value of an option; false if it is not one of these.
pub(crate) fn option(options: &mut Options, name: &str, parser: &mut Parser) -> Result<bool, Stop> {
    match name {
        "--tracker" => {
            let mut urls = tier(name, parser)?;
            // Nobody is announced to twice.
            urls.retain(|url| !options.trackers.iter().flatten().any(|known| known == url));
            if !urls.is_empty() {
                options.trackers.push(urls);
            }
        }
        "--web-seed" => options.webseeds.push(web_seed(name, parser)?),
        "--piece-size" => {
            let what = "auto or a power of two from 16 KiB to 512 MiB, like 256, 256k or 4M";
            let read = |text: &str| match text {
                "auto" => Some(None),
                text => args::piece_len(text).map(Some),
            };
            options.piece_len = args::parsed(parser, name, what, read)?;
        }
        "--comment" => options.comment = Some(args::text(parser, name)?).filter(|c| !c.is_empty()),
        "--created-by" => options.created_by = Some(args::text(parser, name)?),
        "--source" => options.source = Some(args::text(parser, name)?),
        "--include" => options.choice.include.push(pattern(name, parser)?),
        "--exclude" => options.choice.exclude.push(pattern(name, parser)?),
        _ => return Ok(false),
    }
    Ok(true)
}

/// Sets an option without a value; false if it is not one of these.
pub(crate) fn flag(options: &mut Options, name: &str, on: bool) -> bool {
    match name {
        "--private" => options.private = on,
        "--align" => options.align = on,
        "--all" => options.choice.all = on,
        "--strict" => options.strict = on,
        // No creation date is ever written: the same files give the same bytes.
        "--no-date" => {}
        _ => return false,
    }
    true
}

/// The trackers of one tier, separated by commas.
pub(crate) fn tier(name: &str, parser: &mut Parser) -> Result<Vec<String>, Stop> {
    let what = "an http, https or udp URL, or several with commas between them";
    args::parsed(parser, name, what, urls::trackers)
}

pub(crate) fn web_seed(name: &str, parser: &mut Parser) -> Result<String, Stop> {
    args::parsed(parser, name, "an http or https URL", urls::webseed)
}

/// The trackers of one tier; none for an empty text.
pub(crate) fn tier_or_none(name: &str, parser: &mut Parser) -> Result<Vec<String>, Stop> {
    let what = "an http, https or udp URL, or an empty text for none";
    args::parsed(parser, name, what, |text| match text {
        "" => Some(Vec::new()),
        text => urls::trackers(text),
    })
}

pub(crate) fn web_seed_or_none(name: &str, parser: &mut Parser) -> Result<Option<String>, Stop> {
    let what = "an http or https URL, or an empty text for none";
    args::parsed(parser, name, what, |text| match text {
        "" => Some(None),
        text => urls::webseed(text).map(Some),
    })
}

fn pattern(name: &str, parser: &mut Parser) -> Result<String, Stop> {
    let what = "a pattern like '*.nfo' or a path within the folder";
    let read = |text: &str| {
        // Paths are relative to the folder. A slash at the end is dropped, because shells add one.
        let text = text
            .strip_prefix("./")
            .unwrap_or(text)
            .trim_end_matches('/');
        (!text.is_empty() && !text.starts_with('/')).then(|| text.to_owned())
    };
    args::parsed(parser, name, what, read)
}
