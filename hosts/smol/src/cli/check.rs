//! `everseed check`: the bad pieces of each file.

use std::collections::HashMap;
use std::fmt::Write;
use std::fs::{self, DirBuilder};
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use everseed_core::bits;
use everseed_core::metainfo::FileKind;
use everseed_disk::check::check;
use everseed_disk::fault::Unread;
use everseed_disk::{Content, Links, ReadError, read_torrent};
use lexopt::Parser;
use log::LevelFilter;

use crate::failure::{DAMAGED, Failure, finish};
use crate::logging::start_log;
use crate::options::args::{self, Argument, Stop};
use crate::text::{Output, ProgressLine, escape};

pub(crate) const HELP: &str = "\
everseed check - compare files with a .torrent

Usage: everseed check [OPTIONS] TORRENT DIR

DIR is the folder that holds the torrent's file or folder, or that file or
folder itself. Nothing in it is changed. A line is printed for each file:

  ok       all its pieces have the right hash
  found    the same, but it has another name, which is printed too
  bad      some pieces have a wrong hash: their numbers are printed
  unread   some pieces cannot be read: their numbers and the error are printed
  missing  it is not there (an empty file need not be)
  short    it is shorter than in the torrent
  link     it is a link that leads out of DIR
  other    there is a folder or a device in its place

A piece that lies in several files is bad for all of them. A file with bad
pieces is searched for in all of DIR, first by size, then by hash, under any
name. Unfinished files of other clients (NAME.part, NAME.!qB) beside it are
tried too, whatever their size. If it has good pieces itself, another file
counts in its place only if that has the same good pieces and more, and only 16
of its size are tried.

Options:
      --file N=PATH      file number N of `everseed show` is at PATH in DIR;
                         repeat it for several
      --rename NAME      the torrent's file or folder is called NAME
      --links WHICH      beneath: follow links if they stay in DIR;
                         follow: follow all links (default: beneath)
  -h, --help             print this
  -V, --version          print the version

Exit codes: 0 everything is good, 3 something is bad or missing, 1 the check
could not be done, 2 wrong usage.

Examples:
  everseed check debian.torrent /srv           /srv/debian.iso or /srv/debian/
  everseed check x.torrent . > report || echo damaged
";

#[inline(never)] // See `dispatch`.
pub(crate) fn run(parser: Parser) -> Result<ExitCode, Failure> {
    let (torrent, data, links, files) = parse(parser)?;
    start_log(LevelFilter::Warn);
    // If everything is missing, that is one finding. A mistyped folder or an unmounted disk is another.
    std::fs::metadata(&data).map_err(|error| {
        let shown = escape(data.as_os_str().as_encoded_bytes()).to_string();
        Failure::Failed(format!("{shown}: {error}"))
    })?;
    let scratch = Scratch::new().map_err(|error| {
        let folder = std::env::temp_dir();
        let shown = escape(folder.as_os_str().as_encoded_bytes()).to_string();
        Failure::Failed(format!("no folder can be made in {shown}: {error}"))
    })?;
    let metainfo = read_torrent(&torrent).map_err(Failure::failed)?;
    let content = Content::open(&torrent, &metainfo, &data, &scratch.0);
    let mut content = content.map_err(Failure::failed)?.follow(links);
    content.place_files(&files).map_err(|number| {
        let shown = escape(torrent.as_os_str().as_encoded_bytes()).to_string();
        Failure::Failed(format!(
            "--file: {shown} has no file {number}; everseed show lists them"
        ))
    })?;
    everseed_disk::unfinished::find(&content).map_err(Failure::failed)?;
    let mut unread = Unreadable::new(&content);
    let good = {
        let total = content.geometry().total();
        let mut progress = ProgressLine::new("checked", total);
        let checked = check(
            &content,
            |done| {
                match done < total {
                    true => progress.update(done),
                    // What is missing is searched for elsewhere.
                    false => progress.searching(),
                }
                ControlFlow::Continue(())
            },
            |fault| unread.note(fault),
        );
        // This progress callback never stops the check.
        checked.map_err(Failure::failed)?.unwrap_or_default()
    };
    if good.iter().all(|bits| *bits == 0) {
        content.fits().map_err(Failure::failed)?;
    }
    let mut out = Output::new();
    let intact = report(&content, &good, &unread, &mut out)?;
    let code = if intact {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(DAMAGED)
    };
    finish(out, code)
}

type Arguments = (PathBuf, PathBuf, Links, Vec<(u64, PathBuf)>);

fn parse(mut parser: Parser) -> Result<Arguments, Stop> {
    let mut files = Vec::new();
    let mut paths = Vec::new();
    let mut links = Links::Beneath;
    while let Some(given) = args::next(&mut parser, HELP)? {
        match given {
            Argument::Value(path) if paths.len() < 2 => paths.push(args::path(path)?),
            Argument::Value(path) => return Err(args::surplus("check", &path)),
            Argument::Option("--file") => files.push(args::placed(&mut parser)?),
            Argument::Option("--rename") => files.push(args::renamed(&mut parser)?),
            Argument::Option(option) if option == "--links" => {
                links = args::links(&mut parser, option)?;
            }
            Argument::Option(option) => return Err(args::unknown(HELP, option)),
        }
    }
    match <[PathBuf; 2]>::try_from(paths) {
        Ok([torrent, data]) => Ok((torrent, data, links, files)),
        Err(_) => Err(args::missing(
            "check",
            "a .torrent and the folder of its data",
        )),
    }
}

