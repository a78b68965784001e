//! A service: what its watched folders say are commands, and commands reach what sleeps.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use everseed_core::geometry::TorrentId;
use everseed_core::hash::InfoHash;
use everseed_core::resume::{Record, Verified};
use everseed_core::rng::Rng;

use super::{World, hurry, patiently, turns_until};
use crate::options::get::Fetch;
use crate::options::run::{Config, RunArgs};
use crate::options::seed::SeedArgs;
use crate::session::Session;
use crate::session::claims::tests::gzip;
use crate::session::command::{Command, SessionLimits, Which};
use crate::session::item::{ItemStage, LibraryItem};
use crate::session::sleeper_command::SleeperCommands;
use crate::session::sleepers::MOST_A_TURN;
use crate::session::watch::settle_mark;
use crate::storage::catalogue::Catalogue;
use crate::storage::dormant::DormantTorrent;

fn sleepers(Session { library, .. }: &Session) -> &SleeperCommands {
    &library.sleepers
}

/// Two torrents in a watched folder, and a place for one of them to be awake.
struct Watched {
    world: World,
    folder: PathBuf,
    hashes: Vec<InfoHash>,
    /// How they are downloaded, if that is so.
    download: Option<Fetch>,
}

impl Watched {
    fn new(name: &str) -> Watched {
        let world = World::new(name);
        let folder = world.folder.join("watched");
        fs::create_dir(&folder).unwrap();
        let hashes = world.make(&["a", "b"], &folder);
        Watched {
            world,
            folder,
            hashes,
            download: None,
        }
    }

    fn config(&self) -> Config {
        let args = SeedArgs {
            state: self.world.folder.join("other state"),
            data: Some(self.world.folder.clone()),
            ..self.world.config(&[]).seed
        };
        Config {
            watch: vec![self.folder.clone()],
            torrents: 1,
            download: self.download.clone(),
            state_in_ram: true,
            ..Config::of_seed(args)
        }
    }

    fn open(&self) -> Box<Session> {
        let args = || RunArgs {
            config: self.folder.join("everseed.toml"),
            check: false,
            verbose: 0,
        };
        patiently(|| Session::open_service(args(), self.config(), self.world.front()))
    }

    /// With `a` asleep and `b` awake.
    fn open_all(&self) -> Box<Session> {
        let mut session = self.open();
        let seeding = |heard: &String| heard.starts_with("seeding ");
        // Until the first is checked there is no place for the other.
        while self
            .world
            .heard
            .lock()
            .unwrap()
            .iter()
            .filter(|h| seeding(h))
            .count()
            < 2
        {
            hurry(&mut session);
            session.turn(Duration::from_millis(100)).unwrap();
        }
        self.world.heard.lock().unwrap().retain(seeding);
        self.world.hears(&mut session, &["seeding a", "seeding b"]);
        session
    }

    /// Has what sleeps woken, as a tracker knows of a peer, and turns until `done`.
    fn wake(&self, session: &mut Session, n: usize) {
        let id = session.engine.borrow().node.find(self.hashes[n]).unwrap();
        let peer = SocketAddr::from(([127, 0, 0, 1], 9));
        session.torrents.wakes.push((id, vec![peer]));
        session.torrents.alarm.ring();
    }

    fn awake(session: &Session) -> Vec<InfoHash> {
        let awake = session.torrents.awake.iter();
        awake.map(|torrent| torrent.info_hash()).collect()
    }
}

#[test]
fn a_watched_folder_sends_commands() {
    let watched = Watched::new("folder-commands");
    let mut session = watched.open();
    let engine = Rc::clone(&session.engine);
    let until = Instant::now() + Duration::from_secs(120);
    session.library.scan(&session.torrents, &engine.borrow());
    let heard = |session: &mut Session| loop {
        let engine = &mut engine.borrow_mut();
        session.library.take_reports(&mut session.torrents, engine);
        assert!(session.library.items.is_empty() && Instant::now() < until);
        if let Some(command) = session.commands.next() {
            return command;
        }
        std::thread::yield_now();
    };
    for name in ["a.torrent", "b.torrent"] {
        match heard(&mut session) {
            Command::Add(addition) => {
                assert_eq!(addition.item.path, watched.folder.join(name));
                assert_eq!(addition.found.unwrap().folder, watched.folder);
            }
            other => panic!("{other:?}"),
        }
    }
}

