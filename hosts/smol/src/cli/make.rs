//! `everseed make`: makes a torrent of a file or folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use everseed_core::metainfo::Metainfo;
use everseed_disk::make::{Options, Report, make};
use everseed_disk::{Skipped, means, read_name, read_torrent};
use lexopt::Parser;
use log::LevelFilter;
use rustix::fs::{Access, access};

use crate::cli::making::Making;
use crate::client::trackers;
use crate::failure::{Failure, finish};
use crate::logging::start_log;
use crate::magnet::magnet;
use crate::options::args::{self, Stop};
use crate::options::{making, seed};
use crate::secrets::has_secret;
use crate::storage::described::find_in;
use crate::text::{Output, escape, say};

pub(crate) const HELP: &str = "\
everseed make - make a .torrent of a file or folder

Usage: everseed make [OPTIONS] PATH

The same files, names and options always give the same .torrent, byte for byte.
Of a folder it takes all files, also hidden and empty ones, and links to files
that lie in the folder. It leaves out other links, devices, files that cannot be
read, files whose name is not UTF-8, and unwanted files (.DS_Store, Thumbs.db,
desktop.ini, @eaDir, #recycle, lost+found, *.part, *.!qB and their like). It
prints the names of what it leaves out. If a file changes while it is read, make
fails and names the file.

Options:
  -o, --outfile OUT      the .torrent to write
                         (default: NAME.torrent in the current folder)
  -t, --tracker URL      http, https or udp; repeat it for several: each is a
                         tier of its own, and the first is asked first. Commas
                         put several in one tier: URL,URL (default: none)
  -p, --private          peers come from the trackers only (default: off)
  -s, --piece-size SIZE  piece length in KiB, or with a unit: 256, 256k, 4M; a
                         power of two from 16 KiB to 512 MiB (default: auto,
                         one that makes 1000 to 2000 pieces, at most 16 MiB)
  -c, --comment TEXT     text for people (default: none)
  -w, --web-seed URL     http or https address of the same file or folder;
                         repeat it for several (default: none)
      --links WHICH      beneath: leave out links that lead out of the folder;
                         follow: take all links (default: beneath)
      --source TEXT      the site that the torrent is for. The same files get
                         another info-hash for each site, for cross-seeding
                         (default: none)
      --exclude PATTERN  leave out files and folders whose name or path in the
                         folder matches: '*.nfo', 'extras/*'; repeat it for
                         more
      --include PATTERN  take only files that match, or lie in a folder that
                         matches; --exclude wins
      --all              take unwanted files too (.DS_Store and the others)
      --strict           fail if something that is wanted has to be left out
      --align            let every file begin with a new piece. The padding
                         between files takes no space on disk (BEP 47)
      --created-by TEXT  name of the program (default: everseed/VERSION)
      --no-date          accepted and ignored: a date is never written
  -h, --help             print this
  -V, --version          print the version

Prints the torrent's path, info-hash and magnet link. The link leaves out
trackers with a passkey. Private torrents have no link: see everseed show.

Examples:
  everseed make film.mkv                       film.mkv.torrent, no tracker
  everseed make photos/ -t udp://t.example:80/announce -c \"Summer\"
  everseed make big.img -s 16M -o /srv/big.torrent
  everseed make film/ -p -t https://t.example/KEY/announce --source SITE \\
    --exclude '*.txt'
";

struct MakeArgs {
    path: PathBuf,
    out: PathBuf,
    options: Options,
}

#[inline(never)] // See `dispatch`.
pub(crate) fn run(parser: Parser) -> Result<ExitCode, Failure> {
    let args = parse(parser)?;
    start_log(LevelFilter::Warn);
    writable(&args.out).map_err(Failure::Failed)?;
    if !args.options.private {
        say_if_private(&args.path);
    }
    let choice = &args.options.choice;
    if args.path.is_file() && !(choice.include.is_empty() && choice.exclude.is_empty()) {
        log::warn!(
            "{} is one file, and is taken: --include and --exclude choose files of a folder",
            escape(args.path.as_os_str().as_encoded_bytes())
        );
    }
    let mut making = Making::default();
    let mut idle = choice.exclude.clone();
    let folder = args.path.canonicalize().unwrap_or_default();
    let mut report = |report: Report<'_>| {
        if let Report::Skipped(path, Skipped::Excluded) = report {
            let path = path.strip_prefix(&folder).unwrap_or(path);
            idle.retain(|pattern| !means(pattern, path));
        }
        making.report(report);
    };
    let made = make(&args.path, &args.out, &args.options, &mut report);
    drop(making);
    made.map_err(Failure::failed)?;
    if folder.is_dir() {
        say_if_idle(&idle);
    }
    let metainfo = read_torrent(&args.out).map_err(Failure::failed)?;
    print(&args.out, &metainfo)
}

