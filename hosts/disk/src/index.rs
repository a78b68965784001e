//! The index of a content's files: which file holds the byte at an offset.
//!
//! A single file needs no table. A torrent of few files keeps its table in RAM. A torrent of many files keeps it in
//! an index file of sorted records of fixed size, so that RAM does not grow with the number of files.
//!
//! The index file is compared with the torrent whenever the content is opened, and written anew only if it differs.
//! So it is never out of date, and flash is spared. If it cannot be written because the disk is full, a table that is
//! not very long is kept in RAM.
//!
//! Invariant: records are sorted by `start`, leave no gap and cover the content; empty files have no record.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use everseed_core::metainfo::{FileKind, Metainfo};

use crate::entry::{Entries, Entry, open_torrent};
use crate::error::OpenError;
use crate::regular::open_in_place;
use crate::replace::replace;
use crate::unique::Renames;

/// The record of one file that holds at least one byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Record {
    /// Offset in the content at which it starts, in bytes.
    pub(crate) start: u64,
    /// Its length in bytes, below 2^63.
    pub(crate) len: u64,
    /// Offset of its entry in the torrent file, in bytes.
    pub(crate) position: u64,
    /// Whether it is a padding file: zeros that are not on disk.
    pub(crate) zeros: bool,
    /// Its number among files that hold a byte, if it was looked up by offset.
    pub(crate) number: u64,
}

/// The most files whose table is kept in RAM.
pub(crate) const INLINE: usize = 16;

/// The most files whose table is kept in RAM if the index file cannot be written: they take 40 kB.
const INLINE_IF_FULL: u64 = 1000;

/// The table of one content.
#[derive(Debug)]
pub(crate) enum Index {
    /// A single file of this length in bytes.
    Single(u64),
    Inline(Box<[Record]>),
    OnDisk {
        path: Box<Path>,
        count: u64,
    },
}

impl Index {
    /// The number of files that hold at least one byte.
    pub(crate) fn count(&self) -> u64 {
        match self {
            Index::Single(_) => 1,
            Index::Inline(records) => records.len() as u64,
            Index::OnDisk { count, .. } => *count,
        }
    }

    /// The path of the index file, if there is one.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Index::Single(_) | Index::Inline(_) => None,
            Index::OnDisk { path, .. } => Some(path),
        }
    }

    /// The file that holds the byte at `offset`; `None` past the end, and where a damaged index file has no record.
    pub(crate) fn find(&self, offset: u64) -> io::Result<Option<Record>> {
        let record = match self {
            Index::Single(len) => Some(Record {
                start: 0,
                len: *len,
                position: 0,
                zeros: false,
                number: 0,
            }),
            Index::Inline(records) => last_before(records, offset),
            Index::OnDisk { path, count } => {
                let file = open_in_place(path, u64::MAX).map_err(io::Error::other)?;
                search(&file, *count, offset)?
            }
        };
        Ok(record.filter(|record| offset - record.start < record.len))
    }
}

fn write(out: &mut BufWriter<File>, record: &Record) -> io::Result<()> {
    out.write_all(&encode(record))
}

fn encode(record: &Record) -> [u8; RECORD] {
    let len = record.len | if record.zeros { ZEROS } else { 0 };
    let [a, b, c] = [record.start, len, record.position].map(u64::to_le_bytes);
    let mut bytes = [0; RECORD];
    for (to, from) in bytes.iter_mut().zip(a.into_iter().chain(b).chain(c)) {
        *to = from;
    }
    bytes
}

/// Whether a file holds exactly these records.
fn holds(path: &Path, mut records: impl Iterator<Item = io::Result<Record>>) -> bool {
    let Ok(file) = open_in_place(path, u64::MAX) else {
        return false;
    };
    let mut file = BufReader::new(file);
    let mut bytes = [0; RECORD];
    let same = records.all(|record| {
        record.is_ok_and(|record| file.read_exact(&mut bytes).is_ok() && bytes == encode(&record))
    });
    same && matches!(file.read(&mut bytes), Ok(0))
}

/// The number of files whose names are not the torrent's, and the first of them.
pub(crate) type Renamed = Option<(u64, PathBuf)>;