/// What is in a watched folder goes when its file goes, awake or asleep, and not because somebody asks for it.
#[test]
fn what_a_folder_holds_is_removed_there() {
    let watched = Watched::new("folder-remove");
    let mut session = watched.open_all();
    for hash in &watched.hashes {
        let which = Which::Torrent(*hash);
        assert!(session.commands.send(Command::Remove(which)));
    }
    assert!(session.commands.send(Command::Remove(Which::All)));
    session.turn(Duration::ZERO).unwrap();
    assert_eq!(session.engine.borrow().node.known(), 2);
    for (name, stopped) in [("a", "watched/a.torrent"), ("b", "b")] {
        fs::remove_file(watched.folder.join(format!("{name}.torrent"))).unwrap();
        session.library.next_poll = Instant::now();
        let stopped = match name {
            "a" => format!("stopped {}", watched.world.folder.join(stopped).display()),
            _ => format!("stopped {stopped}"),
        };
        turns_until(&mut session, |session| {
            session.engine.borrow().node.known() == usize::from(name == "a")
        });
        watched.world.hears(&mut session, &[&stopped]);
    }
}

/// A compressed .torrent that was seeded before is seeded at once after a start. Nobody waits whether it is still being
/// written.
#[test]
fn a_packed_torrent_is_known_again() {
    let watched = Watched::new("folder-packed");
    let at = |name: &str| watched.folder.join(name);
    let bytes = gzip(&fs::read(at("a.torrent")).unwrap());
    for name in ["a.torrent", "b.torrent"] {
        fs::remove_file(at(name)).unwrap();
    }
    let packed = at("a.torrent.gz");
    fs::write(&packed, bytes).unwrap();
    let set_modified = |time| {
        let file = fs::File::options().write(true).open(&packed);
        file.and_then(|file| file.set_modified(time)).unwrap();
    };
    let now = crate::clock::file_time();
    set_modified(now - Duration::from_secs(3600));
    let mut session = watched.open();
    turns_until(&mut session, |session| {
        session.torrents.state.knows(watched.hashes[0])
    });
    drop(session);
    set_modified(now);
    let mut session = watched.open();
    let is_awake = |Session {
                        library, torrents, ..
                    }: &Session| {
        let settles = |item: &LibraryItem| matches!(item.stage, ItemStage::Settling(_));
        assert!(!library.items.iter().any(settles));
        !torrents.awake.is_empty()
    };
    turns_until(&mut session, is_awake);
}

/// A torrent whose file is there twice stays when one of them goes, or becomes another torrent.
#[test]
fn a_second_file_of_a_torrent_takes_the_place_of_the_first() {
    let watched = Watched::new("folder-twice");
    let at = |name: &str| watched.folder.join(name);
    let mut session = watched.open_all();
    let known = |session: &Session| {
        let engine = session.engine.borrow();
        let mut hashes = watched.hashes.iter();
        hashes.all(|hash| engine.node.find(*hash).is_some())
    };
    // The one that sleeps, and the one that is awake.
    for name in ["a", "b"] {
        let (first, second) = (
            at(&format!("{name}.torrent")),
            at(&format!("{name} 2.torrent")),
        );
        fs::copy(&first, &second).unwrap();
        let hour_ago = crate::clock::file_time() - Duration::from_secs(3600);
        let opened = fs::File::options().write(true).open(&second).unwrap();
        opened.set_modified(hour_ago).unwrap();
        session.library.next_poll = Instant::now();
        turns_until(&mut session, |session| {
            let behind = |item: &LibraryItem| matches!(item.stage, ItemStage::Behind(_));
            session.library.items.iter().any(behind)
        });
        fs::remove_file(first).unwrap();
        session.library.next_poll = Instant::now();
        for there in [false, true] {
            turns_until(&mut session, |session| known(session) == there);
        }
    }
}

/// A reload that ends the watching of a folder forgets what sleeps of it, too.
#[test]
fn a_folder_that_is_watched_no_longer_takes_its_sleepers_along() {
    let watched = Watched::new("unwatched");
    let mut session = watched.open_all();
    let config = Config {
        watch: Vec::new(),
        ..watched.config()
    };
    let reload = Command::Reload(Box::new(config));
    assert!(session.commands.send(reload));
    turns_until(&mut session, |session| {
        session.engine.borrow().node.known() == 0
    });
    assert!(!session.again);
    assert_eq!(session.torrents.catalogue.borrow().count(), 0);
    let a = watched.folder.join("a.torrent");
    let a = format!("stopped {}", a.display());
    watched.world.hears(&mut session, &["stopped b", &a]);
}

