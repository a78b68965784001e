//! `everseed edit`: changes trackers, web seeds, comment or source of a torrent file.

use std::path::PathBuf;
use std::process::ExitCode;

use everseed_disk::edit::{Changes, edit};
use everseed_disk::read_torrent;
use lexopt::Parser;
use log::LevelFilter;

use crate::cli::make::{print, writable};
use crate::failure::Failure;
use crate::logging::start_log;
use crate::options::args::{self, Stop};
use crate::options::making;
use crate::text::say;

pub(crate) const HELP: &str = "\
everseed edit - change trackers, web seeds, comment or source of a .torrent

Usage: everseed edit [OPTIONS] TORRENT

The rest of the file stays as it is, byte for byte. The info-hash changes only
with the source: then it is another torrent for trackers and peers. An empty
value removes what is there: -c \"\".

Options:
  -o, --outfile OUT      the .torrent to write (default: TORRENT itself)
  -t, --tracker URL      replace the trackers: http, https or udp; repeat it for
                         several, each a tier of its own; commas put several in
                         one tier: URL,URL
  -w, --web-seed URL     replace the web seeds; repeat it for several
  -c, --comment TEXT     text for people
      --source TEXT      the site that the torrent is for, for cross-seeding
  -h, --help             print this
  -V, --version          print the version

Prints the torrent's path, info-hash and magnet link.

Examples:
  everseed edit film.torrent -t https://t.example/KEY/announce
  everseed edit film.torrent --source SITE -o film.site.torrent
  everseed edit film.torrent -t \"\" -w \"\"           no trackers, no web seeds
";

struct EditArgs {
    path: PathBuf,
    out: Option<PathBuf>,
    changes: Changes,
}

#[inline(never)] // See `dispatch`.
pub(crate) fn run(parser: Parser) -> Result<ExitCode, Failure> {
    let EditArgs { path, out, changes } = parse(parser)?;
    start_log(LevelFilter::Warn);
    // A link stays one.
    let real = || path.canonicalize().unwrap_or_else(|_| path.clone());
    let out = out.unwrap_or_else(real);
    let before = read_torrent(&path).map_err(Failure::failed)?.info_hash;
    writable(&out).map_err(Failure::Failed)?;
    edit(&path, &out, &changes).map_err(Failure::failed)?;
    let metainfo = read_torrent(&out).map_err(Failure::failed)?;
    let after = metainfo.info_hash;
    if after != before {
        say(format_args!(
            "the source is part of what is hashed: the info-hash was {before} and is {after} now, \
             another torrent for trackers and peers"
        ));
    }
    print(&out, &metainfo)
}

fn parse(mut parser: Parser) -> Result<EditArgs, Stop> {
    let mut changes = Changes::default();
    let (mut path, mut out) = (None, None);
    while let Some(name) = args::next_option(&mut parser, HELP, &mut path)? {
        match name {
            "--outfile" => out = Some(args::path_of(&mut parser, name)?),
            "--tracker" => {
                let tiers = changes.trackers.get_or_insert_default();
                let tier = making::tier_or_none(name, &mut parser)?;
                tiers.extend((!tier.is_empty()).then_some(tier));
            }
            "--web-seed" => {
                let urls = changes.webseeds.get_or_insert_default();
                urls.extend(making::web_seed_or_none(name, &mut parser)?);
            }
            "--comment" => changes.comment = Some(args::text(&mut parser, name)?),
            "--source" => changes.source = Some(args::text(&mut parser, name)?),
            _ => return Err(args::unknown(HELP, name)),
        }
    }
    let path = path.ok_or_else(|| args::missing("edit", "a .torrent"))?;
    if changes == Changes::default() {
        let what = "what to change: --tracker, --web-seed, --comment or --source";
        return Err(args::missing("edit", what));
    }
    Ok(EditArgs { path, out, changes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_takes_away() {
        let parse = |args: &[&str]| parse(Parser::from_args(args)).map(|args| args.changes);
        let changes = Changes {
            trackers: Some(Vec::new()),
            webseeds: Some(Vec::new()),
            comment: Some(String::new()),
            source: None,
        };
        assert_eq!(parse(&["x", "-t", "", "-w", "", "-c", ""]), Ok(changes));
        let two = vec!["http://t/a".to_owned(), "udp://u:1".to_owned()];
        let changes = Changes {
            trackers: Some(vec![two, vec!["http://v/".to_owned()]]),
            source: Some("S".to_owned()),
            ..Changes::default()
        };
        let args = [
            "x",
            "-t",
            "http://t/a,udp://u:1",
            "-t",
            "http://v/",
            "--source=S",
        ];
        assert_eq!(parse(&args), Ok(changes));
        assert!(parse(&["x"]).is_err() && parse(&["-c", "y"]).is_err());
    }
}
