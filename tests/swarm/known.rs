//! A service that starts again seeds at once what it seeded before.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::http;
use everseed_tests::net::{Family, Net};
use everseed_tests::peer::InfoHash;
use everseed_tests::seeder::make;
use everseed_tests::service::Service;

/// Files and torrents of a watched folder that the state knows are seeded at once, whatever their times of change say.
/// New files have to stay unchanged for a while. The built-in tracker knows the old ones from the first moment.
#[test]
fn at_once_after_a_restart() {
    let net = Net::new();
    let dir = Dir::new("run");
    let share = dir.sub("share");
    let listen = net.addr(Family::V4);
    let config = format!("watch = \"{}\"\n", share.display());
    let album = Content::folder("album", &[("a", 3 << 20), ("b/c", 1 << 20)]);
    let given = Content::file("given.bin", 1 << 20, 5);
    album.copy_to(&share);
    given.copy_to(&share);
    make(given.path(), &share.join("given.torrent"), &[]);
    let mut service = Service::start(&dir, listen, &config, &[]);
    service.wait_for("seeding: album", 1);
    service.wait_for("seeding: given.bin", 1);
    let album_hash = info_hash(&service, "album");
    service.stop();

    // The torrent looks as if it was written this moment.
    let now = fs::File::options()
        .append(true)
        .open(share.join("given.torrent"));
    now.unwrap()
        .set_modified(std::time::SystemTime::now())
        .unwrap();
    fs::write(share.join("new.bin"), "this is new").unwrap();
    let asked = thread::spawn(move || first_answer(listen, album_hash));
    let mut service = Service::start(&dir, listen, &config, &[]);
    service.wait_for("seeding: new.bin", 1);
    let answer = asked.join().unwrap();
    let shown = String::from_utf8_lossy(&answer);
    assert!(http::string(&answer, "peers").is_some(), "{shown}");
    let output = service.process.output();
    let at = |text: &str| {
        output
            .find(text)
            .unwrap_or_else(|| panic!("{text}: {output}"))
    };
    assert!(at("seeding: album") < at("seeding: new.bin"), "{output}");
    assert!(
        at("seeding: given.bin") < at("seeding: new.bin"),
        "{output}"
    );
    service.stop();
}

/// If the .torrent of a download is gone, or the server that had it, the download goes on with everseed's copy.
#[test]
fn the_torrent_of_a_download_is_gone() {
    let net = Net::new();
    let dir = Dir::new("run");
    let listen = net.addr(Family::V4);
    let content = Content::file("got.bin", 1 << 20, 7);
    let (out, torrent) = (dir.sub("out"), dir.join("x.torrent"));
    content.copy_to(&out);
    make(content.path(), &torrent, &[]);
    let bytes = fs::read(&torrent).unwrap();
    let server = TcpListener::bind(net.addr(Family::V4)).unwrap();
    let url = format!("http://{}/x.torrent", server.local_addr().unwrap());
    let served = thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        let _ = stream.read(&mut [0; 2000]);
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n").unwrap();
        stream.write_all(&bytes).unwrap();
    });
    let get = |torrent: &str| {
        let out = out.display();
        format!("[[get]]\ntorrent = \"{torrent}\"\nout = \"{out}\"\n")
    };
    for config in [get(&torrent.display().to_string()), get(&url)] {
        let mut service = Service::start(&dir, listen, &config, &[]);
        service.wait_for("complete: got.bin", 1);
        service.stop();
    }
    served.join().unwrap();
    fs::remove_file(&torrent).unwrap();
    for config in [get(&torrent.display().to_string()), get(&url)] {
        let mut service = Service::start(&dir, listen, &config, &[]);
        service.wait_for("it goes on with the copy that it has", 1);
        service.wait_for("complete: got.bin", 1);
        service.stop();
    }
}

/// Connects until the built-in tracker is reached, and returns its first answer.
fn first_answer(tracker: SocketAddr, hash: InfoHash) -> Vec<u8> {
    loop {
        match TcpStream::connect(tracker) {
            Ok(_) => break,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(error) => panic!("{tracker}: {error}"),
        }
        thread::yield_now();
    }
    let path = format!(
        "/announce?info_hash={}&peer_id=-XX0000-000000000000&port=1&left=1&compact=1",
        http::escape(hash)
    );
    http::get(tracker, &path).1
}

/// The info-hash in the magnet link that was printed for `name`.
fn info_hash(service: &Service, name: &str) -> InfoHash {
    let output = service.process.output();
    let magnet = output
        .lines()
        .find(|line| line.starts_with("magnet: ") && line.contains(&format!("&dn={name}")));
    let magnet = magnet.unwrap_or_else(|| panic!("no magnet of {name}: {output}"));
    let hex = magnet.split("btih:").nth(1).and_then(|rest| rest.get(..40));
    InfoHash::parse(hex.unwrap())
}
