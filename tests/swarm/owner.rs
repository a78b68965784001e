//! The owner's files are safe: everseed reads and writes nothing outside the folders that were named.

use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::seeder::{Getter, Seeder, Setup, make, run};
use everseed_tests::service::Service;
use everseed_tests::{PATIENCE, wait};

/// Runs a command, and returns its exit code and what it printed.
fn said(args: &[&str]) -> (i32, String) {
    let output = run(args);
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    (output.status.code().unwrap_or(-1), text)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Links in a watched folder are seeded if they stay in the folder. Others are refused and named.
#[test]
fn links_in_a_watched_folder() {
    let net = Net::new();
    let (dir, outside) = (Dir::new("run"), Dir::new("outside"));
    let share = dir.sub("share");
    let secret = Content::file("secret.bin", 1 << 20, 110);
    let folder = Content::folder("secrets", &[("a", 100_000)]);
    let torrent = outside.join("linked.torrent");
    make(secret.path(), &torrent, &[]);
    fs::create_dir(share.join(".annex")).unwrap();
    let real = Content::file("annexed.bin", 1 << 20, 111);
    real.copy_to(&share.join(".annex"));
    for (target, name) in [
        (secret.path(), "secret.bin"),
        (folder.path(), "secrets"),
        (torrent.as_path(), "linked.torrent"),
        (Path::new(".annex/annexed.bin"), "annexed.bin"),
    ] {
        symlink(target, share.join(name)).unwrap();
    }
    let config = format!("watch = \"{}\"\n", share.display());
    let listen = net.addr(Family::V4);
    let mut service = Service::start(&dir, listen, &config, &[]);
    service.wait_for("seeding: annexed.bin", 1);
    for name in ["secret.bin", "secrets", "linked.torrent"] {
        let refused = format!("{} is, or lies behind, a link", share.join(name).display());
        service.wait_for(&refused, 1);
    }
    assert_eq!(service.process.output().matches("seeding: ").count(), 1);
    // The owner may allow such links.
    service.reload(listen, &format!("{config}links = \"follow\"\n"));
    for name in ["secret.bin", "secrets"] {
        service.wait_for(&format!("seeding: {name}"), 1);
    }
    service.stop();
}

/// Links in content are followed if they stay in the folder that was named. Others are named and not followed.
#[test]
fn links_in_content() {
    let net = Net::new();
    let dir = Dir::new("seed");
    let content = Content::folder(
        "mixed",
        &[("in", 200_000), ("out", 200_000), ("z", 200_000)],
    );
    let torrent = dir.join("mixed.torrent");
    make(content.path(), &torrent, &["-s", "16K"]);
    let data = dir.sub("data");
    let copy = content.copy_to(&data);
    fs::create_dir(data.join("annex")).unwrap();
    fs::create_dir(dir.join("elsewhere")).unwrap();
    fs::rename(copy.join("in"), data.join("annex/1")).unwrap();
    fs::rename(copy.join("out"), dir.join("elsewhere/1")).unwrap();
    // git-annex and cross-seed lay links like these.
    symlink(data.join("annex/1"), copy.join("in")).unwrap();
    symlink("../../elsewhere/1", copy.join("out")).unwrap();
    let (code, report) = said(&["check", text(&torrent), text(&data)]);
    assert_eq!(code, 3, "{report}");
    assert!(report.contains("link     out"), "{report}");
    assert!(report.contains("pieces: 24 of 37 good"), "{report}");
    let (code, report) = said(&["check", "--links=follow", text(&torrent), text(&data)]);
    assert_eq!(code, 0, "{report}");
    let setup = Setup::new(&torrent, net.addr(Family::V4)).data(&data);
    let mut seeder = setup.start(&dir);
    let told = format!("{} is, or lies behind, a link", copy.join("out").display());
    wait("a word about the link", PATIENCE, || {
        seeder.process.output().contains(&told).then_some(())
    });
    seeder.stop();
    let mut seeder = setup.args(["--links", "follow"]).start(&dir);
    assert!(!seeder.process.output().contains("missing"));
    seeder.stop();
    // `make` treats the links in the same way.
    let made = dir.join("made.torrent");
    let (code, output) = said(&["make", text(&copy), "-o", text(&made)]);
    assert_eq!(code, 0, "{output}");
    assert!(output.contains("left out, a link"), "{output}");
    let (_, shown) = said(&["show", text(&made)]);
    assert!(
        !shown.contains(" in\n") && !shown.contains(" out\n"),
        "{shown}"
    );
    let (code, _) = said(&["make", text(&copy), "-o", text(&made), "--links=follow"]);
    assert_eq!(code, 0);
    let (_, shown) = said(&["show", text(&made)]);
    assert!(
        shown.contains(" in\n") && shown.contains(" out\n"),
        "{shown}"
    );
}

/// If a download's folder or file is a link to another place, nothing is written there.
#[test]
fn nothing_is_written_through_links() {
    let net = Net::new();
    let dir = Dir::new("seed");
    let content = Content::folder("album", &[("a/b", 300_000), ("c", 300_000)]);
    let mut seeder = Setup::new(content.path(), net.addr(Family::V4)).start(&dir);
    let peer = seeder.addr().to_string();
    for (link, place) in [
        ("files/album", ""),
        ("files/album/a", ""),
        ("files/album/c", "c"),
    ] {
        let (got, elsewhere) = (Dir::new("get"), Dir::new("elsewhere"));
        let link = got.join(link);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(elsewhere.join(place), &link).unwrap();
        let listen = net.addr(Family::V4);
        let args = ["--no-seed", "--peer", &peer];
        let mut getter = Getter::start(&seeder.torrent(), listen, got, &args);
        getter.wait_for("is, or lies behind, a link that leads out");
        let (_, got) = getter.stop();
        let written = fs::read_dir(elsewhere.path()).unwrap().count();
        assert_eq!(written, 0, "written through {}", link.display());
        let args = ["--no-seed", "--links=follow", "--peer", &peer];
        if place.is_empty() {
            let (code, got) = Getter::start(&seeder.torrent(), listen, got, &args).end();
            assert_eq!(code, 0, "{}", link.display());
            content.assert_same_in(&got.join("files"), true);
        }
    }
    seeder.stop();
}

/// A seeder of a folder of three files, the first of which is small.
struct Album {
    net: Net,
    _dir: Dir,
    content: Content,
    seeder: Seeder,
}

impl Album {
    fn new(up_bps: Option<u64>) -> Album {
        let (net, dir) = (Net::new(), Dir::new("seed"));
        let files = [("a", 1_000_000), ("b", 24 << 20), ("c", 1_000_000)];
        let content = Content::folder("album", &files);
        let setup = Setup::new(content.path(), net.addr(Family::V4));
        let seeder = setup.up_bps(up_bps).start(&dir);
        Album {
            net,
            _dir: dir,
            content,
            seeder,
        }
    }

    /// Starts `get`, which begins with the first file.
    fn get(&self, got: Dir, args: &[&str]) -> Getter {
        let _ = fs::remove_file(got.join("get.log"));
        let peer = self.seeder.addr().to_string();
        let args = [&["--sequential", "--peer", &peer], args].concat();
        let listen = self.net.addr(Family::V4);
        Getter::start(&self.seeder.torrent(), listen, got, &args)
    }

    /// Asserts that `get` fails, names the file `name` and writes nothing.
    fn assert_refused(&self, got: Dir, name: &str) -> Dir {
        let before = tree(&got.join("files"));
        let (code, got) = self.get(got, &["--no-seed"]).end();
        let said = fs::read_to_string(got.join("get.log")).unwrap();
        assert_eq!(code, 32, "{said}");
        let path = got.join("files/album").join(name);
        let told = format!("{} is not what the torrent says", path.display());
        assert!(
            said.contains(&told) && said.contains("--overwrite"),
            "{said}"
        );
        assert!(tree(&got.join("files")) == before, "something was written");
        got
    }
}

/// All files beneath a folder, with their bytes.
fn tree(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push((path.clone(), fs::read(path).unwrap())),
            }
        }
    }
    found.sort();
    found
}

