//! everseed ends in the middle of a client's download and is started again at the same address.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime};

use everseed_tests::client::Client;
use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::peer::{Message, Peer};
use everseed_tests::process::Signal;
use everseed_tests::seeder::{Setup, make};

#[test]
fn killed_and_started_again() {
    each_client(Signal::KILL, &[]);
}

#[test]
fn stopped_and_started_again() {
    each_client(Signal::TERM, &[]);
}

#[test]
fn interrupted_while_lazy_and_started_again() {
    each_client(Signal::INT, &["--check", "lazy"]);
}

/// Each client has a seeder of its own, so that no client gets a block from another client.
fn each_client(signal: Signal, args: &[&str]) {
    let net = Net::new();
    thread::scope(|scope| {
        for client in Client::ALL {
            let net = &net;
            scope.spawn(move || restart(net, client, signal, args));
        }
    });
}

fn restart(net: &Net, client: Client, signal: Signal, args: &[&str]) {
    let dir = Dir::new("seed");
    let content = Content::file("restart.bin", 64 << 20, 50);
    // So slow that everseed ends in the middle of the download.
    let setup = Setup::new(content.path(), net.addr(Family::V4)).args(args);
    let mut seeder = setup.clone().up_bps(Some(8 << 20)).start(&dir);
    let torrent = seeder.torrent();
    let hash = seeder.info_hash();
    let mut download = client.download(&torrent, net.addr(Family::V4));
    download.wait_for_bytes(8 << 20);
    assert!(
        !download.is_complete(),
        "{client:?} was too fast to be interrupted"
    );
    if signal == Signal::KILL {
        seeder.process.signal(signal);
        seeder.process.wait(everseed_tests::PATIENCE);
    } else {
        seeder.process.signal(signal);
        let code = seeder.process.wait(everseed_tests::seeder::STOP_TIMEOUT);
        assert_eq!(code, 0, "exit code after a signal");
    }
    let mut seeder = setup.start(&dir);
    assert_eq!(seeder.info_hash(), hash, "the same torrent as before");
    download.finish(&content);
    seeder.stop();
}

/// The record of verified pieces holds the times of files, also times that do not fit into 32 bits.
#[test]
fn files_of_2040() {
    let net = Net::new();
    let dir = Dir::new("seed");
    let content = Content::file("future.bin", 1 << 20, 51);
    let torrent = dir.join("future.torrent");
    let hash = make(content.path(), &torrent, &["-s", "64K"]);
    let first = fs::read(content.path()).expect("the file")[..1].to_vec();
    let setup = Setup::new(&torrent, net.addr(Family::V4)).data(content.parent());
    let whole = || {
        let mut seeder = setup.start(&dir);
        let mut peer = Peer::greet(seeder.addr(), hash, true);
        let told = peer.expect("what pieces there are");
        seeder.stop();
        match told {
            Message::HaveAll => true,
            Message::Bitfield(bits) => bits == [0xff; 2],
            other => panic!("{other:?} instead of what pieces there are"),
        }
    };
    let year_2040 = SystemTime::UNIX_EPOCH + Duration::from_secs(2_208_988_800);
    change(content.path(), &[], year_2040);
    assert!(whole(), "verified");
    assert!(whole(), "verified before");
    // A change is noticed though the time is set back.
    change(content.path(), &[!first[0]], year_2040);
    assert!(!whole(), "what was changed with its time restored");
    change(content.path(), &first, year_2040);
    assert!(whole(), "put right again");
    // This time is the same in its lower 32 bits.
    change(
        content.path(),
        &[!first[0]],
        year_2040 - Duration::from_secs(1 << 32),
    );
    assert!(!whole(), "what was changed at another time");
}

/// Overwrites the first bytes of a file and sets its time of change.
fn change(path: &Path, bytes: &[u8], time: SystemTime) {
    let file = File::options().write(true).open(path).expect("the file");
    let done = file.write_all_at(bytes, 0);
    done.and_then(|()| file.set_modified(time))
        .expect("changing a file");
}
