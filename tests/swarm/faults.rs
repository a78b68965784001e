//! A bad sector, an unwritable file or a failed write costs only the pieces that it touches. A file that somebody
//! touches is verified again, and no peer is disconnected.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use everseed_core::resume::{Record, Verified};
use everseed_disk::check::first_fingerprint;
use everseed_disk::read_torrent;
use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::disk::{self, Disk};
use everseed_tests::net::{Family, Net};
use everseed_tests::peer::{Message, Peer};
use everseed_tests::seeder::{Getter, Seeder, Setup, make, run};
use everseed_tests::{PATIENCE, wait};

const MIB: u64 = 1 << 20;
const PIECE: u32 = 1 << 16;

/// Requests the first block of a piece, and returns whether it comes.
fn gets(peer: &mut Peer, piece: u32, content: &[u8]) -> bool {
    peer.request(piece, 0, 16384);
    loop {
        match peer.expect("a block or a reject") {
            Message::Piece { index, bytes, .. } if index == piece => {
                let at = piece as usize * PIECE as usize;
                assert!(bytes == content[at..at + 16384], "piece {piece} is wrong");
                return true;
            }
            Message::Reject(index, ..) if index == piece => return false,
            Message::Piece { index, .. } => panic!("{index} was not asked for"),
            _ => {}
        }
    }
}

/// A new time of change, mode or hard link does not change a file's content, so its peers stay and are served.
#[test]
fn what_is_touched_parts_with_nobody() {
    let (net, dir) = (Net::new(), Dir::new("seed"));
    let content = Content::file("touched.bin", 2 * MIB, 90);
    let bytes = fs::read(content.path()).unwrap();
    let torrent = dir.join("touched.torrent");
    let hash = make(content.path(), &torrent, &["-s", "64K"]);
    let setup = Setup::new(&torrent, net.addr(Family::V4)).data(content.parent());
    let mut seeder = setup.start(&dir);
    let mut peers = [true, false].map(|fast| Peer::unchoked(seeder.addr(), hash, fast));
    let touch = || {
        let file = File::options().write(true).open(content.path()).unwrap();
        file.set_modified(SystemTime::now()).unwrap();
    };
    let mode = |mode| fs::set_permissions(content.path(), PermissionsExt::from_mode(mode)).unwrap();
    let link = || {
        let other = content.parent().join("other name");
        fs::hard_link(content.path(), &other).unwrap();
        fs::remove_file(other).unwrap();
    };
    let changes: [(&str, &dyn Fn()); 4] = [
        ("nothing", &|| {}),
        ("touched", &touch),
        ("another mode", &|| mode(0o600)),
        ("another name for a moment", &link),
    ];
    for (what, change) in changes {
        change();
        for peer in &mut peers {
            for piece in [0, 7, 31] {
                assert!(gets(peer, piece, &bytes), "{what}, piece {piece}");
            }
        }
    }
    // The next start knows that all pieces are verified.
    seeder.stop();
    let mut seeder = setup.start(&dir);
    let mut peer = Peer::greet(seeder.addr(), hash, true);
    assert_eq!(peer.expect("all pieces"), Message::HaveAll);
    seeder.stop();
}

/// A piece that is changed while it is served is not sent, though the file's time is set back. All other pieces are.
#[test]
fn what_is_changed_with_its_time_restored_is_not_sent() {
    let (net, dir) = (Net::new(), Dir::new("seed"));
    let content = Content::file("changed.bin", 2 * MIB, 91);
    let bytes = fs::read(content.path()).unwrap();
    let torrent = dir.join("changed.torrent");
    let hash = make(content.path(), &torrent, &["-s", "64K"]);
    for send in ["copy", "sendfile"] {
        let setup = Setup::new(&torrent, net.addr(Family::V4)).data(content.parent());
        let mut seeder = setup.args(["--send", send]).start(&dir);
        let mut peer = Peer::unchoked(seeder.addr(), hash, true);
        assert!(gets(&mut peer, 3, &bytes));
        let put = |byte| spoil(content.path(), 3, byte);
        let right = bytes[3 * PIECE as usize];
        put(!right);
        assert!(!gets(&mut peer, 3, &bytes), "{send}: a changed piece");
        assert!(gets(&mut peer, 4, &bytes), "{send}: the same peer");
        put(right);
        wait("everseed to say that it is back", PATIENCE, || {
            gets(&mut peer, 3, &bytes).then_some(())
        });
        seeder.stop();
    }
}