/// Changes one byte of a file in place, as its owner may.
fn edit(path: &Path) {
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 500_000).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 500_000).unwrap();
}

/// A download is stopped at different moments, and then the owner edits a complete file. The next `get` keeps the
/// edited file and says so. Once the owner has decided, the rest is downloaded.
#[test]
fn an_edit_after_a_stop_at_each_moment() {
    let album = Album::new(Some(8 << 20));
    let first = |getter: &Getter| getter.files().join("album/a");
    let complete = |getter: &Getter| {
        let (ours, theirs) = (first(getter), album.content.path().join("a"));
        let right = fs::read(theirs).unwrap();
        wait("the first file", PATIENCE, || {
            (fs::read(&ours).is_ok_and(|bytes| bytes == right)).then_some(())
        });
        // The pieces of the first file are verified once some of the second file is there.
        wait("some of the second", PATIENCE, || {
            let there = everseed_tests::content::allocated(&getter.files().join("album/b"));
            (there > 4 << 20).then_some(())
        });
    };
    for moment in ["before the first block", "stopped", "killed", "complete"] {
        let got = Dir::new("get");
        let got = match moment {
            "before the first block" => {
                let listen = album.net.addr(Family::V4);
                let torrent = album.seeder.torrent();
                let mut getter = Getter::start(&torrent, listen, got, &["--down", "1"]);
                getter.wait_for("downloading: ");
                getter.kill()
            }
            "complete" => {
                let (code, got) = album.get(got, &["--no-seed"]).end();
                assert_eq!(code, 0);
                got
            }
            cut => {
                let getter = album.get(got, &[]);
                complete(&getter);
                match cut {
                    "killed" => getter.kill(),
                    _ => getter.stop().1,
                }
            }
        };
        if moment != "before the first block" {
            edit(&got.join("files/album/a"));
            let edited = fs::read(got.join("files/album/a")).unwrap();
            let got = album.assert_refused(got, "a");
            // The owner puts the byte back, or has the file overwritten. Then the download goes on.
            let got = match moment {
                "stopped" => {
                    edit(&got.join("files/album/a"));
                    let (code, got) = album.get(got, &["--no-seed"]).end();
                    assert_eq!(code, 0, "{moment}");
                    got
                }
                _ => {
                    assert!(fs::read(got.join("files/album/a")).unwrap() == edited);
                    let (code, got) = album.get(got, &["--no-seed", "--overwrite"]).end();
                    assert_eq!(code, 0, "{moment}");
                    got
                }
            };
            album.content.assert_same_in(&got.join("files"), true);
            continue;
        }
        let (code, got) = album.get(got, &["--no-seed"]).end();
        assert_eq!(code, 0, "{moment}");
        album.content.assert_same_in(&got.join("files"), true);
    }
}

