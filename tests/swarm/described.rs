//! everseed never makes a torrent of content that another torrent describes, in whatever order the two come and go.
//!
//! Each step ends with a new file that no torrent describes. Once everseed seeds it, everseed has looked at all that
//! came before it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::process::Process;
use everseed_tests::seeder::{everseed, make};
use everseed_tests::service::Service;
use everseed_tests::watched::age;

/// Torrents and content appear in random order, before the start and after it. Some torrents are removed, some are
/// damaged, and the service is started again.
#[test]
fn beside_their_torrents() {
    at_random(0x5eed, false);
}

/// The same with the content in a second watched folder.
#[test]
fn in_a_folder_of_their_own() {
    at_random(0xda7a, true);
}

fn at_random(seed: u64, apart: bool) {
    let mut dice = Dice(seed);
    println!("seed {seed:#x}");
    let net = Net::new();
    let dir = Dir::new("described");
    let listen = net.addr(Family::V4);
    let torrents = dir.sub("torrents");
    let data = if apart {
        dir.sub("data")
    } else {
        torrents.clone()
    };
    let mut config = format!("watch = [\"{}\"]\ntorrents = 13\n", torrents.display());
    if apart {
        let (torrents, data) = (torrents.display(), data.display());
        config =
            format!("watch = [\"{torrents}\", \"{data}\"]\ndata = \"{data}\"\ntorrents = 13\n");
    }
    let mut things: Vec<Thing> = (0..12).map(|n| Thing::new(n, &mut dice)).collect();
    let mut frees = 0;
    let mut free = |service: Option<&mut Service>| {
        frees += 1;
        let name = format!("free-{frees}.bin");
        fs::write(data.join(&name), &name).unwrap();
        if let Some(service) = service {
            service.wait_for(&format!("seeding: {name}"), 1);
            assert_made(&dir, frees, &service.process.output());
        }
        name
    };

    // Some are there before the start: a torrent, its content, or both.
    for thing in &mut things[..6] {
        let both = dice.below(2) == 0;
        thing.put_torrent(&torrents);
        if both {
            thing.put_content(&data);
        }
    }
    let first = free(None);
    let mut service = Service::start(&dir, listen, &config, &[]);
    service.wait_for(&format!("seeding: {first}"), 1);
    assert_made(&dir, 1, &service.process.output());

    // The others come while the service runs. A damaged torrent counts as one too.
    for thing in &mut things {
        match dice.below(2) {
            0 => {
                thing.put_torrent(&torrents);
                thing.put_content(&data);
            }
            _ => {
                thing.put_content(&data);
                thing.put_torrent(&torrents);
            }
        }
    }
    free(Some(&mut service));

    // Torrents go while it runs, and while it does not.
    for thing in things.iter().filter(|_| dice.below(3) == 0) {
        fs::remove_file(thing.torrent_in(&torrents)).unwrap();
    }
    free(Some(&mut service));
    service.stop();
    for thing in things.iter().filter(|_| dice.below(3) == 0) {
        let _ = fs::remove_file(thing.torrent_in(&torrents));
    }
    // Content that was changed still belongs to its torrent.
    things[0].touch(&data);
    let mut service = Service::start(&dir, listen, &config, &[]);
    free(Some(&mut service));
    service.stop();
}

/// The owner may share such content by name, unless its torrent is private and still exists.
#[test]
fn asked_for_by_name() {
    let net = Net::new();
    let dir = Dir::new("described");
    let share = dir.sub("share");
    let content = Content::file("film.mkv", 100_000, 1);
    let path = content.copy_to(&share);
    let torrent = share.join("film.torrent");
    make(content.path(), &torrent, &["--private"]);
    let listen = net.addr(Family::V4);
    let watch = format!("watch = \"{}\"\n", share.display());
    let mut service = Service::start(&dir, listen, &watch, &[]);
    service.wait_for("seeding: film.mkv", 1);
    // A hard link is the same file under another name.
    fs::hard_link(&path, share.join("other name.mkv")).unwrap();
    let why = format!("other name.mkv belongs to {}", torrent.display());
    service.wait_for(&why, 1);
    fs::remove_file(share.join("other name.mkv")).unwrap();
    service.stop();

    let run = |path: &Path| {
        let state = dir.join("state").display().to_string();
        let path = path.display().to_string();
        let log = dir.join("seed.log");
        let _ = fs::remove_file(&log);
        let listen = listen.to_string();
        let args = ["seed", &path, "--state", &state, "--listen", &listen];
        let argv: Vec<String> = [everseed()]
            .into_iter()
            .chain(args.map(str::to_owned))
            .collect();
        Process::start("everseed seed", &argv, &log)
    };
    // The file is refused, and so is the folder that holds it.
    for path in [&path, &share] {
        let mut refused = run(path);
        assert_eq!(refused.wait(PATIENCE), 1);
        let output = refused.output();
        let why = format!("belongs to {}, which is private", torrent.display());
        assert!(output.contains(&why), "{output}");
    }
    // `make` may make a torrent, because that shares nothing.
    symlink(dir.join("state"), dir.join("everseed")).unwrap();
    let made = Command::new(everseed())
        .args(["make".as_ref(), path.as_os_str(), "-o".as_ref()])
        .arg(dir.join("made.torrent"))
        .env("XDG_STATE_HOME", dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&made.stderr).into_owned();
    let why = format!("belongs to {}, which is private", torrent.display());
    assert!(made.status.success() && said.contains(&why), "{said}");
    fs::remove_file(&torrent).unwrap();
    let other = dir.sub("other");
    fs::write(other.join("other"), "other").unwrap();
    let config = format!(
        "{watch}[[seed]]\npath = \"{}\"\n",
        other.join("other").display()
    );
    let mut service = Service::start(&dir, listen, &config, &[]);
    service.wait_for("seeding: other", 1);
    service.wait_for("1 in it not shared by themselves", 1);
    let asked = format!("{watch}[[seed]]\npath = \"{}\"\n", path.display());
    service.reload(listen, &asked);
    service.wait_for("seeding: film.mkv", 1);
    service.wait_for("which was private and is gone", 1);
    service.stop();
}

