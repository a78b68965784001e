//! The check of a configuration before it is used: by `--check-config`, and before a running service leaves its
//! present configuration. It changes nothing.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use everseed_core::metainfo::Metainfo;
use everseed_disk::{identify_torrent, state_of};
use rustix::fs::{FlockOperation, OFlags};

use super::download::not_held;
use super::index::is_torrent;
use super::kept::packing_of;
use super::room::room;
use super::watch::IS_SECRET;
use crate::net::listen::{Listen, interface};
use crate::net::socket;
use crate::options::finding::{Finding, Weight};
use crate::options::run::{Config, Item, Lines};
use crate::storage::mount_guard::{MountId, MountState, is_in_ram};
use crate::storage::state::StateError;

/// A configuration and the findings about it; or an error that concerns the whole file.
pub(super) type ReadConfig = Result<(Config, Vec<Finding>), String>;

/// All findings that a start would make, in the order of the file, including the errors `wrong`. What `running`
/// already uses is not reported.
pub(crate) fn foresee(
    config: &Config,
    lines: &Lines,
    wrong: Vec<Finding>,
    running: Option<&Config>,
) -> Vec<Finding> {
    let mut found = Findings::fatal(config, lines, running);
    found.listen(config, running);
    found.watch(config);
    for (number, item) in config.items.iter().enumerate() {
        let known = running.is_some_and(|running| running.items.contains(item));
        if !known {
            for (key, weight, text) in look_at(item) {
                found.add(lines.item(number, key), weight, text);
            }
        }
    }
    found.and(wrong)
}

/// The findings for which a start fails; it makes the others later.
pub(crate) fn refusals(config: &Config, lines: &Lines, wrong: Vec<Finding>) -> Vec<Finding> {
    Findings::fatal(config, lines, None).and(wrong)
}

struct Findings<'a> {
    lines: &'a Lines,
    found: Vec<Finding>,
}