/// Existing files are kept if everseed did not download them, if its state is lost, or if they have hard links.
#[test]
fn what_is_there_is_not_written_over() {
    let album = Album::new(None);
    let got = Dir::new("get");
    let folder = got.sub("files/album");
    fs::write(folder.join("b"), vec![7; 30 << 20]).unwrap();
    let got = album.assert_refused(got, "b");
    // A file with hard links is kept even with `--overwrite`.
    fs::hard_link(folder.join("b"), got.join("mine")).unwrap();
    let (code, got) = album.get(got, &["--no-seed", "--overwrite"]).end();
    let said = fs::read_to_string(got.join("get.log")).unwrap();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("has other names too (hard links)"), "{said}");
    assert!(fs::read(got.join("mine")).unwrap() == vec![7; 30 << 20]);
    fs::remove_file(folder.join("b")).unwrap();
    // A complete file that everseed did not make is used, and not written to.
    fs::copy(album.content.path().join("a"), folder.join("a")).unwrap();
    fs::hard_link(folder.join("a"), got.join("linked")).unwrap();
    let (code, got) = album.get(got, &["--no-seed"]).end();
    assert_eq!(code, 0);
    album.content.assert_same_in(&got.join("files"), true);
    // The state is lost: good files are used, and the changed file counts as the owner's.
    fs::remove_dir_all(got.join("state")).unwrap();
    edit(&got.join("files/album/c"));
    drop(album.assert_refused(got, "c"));
}