/// Builds the table of a torrent, or writes its index file.
pub(crate) fn build(
    torrent: &Path,
    metainfo: &Metainfo,
    index_dir: &Path,
    renames: &Arc<Renames>,
) -> Result<(Index, Renamed), OpenError> {
    let bad = |error| {
        let path = torrent.to_owned();
        OpenError::Torrent { path, error }
    };
    let entries = || Entries::of(open_torrent(torrent)?, metainfo, Arc::clone(renames));
    let mut inline = Vec::new();
    let mut count = 0;
    let mut renamed: Renamed = None;
    for entry in entries().map_err(bad)? {
        let entry = entry.map_err(bad)?;
        if !entry.exact && entry.kind == FileKind::Data {
            renamed.get_or_insert_with(|| (0, entry.path.clone())).0 += 1;
        }
        if let Some(record) = record(&entry) {
            count += 1;
            if inline.len() < INLINE {
                inline.push(record);
            }
        }
    }
    if metainfo.single {
        return Ok((Index::Single(metainfo.geometry.total()), renamed));
    }
    if count <= INLINE as u64 {
        return Ok((Index::Inline(inline.into()), renamed));
    }
    let path = index_dir.join(format!("{}.index", metainfo.info_hash));
    let again = || {
        let of = |entry: Result<Entry, _>| entry.map(|entry| record(&entry)).transpose();
        let records = entries().map_err(bad)?.filter_map(of);
        Ok::<_, OpenError>(records.map(|record| record.map_err(io::Error::other)))
    };
    if !holds(&path, again()?) {
        let mut records = again()?;
        let written = replace(&path, |out| {
            records.try_for_each(|record| write(out, &record?))
        });
        if let Err(error) = written {
            let kept = unwritten(path, error, count, again()?);
            return kept.map(|index| (index, renamed));
        }
    }
    let path = path.into();
    Ok((Index::OnDisk { path, count }, renamed))
}

/// Keeps a table in RAM whose index file could not be written, unless it is long.
fn unwritten(
    path: PathBuf,
    error: io::Error,
    count: u64,
    records: impl Iterator<Item = io::Result<Record>>,
) -> Result<Index, OpenError> {
    if count > INLINE_IF_FULL {
        return Err(OpenError::Index { path, error });
    }
    match records.collect::<io::Result<Vec<Record>>>() {
        Ok(records) => Ok(Index::Inline(records.into())),
        Err(error) => Err(OpenError::Index { path, error }),
    }
}

/// The record of a file, if it holds at least one byte.
fn record(entry: &Entry) -> Option<Record> {
    (entry.len > 0).then_some(Record {
        start: entry.start,
        len: entry.len,
        position: entry.position,
        // A link holds no bytes that we read.
        zeros: entry.kind != FileKind::Data,
        number: 0,
    })
}

/// Length of a record on disk, in bytes.
const RECORD: usize = 24;

/// The bit that marks padding in the length on disk.
const ZEROS: u64 = 1 << 63;

/// Number of records that one read brings.
const PAGE: usize = 160;

fn last_before(records: &[Record], offset: u64) -> Option<Record> {
    let after = records.partition_point(|record| record.start <= offset);
    let last = records[..after].last();
    last.map(|&record| Record {
        number: after as u64 - 1,
        ..record
    })
}

/// Halves the range until one read can bring the rest of it, then searches there.
fn search(file: &File, count: u64, offset: u64) -> io::Result<Option<Record>> {
    let (mut low, mut high) = (0, count);
    while high - low > PAGE as u64 {
        let middle = low + (high - low) / 2;
        let mut bytes = [0; RECORD];
        file.read_exact_at(&mut bytes, middle * RECORD as u64)?;
        if decode(&bytes).start <= offset {
            low = middle;
        } else {
            high = middle;
        }
    }
    let mut bytes = [0; PAGE * RECORD];
    let len = usize::try_from(high - low).map_or(PAGE, |rest| rest.min(PAGE)) * RECORD;
    file.read_exact_at(&mut bytes[..len], low * RECORD as u64)?;
    let (records, _) = bytes[..len].as_chunks::<RECORD>();
    let records = (low..).zip(records).map(|(number, bytes)| Record {
        number,
        ..decode(bytes)
    });
    Ok(records.take_while(|record| record.start <= offset).last())
}

