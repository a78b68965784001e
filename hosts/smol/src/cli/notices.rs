//! Printing of a session's notices: results on standard output, the rest on standard error.

use std::fmt::Arguments;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use everseed_disk::make::Report;

use crate::cli::making::{Making, not_included, skipped};
use crate::cli::status::StatusLine;
use crate::printing::{Stream, print};
use crate::secrets::mask_urls;
use crate::session::{Introduction, LeftOut, Notice, Notices};
use crate::text::{clear_live_line, escape, live_line_stands, say, size};

/// A receiver that prints each notice.
pub(crate) fn printed() -> Notices {
    let printer = Mutex::new(Printer {
        status: StatusLine::new(),
        making: None,
    });
    Notices::to(move |notice| {
        let mut printer = printer.lock().unwrap_or_else(PoisonError::into_inner);
        printer.print(notice)
    })
}

struct Printer {
    status: StatusLine,
    making: Option<Making>,
}

impl Printer {
    fn print(&mut self, notice: Notice<'_>) -> io::Result<()> {
        match notice {
            Notice::Memory { most, plan } => {
                return line(format_args!("memory: {} at most: {plan}", size(most)));
            }
            Notice::Torrent(introduction) => return introduce(introduction),
            Notice::WorksOnly {
                tracker,
                within,
                port,
            } => {
                return line(format_args!(
                    "note: torrents and links that name {tracker} work {within} only; for others forward port \
                     {port} (TCP) to this machine and name the address outside with --public-address HOST[:PORT]"
                ));
            }
            Notice::Listening(addr) => return line(format_args!("listening: {addr}")),
            Notice::Forwarded(text) => return line(format_args!("{text}")),
            Notice::Seeding(name) => return line(format_args!("seeding: {}", escape(name))),
            Notice::NoRoom(text) => log::error!("{text}"),
            Notice::Stopped(name) => return line(format_args!("stopped: {}", escape(name))),
            Notice::Paused(path) => return line(format_args!("paused: {}", shown(path))),
            Notice::Resumed(path) => return line(format_args!("resumed: {}", shown(path))),
            Notice::Verified {
                name,
                pieces: (good, pieces),
            } => {
                return line(format_args!(
                    "verified: {}, {good} of {pieces} pieces are good",
                    escape(name)
                ));
            }
            Notice::NotVerified { path, why } => {
                log::warn!("{}: it is not verified: {why}", shown(path));
            }
            Notice::Asleep(count) => return line(format_args!("asleep: {count} torrents")),
            Notice::Downloading { name, left } => {
                let (name, (left, wanted)) = (escape(name), left);
                let (left, wanted) = (size(left), size(wanted));
                return line(format_args!(
                    "downloading: {name}, {left} of {wanted} to come"
                ));
            }
            Notice::Complete { name, but } => return complete(name, but),
            Notice::Moving { name, to } => say(format_args!(
                "{}: complete, and copied to {}",
                escape(name),
                escape(to.as_os_str().as_encoded_bytes())
            )),
            Notice::Unfinished { name, left, why } => {
                let (name, left) = (escape(name), size(left));
                return line(format_args!("unfinished: {name}, {left} to come; {why}"));
            }
            Notice::Missing {
                name,
                pieces: (missing, pieces),
                torrent,
                root,
            } => {
                let seeded = match missing == pieces {
                    true => "so nothing is seeded",
                    false => "the others are seeded",
                };
                say(format_args!(
                    "{}: {missing} of {pieces} pieces are missing or damaged, {seeded}; \
                     `everseed check {} {}` names the files",
                    escape(name),
                    escape(torrent.as_os_str().as_encoded_bytes()),
                    escape(root.as_os_str().as_encoded_bytes()),
                ));
            }
            Notice::Replaced { path, former } => say(format_args!(
                "{} has changed, so it is a new torrent now; links to the former one, {}, lead nowhere",
                escape(path.as_os_str().as_encoded_bytes()),
                escape(former),
            )),
            Notice::LeftOut(path, why) => say(format_args!("{}", skipped(path, why))),
            Notice::NotIncluded(count) => not_included(count),
            Notice::Hashed(done, total) => {
                let making = self.making.get_or_insert_with(Making::default);
                making.report(Report::Hashed { done, total });
            }
            Notice::HashingEnded => self.making = None,
            Notice::Numbers(numbers) => self.status.show(numbers),
            Notice::Failed(text) => say(format_args!("everseed: {text}")),
            Notice::Ending if live_line_stands() => return print(Stream::Out, "\n"),
            Notice::Ending => {}
        }
        Ok(())
    }
}

fn introduce(introduction: &Introduction) -> io::Result<()> {
    let Introduction {
        torrent,
        info_hash,
        url,
        magnet,
    } = introduction;
    line(format_args!("torrent: {}", escape(torrent)))?;
    line(format_args!("info-hash: {info_hash}"))?;
    if let Some(url) = url {
        line(format_args!("torrent-url: {url}"))?;
    }
    match magnet {
        Some(magnet) => line(format_args!("magnet: {magnet}")),
        None => Ok(()),
    }
}

fn complete(name: &str, but: Option<(u64, LeftOut)>) -> io::Result<()> {
    let name = escape(name);
    match but.map(|(left, why)| (size(left), why)) {
        None => line(format_args!("complete: {name}")),
        Some((left, LeftOut::Kept)) => line(format_args!(
            "complete but for {left} in files that are kept as they are: {name}"
        )),
        Some((left, LeftOut::Unusable)) => line(format_args!(
            "complete but for {left} that cannot be written or read: {name}"
        )),
    }
}

/// A path or a torrent's URL for display; the URL may hold a passkey, which is hidden.
fn shown(path: &Path) -> String {
    escape(&mask_urls(&path.to_string_lossy())).to_string()
}

/// Prints a line on standard output. A reader that has gone away is not an error.
fn line(line: Arguments<'_>) -> io::Result<()> {
    clear_live_line(Stream::Out);
    match print(Stream::Out, &format!("{line}\n")) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}
