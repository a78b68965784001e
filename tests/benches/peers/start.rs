//! Figures without peers: memory for torrents and pieces, and the size of the program.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use everseed_tests::dir::Dir;
use everseed_tests::process::find;
use everseed_tests::seeder::everseed;
use everseed_tests::service::Service;
use everseed_tests::usage;
use everseed_tests::watched::fill;

use crate::args::Row;
use crate::bench::{Bench, mib, mib_more};
use crate::clients::Client;
use crate::data::{Set, Torrent};
use crate::figures::Figure;

/// Measures how much memory 65,536 pieces take more than 64.
pub(crate) fn pieces(bench: &mut Bench, client: Client) -> Result<(), String> {
    if !client.is_other() && client != Client::Everseed {
        return Ok(());
    }
    let pieces = bench.args.size.pick(1 << 16, 1 << 16, 1 << 10);
    let few = Set::holes(1, 64 * PIECE, PIECE, &bench.tracker);
    let many = Set::holes(1, pieces * PIECE, PIECE, &bench.tracker);
    let before = resident(bench, client, &few.torrents, &few)?;
    let after = resident(bench, client, &many.torrents, &many)?;
    let more = mib_more(before, after) * 1024.0;
    bench.add(Figure::Pieces, client, more);
    Ok(())
}

/// Measures how much memory 100 torrents take more than one, and in an everseed service 10,000 more than one.
pub(crate) fn torrents(bench: &mut Bench, client: Client) -> Result<(), String> {
    if !client.is_other() && client != Client::Everseed {
        return Ok(());
    }
    let set = Set::holes(
        bench.args.size.pick(101, 101, 6),
        4 * PIECE,
        PIECE,
        &bench.tracker,
    );
    let before = resident(bench, client, &set.torrents[..1], &set)?;
    let after = resident(bench, client, &set.torrents, &set)?;
    bench.add(Figure::Torrents, client, mib_more(before, after));
    if client == Client::Everseed {
        let before = watching(bench, 1);
        for (figure, more) in [(Figure::Watched100, 100), (Figure::Watched10000, 10_000)] {
            let after = watching(bench, 1 + bench.args.size.pick(more, more, more / 50));
            bench.add(figure, client, mib_more(before, after));
        }
    }
    Ok(())
}

/// The resident memory, in bytes, of a service with so many torrents in its watched folder, some time after a start.
/// All torrents are known from a start before.
fn watching(bench: &Bench, torrents: usize) -> u64 {
    let dir = Dir::in_memory("watching");
    let (watch, data) = (dir.sub("watch"), dir.sub("data"));
    fill(&watch, &data, 0..torrents, &bench.tracker);
    let (watch, data) = (watch.display(), data.display());
    let config = format!("watch = \"{watch}\"\ndata = \"{data}\"\nstate-in-ram = true\n");
    let listen = SocketAddr::new(bench.ip(Client::Everseed), 6881);
    let mut service = Service::start(&dir, listen, &config, &[]);
    service.wait_for("seeding: ", torrents);
    service.stop();
    let mut service = Service::start(&dir, listen, &config, &[]);
    service.wait_for("seeding: ", torrents.min(AWAKE));
    // The service looks at the folder for a second time after ten seconds.
    bench.settle(15);
    let resident = usage::resident(service.process.pid());
    service.stop();
    resident
}

/// The resident memory of a client some time after it is ready, in bytes.
fn resident(
    bench: &mut Bench,
    client: Client,
    torrents: &[Torrent],
    set: &Set,
) -> Result<u64, String> {
    let started = bench.start(client, Row::Torrents, torrents, set)?;
    bench.settle(3);
    Ok(usage::resident(started.running.pid()))
}

/// Measures the size of the program and its libraries without libc's, in MiB.
pub(crate) fn size(bench: &mut Bench, client: Client) -> Result<(), String> {
    let file = match client {
        Client::Everseed => everseed(),
        Client::Floor | Client::LibtorrentLeast => return Ok(()),
        Client::Nginx => find("nginx").unwrap_or_default(),
        Client::Rtorrent => find("rtorrent").unwrap_or_default(),
        Client::Libtorrent => python_module()?,
        Client::Aria2 => find("aria2c").unwrap_or_default(),
        Client::Transmission => find("transmission-daemon").unwrap_or_default(),
    };
    let mut bytes = length(Path::new(&file))?;
    // `ldd` fails for a static program, which has no libraries.
    let output = Command::new("ldd").arg(&file).output();
    let output = output.map_err(|e| format!("ldd: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let libraries = text.lines().filter_map(|line| {
        let path = line.split_once("=> ")?.1.split(' ').next()?;
        let name = path.rsplit('/').next()?;
        (!LIBC.iter().any(|libc| name.starts_with(libc))).then(|| path.to_owned())
    });
    for library in libraries {
        bytes += length(Path::new(&library))?;
    }
    bench.add(Figure::Size, client, mib(bytes));
    Ok(())
}

fn length(path: &Path) -> Result<u64, String> {
    let meta = fs::metadata(path);
    Ok(meta.map_err(|e| format!("{}: {e}", path.display()))?.len())
}

/// The path of libtorrent's module; Python itself does not count.
fn python_module() -> Result<String, String> {
    let mut python = Command::new("/usr/bin/python3");
    let output = python
        .args(["-c", "import libtorrent; print(libtorrent.__file__)"])
        .output();
    let output = output.map_err(|e| format!("python3: {e}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Torrents of a watched folder that are awake at a time.
const AWAKE: usize = 50;

/// The length of pieces of content that no peer downloads, in bytes.
const PIECE: u64 = 16 << 10;

const LIBC: [&str; 8] = [
    "libc.so",
    "libm.so",
    "libpthread",
    "libdl",
    "librt",
    "libresolv",
    "libutil",
    "libgcc_s",
];
