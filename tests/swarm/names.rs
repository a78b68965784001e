//! Strange names: of every torrent that libtorrent reads the files are laid, beneath the folder, each under a name of
//! its own that fits.

use std::collections::HashSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use everseed_core::metainfo::{Kind, MAX_NAME};
use everseed_disk::{Content, Entry, FileCache, read_torrent, write};
use everseed_tests::dir::Dir;
use everseed_tests::process::program;
use everseed_tests::seeder::run;

/// A torrent, and where libtorrent lays its files.
struct Read {
    torrent: PathBuf,
    hash: String,
    files: Vec<PathBuf>,
}

/// Torrents from the generator that libtorrent reads.
fn generated(folder: &Path, count: u32, seed: u64) -> Vec<Read> {
    program("python3", "python3-libtorrent");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/libtorrent_names.py");
    // Debian's own, because that is where its libtorrent is.
    let mut python = Command::new("/usr/bin/python3");
    python.arg(script).arg(folder);
    python.args([count.to_string(), seed.to_string()]);
    let output = python.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut found: Vec<Read> = Vec::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["torrent", path, hash] => found.push(Read {
                torrent: path.into(),
                hash: hash.into(),
                files: Vec::new(),
            }),
            [_, path] => {
                let digits = path.as_bytes().chunks(2);
                let byte = |two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap();
                let path = String::from_utf8(digits.map(byte).collect()).unwrap();
                found.last_mut().unwrap().files.push(path.into());
            }
            _ => panic!("{line}"),
        }
    }
    found
}

fn open(torrent: &Path, data: &Path, state: &Path) -> Content {
    let metainfo = read_torrent(torrent).unwrap();
    Content::open(torrent, &metainfo, data, state).unwrap()
}

fn entries(content: &Content) -> Vec<Entry> {
    content.entries().unwrap().map(Result::unwrap).collect()
}

/// What is in a folder and those within.
fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => walk(&path, found),
            false => found.push(path),
        }
    }
}

#[test]
fn whatever_libtorrent_lays_is_laid() {
    let dir = Dir::new("names");
    let (folder, state) = (dir.sub("torrents"), dir.sub("state"));
    let seed = u64::from(std::process::id());
    let torrents = generated(&folder, 500, seed);
    assert!(torrents.len() > 150, "libtorrent reads {}", torrents.len());
    let (mut files, mut same) = (0, 0);
    for read in &torrents {
        let (torrent, told) = (
            &read.torrent,
            format!("seed {seed}, {}", read.torrent.display()),
        );
        let data = dir.sub("data");
        let content = open(torrent, &data, &state);
        assert_eq!(
            content.metainfo().info_hash.to_string(),
            read.hash,
            "{told}"
        );
        let total = usize::try_from(content.geometry().total()).unwrap();
        let bytes: Vec<u8> = (0..total)
            .map(|at| u8::try_from(at % 251).unwrap())
            .collect();
        write::prepare(&content, |_| true).unwrap();
        write::write(&content, &FileCache::new(4), 0, &[&bytes]).unwrap();
        let (mut laid, mut names) = (Vec::new(), HashSet::new());
        for (entry, theirs) in entries(&content).iter().zip(&read.files) {
            if entry.kind != Kind::Data || entry.len > 0 && is_pad(theirs) {
                continue;
            }
            let path = content.path_of(entry);
            let within = path.strip_prefix(&data).unwrap();
            for component in within.components() {
                let fits = matches!(component, Component::Normal(name) if name.len() <= MAX_NAME);
                assert!(fits, "{told}: {}", path.display());
            }
            let folded = within.to_str().unwrap().to_lowercase();
            assert!(
                names.insert(folded),
                "{told}: {} is there twice",
                path.display()
            );
            let at = usize::try_from(entry.start).unwrap();
            let end = at + usize::try_from(entry.len).unwrap();
            assert_eq!(
                fs::read(&path).unwrap(),
                bytes[at..end],
                "{told}: {}",
                path.display()
            );
            files += 1;
            same += u32::from(within == theirs);
            laid.push(path);
        }
        let mut there = Vec::new();
        walk(&data, &mut there);
        assert!(there.len() >= laid.len(), "{told}");
        // Another start says the same.
        let again = open(torrent, &data, &state);
        let mut read = vec![0; total];
        again.read(&FileCache::new(4), 0, &mut read).unwrap();
        let pads = entries(&again).iter().any(|entry| entry.kind != Kind::Data);
        assert!(pads || read == bytes, "{told}");
        for (one, two) in entries(&content).iter().zip(entries(&again)) {
            assert_eq!(one.path, two.path, "{told}");
        }
        fs::remove_dir_all(&data).unwrap();
    }
    println!("{same} of {files} files lie where libtorrent lays them");
    assert!(same * 10 > files * 7, "{same} of {files}");
}

fn is_pad(path: &Path) -> bool {
    path.to_string_lossy().contains("_____padding_file_")
}

/// `show` says which names were not kept.
#[test]
fn show_marks_what_is_renamed() {
    let dir = Dir::new("names-show");
    let torrent = dir.join("x.torrent");
    let files: String = ["a.txt", "a.txt", "..", "b"]
        .iter()
        .map(|name| format!("d6:lengthi1e4:pathl{}:{name}ee", name.len()))
        .collect();
    let text = format!(
        "d4:infod5:filesl{files}e4:name1:d12:piece lengthi16384e6:pieces20:{}ee",
        "h".repeat(20)
    );
    fs::write(&torrent, text).unwrap();
    let shown = run([Path::new("show"), &torrent]);
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.status.success(), "{text}");
    for line in [
        "  a.txt\n",
        "  a.1.txt (renamed)\n",
        "  _ (renamed)\n",
        "  b\n",
        "renamed: 2,",
    ] {
        assert!(text.contains(line), "{line:?} is not in: {text}");
    }
}
