//! Places for torrents that are not enough for all: what is of no use at the moment makes room.

use std::fs;

use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::seeder::{Setup, make};
use everseed_tests::service::Service;
use everseed_tests::watched::age;

/// Places for two torrents, taken by downloads that nobody seeds: one that can be downloaded has its turn all the same.
#[test]
fn a_live_download_among_dead_ones() {
    among_dead_ones(true);
}

/// The same when nothing is downloaded: torrents whose data are nowhere take no place for good.
#[test]
fn a_seed_among_dead_ones() {
    among_dead_ones(false);
}

fn among_dead_ones(download: bool) {
    let net = Net::new();
    let (dir, theirs) = (Dir::new("turns"), Dir::new("seed"));
    let (watch, out) = (dir.sub("watch"), dir.sub("out"));
    for n in 0..3 {
        let dead = Content::file(&format!("dead-{n}"), 40_000, n);
        let torrent = watch.join(format!("dead-{n}.torrent"));
        make(dead.path(), &torrent, &[]);
        age(&torrent);
    }
    let live = Content::file("live", 2 << 20, 77);
    let mut seeder = Setup::new(live.path(), net.addr(Family::V4)).start(&theirs);
    let torrent = watch.join("live.torrent");
    fs::copy(seeder.torrent(), &torrent).unwrap();
    age(&torrent);
    if !download {
        live.copy_to(&out);
    }
    let config = format!(
        "watch = \"{}\"\n{} = \"{}\"\n{}torrents = 2\nlog = \"info\"\n",
        watch.display(),
        if download { "out" } else { "data" },
        out.display(),
        match download {
            true => format!("download = true\npeer = [\"{}\"]\n", seeder.addr()),
            false => String::new(),
        },
    );
    let mut service = Service::start(&dir, net.addr(Family::V4), &config, &[]);
    let whole = if download {
        "complete: live"
    } else {
        "seeding: live"
    };
    service.wait_for(whole, 1);
    if download {
        assert!(live.is_same_as(&out.join("live")));
    }
    service.stop();
    seeder.stop();
}