#[test]
fn what_sleeps_is_paused_and_goes_on() {
    let watched = Watched::new("sleeper-paused");
    let mut session = watched.open_all();
    assert_eq!(Watched::awake(&session), [watched.hashes[1]]);
    let a = || Which::Torrent(watched.hashes[0]);
    let is_tracked = |session: &Session| {
        let engine = session.engine.borrow();
        let id = engine.node.find(watched.hashes[0]).unwrap();
        let catalogue = session.torrents.catalogue.borrow();
        catalogue.is_tracked(id, "")
    };
    assert!(is_tracked(&session));
    let table = [
        (Command::Pause(a()), &["paused a.torrent"][..]),
        (Command::Pause(a()), &[]),
        (Command::Resume(a()), &["resumed a.torrent"]),
        (Command::Resume(a()), &[]),
        (
            Command::Pause(Which::All),
            &["paused b.torrent", "paused a.torrent"],
        ),
        (Command::Resume(a()), &["resumed a.torrent"]),
        (
            Command::Resume(Which::All),
            &["resumed b.torrent", "seeding b"],
        ),
        (
            Command::Pause(Which::Path(watched.folder.join("a.torrent"))),
            &["paused a.torrent"],
        ),
    ];
    for (command, heard) in table {
        assert!(session.commands.send(command));
        session.turn(Duration::ZERO).unwrap();
        watched.world.hears(&mut session, heard);
    }
    // Nobody wakes it.
    assert!(!is_tracked(&session));
    watched.wake(&mut session, 0);
    for _ in 0..20 {
        session.turn(Duration::from_millis(10)).unwrap();
    }
    assert_eq!(Watched::awake(&session), [watched.hashes[1]]);
    assert!(session.library.waking.is_empty());
    // Limits that were set meanwhile hold for what is woken.
    let limits = SessionLimits {
        up: Some(1000),
        down: None,
        rates: Vec::new(),
        slots: Some(3),
        peers: 7,
    };
    assert!(session.commands.send(Command::SetLimits(Box::new(limits))));
    assert!(session.commands.send(Command::Resume(a())));
    session.turn(Duration::ZERO).unwrap();
    watched.world.hears(&mut session, &["resumed a.torrent"]);
    assert!(is_tracked(&session));
    watched.wake(&mut session, 0);
    turns_until(&mut session, |session| {
        Watched::awake(session) == [watched.hashes[0]]
    });
    assert_eq!(session.library.rates, (Some(1000), None));
}

#[test]
fn what_sleeps_is_verified() {
    let watched = Watched::new("sleeper-verified");
    let mut session = watched.open_all();
    let path = watched.world.folder.join("a");
    let times = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, vec![3; 50_000]).unwrap();
    set_time(&path, times);
    let verify = Command::Verify(Which::All);
    assert!(session.commands.send(verify));
    let heard = ["verified b (4, 4)", "verified a (0, 4)", "missing a (4, 4)"];
    watched.world.hears(&mut session, &heard);
    assert!(Watched::awake(&session).contains(&watched.hashes[0]));
    assert!(sleepers(&session).to_verify.is_empty());
}

