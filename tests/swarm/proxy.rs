//! `--proxy`: trackers are called through the proxy, which resolves their names.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::mpsc::channel;
use std::thread;

use everseed_tests::PATIENCE;
use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::seeder::Setup;

#[test]
fn a_tracker_behind_a_proxy() {
    let net = Net::new();
    let dir = Dir::new("seed");
    let proxy = TcpListener::bind(net.addr(Family::V4)).unwrap();
    let addr = proxy.local_addr().unwrap();
    let (tell, heard) = channel();
    thread::spawn(move || {
        for stream in proxy.incoming() {
            let mut stream = stream.unwrap();
            let mut line = String::new();
            let _ = BufReader::new(&stream).read_line(&mut line);
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nd8:intervali1800e5:peers0:e");
            let _ = tell.send(line);
        }
    });
    let content = Content::file("behind.bin", 100_000, 3);
    let login = format!("http://me:geheim@{addr}");
    let (first, second) = ("udp://t.example.valid:1", "http://t.example.valid/announce");
    let trackers = ["-t", first, "-t", second];
    let setup = Setup::new(content.path(), net.addr(Family::V4))
        .args(trackers)
        .args(["-v", "--proxy", &login]);
    let mut seeder = setup.start(&dir);
    let line = heard.recv_timeout(PATIENCE).expect("an announce");
    let begin = "GET http://t.example.valid/announce?info_hash=";
    assert!(line.starts_with(begin), "{line}");
    seeder.stop();
    let output = seeder.process.output();
    assert!(!output.contains("geheim"), "{output}");
    let asked = "is not asked as long as a proxy is set";
    assert!(output.contains(asked), "{output}");
    let left_out = "the DHT uses UDP, which does not go through the proxy: it is off";
    assert!(output.contains(left_out), "{output}");
}
