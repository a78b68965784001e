//! The state of version 0.1.0, byte by byte as that version wrote it.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use everseed_core::hash::{InfoHash, Sha1, Smol};
use everseed_disk::{Content, check, read_torrent};

use super::{World, patiently, turns_until};
use crate::options::get::Fetch;
use crate::options::run::{Config, Item, RunArgs};
use crate::options::seed::SeedArgs;
use crate::session::Session;
use crate::session::watch::settle_mark;

/// A number as postcard writes it: seven bits a byte, the lowest first.
fn varint(number: u64, out: &mut Vec<u8>) {
    let [low, ..] = number.to_le_bytes();
    match number >> 7 {
        0 => out.push(low),
        more => {
            out.push(low | 0x80);
            varint(more, out);
        }
    }
}

/// A signed number as postcard writes it.
fn zigzag(number: i64, out: &mut Vec<u8>) {
    varint(((number << 1) ^ (number >> 63)).cast_unsigned(), out);
}

fn text(text: &[u8], out: &mut Vec<u8>) {
    varint(text.len() as u64, out);
    out.extend(text);
}

fn sha1(bytes: &[u8]) -> [u8; 20] {
    let mut sha1 = Smol::default();
    sha1.update(bytes);
    sha1.finish()
}

/// A state folder of version 0.1.0, which was open to everybody.
struct First(PathBuf);

impl First {
    fn new(state: PathBuf) -> First {
        fs::create_dir_all(state.join("made")).unwrap();
        fs::write(state.join("lock"), "").unwrap();
        fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).unwrap();
        First(state)
    }

    fn path(&self, hash: InfoHash, kind: &str) -> PathBuf {
        self.0.join(format!("{hash}.{kind}"))
    }

    /// The record of what was verified: the first pieces so far as `good` says, or all.
    fn record(&self, hash: InfoHash, content: &Content, good: Option<&[u8]>) {
        let mut body = hash.0.to_vec();
        varint(0, &mut body);
        varint(check::first_fingerprint(content).unwrap(), &mut body);
        match good {
            None => body.push(1),
            Some(bits) => {
                body.push(2);
                text(bits, &mut body);
            }
        }
        let mut bytes = b"\x93evr\x01".to_vec();
        bytes.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
        bytes.extend(body);
        let sum = sha1(&bytes);
        bytes.extend(&sum[..8]);
        fs::write(self.path(hash, "resume"), bytes).unwrap();
    }

    /// A line of the catalogue: a torrent that sleeps. Whether it is private was not said.
    fn sleeper(&self, hash: InfoHash, torrent: &Path, data: &Path, root: &Path) {
        let mut line = vec![0];
        line.extend(hash.0);
        text(torrent.as_os_str().as_bytes(), &mut line);
        line.push(1);
        text(data.as_os_str().as_bytes(), &mut line);
        text(root.as_os_str().as_bytes(), &mut line);
        let (len, seconds, ns, files) = settle_mark(torrent, || false).unwrap();
        varint(len, &mut line);
        zigzag(seconds, &mut line);
        zigzag(ns, &mut line);
        varint(files, &mut line);
        varint(0, &mut line);
        let mut bytes = u32::try_from(line.len()).unwrap().to_le_bytes().to_vec();
        bytes.extend(&sha1(&line)[..4]);
        bytes.extend(line);
        let file = self.0.join("catalogue");
        let before = fs::read(&file).unwrap_or_default();
        fs::write(file, [before, bytes].concat()).unwrap();
    }
}

/// What slept sleeps, what was awake is awake, nothing is verified first, and nothing is paused: that version could not
/// pause.
#[test]
fn a_service_goes_on_with_all_that_version_0_1_0_had() {
    let world = World::new("earlier-service");
    let watched = world.folder.join("watched");
    fs::create_dir(&watched).unwrap();
    fs::write(world.folder.join("c"), [3; 50_000]).unwrap();
    let names = ["a", "b", "c"];
    let hashes = world.make(&names, &watched);
    let first = First::new(world.folder.join("first"));
    for (name, &hash) in names.iter().zip(&hashes) {
        let torrent = watched.join(format!("{name}.torrent"));
        let metainfo = read_torrent(&torrent).unwrap();
        let content = Content::open(&torrent, &metainfo, &world.folder, &first.0).unwrap();
        first.record(hash, &content, None);
        if *name != "c" {
            first.sleeper(hash, &torrent, &world.folder, &world.folder.join(name));
        }
    }
    let args = SeedArgs {
        state: first.0.clone(),
        data: Some(world.folder.clone()),
        ..world.config(&[]).seed
    };
    let config = Config {
        watch: vec![watched.clone()],
        torrents: 1,
        state_in_ram: true,
        ..Config::of_seed(args)
    };
    let args = || RunArgs {
        config: watched.join("everseed.toml"),
        check: false,
        verbose: 0,
    };
    let open = || Session::open_service(args(), config.clone(), world.front());
    let mut session = patiently(open);
    assert_eq!(session.torrents.catalogue.borrow().count(), 2);
    world.hears(&mut session, &["seeding c"]);
    turns_until(&mut session, |Session { library, .. }| {
        library.scans.reported() > 1
    });
    assert_eq!(*world.heard.lock().unwrap(), [""; 0]);
    assert_eq!(session.torrents.catalogue.borrow().paused(), 0);
    for name in names {
        assert!(
            !session
                .torrents
                .is_paused(&watched.join(format!("{name}.torrent")))
        );
    }
    let engine = session.engine.borrow();
    for (name, &hash) in names.iter().zip(&hashes) {
        let id = engine.node.find(hash).unwrap();
        assert_eq!(engine.node.is_asleep(id), *name != "c", "{name}");
        if *name == "c" {
            let stats = engine.node.torrent(id).unwrap();
            assert_eq!((stats.have, stats.conns), (4, 0));
        }
    }
    let mode = fs::metadata(&first.0).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o700);
}