/// Content that version 0.1.0 verified is seeded at once, but each piece is verified again before it is sent: that
/// version did not notice a change whose time was set back.
#[test]
fn what_the_first_version_verified() {
    let (net, dir) = (Net::new(), Dir::new("seed"));
    let content = Content::file("first.bin", 2 * MIB, 93);
    let bytes = fs::read(content.path()).unwrap();
    let torrent = dir.join("first.torrent");
    let hash = make(content.path(), &torrent, &["-s", "64K"]);
    let setup = Setup::new(&torrent, net.addr(Family::V4)).data(content.parent());
    setup.start(&dir).stop();
    // The record as that version wrote it.
    let record = dir.join(format!("state/{hash}.resume"));
    let before = fs::read(&record).unwrap();
    let metainfo = read_torrent(&torrent).unwrap();
    let files =
        everseed_disk::Content::open(&torrent, &metainfo, content.parent(), &dir.join("state"));
    let first = Record {
        fingerprint: first_fingerprint(&files.unwrap()).unwrap(),
        ..Record::decode(&before).unwrap()
    };
    let mut old = vec![0; first.encoded_len()];
    first.encode(&mut old).unwrap();
    fs::write(&record, old).unwrap();
    spoil(content.path(), 3, !bytes[3 * PIECE as usize]);

    let mut seeder = setup.start(&dir);
    assert!(!seeder.process.output().contains("being checked"));
    let mut peer = Peer::unchoked(seeder.addr(), hash, true);
    assert!(gets(&mut peer, 4, &bytes) && !gets(&mut peer, 3, &bytes));
    assert!((5..32).all(|piece| gets(&mut peer, piece, &bytes)));
    // Pieces that nobody requests are verified too.
    wait("all to be verified", PATIENCE, || {
        seeder.stop();
        let now = fs::read(&record).unwrap();
        seeder = setup.start(&dir);
        let now = Record::decode(&now).unwrap();
        matches!(now.verified, Verified::Some(bits) if bits == [0xef, 0xff, 0xff, 0xff])
            .then_some(())
    });
    seeder.stop();
}

/// Writes over the first byte of a piece, and sets the time back.
fn spoil(path: &Path, piece: u64, byte: u8) {
    let file = File::options().write(true).open(path).unwrap();
    let time = file.metadata().unwrap().modified().unwrap();
    file.write_all_at(&[byte], piece * u64::from(PIECE))
        .unwrap();
    file.set_modified(time).unwrap();
}

fn seed_album(net: &Net, dir: &Dir) -> (Content, Seeder) {
    let files = [
        ("a", 3 * MIB),
        ("b", 2 * MIB),
        ("c", 100_000),
        ("d", 3 * MIB),
    ];
    let content = Content::folder("album", &files);
    let setup = Setup::new(content.path(), net.addr(Family::V4));
    let seeder = setup.args(["-s", "64K"]).start(dir);
    (content, seeder)
}