/// What has a goal may sleep, and reaches it there: by the time that passes, or because another goal is set.
#[test]
fn goals_of_what_sleeps() {
    let mut watched = Watched::new("sleeper-goals");
    let out = watched.world.folder.clone();
    let goal = |ratio: Option<u64>, minutes: Option<u64>| Fetch {
        ratio,
        time: minutes.map(|minutes| Duration::from_secs(60 * minutes)),
        out: out.clone(),
        ..Fetch::default()
    };
    let goals = [
        // The goal, and whether what sleeps has reached it: it was seeded for 90 minutes and sent its size twice.
        (goal(None, Some(60)), true),
        (goal(None, Some(120)), false),
        (goal(Some(1999), Some(120)), true),
        (goal(None, None), false),
        (goal(Some(2000), None), true),
        (goal(Some(2001), None), false),
    ];
    let first = goal(Some(9000), Some(9000));
    watched.download = Some(first);
    let mut session = watched.open();
    let until = Instant::now() + Duration::from_secs(120);
    let is_ready = |session: &Session| {
        let engine = session.engine.borrow();
        let awake = &session.torrents.awake;
        let one = awake.len() == 1 && awake[0].may_sleep(&engine).is_some();
        one && session.torrents.catalogue.borrow().count() == 1
    };
    while !is_ready(&session) {
        assert!(Instant::now() < until);
        hurry(&mut session);
        session.turn(Duration::from_millis(100)).unwrap();
    }
    let awake = Watched::awake(&session);
    let asleep = watched.hashes.iter().position(|hash| !awake.contains(hash));
    let hash = watched.hashes[asleep.unwrap()];
    let id = session.engine.borrow().node.find(hash).unwrap();
    let record = Record {
        info_hash: hash,
        uploaded: 100_000,
        fingerprint: 0,
        verified: Verified::All,
    };
    let state = &session.torrents.state;
    state.save(&record, true).unwrap();
    let seeded = Duration::from_secs(90 * 60);
    state.remember_seeded(hash, seeded, true).unwrap();
    for (goal, reached) in goals {
        let shown = format!("{:?} {:?}", goal.ratio, goal.time);
        let command = Command::SetFolderGoal(Box::new(goal));
        assert!(session.commands.send(command));
        session.turn(Duration::ZERO).unwrap();
        turns_until(&mut session, |session| {
            let SleeperCommands {
                looks_for_goals,
                next_goals,
                ..
            } = sleepers(session);
            looks_for_goals.is_none() && next_goals.is_none_or(|at| at > Instant::now())
        });
        let catalogue = session.torrents.catalogue.borrow();
        assert_eq!(catalogue.has_ended(id.slot), reached, "{shown}");
        assert_eq!(catalogue.why_silent(id).is_some(), reached, "{shown}");
        drop(catalogue);
        if reached {
            // Nobody wakes it.
            watched.wake(&mut session, asleep.unwrap());
            session.turn(Duration::from_millis(10)).unwrap();
            assert!(session.library.waking.is_empty());
        }
    }
    // Once it is awake, its goal is looked at there.
    watched.wake(&mut session, asleep.unwrap());
    turns_until(&mut session, |session| Watched::awake(session) == [hash]);
    let command = Command::SetFolderGoal(Box::new(goal(Some(2000), None)));
    assert!(session.commands.send(command));
    turns_until(&mut session, |session| {
        !Watched::awake(session).contains(&hash)
    });
    let ended = |item: &LibraryItem| item.stage == ItemStage::Ended(0);
    assert!(session.library.items.iter().any(ended));
}

/// Commands for thousands that sleep are carried out some in each turn, in their order, and hold after a restart.
#[test]
fn commands_for_thousands_that_sleep() {
    let watched = Watched::new("thousands");
    let state = watched.config().seed.state;
    fs::create_dir_all(&state).unwrap();
    let mut catalogue = Catalogue::new(state.join("catalogue"), THOUSANDS.into());
    let path = |n: u16| watched.folder.join(format!("sleeper{n}.torrent"));
    catalogue.load(|_| Ok(None), |_| None).unwrap();
    for slot in 0..THOUSANDS {
        let path = path(slot);
        fs::write(&path, slot.to_string()).unwrap();
        let [high, low] = slot.to_be_bytes();
        let hash = InfoHash([[high; 10], [low; 10]].concat().try_into().unwrap());
        let mark = settle_mark(&path, || false).unwrap();
        let root = watched.world.folder.join(format!("sleeper{slot}"));
        let sleeper = DormantTorrent::new(hash, &path, None, &root, mark, Vec::new(), false);
        catalogue
            .add(TorrentId { slot, tenancy: 0 }, &sleeper)
            .unwrap();
    }
    drop(catalogue);
    let paused = |session: &Session| session.torrents.catalogue.borrow().paused();
    let one = Which::Path(path(7));
    for (run, commands, expected) in [
        (
            0,
            vec![Command::Pause(Which::All), Command::Resume(one.clone())],
            usize::from(THOUSANDS) - 1,
        ),
        (1, vec![Command::Resume(Which::All), Command::Pause(one)], 1),
        (2, Vec::new(), 1),
    ] {
        let mut session = watched.open();
        let before = [0, usize::from(THOUSANDS) - 1, 1][run];
        assert_eq!(paused(&session), before);
        session.library.watches.clear();
        for command in commands {
            assert!(session.commands.send(command));
        }
        let until = Instant::now() + Duration::from_secs(120);
        let mut is = before;
        while is != expected || !sleepers(&session).waiting.is_empty() {
            assert!(Instant::now() < until, "{is}");
            session.turn(Duration::from_millis(100)).unwrap();
            let next = paused(&session);
            assert!(next.abs_diff(is) <= MOST_A_TURN, "{is} {next}");
            is = next;
        }
        session.farewell().unwrap();
    }
}

