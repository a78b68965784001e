//! A watched folder has ten thousand torrents, of which fifty are awake at a time.
//!
//! The folder and the state are in memory, so that the speed of a disk does not matter.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use everseed_tests::client::Client;
use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::seeder::make;
use everseed_tests::service::Service;
use everseed_tests::usage::settled;
use everseed_tests::watched::{age, config, fill, name};

/// The number of torrents in the folder, and of those that are awake.
const MANY: usize = 10_000;
const AWAKE: usize = 50;

/// The number of torrents in the test of a stop: more than are awake.
const FEW: usize = 1000;

/// The private memory, in bytes, that all sleeping torrents may add, and that each awake one may.
const ASLEEP_MAX: u64 = 1 << 20;
const AWAKE_MAX: u64 = 2560;

#[test]
fn ten_thousand() {
    let net = Net::new();
    let dir = Dir::in_memory("many");
    let (watch, data) = (dir.sub("watch"), dir.sub("data"));
    let listen = net.addr(Family::V4);
    let config = config(&watch, &data) + "state-in-ram = true\n";
    let mut service = Service::start(&dir, listen, &config, &[]);
    service.wait_for("listening", 1);
    let empty = settled(service.process.pid());
    service.stop();

    // The torrents that clients will download come first, and so are the first to sleep.
    let wanted: Vec<Content> = (0..Client::ALL.len() as u64)
        .map(|n| Content::file(&format!("0-{n}.bin"), 300_000 + n, n))
        .collect();
    for content in &wanted {
        content.copy_to(&data);
        let torrent = watch.join(format!("{}.torrent", content.name()));
        let tracker = format!("http://{listen}/announce");
        make(content.path(), &torrent, &["--tracker", &tracker]);
        age(&torrent);
    }
    fill(&watch, &data, 0..2 * AWAKE, "");
    let mut service = Service::start(&dir, listen, &config, &[]);
    service.wait_for("seeding: ", wanted.len() + 2 * AWAKE);
    fill(&watch, &data, 2 * AWAKE..MANY - wanted.len(), "");
    service.wait_for("seeding: ", MANY);
    service.stop();

    // Torrents that were awake at the stop are loaded again; the others are known to sleep.
    let mut service = Service::start(&dir, listen, &config, &[]);
    let asleep = format!("asleep: {} torrents", MANY - AWAKE);
    service.wait_for(&asleep, 1);
    service.wait_for("listening", 1);
    let reads = service.reads();
    assert!(
        reads < MANY as u64 / 4,
        "{reads} reads: torrents were opened"
    );
    service.wait_for("seeding: ", AWAKE);
    let many = settled(service.process.pid());
    let most = empty + ASLEEP_MAX + AWAKE as u64 * AWAKE_MAX;
    assert!(
        many < most,
        "{many} bytes with {MANY} torrents, {empty} with none"
    );

    wake_them(&net, &watch, &wanted);
    service.process.assert_alive();

    // A sleeping torrent is stopped and replaced like one that is awake.
    let gone = watch.join(format!("{}.torrent", name(200)));
    fs::remove_file(&gone).unwrap();
    service.wait_for(&format!("stopped: {}", gone.display()), 1);
    let other = Content::file("other.bin", 100_000, 9);
    other.copy_to(&data);
    let changed = watch.join(format!("{}.torrent", name(201)));
    make(other.path(), &changed, &[]);
    service.wait_for(&format!("stopped: {}", changed.display()), 1);
    service.wait_for("seeding: other.bin", 1);
    service.stop();

    let mut service = Service::start(&dir, listen, &config, &[]);
    service.wait_for("asleep: ", 1);
    wake_them(&net, &watch, &wanted[..1]);
    service.stop();
    let output = service.process.output();
    assert!(!output.contains("error"), "{output}");
}

/// A service is stopped while it takes in a thousand torrents, whose tracker never answers. It begins no other torrent,
/// and those that it has begun are known at the next start.
#[test]
fn stopped_while_they_come() {
    let net = Net::new();
    let dir = Dir::in_memory("many-stopped");
    let (watch, data) = (dir.sub("watch"), dir.sub("data"));
    let listen = net.addr(Family::V4);
    // The kernel accepts connections to this tracker, and no program reads them.
    let tracker = TcpListener::bind(net.addr(Family::V4)).unwrap();
    let url = format!("http://{}/announce", tracker.local_addr().unwrap());
    let config = config(&watch, &data) + "state-in-ram = true\nlog = \"info\"\n";
    fill(&watch, &data, 0..FEW, &url);
    let mut service = Service::start(&dir, listen, &config, &[]);
    service.wait_for("seeding: ", 4 * AWAKE);
    service.stop();
    let output = service.process.output();
    let (before, after) = output.split_once("it stops").unwrap();
    assert!(!after.contains("seeding: "), "{after}");
    let begun = before.matches("seeding: ").count();

    let mut service = Service::start(&dir, listen, &config, &[]);
    service.wait_for("asleep: ", 1);
    let output = service.process.output();
    let (_, rest) = output.split_once("asleep: ").unwrap();
    let asleep: usize = rest.split(' ').next().unwrap().parse().unwrap();
    // Some awake torrents may have been in the middle of their check.
    assert!(
        (begun - AWAKE..=begun).contains(&asleep),
        "{asleep} of {begun}"
    );
    service.wait_for("seeding: ", FEW - asleep);
    service.stop();
}

/// Each client downloads another sleeping torrent. The built-in tracker knows it, and the client's handshake wakes it.
fn wake_them(net: &Net, watch: &Path, wanted: &[Content]) {
    for (content, client) in wanted.iter().zip(Client::ALL) {
        let torrent = watch.join(format!("{}.torrent", content.name()));
        let mut download = client.download(&torrent, net.addr(Family::V4) as SocketAddr);
        download.finish(content);
    }
}
