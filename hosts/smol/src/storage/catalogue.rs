//! The catalogue of sleeping torrents: what it takes to wake them is on disk, four bytes each are in memory.
//!
//! The catalogue is the file `STATE/catalogue`, to which lines are only appended. A line begins with its length and a
//! checksum, four bytes each; its content is in postcard. It says that a torrent sleeps, and how to open and announce
//! it, or that it is gone. At a start the file is rewritten if most of its lines are out of date. It is not precious:
//! torrents that it lacks are found in the watched folders again. So it is not synced, and reading ends at a damaged
//! line.
//!
//! Invariant: `lines[id.slot]` is the offset of the line of the torrent with that id, or [`NOWHERE`].

use std::collections::BTreeSet;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;

use everseed_core::geometry::TorrentId;
use everseed_core::hash::InfoHash;
use rustix::fs::OFlags;

use crate::storage::aside::set_aside;
use crate::storage::dormant::{DormantTorrent, Line};
use crate::storage::lines::{LineReader, SleeperLine, encode};
use crate::storage::state::StateFolder;

/// The catalogue: the file, and the offset of each torrent's line.
#[derive(Debug)]
pub(crate) struct Catalogue {
    path: PathBuf,
    /// The file, once it was needed.
    file: Option<Arc<File>>,
    lines: Vec<u32>,
    end: u64,
    room: usize,
    /// Slots of torrents that are paused; across restarts `PausedItems` knows them.
    paused: BTreeSet<u16>,
    /// Slots of torrents that have reached their goal, which is found out again after a restart.
    ended: BTreeSet<u16>,
}

impl Catalogue {
    /// An empty catalogue at `path`, for at most `room` ids.
    pub(crate) fn new(path: PathBuf, room: usize) -> Catalogue {
        Catalogue {
            path,
            file: None,
            lines: Vec::new(),
            end: 0,
            room,
            paused: BTreeSet::new(),
            ended: BTreeSet::new(),
        }
    }

    /// Reads the lines of former runs in order. `take` gets each sleeping torrent and returns its new id if it is to
    /// stay; `drop` gets each torrent that is gone again. An error of `take` ends this, and nothing is changed.
    pub(crate) fn load(
        &mut self,
        mut take: impl FnMut(&DormantTorrent) -> io::Result<Option<TorrentId>>,
        mut drop: impl FnMut(InfoHash) -> Option<TorrentId>,
    ) -> io::Result<()> {
        let mut reader = LineReader::new(Arc::clone(self.open()?));
        let mut stale = 0_usize;
        while let Some((at, line)) = reader.next() {
            match line.sleeper() {
                Ok(sleeper) => match take(&sleeper)? {
                    Some(id) => stale += usize::from(self.put(id, at).is_some()),
                    None => stale += 1,
                },
                Err(info_hash) => {
                    stale += 1;
                    if let Some(id) = drop(info_hash) {
                        stale += usize::from(self.take(id).is_some());
                    }
                }
            }
        }
        // The damaged rest is cut off, so that no line after it counts again later.
        let end = reader.at;
        self.end = end;
        let file = self.open()?;
        let rest = file.metadata()?.len().saturating_sub(end);
        file.set_len(end)?;
        if rest > 0 {
            log::warn!(
                "{}: its last {rest} bytes are damaged; the torrents that they told of are opened",
                self.path.display()
            );
        }
        let live = self.lines.iter().filter(|&&line| line != NOWHERE).count();
        if stale > live + STALE_MAX {
            self.rewrite()?;
        }
        Ok(())
    }

    /// Writes that a torrent sleeps, unless the file says so already.
    pub(crate) fn add(&mut self, id: TorrentId, sleeper: &DormantTorrent) -> io::Result<()> {
        if self.read(id.slot).as_ref() == Some(sleeper) {
            return Ok(());
        }
        let at = u32::try_from(self.end).map_err(io::Error::other)?;
        self.append(&Line::of(sleeper.clone()))?;
        self.put(id, at);
        Ok(())
    }

    /// Writes that a torrent is gone.
    pub(crate) fn remove(&mut self, id: TorrentId) {
        let sleeper = self.read(id.slot);
        self.take(id);
        let Some(sleeper) = sleeper else { return };
        if let Err(error) = self.append(&Line::Gone(sleeper.info_hash().0)) {
            // The next start finds that it is not in its folder any more.
            log::warn!("{}: {error}", self.path.display());
        }
    }

    /// The sleeping torrent in this slot of the node's registry.
    pub(crate) fn read(&self, slot: u16) -> Option<DormantTorrent> {
        self.line(slot)?.read()
    }

