//! Commands in, notices out: a session alone, at a port of its own.

mod earlier;
mod get;
mod service;
mod texts;

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use everseed_core::hash::InfoHash;

use super::command::{Command, Commands, SessionLimits, Which};
use super::front::Front;
use super::item::ItemStage;
use super::notice::{Notice, Notices};
use super::{Attendance, Session, run};
use crate::failure::Failure;
use crate::options::get::Fetch;
use crate::options::run::{Config, Item};
use crate::options::seed::SeedArgs;

/// A folder with two files to share, and the notices that were heard.
pub(super) struct World {
    pub(super) folder: PathBuf,
    pub(super) heard: Arc<Mutex<Vec<String>>>,
}

impl World {
    pub(super) fn new(name: &str) -> World {
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

    pub(super) fn config(&self, files: &[&str]) -> Config {
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

    pub(super) fn front(&self) -> Front {
        let heard = Arc::clone(&self.heard);
        let notices = Notices::to(move |notice| {
            let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
            let told = match notice {
                Notice::Seeding(name) => format!("seeding {name}"),
                Notice::Stopped(name) => format!("stopped {}", String::from_utf8_lossy(name)),
                Notice::Paused(path) => format!("paused {}", name(path)),
                Notice::Resumed(path) => format!("resumed {}", name(path)),
                Notice::Missing { name, pieces, .. } => format!("missing {name} {pieces:?}"),
                Notice::Downloading { name, .. } => format!("downloading {name}"),
                Notice::Complete { name, .. } => format!("complete {name}"),
                Notice::Verified { name, pieces } => format!("verified {name} {pieces:?}"),
                Notice::NotVerified { path, why } => format!("not verified {}: {why}", name(path)),
                Notice::NoRoom(text) => {
                    let (of, why) = text.rsplit_once(": ").unwrap();
                    format!("no room {}: {why}", name(Path::new(of)))
                }
                Notice::Failed(text) => format!("failed {text}"),
                _ => return Ok(()),
            };
            heard.lock().unwrap().push(told);
            Ok(())
        });
        Front {
            notices,
            ..Front::nobody()
        }
    }

    fn open(&self, files: &[&str]) -> Box<Session> {
        let opened = patiently(|| Session::open(self.config(files), self.front()));
        opened.unwrap_or_else(|code| panic!("{code}"))
    }

    fn item(&self, file: &str) -> Item {
        Item {
            path: self.folder.join(file),
            data: None,
            files: Vec::new(),
            fetch: None,
        }
    }

    /// Makes torrents of files, as `to/FILE.torrent`, which have not changed for a while.
    pub(super) fn make(&self, files: &[&str], to: &Path) -> Vec<InfoHash> {
        let mut session = self.open(files);
        let seeding: Vec<String> = files.iter().map(|f| format!("seeding {f}")).collect();
        let seeding: Vec<&str> = seeding.iter().map(String::as_str).collect();
        self.hears(&mut session, &seeding);
        let managed = session.torrents.awake.iter();
        let hashes: Vec<InfoHash> = managed.map(|torrent| torrent.info_hash()).collect();
        for (file, hash) in files.iter().zip(&hashes) {
            let torrent = to.join(format!("{file}.torrent"));
            fs::copy(session.torrents.state.torrent_file(*hash), &torrent).unwrap();
            let hour_ago = crate::clock::file_time() - Duration::from_secs(3600);
            let opened = fs::File::options().write(true).open(&torrent).unwrap();
            opened.set_modified(hour_ago).unwrap();
        }
        hashes
    }

    fn which(&self, file: &str) -> Which {
        Which::Path(self.folder.join(file))
    }

    /// Takes turns until these notices were heard in this order, and forgets them.
    pub(super) fn hears(&self, session: &mut Session, expected: &[&str]) {
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

/// Opens a session. A thread of a former one may still have the state for a moment.
fn patiently<T>(open: impl Fn() -> Result<T, Failure>) -> T {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        match open() {
            Ok(session) => return session,
            Err(_) => assert!(Instant::now() < until, "it has to start"),
        }
        std::thread::yield_now();
    }
}

/// What waits is tried again at once.
fn hurry(session: &mut Session) {
    for item in &mut session.library.items {
        if let ItemStage::Waiting(at) = &mut item.stage {
            *at = Instant::now();
            session.library.next_poll = Instant::now();
        }
    }
}

pub(super) fn turns_until(session: &mut Session, done: impl Fn(&Session) -> bool) {
    let until = Instant::now() + Duration::from_secs(120);
    while !done(session) {
        assert!(Instant::now() < until);
        session.turn(Duration::from_millis(100)).unwrap();
    }
}

#[test]
fn commands_in_and_notices_out() {
    let world = World::new("commands");
    let mut session = world.open(&["a", "b"]);
    world.hears(&mut session, &["seeding a", "seeding b"]);
    let table = [
        // An item that is there already is not added again.
        (Command::add(world.item("a")), &[][..], 2),
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
        (Command::add(world.item("a")), &["seeding a"], 2),
    ];
    for (command, heard, running) in table {
        assert!(session.commands.send(command.clone()));
        session.turn(Duration::ZERO).unwrap();
        world.hears(&mut session, heard);
        let engine = session.engine.borrow();
        assert_eq!(session.torrents.awake.len(), running, "{command:?}");
        assert_eq!(engine.node.known(), running, "{command:?}");
    }
}

#[test]
fn what_is_damaged_is_found_when_somebody_asks() {
    let world = World::new("verify");
    let mut session = world.open(&["a"]);
    world.hears(&mut session, &["seeding a"]);
    let (hash, path) = (
        session.torrents.awake[0].info_hash(),
        world.folder.join("a"),
    );
    // Size and times stay the same, as on a failing disk.
    let times = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, vec![3; 50_000]).unwrap();
    fs::File::options()
        .write(true)
        .open(&path)
        .and_then(|file| file.set_modified(times))
        .unwrap();
    assert!(session.commands.send(Command::Verify(Which::Torrent(hash))));
    world.hears(&mut session, &["verified a (0, 4)", "missing a (4, 4)"]);
    assert_eq!(session.torrents.awake.len(), 1);
}

/// Whoever asks for a check is answered, whatever the item's stage is.
#[test]
fn who_asks_for_a_check_is_answered() {
    let world = World::new("answered");
    let mut session = world.open(&["a", "b"]);
    world.hears(&mut session, &["seeding a", "seeding b"]);
    let verify = || Command::Verify(world.which("a"));
    let paused = "not verified a: it is paused; resume it first";
    let table = [
        (verify(), &["verified a (4, 4)"][..]),
        (Command::Pause(world.which("a")), &["paused a"]),
        (verify(), &[paused]),
        (Command::Resume(world.which("a")), &["resumed a"]),
        // It is being opened, and checked as soon as it is served.
        (verify(), &["seeding a", "verified a (4, 4)"]),
    ];
    for (command, heard) in table {
        session.execute(&mut Rc::clone(&session.engine).borrow_mut(), command);
        if heard != ["resumed a"] {
            session.turn(Duration::ZERO).unwrap();
        }
        if heard.len() == 1 && heard[0].starts_with("resumed") {
            assert_eq!(std::mem::take(&mut *world.heard.lock().unwrap()), heard);
            continue;
        }
        world.hears(&mut session, heard);
    }
    // Its files are away, or it goes before the check ends.
    fs::remove_file(world.folder.join("a")).unwrap();
    session.execute(&mut Rc::clone(&session.engine).borrow_mut(), verify());
    turns_until(&mut session, |_| !world.heard.lock().unwrap().is_empty());
    let heard = std::mem::take(&mut *world.heard.lock().unwrap());
    assert!(heard[0].starts_with("not verified "), "{heard:?}");
    session.execute(&mut Rc::clone(&session.engine).borrow_mut(), verify());
    world.hears(&mut session, &["not verified a: its files are away"]);
    let all = [Command::Verify(Which::All), Command::Pause(Which::All)];
    for command in all {
        session.execute(&mut Rc::clone(&session.engine).borrow_mut(), command);
    }
    let why = "it was stopped before its check ended";
    let heard = std::mem::take(&mut *world.heard.lock().unwrap());
    assert!(heard.iter().any(|heard| heard.ends_with(why)), "{heard:?}");
}

/// What is paused stays so when the session starts anew, and what is resumed too.
#[test]
fn pausing_outlives_a_restart() {
    let world = World::new("pausing");
    let mut session = world.open(&["a", "b"]);
    world.hears(&mut session, &["seeding a", "seeding b"]);
    assert!(session.commands.send(Command::Pause(world.which("a"))));
    world.hears(&mut session, &["paused a"]);
    session.farewell().unwrap();
    drop(session);
    let mut session = world.open(&["a", "b"]);
    world.hears(&mut session, &["paused a", "seeding b"]);
    assert_eq!(session.engine.borrow().node.known(), 1);
    assert!(session.commands.send(Command::Resume(world.which("a"))));
    world.hears(&mut session, &["resumed a", "seeding a"]);
    session.farewell().unwrap();
    drop(session);
    let mut session = world.open(&["a", "b"]);
    world.hears(&mut session, &["seeding a", "seeding b"]);
    // Nor is it remembered of what was removed.
    for command in [
        Command::Pause(world.which("a")),
        Command::Remove(world.which("a")),
        Command::add(world.item("a")),
    ] {
        assert!(session.commands.send(command));
    }
    world.hears(&mut session, &["paused a", "seeding a"]);
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
    assert!(session.commands.send(Command::SetLimits(Box::new(limits))));
    session.turn(Duration::ZERO).unwrap();
    let args = &session.library.config.seed;
    assert_eq!(session.library.rates, (Some(1000), Some(2000)));
    assert_eq!((args.slots, args.max_peers), (Some(3), 7));
    // A configuration that differs only in limits and items is changed to in place.
    let mut config = world.config(&["a"]);
    config.seed.up = None;
    config.items = vec![world.item("b")];
    session.library.config = world.config(&["a"]);
    assert!(session.commands.send(Command::Reload(Box::new(config))));
    world.hears(&mut session, &["seeding a", "stopped a", "seeding b"]);
    assert_eq!(session.library.rates.0, None);
    // One with another memory needs a new start.
    let mut config = world.config(&["a"]);
    config.seed.memory *= 2;
    assert!(session.commands.send(Command::Reload(Box::new(config))));
    session.turn(Duration::ZERO).unwrap();
    assert!(session.again && session.torrents.awake.len() == 1);
}

#[test]
fn it_stops_when_it_is_told() {
    let world = World::new("stop");
    let mut session = world.open(&["a"]);
    assert!(session.commands.send(Command::Stop));
    session.run().unwrap();
    assert!(session.stopped);
}

/// An item whose content is missing leaves nothing; a download that cannot begin leaves an exit code.
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
    let hash = session.torrents.awake[0].info_hash();
    let engine = Rc::clone(&session.engine);
    assert!(engine.borrow().node.find(hash).is_some());
    assert!(session.commands.send(Command::Pause(Which::Torrent(hash))));
    world.hears(&mut session, &["paused a"]);
    assert!(engine.borrow().node.find(hash).is_none());
    assert!(
        !session
            .library
            .is_all_done(&session.torrents, &engine.borrow())
    );
    assert!(session.commands.send(Command::Resume(Which::Torrent(hash))));
    world.hears(&mut session, &["resumed a", "seeding a"]);
}

/// There is room for sixteen more than were named, and who adds another one hears that there is none.
#[test]
fn what_is_added_has_room() {
    let world = World::new("room");
    let mut session = world.open(&["a", "b"]);
    world.hears(&mut session, &["seeding a", "seeding b"]);
    for n in 0..17_u8 {
        let name = format!("more{n}");
        fs::write(world.folder.join(&name), vec![n; 20_000 + usize::from(n)]).unwrap();
        let add = Command::add(world.item(&name));
        assert!(session.commands.send(add));
        if n < 16 {
            world.hears(&mut session, &[&format!("seeding {name}")]);
        }
    }
    turns_until(&mut session, |_| !world.heard.lock().unwrap().is_empty());
    let heard = std::mem::take(&mut *world.heard.lock().unwrap());
    assert!(
        heard[0].contains("there is no memory for it; remove another one"),
        "{heard:?}"
    );
    // It has one when another goes.
    let remove = Command::Remove(world.which("a"));
    assert!(session.commands.send(remove));
    hurry(&mut session);
    world.hears(&mut session, &["stopped a", "seeding more16"]);
}

/// Whoever runs a session on a thread of its own sends it commands from another one.
#[test]
fn commands_from_outside() {
    let world = World::new("outside");
    let commands = Commands::default();
    // Those that are there before it starts are its first ones.
    let add = Command::add(world.item("b"));
    assert!(commands.send(add));
    let (theirs, remove) = (commands.clone(), Command::Remove(world.which("a")));
    let next = Mutex::new(vec![Command::Stop, remove]);
    let notices = Notices::to(move |notice| {
        let is_due = match notice {
            Notice::Seeding(name) => name == "b",
            Notice::Stopped(name) => name == b"a",
            _ => false,
        };
        let command = is_due.then(|| next.lock().unwrap().pop()).flatten();
        assert!(command.is_none_or(|command| theirs.send(command)));
        Ok(())
    });
    let front = Front {
        notices,
        commands,
        ..Front::nobody()
    };
    let config = world.config(&["a"]);
    let session = std::thread::spawn(|| run(config, Attendance::Attended, front));
    let code = session.join().unwrap().unwrap();
    assert_eq!(code, std::process::ExitCode::SUCCESS);
}