/// A folder stands where one file should be. The other files are downloaded, and this one when the folder is gone.
#[test]
fn one_file_that_cannot_be_written() {
    let (net, dir) = (Net::new(), Dir::new("seed"));
    let (content, mut seeder) = seed_album(&net, &dir);
    let get = Dir::new("get");
    let taken = get.join("files/album/b");
    fs::create_dir_all(&taken).unwrap();
    let listen = net.addr(Family::V4);
    let mut getter = Getter::start(&seeder.torrent(), listen, get, &["--no-seed"]);
    getter.wait_for("complete but for 2.0");
    for file in ["a", "c", "d"] {
        let (ours, theirs) = (
            content.path().join(file),
            getter.files().join("album").join(file),
        );
        // A piece that a file shares with the unwritable one is missing too.
        let (ours, theirs) = (fs::read(ours).unwrap(), fs::read(theirs).unwrap());
        let differs = ours.iter().zip(&theirs).filter(|(a, b)| a != b).count();
        assert!(
            ours.len() == theirs.len() && differs <= PIECE as usize,
            "{file}"
        );
    }
    let said = getter.process.output();
    assert_eq!(said.matches("error: ").count(), 1, "{said}");
    assert!(said.contains("album/b is no regular file"), "{said}");
    let (code, get) = getter.stop();
    assert_eq!(code, 7, "exit code of an unfinished download");
    fs::remove_dir(&taken).unwrap();
    let getter = Getter::start(&seeder.torrent(), listen, get, &["--no-seed"]);
    let (code, get) = getter.end();
    assert_eq!(code, 0);
    content.assert_same_in(&get.join("files"), true);
    seeder.stop();
}

/// A limit on the length of files (`ulimit -f`) does not end the process, and is not reported as a full disk.
#[test]
fn no_file_may_be_so_long() {
    let (net, dir) = (Net::new(), Dir::new("seed"));
    let (_content, mut seeder) = seed_album(&net, &dir);
    let (listen, wrapper) = (net.addr(Family::V4), ["prlimit", "--fsize=2500000"]);
    let wrapper = wrapper.map(str::to_owned);
    let torrent = seeder.torrent();
    let mut getter = Getter::start_in(&torrent, listen, Dir::new("get"), &["--no-seed"], &wrapper);
    getter.wait_for("complete but for 6.");
    let said = getter.process.output();
    assert_eq!(
        said.matches("no file may be so long there, 3 MiB").count(),
        2,
        "{said}"
    );
    let (code, get) = getter.stop();
    assert_eq!(code, 7, "exit code of an unfinished download");
    let there = get.join("files/album/b");
    assert_eq!(fs::metadata(there).unwrap().len(), 2 * MIB);
    seeder.stop();
}

/// If no file can be written, or the disk has too little room, `get` says so before the first block arrives.
#[test]
fn what_will_not_fit_is_said_beforehand() {
    let (net, dir) = (Net::new(), Dir::new("seed"));
    let content = Content::file("long.bin", 3 * MIB, 97);
    let setup = Setup::new(content.path(), net.addr(Family::V4));
    let mut seeder = setup.args(["-s", "64K"]).start(&dir);
    let (torrent, listen) = (seeder.torrent(), net.addr(Family::V4));
    let wrapper = ["prlimit", "--fsize=2500000"].map(str::to_owned);
    let mut getter = Getter::start_in(&torrent, listen, Dir::new("get"), &[], &wrapper);
    let said = "long.bin: no file may be so long there, 3 MiB; raise `ulimit -f`";
    let code = getter.process.wait(PATIENCE);
    let output = getter.process.output();
    assert!(output.contains(said), "{output}");
    assert_eq!(code, 1, "{output}");
    assert!(!getter.files().join("long.bin").exists());

    let room = Dir::new("room");
    let mounted = room.sub("small");
    let mount = |args: &[&str]| {
        let done = Command::new("mount").args(args).arg(&mounted).status();
        assert!(done.unwrap().success(), "{args:?}");
    };
    mount(&["-t", "tmpfs", "-o", "size=2m", "small"]);
    let out = mounted.to_str().unwrap();
    let mut getter = Getter::start(&torrent, listen, Dir::new("get"), &["--no-seed", "-o", out]);
    getter.wait_for("3.00 MiB are still to be written, and only 2.00 MiB are free");
    mount(&["-o", "remount,size=8m"]);
    let (code, _get) = getter.end();
    fs::remove_file(mounted.join("long.bin")).unwrap();
    assert_eq!(code, 0);
    let _ = Command::new("umount").arg("-l").arg(&mounted).status();
    seeder.stop();
}

