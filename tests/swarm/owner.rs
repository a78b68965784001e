//! What the owner has is the owner's: nothing outside the folders that were named is read or written.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::seeder::{Getter, Setup, make, run};
use everseed_tests::service::Service;

/// What a command printed, and its exit code.
fn said(args: &[&str]) -> (i32, String) {
    let output = run(args);
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    (output.status.code().unwrap_or(-1), text)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Links in a watched folder: those that stay in it are seeded, others are refused by name.
#[test]
fn links_in_a_watched_folder() {
    let net = Net::new();
    let (dir, outside) = (Dir::new("run"), Dir::new("outside"));
    let share = dir.sub("share");
    let secret = Content::file("secret.bin", 1 << 20, 110);
    let folder = Content::folder("secrets", &[("a", 100_000)]);
    let torrent = outside.join("linked.torrent");
    make(secret.path(), &torrent, &[]);
    fs::create_dir(share.join(".annex")).unwrap();
    let real = Content::file("annexed.bin", 1 << 20, 111);
    real.copy_to(&share.join(".annex"));
    for (target, name) in [
        (secret.path(), "secret.bin"),
        (folder.path(), "secrets"),
        (torrent.as_path(), "linked.torrent"),
        (Path::new(".annex/annexed.bin"), "annexed.bin"),
    ] {
        symlink(target, share.join(name)).unwrap();
    }
    let config = format!("watch = \"{}\"\n", share.display());
    let listen = net.addr(Family::V4);
    let mut service = Service::start(&dir, listen, &config, &[]);
    service.wait_for("seeding: annexed.bin", 1);
    for name in ["secret.bin", "secrets", "linked.torrent"] {
        let refused = format!("{} is, or lies behind, a link", share.join(name).display());
        service.wait_for(&refused, 1);
    }
    assert_eq!(service.process.output().matches("seeding: ").count(), 1);
    // The owner may want it.
    service.reload(listen, &format!("{config}links = \"follow\"\n"));
    for name in ["secret.bin", "secrets"] {
        service.wait_for(&format!("seeding: {name}"), 1);
    }
    service.stop();
}

/// Links in content: read if they stay in the folder that was named, and named if they leave it.
#[test]
fn links_in_content() {
    let net = Net::new();
    let dir = Dir::new("seed");
    let content = Content::folder(
        "mixed",
        &[("in", 200_000), ("out", 200_000), ("z", 200_000)],
    );
    let torrent = dir.join("mixed.torrent");
    make(content.path(), &torrent, &["-s", "16K"]);
    let data = dir.sub("data");
    let copy = content.copy_to(&data);
    fs::create_dir(data.join("annex")).unwrap();
    fs::create_dir(dir.join("elsewhere")).unwrap();
    fs::rename(copy.join("in"), data.join("annex/1")).unwrap();
    fs::rename(copy.join("out"), dir.join("elsewhere/1")).unwrap();
    // As git-annex and cross-seed lay them.
    symlink(data.join("annex/1"), copy.join("in")).unwrap();
    symlink("../../elsewhere/1", copy.join("out")).unwrap();
    let (code, report) = said(&["check", text(&torrent), text(&data)]);
    assert_eq!(code, 3, "{report}");
    assert!(report.contains("link     out"), "{report}");
    assert!(report.contains("pieces: 24 of 37 good"), "{report}");
    let (code, report) = said(&["check", "--links=follow", text(&torrent), text(&data)]);
    assert_eq!(code, 0, "{report}");
    let setup = Setup::new(&torrent, net.addr(Family::V4)).data(&data);
    let mut seeder = setup.start(&dir);
    let told = format!("{} is, or lies behind, a link", copy.join("out").display());
    let output = seeder.process.output();
    assert!(output.contains(&told), "{output}");
    seeder.stop();
    let mut seeder = setup.args(["--links", "follow"]).start(&dir);
    assert!(!seeder.process.output().contains("missing"));
    seeder.stop();
    // A torrent of it.
    let made = dir.join("made.torrent");
    let (code, output) = said(&["make", text(&copy), "-o", text(&made)]);
    assert_eq!(code, 0, "{output}");
    assert!(output.contains("left out, a link"), "{output}");
    let (_, shown) = said(&["show", text(&made)]);
    assert!(
        !shown.contains(" in\n") && !shown.contains(" out\n"),
        "{shown}"
    );
    let (code, _) = said(&["make", text(&copy), "-o", text(&made), "--links=follow"]);
    assert_eq!(code, 0);
    let (_, shown) = said(&["show", text(&made)]);
    assert!(
        shown.contains(" in\n") && shown.contains(" out\n"),
        "{shown}"
    );
}

/// A download whose folder is a link to another place writes nothing there.
#[test]
fn nothing_is_written_through_links() {
    let net = Net::new();
    let dir = Dir::new("seed");
    let content = Content::folder("album", &[("a/b", 300_000), ("c", 300_000)]);
    let mut seeder = Setup::new(content.path(), net.addr(Family::V4)).start(&dir);
    let peer = seeder.addr().to_string();
    for (link, place) in [
        ("files/album", ""),
        ("files/album/a", ""),
        ("files/album/c", "c"),
    ] {
        let (got, elsewhere) = (Dir::new("get"), Dir::new("elsewhere"));
        let link = got.join(link);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(elsewhere.join(place), &link).unwrap();
        let listen = net.addr(Family::V4);
        let args = ["--no-seed", "--peer", &peer];
        let mut getter = Getter::start(&seeder.torrent(), listen, got, &args);
        getter.wait_for("is, or lies behind, a link that leads out");
        let (_, got) = getter.stop();
        let written = fs::read_dir(elsewhere.path()).unwrap().count();
        assert_eq!(written, 0, "written through {}", link.display());
        let args = ["--no-seed", "--links=follow", "--peer", &peer];
        if place.is_empty() {
            let (code, got) = Getter::start(&seeder.torrent(), listen, got, &args).end();
            assert_eq!(code, 0, "{}", link.display());
            content.assert_same_in(&got.join("files"), true);
        }
    }
    seeder.stop();
}
