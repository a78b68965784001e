//! Commands in, notices out: a session by itself, at a port of its own, with nobody else.

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::command::{Command, SessionLimits, Which};
use super::front::Front;
use super::notice::{Notice, Notices};
use super::{Attendance, Session, run};
use crate::options::get::Fetch;
use crate::options::run::{Config, Item};
use crate::options::seed::SeedArgs;

/// A folder with two files to share, and what was heard.
struct World {
    folder: PathBuf,
    heard: Arc<Mutex<Vec<String>>>,
}

impl World {
    fn new(name: &str) -> World {
        let name = format!("everseed-session-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        for (file, byte) in [("a", 1), ("b", 2)] {
            fs::write(folder.join(file), vec![byte; 50_000]).unwrap();
        }
        World {
            folder,
            heard: Arc::default(),
        }
    }

    fn config(&self, files: &[&str]) -> Config {
        let args = SeedArgs {
            paths: files.iter().map(|file| self.folder.join(file)).collect(),
            listen: vec![crate::net::listen::Listen::At(
                "127.0.0.1:0".parse().unwrap(),
            )],
            state: self.folder.join("state"),
            pex: false,
            lsd: false,
            dht: everseed_node::discovery::dht::Mode::Off,
            port_map: false,
            ..SeedArgs::default()
        };
        Config::of_seed(args)
    }

    fn front(&self) -> Front {
        let heard = Arc::clone(&self.heard);
        let notices = Notices::to(move |notice| {
            let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
            let told = match notice {
                Notice::Seeding(name) => format!("seeding {name}"),
                Notice::Stopped(name) => format!("stopped {}", String::from_utf8_lossy(name)),
                Notice::Paused(path) => format!("paused {}", name(path)),
                Notice::Resumed(path) => format!("resumed {}", name(path)),
                Notice::Missing { name, pieces, .. } => format!("missing {name} {pieces:?}"),
                Notice::Failed(text) => format!("failed {text}"),
                _ => return Ok(()),
            };
            heard.lock().unwrap().push(told);
            Ok(())
        });
        Front {
            notices,
            numbers: |_| None,
        }
    }

    fn open(&self, files: &[&str]) -> Session {
        let opened = Session::open(self.config(files), self.front());
        opened.unwrap().unwrap_or_else(|code| panic!("{code}"))
    }

    fn item(&self, file: &str) -> Item {
        Item {
            path: self.folder.join(file),
            data: None,
            files: Vec::new(),
            fetch: None,
        }
    }

    fn which(&self, file: &str) -> Which {
        Which::Path(self.folder.join(file))
    }

