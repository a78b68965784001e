//! With `--overwrite`, `get` goes on with downloads of other clients. `--rename` and `--file` name the files.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use everseed_tests::client::Client;
use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::process::Process;
use everseed_tests::seeder::{Getter, Seeder, Setup, everseed, make, run};
use everseed_tests::{PATIENCE, wait};

const LEN: u64 = 4 << 20;

/// A folder of two files, its .torrent, and a seeder.
struct Given {
    net: Net,
    dir: Dir,
    content: Content,
    torrent: PathBuf,
    seeder: Seeder,
}

impl Given {
    fn new() -> Given {
        let net = Net::new();
        let dir = Dir::new("takeover");
        let content = Content::folder("album", &[("a.bin", LEN), ("b.bin", LEN)]);
        let torrent = dir.join("album.torrent");
        make(content.path(), &torrent, &["-s", "64K"]);
        let setup = Setup::new(&torrent, net.addr(Family::V4)).data(content.parent());
        let seeder = setup.start(&dir);
        Given {
            net,
            dir,
            content,
            torrent,
            seeder,
        }
    }

    /// Runs `get` into the folder `out` until it ends.
    fn get(&self, out: &Path, args: &[&str]) -> (i32, String) {
        let mut argv = vec![everseed(), "get".to_owned()];
        argv.push(self.torrent.display().to_string());
        argv.extend(["--out".to_owned(), out.display().to_string()]);
        let state = self.dir.sub("get-state");
        argv.extend(["--state".to_owned(), state.display().to_string()]);
        argv.extend(["--listen".to_owned(), self.listen().to_string()]);
        argv.extend(["--peer".to_owned(), self.seeder.addr().to_string()]);
        argv.push("--no-seed".to_owned());
        argv.extend(args.iter().map(|arg| (*arg).to_owned()));
        let mut process = Process::start("everseed get", &argv, &self.dir.join("get.log"));
        let code = process.wait(PATIENCE);
        (code, process.output())
    }

    fn listen(&self) -> SocketAddr {
        self.net.addr(Family::V4)
    }
}

/// The first half of a file.
fn half(path: &Path) -> Vec<u8> {
    let mut bytes = fs::read(path).unwrap();
    bytes.truncate(bytes.len() / 2);
    bytes
}

#[test]
fn what_another_client_began() {
    let given = Given::new();
    for suffix in [".part", ".!qB", ".bc!"] {
        let out = given.dir.sub(&format!("out{suffix}"));
        let album = out.join("album");
        fs::create_dir(&album).unwrap();
        let begun = album.join(format!("a.bin{suffix}"));
        let bytes = half(&given.content.path().join("a.bin"));
        fs::write(&begun, &bytes).unwrap();
        // Without `--overwrite` the file is kept, because everseed did not make it.
        let (code, said) = given.get(&out, &[]);
        assert_eq!(code, 32, "{said}");
        let name = begun.display().to_string();
        assert!(
            said.contains(&format!("{name} is not what the torrent says")),
            "{said}"
        );
        assert_eq!(fs::read(&begun).unwrap(), bytes);
        let report = run(["check".as_ref(), given.torrent.as_os_str(), out.as_os_str()]);
        let report = String::from_utf8(report.stdout).unwrap();
        let line = format!("short    a.bin as album/a.bin{suffix}\n");
        assert!(report.contains(&line), "{report}");
        assert!(report.contains("pieces: 32 of 128 good"), "{report}");
        // With it the download goes on.
        let (code, said) = given.get(&out, &["--overwrite"]);
        assert_eq!(code, 0, "{said}");
        assert!(
            said.contains("downloading: album, 6.00 MiB of 8.00 MiB to come"),
            "{said}"
        );
        given.content.assert_same_in(&out, true);
        assert!(!begun.exists());
        fs::remove_dir_all(given.dir.join("get-state")).unwrap();
    }
}

/// The client also spells the name otherwise, as Transmission does with a dot at its end. The file gets its own name
/// when it is complete.
#[test]
fn what_another_client_began_under_another_name() {
    let given = Given::new();
    let out = given.dir.sub("out");
    let album = out.join("album");
    fs::create_dir(&album).unwrap();
    let begun = album.join("other.part");
    let mut bytes = fs::read(given.content.path().join("a.bin")).unwrap();
    let at = bytes.len() / 4;
    bytes[at] ^= 1;
    fs::write(&begun, &bytes).unwrap();
    let (code, said) = given.get(&out, &["--overwrite"]);
    assert_eq!(code, 0, "{said}");
    given.content.assert_same_in(&out, true);
    assert!(!begun.exists());
}