fn pieces_of(message: &Message) -> Vec<u32> {
    match message {
        Message::HaveAll => (0..128).collect(),
        Message::Bitfield(bits) => (0..128)
            .filter(|piece| bits[piece / 8] & (0x80 >> (piece % 8)) != 0)
            .map(|piece| u32::try_from(piece).unwrap())
            .collect(),
        other => panic!("{other:?} instead of what pieces there are"),
    }
}

/// The end of one of two files becomes unreadable.
#[test]
#[ignore = "needs root and loop devices"]
fn bad_sectors() {
    let (net, dir) = (Net::new(), Dir::new("seed"));
    let content = Content::folder("pair", &[("a", 4 * MIB), ("b", 4 * MIB)]);
    let torrent = dir.join("pair.torrent");
    let hash = make(content.path(), &torrent, &["-s", "64K"]);
    let bytes = [content.path().join("a"), content.path().join("b")].map(|p| fs::read(p).unwrap());
    let bytes = bytes.concat();
    let disk = Disk::new(64 * MIB);
    fs::create_dir(disk.at().join("pair")).unwrap();
    for file in ["a", "b"] {
        fs::copy(content.path().join(file), disk.at().join("pair").join(file)).unwrap();
        disk.sync();
    }
    let setup = Setup::new(&torrent, net.addr(Family::V4)).data(disk.at());
    let mut seeder = setup.start(&dir);
    let mut peer = Peer::unchoked(seeder.addr(), hash, true);
    assert!(gets(&mut peer, 0, &bytes));
    let file = disk.at().join("pair/b");
    disk.lose(&file, 3 * MIB);
    // Some pieces of the end may lie elsewhere on the disk, or in the page cache.
    let had: Vec<u32> = (0..128).filter(|&p| gets(&mut peer, p, &bytes)).collect();
    assert!((0..64).all(|piece| had.contains(&piece)), "{had:?}");
    assert!(had.len() < 128, "nothing was lost");
    assert!(gets(&mut peer, 1, &bytes), "the same peer as before");
    let mut newcomer = Peer::greet(seeder.addr(), hash, true);
    let told = pieces_of(&newcomer.expect("what pieces there are"));
    assert_eq!(told, had);
    let said = wait("a word about the file", PATIENCE, || {
        Some(seeder.process.output()).filter(|said| said.contains("pair/b: Input/output error"))
    });
    assert_eq!(said.matches("error: ").count(), 1, "{said}");
    seeder.stop();

    // The next start seeds the other pieces, with its state and without.
    for fresh in [false, true] {
        if fresh {
            fs::remove_dir_all(dir.join("state")).unwrap();
        }
        disk::forget(&file);
        let mut seeder = setup.start(&dir);
        let mut peer = Peer::greet(seeder.addr(), hash, true);
        assert_eq!(pieces_of(&peer.expect("what pieces there are")), had);
        seeder.stop();
    }
    disk::forget(&file);
    let output = run([Path::new("check"), &torrent, disk.at()]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(
        text.contains("ok       a") && text.contains("unread   b (pieces "),
        "{text}"
    );
}

/// The kernel reports a failed write once, at the next sync. everseed remembers it and reads all content again.
#[test]
#[ignore = "needs root and loop devices"]
fn a_write_that_failed_is_not_forgotten() {
    let (net, dir) = (Net::new(), Dir::new("seed"));
    let content = Content::file("written.bin", 24 * MIB, 92);
    let setup = Setup::new(content.path(), net.addr(Family::V4));
    let mut seeder = setup.start(&dir);
    let disk = Disk::of_little_room(64 * MIB, 12 * MIB);
    let files = disk.at().join("files");
    let args = ["--out", files.to_str().unwrap()];
    let listen = net.addr(Family::V4);
    let mut getter = Getter::start(&seeder.torrent(), listen, Dir::new("get"), &args);
    getter.wait_for("all of it is read again from the disk");
    let said = getter.process.output();
    assert!(!said.contains("complete: "), "{said}");
    disk.make_room(100 * MIB);
    getter.wait_for("complete: written.bin");
    getter.stop();
    disk::forget(&files.join("written.bin"));
    content.assert_same_in(&files, true);
    seeder.stop();
}
