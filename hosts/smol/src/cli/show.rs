//! `everseed show`: prints the contents of a torrent file.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use everseed_core::magnet::{Magnet, Value};
use everseed_core::metainfo::{FileKind, Metainfo, RereadError};
use everseed_disk::edit::source_of;
use everseed_disk::{Stream, open_torrent, read_entries, read_torrent};
use lexopt::Parser;
use log::LevelFilter;

use crate::client::trackers;
use crate::failure::{Failure, finish};
use crate::logging::start_log;
use crate::magnet::magnet;
use crate::options::args::{self, Stop};
use crate::secrets::{has_secret, mask};
use crate::text::{Output, date, escape, size};

pub(crate) const HELP: &str = "\
everseed show - print what a .torrent holds

Usage: everseed show [--secrets] TORRENT|MAGNET

Prints the name, info-hash, magnet link, size, pieces, source, trackers by tier,
web seeds and comment. Then a line for each file: its number (for the option
--only of everseed get), its size in bytes, and its path. A file whose name in
the torrent is not allowed on disk is marked, and shown with the name that
everseed gives it on every machine. Text from the torrent cannot control the
terminal: control characters are shown as escapes. For a magnet link it prints
what is in the link, without using the network.

Options:
      --secrets          print passwords and passkeys in URLs instead of ***.
                         The magnet link then names trackers with a passkey, and
                         a private torrent has a magnet link too
  -h, --help             print this
  -V, --version          print the version

Examples:
  everseed show debian.torrent
  everseed show debian.torrent | grep ^magnet:
";

/// The longest part of a comment that is shown, in bytes.
const COMMENT: usize = 4096;

#[inline(never)] // See `dispatch`.
pub(crate) fn run(parser: Parser) -> Result<ExitCode, Failure> {
    let (path, secrets) = parse(parser)?;
    start_log(LevelFilter::Warn);
    let mut out = Output::new();
    let text = path.to_str().unwrap_or_default();
    if text
        .get(..7)
        .is_some_and(|start| start.eq_ignore_ascii_case("magnet:"))
    {
        let link = Magnet::parse(text).map_err(Failure::failed)?;
        print_link(&link, secrets, &mut out);
        return finish(out, ExitCode::SUCCESS);
    }
    let metainfo = read_torrent(&path).map_err(Failure::failed)?;
    print(&path, &metainfo, secrets, &mut out).map_err(|error| {
        let shown = escape(path.as_os_str().as_encoded_bytes());
        Failure::Failed(format!("{shown}: {error}"))
    })?;
    finish(out, ExitCode::SUCCESS)
}

/// Prints the contents of a magnet link.
fn print_link(link: &Magnet<'_>, secrets: bool, out: &mut Output) {
    let text = |value: Value<'_>| {
        let bytes: Vec<u8> = value.bytes().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let shown = |url: String| match secrets {
        true => escape(&url).to_string(),
        false => escape(&mask(&url).to_string()).to_string(),
    };
    if let Some(name) = link.name() {
        out.line(format_args!("name: {}", escape(&text(name))));
    }
    out.line(format_args!("info-hash: {}", link.info_hash));
    if link.also_version_2 {
        out.line(format_args!("its hash of version 2 is not used"));
    }
    let urls = link.trackers().map(|url| ("tracker", shown(text(url))));
    let urls = urls.chain(link.web_seeds().map(|url| ("web seed", shown(text(url)))));
    let urls = urls.chain(link.peers().map(|peer| ("peer", shown(text(peer)))));
    for (what, url) in urls {
        out.line(format_args!("{what}: {url}"));
    }
    if let Some(files) = link.files() {
        let numbers = files.map(|range| match range.start() == range.end() {
            true => (u64::from(*range.start()) + 1).to_string(),
            false => format!(
                "{}-{}",
                u64::from(*range.start()) + 1,
                u64::from(*range.end()) + 1
            ),
        });
        let numbers: Vec<String> = numbers.collect();
        out.line(format_args!("files: {}", numbers.join(", ")));
    }
}

fn parse(mut parser: Parser) -> Result<(PathBuf, bool), Stop> {
    let (mut path, mut secrets) = (None, false);
    while let Some(name) = args::next_option(&mut parser, HELP, &mut path)? {
        match name {
            "--secrets" => secrets = true,
            _ => return Err(args::unknown(HELP, name)),
        }
    }
    let path = path.ok_or_else(|| args::missing("show", "a .torrent"))?;
    Ok((path, secrets))
}