/// Warns that a public torrent is made of what was shared privately. Making it shares nothing, so it is not refused.
fn say_if_private(path: &Path) {
    let Some(state) = seed::usual_state() else {
        return;
    };
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let found = find_in(&state.join("described"), &real);
    if let Some(found) = found.filter(|found| found.private) {
        log::warn!(
            "{} belongs to {}, which is private, and the torrent that is made of it is not: see --private",
            escape(path.as_os_str().as_encoded_bytes()),
            escape(found.torrent.as_os_str().as_encoded_bytes())
        );
    }
}

/// Names the patterns that left nothing out: they may be mistyped.
fn say_if_idle(patterns: &[String]) {
    for pattern in patterns {
        let pattern = escape(pattern.as_bytes());
        say(format_args!("--exclude {pattern}: it left nothing out"));
    }
}

/// Prints a torrent's path, info-hash and magnet link.
pub(crate) fn print(torrent: &Path, metainfo: &Metainfo) -> Result<ExitCode, Failure> {
    let name = read_name(torrent, metainfo).map_err(Failure::failed)?;
    let tiers = trackers::tiers(torrent, metainfo).map_err(Failure::Failed)?;
    let mut out = Output::new();
    let path = std::path::absolute(torrent).unwrap_or(torrent.to_owned());
    let path = escape(path.as_os_str().as_encoded_bytes());
    out.line(format_args!("torrent: {path}"));
    out.line(format_args!("info-hash: {}", metainfo.info_hash));
    if metainfo.private && tiers.is_empty() {
        log::warn!(
            "it is private and names no tracker, so nobody finds peers for it: add one by --tracker"
        );
    }
    if !metainfo.private {
        let urls = tiers.iter().flatten().map(String::as_str);
        let link = magnet(
            metainfo.info_hash,
            &name,
            urls.filter(|url| !has_secret(url)),
            None,
        );
        out.line(format_args!("magnet: {link}"));
    }
    finish(out, ExitCode::SUCCESS)
}

fn parse(mut parser: Parser) -> Result<MakeArgs, Stop> {
    let mut options = Options::default();
    let (mut path, mut out) = (None, None);
    while let Some(name) = args::next_option(&mut parser, HELP, &mut path)? {
        match name {
            "--outfile" => out = Some(args::path_of(&mut parser, name)?),
            "--links" => options.links = args::links(&mut parser, name)?,
            _ if making::flag(&mut options, name, true) => {}
            _ if making::option(&mut options, name, &mut parser)? => {}
            _ => return Err(args::unknown(HELP, name)),
        }
    }
    let path = path.ok_or_else(|| args::missing("make", "a file or folder"))?;
    let out = out.unwrap_or_else(|| default_out(&path));
    Ok(MakeArgs { path, out, options })
}