/// A torrent that cannot be read may describe any content, so nothing new is shared until it can be read.
#[test]
fn a_torrent_that_cannot_be_read() {
    unread("x.torrent", |whole| {
        let at = whole.windows(4).position(|four| four == b"name").unwrap();
        whole[..at].to_vec()
    });
}

/// The same with one that was compressed and cut off.
#[test]
fn a_packed_torrent_that_cannot_be_read() {
    unread("x.torrent.gz", |_| {
        b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x4b".to_vec()
    });
}

fn unread(name: &str, damaged: impl Fn(&[u8]) -> Vec<u8>) {
    let net = Net::new();
    let dir = Dir::new("described");
    let share = dir.sub("share");
    let content = Content::file("film.mkv", 100_000, 1);
    content.copy_to(&share);
    let torrent = share.join(name);
    make(content.path(), &torrent, &["--private"]);
    let whole = fs::read(&torrent).unwrap();
    fs::write(&torrent, damaged(&whole)).unwrap();
    age(&torrent);
    let config = format!("watch = \"{}\"\n", share.display());
    let mut service = Service::start(&dir, net.addr(Family::V4), &config, &[]);
    let waits = format!(
        "not shared until {} can be read or is removed",
        torrent.display()
    );
    service.wait_for(&waits, 1);
    fs::write(&torrent, &whole).unwrap();
    service.wait_for("seeding: film.mkv", 1);
    fs::write(share.join("free"), "free").unwrap();
    service.wait_for("seeding: free", 1);
    assert_made(&dir, 1, &service.process.output());
    service.stop();
}

/// A torrent and its content.
struct Thing {
    content: Content,
    name: String,
    damaged: bool,
}

impl Thing {
    fn new(n: u64, dice: &mut Dice) -> Thing {
        let name = format!("thing {n}");
        let content = match dice.below(2) {
            0 => Content::file(&name, 1 + dice.below(100_000), n),
            _ => Content::folder(&name, &[("a", 1 + dice.below(50_000)), ("b/c", 1000 + n)]),
        };
        // The .torrent file may have another name than the content.
        let name = match dice.below(2) {
            0 => name,
            _ => format!("{n}"),
        };
        let damaged = dice.below(4) == 0;
        Thing {
            content,
            name,
            damaged,
        }
    }

    fn torrent_in(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.torrent", self.name))
    }

    fn put_torrent(&self, folder: &Path) {
        let (path, part) = (self.torrent_in(folder), folder.join("new.part"));
        make(self.content.path(), &part, &["--private"]);
        if self.damaged {
            // Cut off after the `name` key.
            let bytes = fs::read(&part).unwrap();
            let at = bytes.windows(12).position(|some| some == b"piece length");
            fs::write(&part, &bytes[..at.unwrap()]).unwrap();
        }
        age(&part);
        fs::rename(&part, path).unwrap();
    }

    fn put_content(&self, folder: &Path) {
        if !folder.join(self.content.name()).exists() {
            self.content.copy_to(folder);
        }
    }

    fn touch(&self, folder: &Path) {
        let path = folder.join(self.content.name());
        let path = if path.is_dir() { path.join("a") } else { path };
        fs::write(path, "other").unwrap();
    }
}

/// Fails if more torrents were made than there are files that no torrent describes.
fn assert_made(dir: &Dir, frees: usize, output: &str) {
    let made = fs::read_dir(dir.join("state/made")).unwrap().count();
    assert!(
        made <= frees,
        "{made} were made, and {frees} are free: {output}"
    );
}

/// Numbers by chance, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % n
    }
}

const PATIENCE: Duration = Duration::from_secs(60);