/// A damaged copy in another folder, where it may be a backup, is not written: neither one that is found when the
/// download begins, nor one that was seeded in place of a file with more damage.
#[test]
fn a_copy_elsewhere_is_left_as_it_is() {
    let given = Given::new();
    for seeded in [false, true] {
        let out = given.dir.sub(&format!("out-{seeded}"));
        let (album, copy) = (out.join("album"), out.join("backup/a.bin"));
        fs::create_dir(out.join("backup")).unwrap();
        let mut bytes = fs::read(given.content.path().join("a.bin")).unwrap();
        let at = bytes.len() / 4;
        bytes[at] ^= 1;
        fs::write(&copy, &bytes).unwrap();
        if seeded {
            fs::create_dir(&album).unwrap();
            fs::copy(given.content.path().join("b.bin"), album.join("b.bin")).unwrap();
            let mut worse = bytes.clone();
            worse[0] ^= 1;
            fs::write(album.join("a.bin"), &worse).unwrap();
            let state = given.dir.sub("get-state").display().to_string();
            let listen = given.listen().to_string();
            let named = [given.torrent.display(), out.display()].map(|path| path.to_string());
            let mut argv = vec![everseed(), "seed".to_owned()];
            argv.extend(named);
            argv.extend(["--state", &state, "--listen", &listen].map(str::to_owned));
            let _seed = Process::start("everseed seed", &argv, &given.dir.join("seed.log"));
            wait("the record of places", PATIENCE, || {
                let mut names = fs::read_dir(&state).unwrap().flatten();
                names.find(|name| name.path().extension().is_some_and(|end| end == "files"))
            });
        }
        let (code, said) = given.get(&out, &["--overwrite"]);
        assert_eq!(code, 0, "{said}");
        given.content.assert_same_in(&out, true);
        assert!(fs::read(&copy).unwrap() == bytes, "{said}");
        fs::remove_dir_all(given.dir.join("get-state")).unwrap();
    }
}

/// `get --overwrite` goes on with the files of an unfinished download of Transmission.
#[test]
fn what_transmission_began() {
    let given = Given::new();
    let slow = Setup::new(&given.torrent, given.net.addr(Family::V4));
    let slow = slow.data(given.content.parent()).up_bps(Some(1 << 20));
    let slow_dir = Dir::new("slow");
    let slow = slow.start(&slow_dir);
    let announce = format!("http://{}/announce", slow.addr());
    let tracked = given.dir.join("tracked.torrent");
    make(
        given.content.path(),
        &tracked,
        &["-s", "64K", "-t", &announce],
    );
    let mut download = Client::Transmission.download(&tracked, given.listen());
    download.wait_for_bytes(1 << 20);
    let files = download.files();
    let out = given.dir.sub("out");
    // The files as they are at this moment, while Transmission still runs.
    let parts: Vec<PathBuf> = wait("a .part", PATIENCE, || {
        let names = fs::read_dir(files.join("album")).ok()?;
        let paths = names.map(|name| name.unwrap().path());
        let parts: Vec<_> = paths
            .filter(|path| path.extension().is_some_and(|e| e == "part"))
            .collect();
        (!parts.is_empty()).then_some(parts)
    });
    fs::create_dir(out.join("album")).unwrap();
    for entry in fs::read_dir(files.join("album")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, out.join("album").join(path.file_name().unwrap())).unwrap();
    }
    drop((download, slow));
    let (code, said) = given.get(&out, &["--overwrite"]);
    assert_eq!(code, 0, "{said}");
    given.content.assert_same_in(&out, true);
    for part in parts {
        assert!(!out.join("album").join(part.file_name().unwrap()).exists());
    }
}

/// `--rename` and `--file` name the files, and the next start remembers the names.
#[test]
fn called_as_the_owner_says() {
    let given = Given::new();
    let out = given.dir.sub("out");
    let names = ["--rename", "Das Album", "--file", "2=more/b.dat"];
    let (code, said) = given.get(&out, &names);
    assert_eq!(code, 0, "{said}");
    let same = |one: &str, other: &str| {
        fs::read(given.content.path().join(one)).unwrap() == fs::read(out.join(other)).unwrap()
    };
    assert!(same("a.bin", "Das Album/a.bin") && same("b.bin", "more/b.dat"));
    assert!(!out.join("album").exists());
    // The next start remembers the names.
    let (code, said) = given.get(&out, &[]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(said.matches("downloading: ").count(), 1, "{said}");
    assert!(!out.join("album").exists());
    let report = |args: &[&str]| {
        let mut argv = vec!["check".to_owned(), given.torrent.display().to_string()];
        argv.push(out.display().to_string());
        argv.extend(args.iter().map(|arg| (*arg).to_owned()));
        run(argv).status.code()
    };
    assert_eq!(report(&names), Some(0));
    for bad in [["--rename", "a/b"], ["--rename", ".."], ["--rename", ""]] {
        assert_eq!(report(&bad), Some(2), "{bad:?}");
    }
    let seed = Setup::new(&given.torrent, given.listen())
        .data(&out)
        .args(names);
    let seeder_dir = Dir::new("seeder");
    let seeder = seed.start(&seeder_dir);
    let leecher = Dir::new("leecher");
    let peer = seeder.addr().to_string();
    let args = ["--peer", peer.as_str(), "--no-seed"];
    let getter = Getter::start(&given.torrent, given.net.addr(Family::V4), leecher, &args);
    let (code, dir) = getter.end();
    assert_eq!(code, 0);
    given.content.assert_same_in(&dir.join("files"), true);
}