const THOUSANDS: u16 = 3000;

/// What sleeps and cannot be opened, or is paused, is not verified, which whoever asked for it hears.
#[test]
fn what_sleeps_and_cannot_be_verified() {
    let watched = Watched::new("sleeper-unverified");
    let mut session = watched.open_all();
    let a = || Which::Torrent(watched.hashes[0]);
    fs::remove_file(watched.world.folder.join("a")).unwrap();
    assert!(session.commands.send(Command::Verify(a())));
    turns_until(&mut session, |_| {
        !watched.world.heard.lock().unwrap().is_empty()
    });
    let heard = std::mem::take(&mut *watched.world.heard.lock().unwrap());
    assert!(heard[0].starts_with("not verified a"), "{heard:?}");
    assert!(sleepers(&session).to_verify.is_empty());
    for command in [Command::Pause(a()), Command::Verify(a())] {
        assert!(session.commands.send(command));
    }
    let refused = "not verified a.torrent: it is paused; resume it first";
    let heard = ["paused a.torrent", refused];
    watched.world.hears(&mut session, &heard);
}

/// What is paused stays so after a restart, awake or asleep.
#[test]
fn pausing_outlives_a_restart() {
    let watched = Watched::new("sleeper-restart");
    let mut session = watched.open_all();
    assert!(session.commands.send(Command::Pause(Which::All)));
    let heard = ["paused b.torrent", "paused a.torrent"];
    watched.world.hears(&mut session, &heard);
    session.farewell().unwrap();
    drop(session);
    let mut session = watched.open();
    turns_until(&mut session, |Session { library, .. }| {
        library.scans.reported() > 0 && watched.world.heard.lock().unwrap().len() > 1
    });
    let heard = std::mem::take(&mut *watched.world.heard.lock().unwrap());
    assert_eq!(heard, ["paused a.torrent", "paused b.torrent"]);
    assert!(Watched::awake(&session).is_empty());
    assert!(session.commands.send(Command::Resume(Which::All)));
    turns_until(&mut session, |session| {
        session.engine.borrow().node.known() == 2
    });
}

/// Whatever is commanded in whatever order: what is paused is not awake, and all goes on when it is resumed.
#[test]
fn whatever_is_commanded() {
    let watched = Watched::new("random-commands");
    let mut session = watched.open_all();
    let mut rng = Rng::new(11);
    let mut paused = [false; 2];
    for round in 0..80 {
        let n = rng.below(2) as usize;
        let which = || match round % 2 {
            0 => Which::Torrent(watched.hashes[n]),
            _ => Which::Path(watched.folder.join(["a.torrent", "b.torrent"][n])),
        };
        match rng.below(5) {
            0 => {
                paused[n] = true;
                assert!(session.commands.send(Command::Pause(which())));
            }
            1 => {
                paused[n] = false;
                assert!(session.commands.send(Command::Resume(which())));
            }
            2 => assert!(session.commands.send(Command::Verify(which()))),
            3 => assert!(session.commands.send(Command::Remove(which()))),
            _ => {
                // Known only while it is not paused, or asleep.
                let known = session.engine.borrow().node.find(watched.hashes[n]);
                if known.is_some() {
                    watched.wake(&mut session, n);
                }
            }
        }
        hurry(&mut session);
        for _ in 0..=rng.below(4) {
            session.turn(Duration::from_millis(5)).unwrap();
        }
        turns_until(&mut session, |session| sleepers(session).waiting.is_empty());
        let awake = Watched::awake(&session);
        for (hash, paused) in watched.hashes.iter().zip(paused) {
            assert!(!paused || !awake.contains(hash), "{round}");
        }
    }
    assert!(session.commands.send(Command::Resume(Which::All)));
    session.turn(Duration::ZERO).unwrap();
    turns_until(&mut session, |session| {
        session.engine.borrow().node.known() == 2
            && session
                .torrents
                .awake
                .iter()
                .all(|torrent| torrent.checked().is_none())
    });
    assert!(
        session
            .library
            .items
            .iter()
            .all(|item| item.stage != ItemStage::Paused)
    );
}

fn set_time(path: &std::path::Path, time: SystemTime) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(time).unwrap();
}