/// Refuses, before hours of hashing, a path that the torrent cannot or should not be written to.
pub(crate) fn writable(out: &Path) -> Result<(), String> {
    if out == Path::new("-") {
        let why = "a .torrent is written to a file, not to standard output; name one with -o";
        return Err(why.to_owned());
    }
    let shown = escape(out.as_os_str().as_encoded_bytes());
    match fs::symlink_metadata(out) {
        Ok(there) if there.is_dir() => {
            return Err(format!(
                "{shown} is a folder; name the file to write with -o"
            ));
        }
        // A device would be replaced by a file, and a typing error could cost a photo.
        Ok(there) if !there.is_file() || (there.len() > 0 && read_torrent(out).is_err()) => {
            return Err(format!(
                "{shown} is there already and is no torrent, so it is not replaced; name another file with -o"
            ));
        }
        _ => {}
    }
    let folder = match out.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    access(folder, Access::WRITE_OK).map_err(|error| {
        let error = io::Error::from(error);
        format!("{shown} cannot be written: {error}; choose another place with -o")
    })
}

/// `NAME.torrent` in the current folder.
fn default_out(path: &Path) -> PathBuf {
    let real = std::fs::canonicalize(path);
    let named = path.file_name().map(ToOwned::to_owned);
    let real_name = || real.ok()?.file_name().map(ToOwned::to_owned);
    let mut name = named.or_else(real_name).unwrap_or_else(|| "out".into());
    name.push(".torrent");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use everseed_disk::Choice;

    #[test]
    fn named_as_in_transmission_create() {
        let args = [
            "dir/",
            "-o",
            "x.torrent",
            "-t",
            "udp://t:80",
            "-t",
            "http://u/a",
            "-p",
            "-s",
            "512",
            "-c",
            "text",
            "-w",
            "https://web/",
        ];
        let made = parse(Parser::from_args(args)).map(|args| (args.path, args.out, args.options));
        let options = Options {
            trackers: vec![vec!["udp://t:80".into()], vec!["http://u/a".into()]],
            webseeds: vec!["https://web/".into()],
            comment: Some("text".into()),
            private: true,
            piece_len: Some(512 << 10),
            ..Options::default()
        };
        let expected = (PathBuf::from("dir/"), PathBuf::from("x.torrent"), options);
        assert_eq!(made, Ok(expected));
    }

    #[test]
    fn named_as_elsewhere() {
        let args = [
            "dir/",
            "--piece-size=auto",
            "--source=TRK",
            "--exclude=*.nfo",
            "--exclude=./a/",
            "--include",
            "*.mkv",
            "--all",
            "--strict",
            "--align",
            "--created-by=",
            "--no-date",
            "--web-seed=http://w/",
            "-t",
            "http://t/a,http://u/a",
        ];
        let made = parse(Parser::from_args(args)).map(|args| args.options);
        let options = Options {
            trackers: vec![vec!["http://t/a".into(), "http://u/a".into()]],
            webseeds: vec!["http://w/".into()],
            created_by: Some(String::new()),
            source: Some("TRK".into()),
            align: true,
            strict: true,
            choice: Choice {
                include: vec!["*.mkv".into()],
                exclude: vec!["*.nfo".into(), "a".into()],
                all: true,
            },
            ..Options::default()
        };
        assert_eq!(made, Ok(options));
        for bad in ["--exclude=", "--exclude=/srv/x", "--piece-size=best"] {
            assert!(parse(Parser::from_args(["dir", bad])).is_err(), "{bad}");
        }
    }

    #[test]
    fn trackers_are_named_once() {
        let args = [
            "d",
            "-t",
            "http://a/",
            "-t",
            "http://a/",
            "-t",
            "udp://b:1,http://a/",
        ];
        let made = parse(Parser::from_args(args)).map(|args| args.options.trackers);
        let expected = vec![vec!["http://a/".to_owned()], vec!["udp://b:1".to_owned()]];
        assert_eq!(made, Ok(expected));
    }

    #[test]
    fn beside_us_by_default() {
        let out = |path: &str| {
            let parsed = parse(Parser::from_args([path])).map(|args| args.out);
            parsed.unwrap().into_os_string().into_string().unwrap()
        };
        assert_eq!(out("a/b/film.mkv"), "film.mkv.torrent");
        assert_eq!(out("a/b/"), "b.torrent");
        assert_eq!(out("/"), "out.torrent");
        let here = std::env::current_dir().unwrap();
        let name = here.file_name().unwrap().to_str().unwrap();
        assert_eq!(out("."), format!("{name}.torrent"));
    }
}
