//! everseed goes away in the middle of a download and comes back at the same address.

use std::thread;

use everseed_tests::client::Client;
use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::process::Signal;
use everseed_tests::seeder::Setup;

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

/// Each client has a seeder of its own, so that none can get from another what it misses.
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
    // Slow at first, so that it is the middle indeed when it ends.
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