type Printed = Result<(), RereadError<io::Error>>;

fn print(path: &Path, metainfo: &Metainfo, secrets: bool, out: &mut Output) -> Printed {
    let torrent = || {
        open_torrent(path)
            .map(BufReader::new)
            .map_err(|error| RereadError::Io(io::Error::other(error)))
    };
    let geometry = metainfo.geometry;
    let told = |url: &str| match secrets {
        true => url.to_owned(),
        false => mask(url).to_string(),
    };
    let name = metainfo.name(Stream(torrent()?))?;
    out.line(format_args!("name: {}", escape(&name)));
    out.line(format_args!("info-hash: {}", metainfo.info_hash));
    if secrets || !metainfo.private {
        let first = first_trackers(metainfo, torrent()?)?;
        let urls = first.iter().map(String::as_str);
        let urls = urls.filter(|url| secrets || !has_secret(url));
        let magnet = magnet(metainfo.info_hash, &name, urls, None);
        out.line(format_args!("magnet: {magnet}"));
    }
    let (total, piece_len) = (geometry.total(), geometry.piece_len());
    out.line(format_args!("size: {} ({total} bytes)", size(total)));
    let (pieces, shown) = (geometry.pieces(), size(piece_len.into()));
    out.line(format_args!(
        "pieces: {pieces} of {shown} ({piece_len} bytes)"
    ));
    let private = if metainfo.private { "yes" } else { "no" };
    out.line(format_args!("private: {private}"));
    if let Some(source) = source_of(path, metainfo).map_err(RereadError::Io)? {
        out.line(format_args!("source: {}", escape(&source)));
    }
    if let Some(time) = metainfo.creation_date {
        out.line(format_args!("created: {}", date(time)));
    }
    let mut room = [0; COMMENT];
    let text = metainfo.created_by(Stream(torrent()?), &mut room)?;
    if !text.is_empty() {
        out.line(format_args!("created by: {}", escape(text)));
    }
    let text = metainfo.comment(Stream(torrent()?), &mut room)?;
    if !text.is_empty() {
        out.line(format_args!("comment: {}", escape(text)));
    }
    let mut trackers = metainfo.trackers(Stream(torrent()?))?;
    while let Some((tier, url)) = trackers.next()? {
        let url = told(url);
        out.line(format_args!(
            "tracker (tier {}): {}",
            tier + 1,
            escape(&url)
        ));
    }
    let mut seeds = metainfo.web_seeds(Stream(torrent()?))?;
    while let Some(url) = seeds.next()? {
        out.line(format_args!("web seed: {}", escape(&told(url))));
    }
    print_files(path, metainfo, out)
}

fn print_files(torrent: &Path, metainfo: &Metainfo, out: &mut Output) -> Printed {
    out.line(format_args!("files: {}", metainfo.file_count));
    let failed = |error: String| RereadError::Io(io::Error::other(error));
    let entries = read_entries(torrent, metainfo).map_err(|error| failed(error.to_string()))?;
    let mut renamed = 0_u64;
    for (number, file) in (1_u64..).zip(entries) {
        let file = file.map_err(|error| failed(error.to_string()))?;
        let what = match file.kind {
            FileKind::Data if !file.exact => {
                renamed += 1;
                " (renamed)"
            }
            FileKind::Data => "",
            FileKind::Padding => " (padding)",
            FileKind::Symlink => " (symbolic link, not used)",
        };
        let path = escape(file.path.as_os_str().as_encoded_bytes());
        out.line(format_args!("{number:>6} {:>15}  {path}{what}", file.len));
        if out.closed() {
            break;
        }
    }
    if renamed > 0 {
        out.line(format_args!(
            "renamed: {renamed}, as a file cannot have the name that the torrent gives it, or another one has it"
        ));
    }
    Ok(())
}

/// The trackers that everseed uses, which may be fewer than the torrent names.
fn first_trackers(
    metainfo: &Metainfo,
    torrent: BufReader<File>,
) -> Result<Vec<String>, RereadError<io::Error>> {
    let mut first = Vec::new();
    let mut trackers = metainfo.trackers(Stream(torrent))?;
    while first.len() < trackers::MOST
        && let Some((_, url)) = trackers.next()?
    {
        first.push(url.to_owned());
    }
    Ok(first)
}