    /// Its line, to be read on another thread.
    pub(crate) fn line(&self, slot: u16) -> Option<SleeperLine> {
        let at = *self.lines.get(usize::from(slot))?;
        let file = self.file.as_ref().filter(|_| at != NOWHERE)?;
        let file = Arc::clone(file);
        Some(SleeperLine { file, at })
    }

    /// Whether a torrent in this slot sleeps.
    pub(crate) fn holds(&self, slot: u16) -> bool {
        let line = self.lines.get(usize::from(slot));
        line.is_some_and(|&line| line != NOWHERE)
    }

    /// Calls `each` with the slot and content of every sleeping torrent, in the order of the file. An error of `each`
    /// ends it.
    pub(crate) fn each(
        &self,
        mut each: impl FnMut(u16, &DormantTorrent) -> io::Result<()>,
    ) -> io::Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let mut lines: Vec<(u32, u16)> = self.lines.iter().copied().zip(0..).collect();
        lines.retain(|&(at, _)| at != NOWHERE);
        lines.sort_unstable();
        let mut lines = lines.into_iter().peekable();
        let mut reader = LineReader::new(Arc::clone(file));
        while let Some((at, line)) = reader.next() {
            if let Some((_, slot)) = lines.next_if(|&(line, _)| line == at)
                && let Ok(sleeper) = line.sleeper()
            {
                each(slot, &sleeper)?;
            }
            if reader.at >= self.end {
                break;
            }
        }
        Ok(())
    }

    /// A snapshot, which another thread can read while the catalogue changes.
    pub(crate) fn snapshot(&self) -> Catalogue {
        Catalogue {
            path: self.path.clone(),
            file: self.file.clone(),
            lines: self.lines.clone(),
            end: self.end,
            room: self.room,
            paused: BTreeSet::new(),
            ended: self.ended.clone(),
        }
    }

    /// Notes that a torrent is paused, or no longer; returns whether that is a change.
    pub(crate) fn pause(&mut self, id: TorrentId, paused: bool) -> bool {
        match paused {
            true => self.paused.insert(id.slot),
            false => self.paused.remove(&id.slot),
        }
    }

    /// Notes that a torrent has reached its goal, or has not; returns whether that is a change.
    pub(crate) fn end(&mut self, id: TorrentId, ended: bool) -> bool {
        match ended {
            true => self.ended.insert(id.slot),
            false => self.ended.remove(&id.slot),
        }
    }

    /// Whether the torrent in this slot has reached its goal.
    pub(crate) fn has_ended(&self, slot: u16) -> bool {
        self.ended.contains(&slot)
    }

    /// Whether any torrent has reached its goal.
    pub(crate) fn has_any_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// Why nobody is told of a torrent, if it is paused or has ended.
    pub(crate) fn why_silent(&self, id: TorrentId) -> Option<&'static str> {
        match id.slot {
            slot if self.paused.contains(&slot) => Some(PAUSED),
            slot if self.has_ended(slot) => Some("it has reached its goal"),
            _ => None,
        }
    }

    /// The number of sleeping torrents that are paused.
    pub(crate) fn paused(&self) -> usize {
        self.paused.len()
    }

    /// The number of sleeping torrents.
    pub(crate) fn count(&self) -> usize {
        self.lines.iter().filter(|&&line| line != NOWHERE).count()
    }

    /// One more than the highest slot that has a line.
    pub(crate) fn slots(&self) -> usize {
        self.lines.len()
    }

    /// The torrent file of a torrent in the catalogue.
    pub(crate) fn torrent_file(&self, id: TorrentId, state: &StateFolder) -> Option<PathBuf> {
        let sleeper = self
            .read(id.slot)
            .filter(|_| self.why_silent(id).is_none())?;
        let made = state.torrent_file(sleeper.info_hash());
        Some(if made.is_file() { made } else { sleeper.path() })
    }

    /// Whether the tracker at `own` is this torrent's. It is every public torrent's; private ones have to name it
    /// (BEP 27).
    pub(crate) fn is_tracked(&self, id: TorrentId, own: &str) -> bool {
        let named = |s: &DormantTorrent| s.tiers.iter().flatten().any(|url| url == own);
        let sleeper = self.read(id.slot).filter(|_| self.why_silent(id).is_none());
        sleeper.is_some_and(|s| s.is_public() || named(&s))
    }

    /// Removes all torrents, on disk too.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        self.lines.clear();
        self.paused.clear();
        self.ended.clear();
        self.end = 0;
        match &self.file {
            Some(file) => file.set_len(0),
            None => Ok(()),
        }
    }

    fn open(&mut self) -> io::Result<&Arc<File>> {
        if self.file.is_none() {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            // Opening never waits for the other end of a FIFO.
            options.custom_flags(OFlags::NONBLOCK.bits().cast_signed());
            options.mode(0o600);
            let is_good = |there: &Metadata| there.is_file() && there.len() <= CATALOGUE_MAX;
            let opened = match options.open(&self.path) {
                Ok(file) if is_good(&file.metadata()?) => file,
                Err(error) if error.kind() != io::ErrorKind::IsADirectory => return Err(error),
                _ => {
                    set_aside(&self.path, "it is no catalogue");
                    options.create_new(true).open(&self.path)?
                }
            };
            self.file = Some(Arc::new(opened));
        }
        self.file
            .as_ref()
            .ok_or_else(|| io::ErrorKind::Other.into())
    }

    fn append(&mut self, line: &Line) -> io::Result<()> {
        let bytes = encode(line)?;
        let end = self.end;
        self.open()?.write_all_at(&bytes, end)?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Sets the offset of a torrent's line, and returns the former one.
    fn put(&mut self, id: TorrentId, at: u32) -> Option<u32> {
        let slot = usize::from(id.slot);
        if self.lines.len() <= slot {
            self.lines
                .reserve_exact(self.room.max(slot + 1) - self.lines.len());
            self.lines.resize(slot + 1, NOWHERE);
        }
        let before = std::mem::replace(&mut self.lines[slot], at);
        (before != NOWHERE).then_some(before)
    }

    fn take(&mut self, id: TorrentId) -> Option<u32> {
        self.paused.remove(&id.slot);
        self.ended.remove(&id.slot);
        let line = self.lines.get_mut(usize::from(id.slot))?;
        let before = std::mem::replace(line, NOWHERE);
        (before != NOWHERE).then_some(before)
    }

    /// Rewrites the file with only the lines that are up to date.
    fn rewrite(&mut self) -> io::Result<()> {
        let mut moved = Vec::new();
        let mut end = 0_u64;
        everseed_disk::replace(&self.path, |out: &mut BufWriter<File>| {
            self.each(|slot, sleeper| {
                let bytes = encode(&Line::of(sleeper.clone()))?;
                moved.push((slot, u32::try_from(end).map_err(io::Error::other)?));
                end += bytes.len() as u64;
                out.write_all(&bytes)
            })
        })?;
        for (slot, at) in moved {
            self.lines[usize::from(slot)] = at;
        }
        self.end = end;
        self.file = None;
        self.open().map(|_| ())
    }
}