fn decode(bytes: &[u8; RECORD]) -> Record {
    let (words, _) = bytes.as_chunks::<8>();
    let len = u64::from_le_bytes(words[1]);
    Record {
        start: u64::from_le_bytes(words[0]),
        len: len & !ZEROS,
        position: u64::from_le_bytes(words[2]),
        zeros: len & ZEROS != 0,
        number: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    fn records(count: u64) -> Vec<Record> {
        let mut start = 0;
        let record = |n| {
            let len = 1 + n % 7;
            start += len;
            Record {
                start: start - len,
                len,
                position: n * 31,
                zeros: n % 5 == 0,
                number: n,
            }
        };
        (0..count).map(record).collect()
    }

    #[test]
    fn finds_every_byte() {
        let scratch = Scratch::new("index");
        for count in [1, 2, 17, 159, 160, 161, 1000] {
            let records = records(count);
            let path = scratch.path().join(format!("{count}.index"));
            replace(&path, |out| records.iter().try_for_each(|r| write(out, r))).unwrap();
            let on_disk = Index::OnDisk {
                path: path.into(),
                count,
            };
            let inline = Index::Inline(records.clone().into());
            for record in &records {
                for offset in [record.start, record.start + record.len - 1] {
                    assert_eq!(on_disk.find(offset).unwrap(), Some(*record));
                    assert_eq!(inline.find(offset).unwrap(), Some(*record));
                }
            }
            let end = records.last().map_or(0, |last| last.start + last.len);
            for past in [end, end + 1, u64::MAX] {
                assert_eq!(on_disk.find(past).unwrap(), None, "{count} {past}");
                assert_eq!(inline.find(past).unwrap(), None);
            }
        }
        let single = Index::Single(5);
        let only = |offset| {
            single
                .find(offset)
                .unwrap()
                .map(|r| (r.start, r.len, r.zeros))
        };
        assert_eq!(only(0), Some((0, 5, false)));
        assert_eq!(only(4), only(0));
        assert_eq!(only(5), None);
    }

    /// What is on the disk already is not written again; other bytes, fewer or more are noticed.
    #[test]
    fn the_same_records() {
        let scratch = Scratch::new("index-same");
        let path = scratch.path().join("x.index");
        let records = records(170);
        let is_same = |records: &[Record]| holds(&path, records.iter().map(|&record| Ok(record)));
        assert!(!is_same(&records));
        replace(&path, |out| records.iter().try_for_each(|r| write(out, r))).unwrap();
        assert!(is_same(&records));
        assert!(!is_same(&records[1..]) && !is_same(&records[..169]));
        let mut other = records.clone();
        other[100].zeros ^= true;
        assert!(!is_same(&other));
        let whole = std::fs::read(&path).unwrap();
        for bytes in [
            &whole[..whole.len() - 1],
            &[whole.as_slice(), b"x"].concat(),
        ] {
            std::fs::write(&path, bytes).unwrap();
            assert!(!is_same(&records));
        }
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let kept = |count| {
            let records = records.iter().map(|&record| Ok(record));
            unwritten(path.clone(), full(), count, records)
        };
        assert!(matches!(kept(170), Ok(Index::Inline(table)) if *table == *records));
        assert!(matches!(kept(1001), Err(OpenError::Index { .. })));
    }

    #[test]
    fn a_damaged_index_is_an_error() {
        let scratch = Scratch::new("index-damaged");
        let path = scratch.path().join("x.index");
        let records = records(500);
        replace(&path, |out| records.iter().try_for_each(|r| write(out, r))).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let end = records.last().map_or(0, |last| last.start + last.len);
        let mut rng = everseed_core::rng::Rng::new(7);
        let at = |rng: &mut everseed_core::rng::Rng, len: usize| {
            rng.below(u32::try_from(len).unwrap()) as usize
        };
        for _ in 0..2000 {
            let mut bytes = whole.clone();
            let flipped = at(&mut rng, bytes.len());
            bytes[flipped] ^= 1 << rng.below(8);
            if rng.below(4) == 0 {
                bytes.truncate(at(&mut rng, bytes.len()));
            }
            std::fs::write(&path, &bytes).unwrap();
            let index = Index::OnDisk {
                path: path.clone().into(),
                count: 500,
            };
            // Any answer will do that holds the offset.
            let offset = u64::from(rng.below(u32::try_from(end).unwrap()));
            if let Ok(Some(record)) = index.find(offset) {
                assert!(record.start <= offset && offset - record.start < record.len);
            }
        }
    }
}
