//! Commands on a machine where a service already listens on the usual port.

use std::net::{Ipv4Addr, SocketAddr};

use everseed_tests::PATIENCE;
use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::process::Process;
use everseed_tests::seeder::{Setup, everseed, run};
use everseed_tests::service::Service;

#[test]
fn a_second_everseed() {
    let net = Net::new();
    let (dir, seeds) = (Dir::new("run"), Dir::new("seed"));
    let shared = Content::file("shared.bin", 100_000, 1);
    let wanted = Content::file("wanted.bin", 1 << 20, 2);
    let mut seeder = Setup::new(wanted.path(), net.addr(Family::V4)).start(&seeds);
    let config = format!("[[seed]]\npath = \"{}\"\n", shared.path().display());
    let usual = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 6881));
    let mut service = Service::start(&dir, usual, &config, &[]);
    service.wait_for("seeding: shared.bin", 1);

    // `get` needs no port that others know, so it takes the next one.
    let (torrent, peer) = (seeder.torrent().display().to_string(), seeder.addr());
    let (out, state) = (dir.sub("out"), dir.sub("state2").display().to_string());
    let argv = [
        everseed(),
        "get".into(),
        torrent.clone(),
        format!("--out={}", out.display()),
        "--no-seed".into(),
        format!("--peer={peer}"),
        format!("--state={state}"),
    ];
    let mut get = Process::start("everseed get", &argv, &dir.join("get.log"));
    assert_eq!(get.wait(PATIENCE), 0, "{}", get.output());
    wanted.assert_same_in(&out, true);
    let output = get.output();
    assert!(output.contains("it listens on 6882"), "{output}");
    assert!(output.contains("listening: 0.0.0.0:6882"), "{output}");
    assert!(output.contains("listening: [::]:6882"), "{output}");

    // A port that the user chose, or that links name, is not replaced by another one.
    let chosen = [
        "get",
        &torrent,
        "--listen",
        "0.0.0.0:6881",
        "--state",
        &state,
    ];
    let public = [
        "get",
        &torrent,
        "--public-address=a.example",
        "--state",
        &state,
    ];
    let path = wanted.path().display().to_string();
    let seed = ["seed", &path, "--state", &state];
    for args in [&chosen[..], &public, &seed] {
        let done = run(args);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(1), "{args:?}: {said}");
        let words = "cannot listen on 0.0.0.0:6881";
        assert!(
            said.contains(words) && said.contains("--listen IP:PORT"),
            "{said}"
        );
    }
    service.stop();
    seeder.stop();
}