/// Pieces and files that could not be read.
struct Unreadable {
    /// One bit for each piece.
    pieces: Vec<u8>,
    /// The error of each file, for at most [`REASONS`] files.
    reasons: HashMap<PathBuf, String>,
}

impl Unreadable {
    fn new(content: &Content) -> Unreadable {
        Unreadable {
            pieces: vec![0; content.geometry().bitfield_len() as usize],
            reasons: HashMap::new(),
        }
    }

    fn note(&mut self, fault: Unread) {
        bits::set(&mut self.pieces, fault.piece);
        let path = fault.error.path();
        if self.reasons.len() < REASONS && !self.reasons.contains_key(path) {
            let reason = match &fault.error {
                ReadError::Io { error, .. } => error.to_string(),
                ReadError::Changed { .. } => "it is being changed".to_owned(),
                error => error.to_string(),
            };
            self.reasons.insert(path.to_owned(), reason);
        }
    }

    /// The error of reading a file.
    fn reason(&self, path: &Path) -> &str {
        let reason = self.reasons.get(path);
        reason.map_or(
            "what it shares with another file cannot be read",
            String::as_str,
        )
    }
}

/// The most files whose error is kept.
const REASONS: usize = 1000;

/// Prints the result for each file. Returns whether everything is good.
fn report(
    content: &Content,
    good: &[u8],
    unread: &Unreadable,
    out: &mut Output,
) -> Result<bool, Failure> {
    let geometry = content.geometry();
    let mut intact = true;
    for entry in content.entries().map_err(Failure::failed)? {
        let entry = entry.map_err(Failure::failed)?;
        if entry.kind != FileKind::Data {
            continue;
        }
        let path = escape(entry.path.as_os_str().as_encoded_bytes());
        let pieces = entry.pieces(geometry);
        let lost = |piece: &u32| bits::get(&unread.pieces, *piece);
        let unreadable = ranges(pieces.clone().filter(lost));
        let bad = ranges(pieces.filter(|piece| !bits::get(good, *piece) && !lost(piece)));
        if !unreadable.is_empty() {
            let reason = unread.reason(&content.path_of(&entry));
            out.line(format_args!(
                "unread   {path} (pieces {unreadable}): {reason}"
            ));
            intact = false;
            if bad.is_empty() {
                continue;
            }
        }
        let place = content.found_at(&entry).map_or(String::new(), |place| {
            format!(" as {}", escape(place.as_os_str().as_encoded_bytes()))
        });
        let verdict = match content.probe(&entry) {
            Ok(()) if bad.is_empty() => {
                let verdict = if place.is_empty() { "ok   " } else { "found" };
                out.line(format_args!("{verdict}    {path}{place}"));
                continue;
            }
            Ok(()) => {
                out.line(format_args!("bad      {path}{place} (pieces {bad})"));
                intact = false;
                continue;
            }
            // Every client makes one itself.
            Err(ReadError::Missing { .. }) if entry.len == 0 => {
                out.line(format_args!("missing  {path} (nothing is needed)"));
                continue;
            }
            Err(ReadError::Missing { .. }) => "missing ",
            Err(ReadError::Short { .. }) => "short   ",
            Err(ReadError::Leaves { .. }) => "link    ",
            Err(ReadError::NotAFile { .. }) => "other   ",
            Err(error) => return Err(Failure::failed(error)),
        };
        out.line(format_args!("{verdict} {path}{place}"));
        intact = false;
    }
    let (count, total) = (bits::count(good), geometry.pieces());
    out.line(format_args!("pieces: {count} of {total} good"));
    Ok(intact && count == total)
}

/// Rising numbers as people write them: `3, 5-9, 12`.
fn ranges(numbers: impl Iterator<Item = u32>) -> String {
    let mut text = String::new();
    let mut open: Option<(u32, u32)> = None;
    let mut close = |range: Option<(u32, u32)>| {
        let Some((first, last)) = range else { return };
        let comma = if text.is_empty() { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = if first == last {
            write!(text, "{comma}{first}")
        } else {
            write!(text, "{comma}{first}-{last}")
        };
    };
    for number in numbers {
        open = match open {
            Some((first, last)) if last + 1 == number => Some((first, number)),
            done => {
                close(done);
                Some((number, number))
            }
        };
    }
    close(open);
    text
}

/// A folder for the index, removed when the check is done.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> io::Result<Scratch> {
        let path = std::env::temp_dir().join(format!("everseed-check-{}", std::process::id()));
        // A killed process may have had this id. If the folder is somebody else's, it stays and the next line fails.
        let _ = fs::remove_dir_all(&path);
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(Path::new(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_as_people_write_them() {
        for (numbers, text) in [
            (&[][..], ""),
            (&[3], "3"),
            (&[3, 4], "3-4"),
            (&[0, 2, 3, 4, 9, u32::MAX], "0, 2-4, 9, 4294967295"),
        ] {
            assert_eq!(ranges(numbers.iter().copied()), text);
        }
    }
}
