//! Strange names: everseed lays the files of each torrent that libtorrent reads. Each file lies beneath the folder,
//! under a name of its own that the disk can keep.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use everseed_core::bits;
use everseed_core::metainfo::{FileKind, MAX_NAME, Metainfo, Spelling};
use everseed_disk::{Content, Entry, FileCache, Stream, check, read_torrent, write};
use everseed_tests::dir::Dir;
use everseed_tests::disk::Exfat;
use everseed_tests::process::program;
use everseed_tests::seeder::run;

/// A torrent, and the paths under which libtorrent lays its files.
struct Read {
    torrent: PathBuf,
    hash: String,
    /// Whether some disk takes the names of two files for the same, though libtorrent does not.
    alike: bool,
    /// The path of each file, and whether the file is padding.
    files: Vec<(PathBuf, bool)>,
}

/// Generates torrents, and returns those that libtorrent reads.
fn generated(folder: &Path, count: u32, seed: u64) -> Vec<Read> {
    program("python3", "python3-libtorrent");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/libtorrent_names.py");
    // Debian's python, because Debian's libtorrent is installed there.
    let mut python = Command::new("/usr/bin/python3");
    python.arg(script).arg(folder);
    python.args([count.to_string(), seed.to_string()]);
    let output = python.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut found: Vec<Read> = Vec::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["torrent", path, hash, kind] => found.push(Read {
                torrent: path.into(),
                hash: hash.into(),
                alike: kind == "alike",
                files: Vec::new(),
            }),
            [kind, path] => {
                let digits = path.as_bytes().chunks(2);
                let byte = |two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap();
                let path = OsString::from_vec(digits.map(byte).collect());
                found
                    .last_mut()
                    .unwrap()
                    .files
                    .push((path.into(), kind == "pad"));
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

/// The paths of the files in one spelling. Several may be the same.
fn spelled(torrent: &Path, metainfo: &Metainfo, spelling: Spelling) -> Vec<PathBuf> {
    let open = || Stream(fs::File::open(torrent).unwrap());
    let name = metainfo.name_spelled(open(), spelling).unwrap().unwrap();
    let mut files = metainfo.files_spelled(open(), spelling).unwrap();
    let mut paths = Vec::new();
    while let Some(file) = files.next().unwrap() {
        paths.push(match metainfo.single {
            true => PathBuf::from(&*name),
            false => Path::new(&*name).join(file.path),
        });
    }
    paths
}

/// Adds all files beneath a folder to `found`.
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
    // Each run has another seed of chance; SEED repeats a run that failed.
    let seed = std::env::var("SEED").map(|seed| seed.parse().expect("a number"));
    let seed = seed.unwrap_or(u64::from(std::process::id()));
    let torrents = generated(&folder, 500, seed);
    assert!(torrents.len() > 150, "libtorrent reads {}", torrents.len());
    let (mut files, mut same, mut ruled) = (0, 0, 0);
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
        // Whether our rule and libtorrent's give each component the same name.
        let spelled = spelled(torrent, content.metainfo(), Spelling::Libtorrent2);
        let bytes_of = fs::read(torrent).unwrap();
        let two = bytes_of.windows(6).any(|six| six == b".utf-8");
        let fixed = self::spelled(torrent, content.metainfo(), Spelling::Fixed);
        let is_ruled = !two && !read.alike && spelled == fixed;
        for (entry, (theirs, is_pad)) in entries(&content).iter().zip(&read.files) {
            if entry.kind != FileKind::Data || *is_pad {
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
            if is_ruled {
                ruled += 1;
                assert_eq!(within, theirs, "{told}");
            }
            laid.push(path);
        }
        let mut there = Vec::new();
        walk(&data, &mut there);
        assert!(there.len() >= laid.len(), "{told}");
        // Opening the torrent again gives the same names.
        let again = open(torrent, &data, &state);
        let mut whole = vec![0; total];
        again.read(&FileCache::new(4), 0, &mut whole).unwrap();
        let pads = entries(&again)
            .iter()
            .any(|entry| entry.kind != FileKind::Data);
        assert!(pads || whole == bytes, "{told}");
        for (one, two) in entries(&content).iter().zip(entries(&again)) {
            assert_eq!(one.path, two.path, "{told}");
        }
        fs::remove_dir_all(&data).unwrap();
        // Files that libtorrent laid are found by size and hash. Their sizes have to differ, because one piece holds
        // all.
        let mut sizes = HashSet::new();
        let mut data_files = entries(&content)
            .into_iter()
            .filter(|entry| entry.kind == FileKind::Data && entry.len > 0);
        if data_files.all(|entry| sizes.insert(entry.len)) {
            let (data, found) = (dir.sub("theirs"), dir.sub("found"));
            if lay(&entries(&content), &read.files, &data, &bytes) {
                let content = open(torrent, &data, &found);
                let good = check::check(&content, |_| ControlFlow::Continue(()), |_| {});
                let good = bits::count(&good.unwrap().unwrap());
                assert_eq!(good, content.geometry().pieces(), "{told}");
            }
            fs::remove_dir_all(&data).unwrap();
            fs::remove_dir_all(&found).unwrap();
        }
    }
    println!(
        "{same} of {files} files lie where libtorrent lays them, and all {ruled} where the rule is its"
    );
}

/// Lays the files as libtorrent does; false if a file stands where a folder should be.
fn lay(entries: &[Entry], files: &[(PathBuf, bool)], data: &Path, bytes: &[u8]) -> bool {
    entries.iter().zip(files).all(|(entry, (path, is_pad))| {
        if *is_pad {
            // libtorrent also takes files in a folder for padding that is named like BitComet's padding.
            return entry.kind != FileKind::Data;
        }
        let at = usize::try_from(entry.start).unwrap();
        let end = at + usize::try_from(entry.len).unwrap();
        let path = data.join(path);
        fs::create_dir_all(path.parent().unwrap()).is_ok()
            && fs::write(path, &bytes[at..end]).is_ok()
    })
}

/// A name that the disk refuses is replaced by another one, which stays the same from then on.
#[test]
fn what_a_disk_refuses_is_called_otherwise() {
    let dir = Dir::new("names-exfat");
    let disk = Exfat::new(32 << 20);
    let (data, state) = (disk.at(), dir.sub("state"));
    let multi = |name: &str| {
        let paths = [
            "1:a",
            "11:what? *.txt",
            "7:a:b\n\0cd1:x",
            "6:a_b_cd",
            "2:A.",
        ];
        let file = |path: &&str| format!("d6:lengthi9e4:pathl{path}ee");
        let files: String = paths.iter().map(file).collect();
        format!("5:filesl{files}e4:name{}:{name}", name.len())
    };
    let single = |name: &str| format!("6:lengthi45e4:name{}:{name}", name.len());
    let infos = [
        multi("plain"),
        multi("fol?der"),
        single("film: \"1\".mkv"),
        single("plain"),
    ];
    for (number, info) in infos.iter().enumerate() {
        let data = data.join(number.to_string());
        fs::create_dir(&data).unwrap();
        let torrent = dir.join(format!("{number}.torrent"));
        let pieces = "h".repeat(20);
        let text = format!("d4:infod{info}12:piece lengthi16384e6:pieces20:{pieces}ee");
        fs::write(&torrent, text).unwrap();
        let bytes: Vec<u8> = (0..45).collect();
        let record = dir.join(format!("{number}.download"));
        let mut before = Vec::new();
        for round in 0..3 {
            let content = open(&torrent, &data, &state);
            content.write_only_own(&record, vec![0]).unwrap();
            write::prepare(&content, |_| true).unwrap();
            let files = FileCache::new(4);
            write::write(&content, &files, 0, &[&bytes]).unwrap();
            write::sync(&content).unwrap();
            let mut read = [0; 45];
            content.read(&FileCache::new(4), 0, &mut read).unwrap();
            assert_eq!(read, bytes[..]);
            assert_eq!(
                content.take_refused().is_some(),
                round == 0 && number < 3,
                "{info}"
            );
            let mut there = Vec::new();
            walk(&data, &mut there);
            there.sort();
            assert_eq!(there.len(), entries(&content).len(), "{there:?}");
            assert!(round == 0 || there == before, "{there:?} {before:?}");
            before = there;
        }
    }
}

/// `show` marks the files whose names were replaced.
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