/// The longest catalogue in bytes: some hundred for each torrent, and as many in outdated lines.
const CATALOGUE_MAX: u64 = 1 << 30;

/// Why a paused torrent is not verified.
pub(crate) const PAUSED: &str = "it is paused; resume it first";

/// The offset of a torrent that has no line.
const NOWHERE: u32 = u32::MAX;

/// The number of outdated lines up to which the file is not rewritten.
const STALE_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let name = format!("everseed-catalogue-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir(&path).unwrap();
            Folder(path)
        }

        fn file(&self) -> PathBuf {
            self.0.join("catalogue")
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn id(slot: u16) -> TorrentId {
        TorrentId { slot, tenancy: 0 }
    }

    fn sleeper(n: u8) -> DormantTorrent {
        let path = PathBuf::from(format!("/watch/{n}.torrent"));
        let data = n.is_multiple_of(2).then_some(Path::new("/data"));
        let root = PathBuf::from(format!("/data/{n}"));
        let tiers = vec![vec![format!("http://t{n}/announce")], vec![]];
        DormantTorrent::new(
            InfoHash([n; 20]),
            &path,
            data,
            &root,
            (n.into(), 2, 3, 1),
            tiers,
            n > 100,
        )
    }

    /// What a fresh start finds: the torrent number n gets the slot n.
    fn loaded(folder: &Folder) -> (Catalogue, Vec<u8>) {
        let mut catalogue = Catalogue::new(folder.file(), 10);
        let take = |sleeper: &DormantTorrent| Ok(Some(id(sleeper.info_hash().0[0].into())));
        let drop = |info_hash: InfoHash| Some(id(info_hash.0[0].into()));
        catalogue.load(take, drop).unwrap();
        let mut found = Vec::new();
        let each = |slot, s: &DormantTorrent| {
            assert_eq!(id(slot), id(s.info_hash().0[0].into()));
            found.push(s.info_hash().0[0]);
            Ok(())
        };
        catalogue.each(each).unwrap();
        assert_eq!(catalogue.count(), found.len());
        (catalogue, found)
    }

    #[test]
    fn it_outlives_a_run() {
        let folder = Folder::new("lives");
        let mut catalogue = Catalogue::new(folder.file(), 10);
        for n in 1..=4 {
            catalogue.add(id(n.into()), &sleeper(n)).unwrap();
        }
        let len = catalogue.end;
        catalogue.add(id(3), &sleeper(3)).unwrap();
        assert_eq!(catalogue.end, len, "written once");
        catalogue.remove(id(2));
        assert_eq!((catalogue.read(2), catalogue.read(9)), (None, None));
        assert_eq!(catalogue.read(4), Some(sleeper(4)));
        let (catalogue, found) = loaded(&folder);
        assert_eq!(found, [1, 3, 4]);
        let four = catalogue.read(4).unwrap();
        assert_eq!(four, sleeper(4));
        assert_eq!(four.path(), Path::new("/watch/4.torrent"));
        assert_eq!(four.data().as_deref(), Some(Path::new("/data")));
        assert_eq!(four.root(), Path::new("/data/4"));
    }

    /// A private torrent's peers are its own trackers' alone; what 0.1.0 wrote does not say which are private.
    #[test]
    fn whom_the_built_in_tracker_answers_for() {
        let folder = Folder::new("tracked");
        let mut catalogue = Catalogue::new(folder.file(), 10);
        for n in [1, 101_u8] {
            catalogue.add(id(n.into()), &sleeper(n)).unwrap();
        }
        let old = sleeper(2).of_unknown_privacy();
        catalogue.add(id(2), &old).unwrap();
        let (mut catalogue, found) = loaded(&folder);
        assert_eq!(found, [1, 101, 2]);
        assert_eq!(catalogue.read(2), Some(old));
        for (n, others, own) in [(1, true, true), (101, false, true), (2, false, true)] {
            let own_url = format!("http://t{n}/announce");
            assert_eq!(catalogue.is_tracked(id(n), "http://x/announce"), others);
            assert_eq!(catalogue.is_tracked(id(n), &own_url), own);
        }
        // Once it was awake it is known.
        catalogue.add(id(2), &sleeper(2)).unwrap();
        assert!(catalogue.is_tracked(id(2), "http://x/announce"));
        assert!(!catalogue.is_tracked(id(3), "http://x/announce"));
    }

    #[test]
    fn it_ends_where_it_is_damaged() {
        let folder = Folder::new("damaged");
        let mut catalogue = Catalogue::new(folder.file(), 10);
        for n in 1..=3 {
            catalogue.add(id(n.into()), &sleeper(n)).unwrap();
        }
        let whole = std::fs::read(folder.file()).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(folder.file(), &whole[..cut]).unwrap();
            let found = loaded(&folder).1;
            assert_eq!(found, (1..=3).take(found.len()).collect::<Vec<u8>>());
            assert!(found.len() < 3, "{cut}");
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(folder.file(), &bytes).unwrap();
            let (mut catalogue, found) = loaded(&folder);
            assert!(found.len() < 3, "{at}");
            // What comes next is written where the damage begins.
            catalogue.add(id(7), &sleeper(7)).unwrap();
            let again = loaded(&folder).1;
            assert_eq!(again, [found, vec![7]].concat());
        }
    }

    #[test]
    fn what_is_no_catalogue_is_set_aside() {
        let folder = Folder::new("aside");
        let fifo = rustix::fs::FileType::Fifo;
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, folder.file(), fifo, mode, 0).unwrap();
        for _ in 0..2 {
            let (mut catalogue, found) = loaded(&folder);
            assert_eq!(found, []);
            catalogue.add(id(4), &sleeper(4)).unwrap();
            assert_eq!(loaded(&folder).1, [4]);
            std::fs::remove_file(folder.file()).unwrap();
            std::fs::create_dir(folder.file()).unwrap();
        }
    }

    #[test]
    fn lines_that_say_nothing_go() {
        let folder = Folder::new("stale");
        let mut catalogue = Catalogue::new(folder.file(), 10);
        catalogue.add(id(1), &sleeper(1)).unwrap();
        for _ in 0..STALE_MAX {
            catalogue.add(id(2), &sleeper(2)).unwrap();
            catalogue.remove(id(2));
        }
        catalogue.add(id(3), &sleeper(3)).unwrap();
        let before = catalogue.end;
        let (mut catalogue, found) = loaded(&folder);
        assert_eq!(found, [1, 3]);
        assert!(catalogue.end < before / 20);
        catalogue.add(id(4), &sleeper(4)).unwrap();
        catalogue.remove(id(1));
        assert_eq!(loaded(&folder).1, [3, 4]);
        catalogue.clear().unwrap();
        assert_eq!(loaded(&folder).1, []);
    }
}
