//! `umask` and `group`: the permissions and the group of files and folders that a download makes.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::seeder::{Getter, Setup};
use everseed_tests::service::Service;

const MIB: u64 = 1 << 20;

/// Path, permissions and group of each file and folder beneath `folder`.
fn listed(folder: &Path) -> Vec<(String, String, u32)> {
    let mut found = Vec::new();
    let mut left = vec![folder.to_owned()];
    while let Some(path) = left.pop() {
        let there = fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(folder).unwrap().display().to_string();
        found.push((name, format!("{:o}", there.mode() & 0o7777), there.gid()));
        if there.is_dir() {
            left.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
    }
    found.sort();
    found
}

fn lists(expected: &[(&str, &str, u32)]) -> Vec<(String, String, u32)> {
    let owned =
        |&(name, mode, group): &(&str, &str, u32)| (name.to_owned(), mode.to_owned(), group);
    expected.iter().map(owned).collect()
}

/// `get` and a service download without `incomplete`, with it on the same disk (a rename follows), and with it on
/// another disk (a copy follows). The files have the permissions that the options ask for each time.
#[test]
fn what_a_download_makes() {
    let (net, seeds) = (Net::new(), Dir::new("seed"));
    let content = Content::folder("album", &[("a", MIB), ("b/c", MIB), ("empty", 0)]);
    let mut seeder = Setup::new(content.path(), net.addr(Family::V4)).start(&seeds);
    let torrent = seeder.torrent();
    let others = [None, Some(Dir::new("apart")), Some(Dir::in_memory("apart"))];
    // The umask, permissions of files and of folders.
    for (umask, file, folder) in [("002", "664", "775"), ("027", "640", "750")] {
        for apart in &others {
            let expected = lists(&[
                ("album", folder, 4711),
                ("album/a", file, 4711),
                ("album/b", folder, 4711),
                ("album/b/c", file, 4711),
                ("album/empty", file, 4711),
            ]);
            let mut args = vec!["--umask", umask, "--group", "4711", "--no-seed"];
            if let Some(apart) = apart {
                args.extend(["--incomplete", apart.path().to_str().unwrap()]);
            }
            let getter = Getter::start(&torrent, net.addr(Family::V4), Dir::new("get"), &args);
            let (code, dir) = getter.end();
            assert_eq!(code, 0);
            let made = listed(&dir.join("files"));
            assert_eq!(
                made[0],
                (String::new(), folder.to_owned(), 4711),
                "its own folder"
            );
            assert_eq!(made[1..], expected, "get {args:?}");

            let dir = Dir::new("run");
            // A folder that existed before keeps its permissions and its group.
            let out = dir.sub("out");
            fs::set_permissions(&out, Permissions::from_mode(0o711)).unwrap();
            let apart = apart.as_ref().map_or(String::new(), |apart| {
                format!("incomplete = \"{}\"\n", apart.path().display())
            });
            let config = format!(
                "umask = \"{umask}\"\ngroup = \"4711\"\n{apart}[[get]]\ntorrent = \"{}\"\nout = \"{}\"\n",
                torrent.display(),
                out.display()
            );
            let mut service = Service::start(&dir, net.addr(Family::V4), &config, &[]);
            service.wait_for("complete: album", 1);
            let made = listed(&out);
            let before = fs::metadata(dir.path()).unwrap().gid();
            assert_eq!(made[0], (String::new(), "711".to_owned(), before));
            assert_eq!(made[1..], expected, "run {config}");
            service.stop();
        }
    }
    seeder.stop();
}

/// Without the options the umask of the process counts. A folder with the setgid bit passes its group on.
#[test]
fn what_a_download_makes_by_itself() {
    let (net, seeds) = (Net::new(), Dir::new("seed"));
    let content = Content::folder("album", &[("a", MIB), ("b/c", MIB)]);
    let mut seeder = Setup::new(content.path(), net.addr(Family::V4)).start(&seeds);
    let dir = Dir::new("get");
    let out = dir.sub("files");
    std::os::unix::fs::chown(&out, None, Some(4712)).unwrap();
    fs::set_permissions(&out, Permissions::from_mode(0o2775)).unwrap();
    let wrapper = ["sh", "-c", "umask 007 && exec \"$@\"", "sh"].map(str::to_owned);
    let (torrent, listen) = (seeder.torrent(), net.addr(Family::V4));
    let getter = Getter::start_in(&torrent, listen, dir, &["--no-seed"], &wrapper);
    let (code, dir) = getter.end();
    assert_eq!(code, 0);
    let expected = lists(&[
        ("", "2775", 4712),
        ("album", "2770", 4712),
        ("album/a", "660", 4712),
        ("album/b", "2770", 4712),
        ("album/b/c", "660", 4712),
    ]);
    assert_eq!(listed(&dir.join("files")), expected);
    seeder.stop();
}