impl<'a> Findings<'a> {
    fn fatal(config: &Config, lines: &'a Lines, running: Option<&Config>) -> Findings<'a> {
        let mut found = Findings {
            lines,
            found: Vec::new(),
        };
        found.state(config, running);
        if let Err(error) = room(config) {
            found.add(lines.key("memory"), Weight::Fatal, error.to_string());
        }
        found.trace(config, running);
        found
    }

    /// Adds the errors in the file. A finding about a key with an error is about its default value, and is dropped.
    fn and(mut self, wrong: Vec<Finding>) -> Vec<Finding> {
        let is_wrong = |found: &Finding| wrong.iter().any(|wrong| wrong.line == found.line);
        self.found.retain(|found| !is_wrong(found));
        self.found.extend(wrong);
        self.found.sort_by_key(|finding| finding.line);
        self.found
    }

    fn add(&mut self, line: usize, weight: Weight, text: String) {
        self.found.push(Finding { line, text, weight });
    }

    fn state(&mut self, config: &Config, running: Option<&Config>) {
        let folder = &config.seed.state;
        let key = self.lines.key("state");
        let there = folder.ancestors().find_map(|path| File::open(path).ok());
        let error = if let MountState::NotMounted(mount) = MountId::look(folder, None) {
            Err(StateError::NotMounted(folder.clone(), mount))
        } else if !config.state_in_ram && there.is_some_and(|there| is_in_ram(&there)) {
            Err(StateError::InRam(folder.clone()))
        } else if let Err(error) = try_folder(folder)
            // What is known is seeded without writing anything.
            && !(error.kind() == ErrorKind::ReadOnlyFilesystem && folder.join("lock").is_file())
        {
            Err(StateError::Io(folder.clone(), error))
        } else if running.is_some_and(|now| now.seed.state != *folder) && is_locked(folder) {
            // A mere check must not collide with the service that uses the state.
            Err(StateError::InUse(folder.clone()))
        } else {
            Ok(())
        };
        if let Err(error) = error {
            self.add(key, Weight::Fatal, error.to_string());
        }
    }

    fn trace(&mut self, config: &Config, running: Option<&Config>) {
        let Some(path) = &config.seed.trace else {
            return;
        };
        if running.is_some_and(|running| running.seed.trace.as_ref() == Some(path)) {
            return;
        }
        let parent = path.parent().unwrap_or(Path::new("/"));
        let writable = match path.symlink_metadata() {
            // A FIFO without a reader would block.
            Ok(_) => File::options()
                .write(true)
                .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
                .open(path)
                .map(drop),
            Err(_) => try_file(parent),
        };
        if let Err(error) = writable {
            let text = format!("{}: {error}; see --trace", path.display());
            self.add(self.lines.key("trace"), Weight::Fatal, text);
        }
    }

    fn listen(&mut self, config: &Config, running: Option<&Config>) {
        for listen in &config.seed.listen {
            if running.is_some_and(|running| running.seed.listen.contains(listen)) {
                continue;
            }
            let &addr = match listen {
                Listen::At(addr) => addr,
                Listen::On(name, _) => {
                    let all = if_addrs::get_if_addrs().unwrap_or_default();
                    if interface(&all, name).ips.is_empty() {
                        let text = format!("{name} is not there, is down or has no address");
                        self.add(self.lines.key("listen"), Weight::Waits, text);
                    }
                    continue;
                }
            };
            let Err(error) = socket::bind(addr, None) else {
                continue;
            };
            let weight = match error.kind() {
                // A mere check may be about a running service that has the port.
                ErrorKind::AddrInUse if running.is_none() => Weight::Waits,
                // A machine without IPv6 is no finding unless IPv6 was configured.
                _ if config.seed.listen_default && addr.is_ipv6() => continue,
                ErrorKind::AddrNotAvailable => Weight::Waits,
                _ => Weight::Wrong,
            };
            let text = format!("cannot listen on {addr}: {error}");
            self.add(self.lines.key("listen"), weight, text);
        }
    }

    fn watch(&mut self, config: &Config) {
        for folder in &config.watch {
            let shown = folder.display();
            let seen = is_mounted(folder).map_err(|text| (Weight::Waits, text));
            let seen = seen.and_then(|()| match fs::metadata(folder) {
                Ok(there) if !there.is_dir() => {
                    Err((Weight::Wrong, format!("{shown} is no folder")))
                }
                Ok(_) if *folder == config.seed.state || state_of(folder).is_some() => {
                    Err((Weight::Wrong, format!("{shown}: {IS_SECRET}")))
                }
                Ok(_) => fs::read_dir(folder)
                    .map(drop)
                    .map_err(|e| weigh(folder, &e)),
                Err(error) => Err(weigh(folder, &error)),
            });
            if let Err((weight, text)) = seen {
                self.add(self.lines.key("watch"), weight, text);
            }
        }
    }
}

/// A key of an item, and the finding about it.
type Odd = (&'static str, Weight, String);

/// Checks one entry.
fn look_at(item: &Item) -> Vec<Odd> {
    let fetch = item.fetch.as_deref();
    let (key, data) = match fetch {
        Some(fetch) => ("out", Some(&fetch.out)),
        None => ("data", item.data.as_ref()),
    };
    // The path is empty if the file names none.
    let data = data.filter(|data| !data.as_os_str().is_empty());
    let data = data.map_or(Ok(()), |data| look_at_data(key, data, fetch.is_some()));
    let data = data.err().map(|(weight, text)| (key, weight, text));
    let mut odd: Vec<Odd> = data.into_iter().collect();
    if let Some(apart) = fetch.and_then(|fetch| fetch.incomplete.as_ref())
        && let Err((weight, text)) = look_at_data("incomplete", apart, true)
    {
        odd.push(("incomplete", weight, text));
    }
    let key = if fetch.is_some() { "torrent" } else { "path" };
    match look_at_path(&item.path, fetch.is_some()) {
        Err((weight, text)) => odd.push((key, weight, text)),
        Ok(Some(metainfo)) if fetch.is_some_and(|fetch| !fetch.only.is_empty()) => {
            let fetch = fetch.into_iter();
            let said = fetch.flat_map(|fetch| not_held(&item.path, &metainfo, &fetch.only));
            odd.extend(said.map(|text| ("only", Weight::Wrong, text)));
        }
        Ok(_) => {}
    }
    odd
}

fn look_at_data(key: &str, data: &Path, download: bool) -> Result<(), (Weight, String)> {
    is_mounted(data).map_err(|text| (Weight::Waits, text))?;
    let there = fs::metadata(data).map_err(|error| weigh(data, &error))?;
    match download && !there.is_dir() {
        true => Err((
            Weight::Wrong,
            format!("{key}: {} is no folder", data.display()),
        )),
        false => Ok(()),
    }
}

/// Checks an entry's path. Returns the torrent, if it is one whose files can be listed now.
fn look_at_path(path: &Path, download: bool) -> Result<Option<Metainfo>, (Weight, String)> {
    // What a server has shows when it is asked.
    if !path.is_absolute() {
        return Ok(None);
    }
    is_mounted(path).map_err(|text| (Weight::Waits, text))?;
    let there = fs::metadata(path).map_err(|error| weigh(path, &error))?;
    if download || is_torrent(path) && !there.is_dir() {
        let read = identify_torrent(path).map_err(|e| (Weight::Wrong, e.to_string()))?;
        return Ok(packing_of(path).is_none().then_some(read));
    }
    if state_of(path).is_some() {
        let text = format!("{}: {IS_SECRET}", path.display());
        return Err((Weight::Wrong, text));
    }
    let opened = match there.is_dir() {
        true => fs::read_dir(path).map(drop),
        // A FIFO would block.
        false if !there.is_file() => {
            let text = format!("{} is neither a file nor a folder", path.display());
            return Err((Weight::Wrong, text));
        }
        false => File::open(path).map(drop),
    };
    opened.map_err(|error| weigh(path, &error))?;
    Ok(None)
}

fn is_mounted(path: &Path) -> Result<(), String> {
    match MountId::look(path, None) {
        MountState::There(_) => Ok(()),
        MountState::NotMounted(mount) | MountState::Another(mount) => {
            let (shown, mount) = (path.display(), mount.display());
            Err(format!("{shown}: {mount} is not mounted"))
        }
    }
}

/// A missing path may come later; an existing one that cannot be used will not mend by itself.
fn weigh(path: &Path, error: &io::Error) -> (Weight, String) {
    let weight = match error.kind() {
        ErrorKind::NotFound => Weight::Waits,
        _ => Weight::Wrong,
    };
    (weight, format!("{}: {error}", path.display()))
}

/// Tries to make a folder if it is missing, and a file in it. Nothing of this stays.
fn try_folder(folder: &Path) -> io::Result<()> {
    match fs::metadata(folder) {
        Ok(there) if there.is_dir() => try_file(folder),
        Ok(_) => Err(ErrorKind::NotADirectory.into()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let parent = folder.ancestors().skip(1).find(|path| path.exists());
            let parent = parent.unwrap_or(Path::new("/"));
            let tried = parent.join(probe());
            unless_full(fs::create_dir(&tried).and_then(|()| fs::remove_dir(&tried)))
        }
        Err(error) => Err(error),
    }
}

fn try_file(folder: &Path) -> io::Result<()> {
    let tried = folder.join(probe());
    let made = File::options().write(true).create_new(true).open(&tried);
    unless_full(made.and_then(|_| fs::remove_file(&tried)))
}

/// Ignores a full disk, which everseed waits for.
fn unless_full(tried: io::Result<()>) -> io::Result<()> {
    match tried {
        Err(error) if error.kind() == ErrorKind::StorageFull => Ok(()),
        Err(error) if error.kind() == ErrorKind::QuotaExceeded => Ok(()),
        tried => tried,
    }
}

fn probe() -> String {
    format!(".everseed-check-{}", std::process::id())
}

/// Whether another process uses a state.
fn is_locked(folder: &Path) -> bool {
    let Ok(lock) = File::open(folder.join("lock")) else {
        return false;
    };
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
        == Err(rustix::io::Errno::AGAIN)
}