/// A service keeps files that differ, names them once, downloads the rest and seeds the good pieces.
#[test]
fn a_service_keeps_what_differs() {
    let album = Album::new(None);
    let dir = Dir::new("run");
    let (watch, out) = (dir.sub("watch"), dir.sub("out"));
    let folder = dir.sub("out/album");
    fs::copy(album.content.path().join("a"), folder.join("a")).unwrap();
    edit(&folder.join("a"));
    let edited = fs::read(folder.join("a")).unwrap();
    let torrent = watch.join("album.torrent");
    fs::copy(album.seeder.torrent(), &torrent).unwrap();
    let hour_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    let file = fs::File::options().write(true).open(&torrent).unwrap();
    file.set_modified(hour_ago).unwrap();
    let config = format!(
        "watch = \"{}\"\nout = \"{}\"\ndownload = true\npeer = [\"{}\"]\n",
        watch.display(),
        out.display(),
        album.seeder.addr(),
    );
    let listen = album.net.addr(Family::V4);
    let mut service = Service::start(&dir, listen, &config, &[]);
    service.wait_for("in files that are kept as they are: album", 1);
    let told = format!(
        "{} is not what the torrent says",
        folder.join("a").display()
    );
    assert_eq!(service.process.output().matches(&told).count(), 1);
    assert!(fs::read(folder.join("a")).unwrap() == edited);
    for name in ["b", "c"] {
        let same = fs::read(folder.join(name)).unwrap()
            == fs::read(album.content.path().join(name)).unwrap();
        assert!(same, "{name}");
    }
    // The owner edits a complete file while the service runs. The service notices, and leaves it alone.
    edit(&folder.join("c"));
    let edited = fs::read(folder.join("c")).unwrap();
    let told = format!(
        "{} is not what the torrent says",
        folder.join("c").display()
    );
    service.wait_for(&told, 1);
    service.stop();
    assert!(fs::read(folder.join("c")).unwrap() == edited);
}

/// Two torrents of one service have a file at the same path. The first one keeps it, whether it is complete by then or
/// both are downloaded at once. The second one names the file that is in its way.
#[test]
fn two_torrents_of_one_path() {
    let net = Net::new();
    let made = Dir::new("seed");
    let files: [&[(&str, u64)]; 2] = [
        &[("movie.mkv", 8 << 20)],
        &[("x", 100_000), ("movie.mkv", 9 << 20)],
    ];
    let contents = files.map(|files| Content::folder("show", files));
    let setup = Setup::new(contents[0].path(), net.addr(Family::V4));
    let mut seeder = setup.args([contents[1].path().display()]).start(&made);
    let torrents = seeder.values("torrent");
    for at_once in [true, false] {
        let dir = Dir::new("run");
        let out = dir.sub("out");
        let get = |torrent: &str| {
            format!(
                "[[get]]\ntorrent = \"{torrent}\"\nout = \"{}\"\npeer = [\"{}\"]\n",
                out.display(),
                seeder.addr()
            )
        };
        let (first, both) = (get(&torrents[0]), torrents.iter().map(|t| get(t)).collect());
        let both: String = both;
        let listen = net.addr(Family::V4);
        let begin = if at_once { &both } else { &first };
        let mut service = Service::start(&dir, listen, begin, &[]);
        if !at_once {
            service.wait_for("complete: show", 1);
            service.reload(listen, &both);
        }
        let path = out.join("show/movie.mkv");
        service.wait_for(
            &format!("{} is not what the torrent says", path.display()),
            1,
        );
        service.wait_for("in files that are kept as they are: show", 1);
        service.wait_for("complete: show", 1);
        service.stop();
        // If both begin at once, either may be the first.
        let got = fs::read(&path).unwrap();
        let is = |content: &Content| got == fs::read(content.path().join("movie.mkv")).unwrap();
        assert!(is(&contents[0]) || at_once && is(&contents[1]), "{at_once}");
    }
    seeder.stop();
}