    /// Takes turns until all of this was heard, in this order, and forgets it.
    fn hears(&self, session: &mut Session, expected: &[&str]) {
        let until = Instant::now() + Duration::from_secs(120);
        while self.heard.lock().unwrap().len() < expected.len() {
            assert!(Instant::now() < until, "{:?}", self.heard.lock().unwrap());
            session.turn(Duration::from_millis(100)).unwrap();
        }
        let heard = std::mem::take(&mut *self.heard.lock().unwrap());
        assert_eq!(heard, expected);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn commands_in_and_notices_out() {
    let world = World::new("commands");
    let mut session = world.open(&["a", "b"]);
    world.hears(&mut session, &["seeding a", "seeding b"]);
    let table = [
        // What is there is not added again.
        (Command::Add(Box::new(world.item("a"))), &[][..], 2),
        (Command::Pause(world.which("a")), &["paused a"], 1),
        (Command::Pause(world.which("a")), &[], 1),
        (Command::Pause(Which::All), &["paused b"], 0),
        (
            Command::Resume(Which::All),
            &["resumed a", "resumed b", "seeding a", "seeding b"],
            2,
        ),
        (Command::Remove(world.which("a")), &["stopped a"], 1),
        (Command::Remove(world.which("a")), &[], 1),
        (Command::Add(Box::new(world.item("a"))), &["seeding a"], 2),
    ];
    for (command, heard, running) in table {
        session.commands.send(command.clone());
        session.turn(Duration::ZERO).unwrap();
        world.hears(&mut session, heard);
        let engine = session.engine.borrow();
        assert_eq!(session.torrents.managed.len(), running, "{command:?}");
        assert_eq!(engine.node.known(), running, "{command:?}");
    }
}

#[test]
fn what_is_damaged_is_found_when_somebody_asks() {
    let world = World::new("verify");
    let mut session = world.open(&["a"]);
    world.hears(&mut session, &["seeding a"]);
    let (hash, path) = (
        session.torrents.managed[0].info_hash(),
        world.folder.join("a"),
    );
    // Its size and times stay, as on a disk that fails.
    let times = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, vec![3; 50_000]).unwrap();
    fs::File::options()
        .write(true)
        .open(&path)
        .and_then(|file| file.set_modified(times))
        .unwrap();
    session.commands.send(Command::Verify(Which::Torrent(hash)));
    world.hears(&mut session, &["missing a (4, 4)"]);
    assert_eq!(session.torrents.managed.len(), 1);
}

#[test]
fn limits_change_while_it_runs() {
    let world = World::new("limits");
    let mut session = world.open(&["a"]);
    let limits = SessionLimits {
        up: Some(1000),
        down: Some(2000),
        rates: Vec::new(),
        slots: Some(3),
        peers: 7,
    };
    session.commands.send(Command::SetLimits(Box::new(limits)));
    session.turn(Duration::ZERO).unwrap();
    let args = &session.library.config.seed;
    assert_eq!(session.library.rates, (Some(1000), Some(2000)));
    assert_eq!((args.slots, args.max_peers), (Some(3), 7));
    // A configuration that differs in limits and items alone is gone on with.
    let mut config = world.config(&["a"]);
    config.seed.up = None;
    config.items = vec![world.item("b")];
    session.library.config = world.config(&["a"]);
    session.commands.send(Command::Reload(Box::new(config)));
    world.hears(&mut session, &["seeding a", "stopped a", "seeding b"]);
    assert_eq!(session.library.rates.0, None);
    // One with another memory takes a new start.
    let mut config = world.config(&["a"]);
    config.seed.memory *= 2;
    session.commands.send(Command::Reload(Box::new(config)));
    session.turn(Duration::ZERO).unwrap();
    assert!(session.again && session.torrents.managed.len() == 1);
}

#[test]
fn it_stops_when_it_is_told() {
    let world = World::new("stop");
    let mut session = world.open(&["a"]);
    session.commands.send(Command::Stop);
    session.run().unwrap();
    assert!(session.stopped);
}

/// Nothing is left of one whose content is not there, and of a download that cannot begin an exit code is.
#[test]
fn what_cannot_be_begun() {
    let world = World::new("nothing");
    let opened = Session::open(world.config(&["nowhere"]), world.front());
    assert!(opened.is_err());
    fs::write(world.folder.join("x.torrent"), "no torrent").unwrap();
    let fetch = Fetch {
        out: world.folder.join("out"),
        ..Fetch::default()
    };
    let config = Config::of_get(world.config(&["x.torrent"]).seed, &fetch);
    let code = run(config, Attendance::Attended, world.front()).unwrap();
    assert_eq!(code, std::process::ExitCode::from(25));
    let heard = world.heard.lock().unwrap();
    assert!(
        heard[0].starts_with("failed ") && heard.len() == 1,
        "{heard:?}"
    );
}

#[test]
fn a_paused_torrent_is_known_to_nobody() {
    let world = World::new("paused");
    let mut session = world.open(&["a"]);
    world.hears(&mut session, &["seeding a"]);
    let hash = session.torrents.managed[0].info_hash();
    let engine = Rc::clone(&session.engine);
    assert!(engine.borrow().node.find(hash).is_some());
    session.commands.send(Command::Pause(Which::Torrent(hash)));
    world.hears(&mut session, &["paused a"]);
    assert!(engine.borrow().node.find(hash).is_none());
    assert!(
        !session
            .library
            .is_all_done(&session.torrents, &engine.borrow())
    );
    session.commands.send(Command::Resume(Which::Torrent(hash)));
    world.hears(&mut session, &["resumed a", "seeding a"]);
}
