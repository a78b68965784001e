//! `make`, `show` and `check` agree with other programs.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output};

use everseed_tests::client::Client;
use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::process::program;
use everseed_tests::seeder::{Setup, info_hash, make, run};

#[test]
fn same_input_same_torrent() {
    let dir = Dir::new("make");
    let content = Content::odd_folder();
    let (one, two) = (dir.join("one.torrent"), dir.join("two.torrent"));
    for out in [&one, &two] {
        make(
            content.path(),
            out,
            &["-t", "http://tracker.example/announce"],
        );
    }
    assert!(fs::read(one).unwrap() == fs::read(two).unwrap());
}

/// Transmission computes the same info-hash and reads the same files.
#[test]
fn others_read_what_make_wrote() {
    let dir = Dir::new("make");
    for content in [Content::odd_folder(), Content::file("empty.bin", 1, 80)] {
        let out = dir.join(format!("{}.torrent", content.name()));
        let hash = make(
            content.path(),
            &out,
            &["-p", "-c", "a comment: ü", "-s", "32K"],
        );
        let show = program("transmission-show", "transmission-cli");
        let text = stdout(&Command::new(show).arg(&out).output().unwrap());
        assert!(text.contains(&hash.to_string()), "{hash} is not in: {text}");
        assert!(text.contains("a comment: ü"), "{text}");
        assert!(text.contains("Private torrent"), "{text}");
    }
}

/// A torrent from transmission-create is seeded as well.
#[test]
fn torrents_of_others_are_seeded() {
    let net = Net::new();
    let dir = Dir::new("seed");
    // Without empty files, which transmission-create leaves out.
    let files = [("a.bin", 3_000_000), ("b/c.bin", 70_001), ("ü", 1)];
    let content = Content::folder("others", &files);
    let torrent = dir.join("other.torrent");
    let listen = net.addr(Family::V4);
    let create = Command::new(program("transmission-create", "transmission-cli"))
        .arg(content.path())
        .arg("-o")
        .arg(&torrent)
        .args(["-s", "64", "-t", &format!("http://{listen}/announce")])
        .output();
    assert!(create.unwrap().status.success());
    let setup = Setup::new(&torrent, listen).data(content.parent());
    let mut seeder = setup.start(&dir);
    assert_eq!(seeder.info_hash(), info_hash(&torrent));
    let start = |client: Client| client.download(&torrent, net.addr(Family::V4));
    for mut download in Client::ALL.map(start) {
        download.finish(&content);
    }
    seeder.stop();
}

/// everseed reads each odd torrent that libtorrent reads, with the same info-hash.
#[test]
fn what_libtorrent_reads_is_read() {
    let dir = Dir::new("odd");
    let folder = dir.sub("torrents");
    program("python3", "python3-libtorrent");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/libtorrent_odd.py");
    // Debian's python, because Debian's libtorrent is installed there.
    let mut python = Command::new("/usr/bin/python3");
    let seed = std::process::id().to_string();
    python.arg(script).arg(&folder).args(["300", &seed]);
    let read = python.output().unwrap();
    assert!(read.status.success(), "{read:?}");
    let read = stdout(&read);
    let mut count = 0;
    for line in read.lines() {
        let (path, hash) = line.split_once(' ').unwrap();
        let shown = run(["show", path]);
        let said = String::from_utf8_lossy(&shown.stderr).into_owned();
        assert!(shown.status.success(), "seed {seed}, {path}: {said}");
        assert!(stdout(&shown).contains(hash), "seed {seed}, {path}");
        count += 1;
    }
    assert!(count > 100, "libtorrent reads {count} of 300");
}

/// A gzipped .torrent is unpacked into the state, and its torrent is seeded.
#[test]
fn a_packed_torrent_is_seeded() {
    let net = Net::new();
    let dir = Dir::new("packed");
    let content = Content::file("film.bin", 300_000, 8);
    let (plain, torrent) = (dir.join("plain"), dir.join("film.torrent"));
    let listen = net.addr(Family::V4);
    let tracker = format!("http://{listen}/announce");
    let hash = make(content.path(), &plain, &["-t", &tracker]);
    let gzip = Command::new(program("gzip", "gzip"))
        .arg("-c")
        .arg(&plain)
        .output();
    fs::write(&torrent, gzip.unwrap().stdout).unwrap();
    let setup = Setup::new(&torrent, listen).data(content.parent());
    let mut seeder = setup.start(&dir);
    assert_eq!(seeder.info_hash(), hash);
    let mut download = Client::ALL[0].download(&plain, net.addr(Family::V4));
    download.finish(&content);
    seeder.stop();
}

/// `check` names the bad file, and its exit code tells scripts.
#[test]
fn check_finds_damage() {
    let dir = Dir::new("check");
    let content = Content::odd_folder();
    let torrent = dir.join("odd.torrent");
    make(content.path(), &torrent, &["-s", "32K"]);
    let check = |data: &Path| run([Path::new("check"), &torrent, data]);

    let good = check(content.parent());
    assert!(good.status.success(), "{}", stdout(&good));

    let data = dir.sub("data");
    let copy = content.copy_to(&data);
    let file = File::options()
        .write(true)
        .open(copy.join("big.bin"))
        .unwrap();
    file.write_all_at(b"damage", 4_000_000).unwrap();
    let bad = check(&data);
    assert_eq!(bad.status.code(), Some(BAD_DATA), "{}", stdout(&bad));
    assert!(stdout(&bad).contains("big.bin"), "{}", stdout(&bad));

    fs::remove_dir_all(&copy).unwrap();
    let nothing = check(&data);
    assert_eq!(
        nothing.status.code(),
        Some(BAD_DATA),
        "{}",
        stdout(&nothing)
    );

    // A missing .torrent has another exit code.
    let code = run([Path::new("check"), &dir.join("none.torrent"), &data])
        .status
        .code();
    assert_eq!(code, Some(1));
}

/// The exit code of `check` if data is bad or missing, as its help says.
const BAD_DATA: i32 = 3;

#[test]
fn mistakes_are_explained() {
    let help = run(["--help"]);
    assert!(help.status.success() && stdout(&help).contains("seed"));
    let version = run(["--version"]);
    assert!(version.status.success() && stdout(&version).contains("everseed"));
    for command in ["seed", "make", "show", "check"] {
        let help = run([command, "--help"]);
        assert!(
            help.status.success() && stdout(&help).contains(command),
            "{command}"
        );
    }
    let wrong = run(["seed", "--slotz", "3", "x"]);
    let text = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(!wrong.status.success());
    assert!(
        text.contains("--slotz") && text.contains("--slots"),
        "{text}"
    );
    let missing = run(["seed", "/nonexistent/file"]);
    let text = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(
        !missing.status.success() && text.contains("/nonexistent/file"),
        "{text}"
    );
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}