/// A download that was half done goes on with what it has, once it may write into the files that it made: that version
/// kept no record of them.
#[test]
fn a_download_goes_on_where_version_0_1_0_left_it() {
    for overwrite in [true, false] {
        let world = World::new(&format!("earlier-get-{overwrite}"));
        let given = world.folder.join("given");
        fs::create_dir(&given).unwrap();
        let hash = world.make(&["a"], &given)[0];
        let torrent = given.join("a.torrent");
        let first = First::new(world.folder.join("first"));
        let fetch = Fetch {
            out: world.folder.join("out"),
            overwrite,
            ..Fetch::default()
        };
        // The file had its full length from the start; two of four pieces had come.
        fs::create_dir(&fetch.out).unwrap();
        let mut bytes = fs::read(world.folder.join("a")).unwrap();
        bytes[2 * 16384..].fill(0);
        fs::write(fetch.out.join("a"), bytes).unwrap();
        fs::copy(&torrent, first.path(hash, "torrent")).unwrap();
        let metainfo = read_torrent(&torrent).unwrap();
        let content = Content::open(&torrent, &metainfo, &fetch.out, &first.0).unwrap();
        first.record(hash, &content, Some(&[0b1100_0000]));
        let args = SeedArgs {
            paths: vec![torrent],
            state: first.0.clone(),
            ..world.config(&[]).seed
        };
        let opened = Session::open(Config::of_get(args, &fetch), world.front());
        let mut session = opened.unwrap().unwrap_or_else(|code| panic!("{code}"));
        if !overwrite {
            turns_until(&mut session, |session| {
                let refused = |code| code == crate::session::fetch::CHECKSUM;
                let engine = session.engine.borrow();
                let mut awake = session.torrents.awake.iter();
                awake.any(|torrent| torrent.exit_code(&engine).is_some_and(refused))
            });
            continue;
        }
        world.hears(&mut session, &["downloading a"]);
        let engine = session.engine.borrow();
        let id = engine.node.find(hash).unwrap();
        assert_eq!(engine.node.torrent(id).unwrap().have, 2);
        assert!(!session.torrents.is_paused(&given.join("a.torrent")));
    }
}

/// What was made is not made anew, so that links to it lead to it.
#[test]
fn what_version_0_1_0_made_is_served_as_it_was() {
    let world = World::new("earlier-made");
    let given = world.folder.join("given");
    fs::create_dir(&given).unwrap();
    let hash = world.make(&["a"], &given)[0];
    let first = First::new(world.folder.join("first"));
    fs::copy(given.join("a.torrent"), first.path(hash, "torrent")).unwrap();
    let path = world.folder.join("a").canonicalize().unwrap();
    let name = InfoHash(sha1(path.as_os_str().as_bytes())).to_string();
    fs::write(first.0.join("made").join(name), format!("{hash}\n")).unwrap();
    let torrent = first.path(hash, "torrent");
    let metainfo = read_torrent(&torrent).unwrap();
    let content = Content::open_at(&torrent, &metainfo, &path, &first.0).unwrap();
    first.record(hash, &content, None);
    let item: Item = world.item("a");
    let mut config = world.config(&["a"]);
    config.seed.state = first.0.clone();
    let opened = Session::open(config, world.front());
    let mut session = opened.unwrap().unwrap_or_else(|code| panic!("{code}"));
    world.hears(&mut session, &["seeding a"]);
    session.turn(Duration::ZERO).unwrap();
    assert_eq!(session.torrents.awake[0].info_hash(), hash);
    assert!(!session.torrents.is_paused(&item.path));
}
