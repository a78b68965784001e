//! The swarm: the `everseed` binary on one side, real clients on the other, and every byte that
//! arrives compared.
//!
//! Each test is alone in its network (see [`everseed_tests::net`]), so they run side by side.

mod apart;
mod beside;
mod ceiling;
mod content;
mod crowd;
mod defaults;
mod described;
mod dht;
mod discovery;
mod disks;
mod download;
mod far;
mod faults;
mod flood;
mod found;
mod gossip;
mod guest;
mod habits;
mod hostile;
mod incomplete;
mod interface;
mod known;
mod loaded;
mod magnet;
mod manager;
mod many;
mod memory;
mod names;
mod outside;
mod owner;
mod portmap;
mod power;
mod private;
mod proxy;
mod ram;
mod rate;
mod reload;
mod restart;
mod resume;
mod service;
mod serving;
mod several;
mod sources;
mod strangers;
mod takeover;
mod tools;
mod trace;
mod trackerless;
mod turns;
mod uplink;
mod watched;

use everseed_tests::client::Client;
use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::seeder::Setup;

/// Seeds `content` with its built-in tracker and lets each of `clients` download it, all at once.
fn seed_to(clients: &[Client], family: Family, content: &Content, args: &[&str]) {
    let net = Net::new();
    let dir = Dir::new("seed");
    let setup = Setup::new(content.path(), net.addr(family)).args(args);
    let mut seeder = setup.start(&dir);
    let torrent = seeder.torrent();
    let start = |client: &Client| client.download(&torrent, net.addr(family));
    let mut downloads: Vec<_> = clients.iter().map(start).collect();
    for download in &mut downloads {
        download.finish(content);
    }
    seeder.stop();
}
