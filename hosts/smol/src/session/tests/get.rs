//! Downloads, by commands alone.

use std::fs;
use std::time::Duration;

use super::{World, patiently, turns_until};
use crate::options::get::Fetch;
use crate::options::run::{Config, Item, RunArgs};
use crate::options::seed::SeedArgs;
use crate::session::Session;
use crate::session::command::{Command, SessionLimits, Which};

#[test]
fn a_get_is_driven_by_commands() {
    let world = World::new("get-commands");
    let given = world.folder.join("given");
    fs::create_dir(&given).unwrap();
    let hashes = world.make(&["a", "b"], &given);
    let fetch = Fetch {
        out: world.folder.join("out"),
        ..Fetch::default()
    };
    let args = SeedArgs {
        paths: vec![given.join("a.torrent")],
        state: world.folder.join("other state"),
        ..world.config(&[]).seed
    };
    let opened = Session::open(Config::of_get(args, &fetch), world.front());
    let mut session = opened.unwrap().unwrap_or_else(|code| panic!("{code}"));
    world.hears(&mut session, &["downloading a"]);
    let download = |name: &str| Item {
        path: given.join(format!("{name}.torrent")),
        data: None,
        files: Vec::new(),
        fetch: Some(Box::new(fetch.clone())),
    };
    fs::create_dir_all(&fetch.out).unwrap();
    let (a, b) = (Which::Torrent(hashes[0]), Which::Torrent(hashes[1]));
    let limits = SessionLimits {
        up: None,
        down: Some(5000),
        rates: Vec::new(),
        slots: None,
        peers: 9,
    };
    let goal = Fetch {
        ratio: Some(2000),
        ..fetch.clone()
    };
    let table = [
        (Command::add(download("b")), &["downloading b"][..], 2),
        // One torrent, however it is named.
        (
            Command::add(Item {
                files: vec![(1, "x".into())],
                ..download("b")
            }),
            &[],
            2,
        ),
        (Command::Pause(a.clone()), &["paused a.torrent"], 1),
        (
            Command::Resume(a.clone()),
            &["resumed a.torrent", "downloading a"],
            2,
        ),
        (
            Command::Verify(a.clone()),
            &["verified a (0, 4)", "downloading a"],
            2,
        ),
        (Command::SetLimits(Box::new(limits)), &[], 2),
        (Command::SetGoal(a.clone(), Box::new(goal)), &[], 2),
        (Command::Remove(b), &["stopped b"], 1),
        // What is only seeded goes with what is downloaded.
        (Command::add(world.item("b")), &["seeding b"], 2),
        (Command::Remove(Which::All), &["stopped a", "stopped b"], 0),
    ];
    for (command, heard, running) in table {
        let shown = format!("{command:?}");
        assert!(session.commands.send(command));
        session.turn(Duration::ZERO).unwrap();
        world.hears(&mut session, heard);
        assert_eq!(session.torrents.awake.len(), running, "{shown}");
        turns_until(&mut session, |session| {
            session
                .library
                .items
                .iter()
                .all(|item| !item.stage.is_coming())
        });
        if shown.starts_with("SetGoal") {
            assert_eq!(session.library.rates.1, Some(5000));
            let item = &session.library.items[0].item;
            assert_eq!(item.fetch.as_ref().unwrap().ratio, Some(2000));
        }
    }
}

/// Something is downloaded beside what is seeded, if the budget has room for that; otherwise it is said what would do.
#[test]
fn a_download_beside_seeds() {
    for (memory, heard) in [
        (16 << 20, "downloading b"),
        (
            4 << 20,
            "there is no memory for it; remove another one, or start again with it or with more \
             --memory; tried again every 10 s",
        ),
    ] {
        let world = World::new(&format!("get-beside-{memory}"));
        world.make(&["b"], &world.folder);
        let mut config = world.config(&["a"]);
        config.seed.memory = memory;
        let opened = Session::open(config, world.front());
        let mut session = opened.unwrap().unwrap_or_else(|code| panic!("{code}"));
        world.hears(&mut session, &["seeding a"]);
        let fetch = Fetch {
            out: world.folder.join("out"),
            ..Fetch::default()
        };
        fs::create_dir_all(&fetch.out).unwrap();
        let add = Command::add(Item {
            path: world.folder.join("b.torrent"),
            data: None,
            files: Vec::new(),
            fetch: Some(Box::new(fetch)),
        });
        assert!(session.commands.send(add));
        turns_until(&mut session, |_| !world.heard.lock().unwrap().is_empty());
        let told = std::mem::take(&mut *world.heard.lock().unwrap());
        assert!(told[0].contains(heard) && told.len() == 1, "{told:?}");
    }
}

/// A service whose budget counts torrents has room for a small download beside them, and says of a large one what would
/// do. It is the same when there is no memory for any.
#[test]
fn a_download_beside_the_torrents_of_a_service() {
    let refused = "there is no memory for this download beside what is seeded; name it by [[get]], or raise memory =";
    let refused = format!("no room big.torrent: {refused}; tried again every 10 s");
    for (memory, pieces, heard) in [
        (16 << 20, 10, "downloading big"),
        (16 << 20, 100_000, refused.as_str()),
        (3 << 20, 100_000, refused.as_str()),
    ] {
        let world = World::new(&format!("run-beside-{memory}-{pieces}"));
        let torrent = world.folder.join("big.torrent");
        fs::write(&torrent, torrent_of_zeros("big", pieces)).unwrap();
        let mut config = world.config(&[]);
        config.seed.memory = memory;
        config.state_in_ram = true;
        let args = || RunArgs {
            config: world.folder.join("everseed.toml"),
            check: false,
            verbose: 0,
        };
        let open = || Session::open_service(args(), config.clone(), world.front());
        let mut session = patiently(open);
        let fetch = Fetch {
            out: world.folder.join("out"),
            ..Fetch::default()
        };
        fs::create_dir_all(&fetch.out).unwrap();
        let add = Command::add(Item {
            path: torrent,
            data: None,
            files: Vec::new(),
            fetch: Some(Box::new(fetch)),
        });
        assert!(session.commands.send(add));
        world.hears(&mut session, &[heard]);
    }
}

/// The torrent of a file that nobody has. No piece of it is hashed.
fn torrent_of_zeros(name: &str, pieces: usize) -> Vec<u8> {
    let mut bytes = format!(
        "d4:infod6:lengthi{}e4:name{}:{name}12:piece lengthi16384e6:pieces{}:",
        pieces * 16384,
        name.len(),
        pieces * 20
    )
    .into_bytes();
    bytes.resize(bytes.len() + pieces * 20, 0);
    bytes.extend(b"ee");
    bytes
}
