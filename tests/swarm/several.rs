//! `everseed get` with several torrents: one that fails delays no other, and the exit code is that of the worst.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;

use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::seeder::{Getter, Setup, make};

/// A seeder of two files.
struct World {
    net: Net,
    contents: [Content; 2],
    torrents: Vec<String>,
    links: Vec<String>,
    _seeder: everseed_tests::seeder::Seeder,
    dir: Dir,
}

impl World {
    fn new() -> World {
        let net = Net::new();
        let dir = Dir::new("seed");
        let contents = [("a.bin", 1_500_001), ("b.bin", 900_000)];
        let contents = contents.map(|(name, len)| Content::file(name, len, 300 + len));
        let setup = Setup::new(contents[0].path(), net.addr(Family::V4));
        let mut seeder = setup.args([contents[1].path().display()]).start(&dir);
        everseed_tests::wait("both to be seeded", everseed_tests::PATIENCE, || {
            seeder.process.assert_alive();
            (seeder.values("seeding").len() == 2).then_some(())
        });
        World {
            net,
            contents,
            torrents: seeder.values("torrent"),
            links: seeder.values("magnet"),
            _seeder: seeder,
            dir,
        }
    }

    fn get(&self, given: &[&str]) -> Getter {
        let here = self.net.addr(Family::V4);
        let (first, rest) = given.split_first().unwrap();
        Getter::start(Path::new(first), here, Dir::new("get"), rest)
    }

    fn assert_both_in(&self, files: &Path) {
        for content in &self.contents {
            let got = fs::read(files.join(content.name())).unwrap();
            assert!(
                got == fs::read(content.path()).unwrap(),
                "{}",
                content.name()
            );
        }
    }
}

/// `get` gets a .torrent, a file that is no torrent, a link, the same .torrent again, and the URL of a silent server.
#[test]
fn one_of_them_fails() {
    let world = World::new();
    let junk = world.dir.join("junk.torrent");
    fs::write(&junk, "no torrent at all").unwrap();
    let silent = TcpListener::bind(world.net.addr(Family::V4)).unwrap();
    let silent = format!("http://{}/x.torrent", silent.local_addr().unwrap());
    let (torrent, link) = (&world.torrents[0], &world.links[1]);
    let junk = junk.to_str().unwrap();
    let mut getter = world.get(&[torrent, junk, link, torrent, &silent]);
    getter.wait_for("junk.torrent: ");
    getter.wait_for("the same torrent was named before");
    getter.wait_for("complete: a.bin");
    getter.wait_for("complete: b.bin");
    let (code, dir) = getter.stop();
    assert_eq!(code, 25, "the worst: no torrent");
    world.assert_both_in(&dir.join("files"));
    // Without the failing ones `get` ends by itself with success.
    let getter = world.get(&[torrent, link, "--no-seed"]);
    let (code, dir) = getter.end();
    let output = fs::read_to_string(dir.join("get.log")).unwrap();
    assert_eq!(code, 0, "{output}");
    world.assert_both_in(&dir.join("files"));
}

/// With a goal each torrent is stopped when it reaches it, and `get` ends with the last one. If all fail, it ends too.
#[test]
fn each_has_its_end() {
    let world = World::new();
    let nobody_has = Content::file("nobody.bin", 100_000, 7);
    let torrent = world.dir.join("nobody.torrent");
    make(
        nobody_has.path(),
        &torrent,
        &["-t", "http://127.0.0.1:9/announce"],
    );
    let torrent = torrent.to_str().unwrap();
    let mut getter = world.get(&[&world.torrents[0], torrent, "--no-seed"]);
    getter.wait_for("complete: a.bin");
    getter.wait_for("stopped: a.bin");
    getter.wait_for("downloading: nobody.bin");
    let (code, _) = getter.stop();
    assert_eq!(code, 7, "the other is not complete");
    let junk = world.dir.join("junk.torrent");
    fs::write(&junk, "d3:fooi1ee").unwrap();
    let junk = junk.to_str().unwrap();
    let (code, _) = world.get(&["/nowhere/x.torrent", junk]).end();
    assert_eq!(code, 1, "the worst: it is not there");
    let (code, _) = world.get(&[junk, torrent, "--rename=x"]).end();
    assert_eq!(code, 2, "--rename goes with one");
}

/// Four servers are asked at the same time: each answers only when all have been asked. Three have the same .torrent,
/// which counts as one and is no failure.
#[test]
fn several_servers_are_asked_at_once() {
    let world = World::new();
    let server = TcpListener::bind(world.net.addr(Family::V4)).unwrap();
    let addr = server.local_addr().unwrap();
    let torrents = world.torrents.clone();
    let serves = std::thread::spawn(move || {
        let mut asked = Vec::new();
        while asked.len() < 4 {
            let (stream, _) = server.accept().unwrap();
            let head = BufReader::new(stream.try_clone().unwrap()).lines();
            let head = head.map(Result::unwrap).take_while(|line| !line.is_empty());
            let first = head.fold(0, |first, line| match line.strip_prefix("GET /") {
                Some(path) => path.as_bytes()[0],
                None => first,
            });
            asked.push((first, stream));
        }
        for (first, mut stream) in asked {
            let torrent = &torrents[usize::from(first == b'b')];
            let body = fs::read(torrent).unwrap();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&body).unwrap();
        }
    });
    let urls = ["a1", "a2", "b", "a3"].map(|name| format!("http://{addr}/{name}.torrent"));
    let urls = urls.each_ref().map(String::as_str);
    let getter = world.get(&[&urls[..], &["--no-seed"]].concat());
    let (code, dir) = getter.end();
    let output = fs::read_to_string(dir.join("get.log")).unwrap();
    assert_eq!(code, 0, "{output}");
    serves.join().unwrap();
    world.assert_both_in(&dir.join("files"));
}
