//! A machine of 64 MB of memory whose only program is everseed for 32 bits, as packaged. Its clock shows a time that
//! does not fit into 32 bits.
//!
//! qemu runs the machine, and `tests/guest/run` makes what it boots.

use std::fs;
use std::path::{Path, PathBuf};

use everseed_tests::archive::Archive;
use everseed_tests::client::Client;
use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::process::{Process, program};
use everseed_tests::{PATIENCE, wait};

/// The most memory that everseed may take there: the default of `--memory`.
const MOST_KIB: u64 = 16 << 10;

#[test]
#[ignore = "needs a kernel and everseed for it: tests/guest/run"]
fn seeds_to_every_client() {
    let made = std::env::var("EVERSEED_GUEST").map(PathBuf::from);
    let made = made.expect("EVERSEED_GUEST, the folder that tests/guest/run makes");
    let (net, dir) = (Net::new(), Dir::new("guest"));
    let content = Content::file("film.bin", 4 << 20, 64);
    let initrd = dir.join("initrd");
    let mut archive = Archive::default();
    archive.add(&made.join("root"), "");
    archive.add(content.parent(), "srv/everseed");
    archive.finish(&initrd);
    let mut guest = boot(&made, &dir);
    let magnet = dir.join("film.magnet");
    let link = said(&mut guest, "magnet: ");
    fs::write(&magnet, link).expect("writing a magnet link");
    // Transmission comes first and alone. If it gets the metadata from one peer before another peer has answered, it
    // takes the other one for unreachable, for a quarter of an hour.
    let (transmission, others) = Client::ALL.split_at(1);
    for clients in [transmission, others] {
        let start = |client: &Client| client.download(&magnet, net.addr(Family::V4));
        let mut downloads: Vec<_> = clients.iter().map(start).collect();
        for download in &mut downloads {
            download.finish(&content);
        }
    }
    // Only lines that the guest prints from here on count.
    let before = guest.output().len();
    let memory = wait("the guest to tell its memory", PATIENCE, || {
        guest.assert_alive();
        line(guest.output().get(before..)?, "memory: ")
    });
    let output = guest.output();
    assert!(output.contains("2040-01-01"), "no time in the log");
    println!("in the guest, in KiB: {memory}");
    // The peak and the present size: the kernel may update the peak later.
    let numbers = memory
        .split(' ')
        .filter_map(|word| word.parse::<u64>().ok());
    let most = numbers.take(2).max().expect("two sizes");
    assert!(most <= MOST_KIB, "{memory}");
}

/// Starts the machine. This test's network has the guest's address too, and qemu forwards connections to that address
/// into the guest. So the guest's magnet link and its tracker work outside.
fn boot(made: &Path, dir: &Dir) -> Process {
    let qemu = program("qemu-system-aarch64", "qemu-system-arm");
    let kernel = made.join("vmlinuz").display().to_string();
    let initrd = dir.join("initrd").display().to_string();
    let args = [
        "-M virt -cpu cortex-a53 -m 64M -nographic -no-reboot -kernel",
        &kernel,
        "-initrd",
        &initrd,
        "-netdev user,id=net,restrict=on,hostfwd=tcp:10.0.2.15:6881-10.0.2.15:6881",
        "-device virtio-net-device,netdev=net -append",
    ];
    let words = args.iter().flat_map(|part| part.split(' '));
    let mut argv: Vec<String> = [qemu.as_str()]
        .into_iter()
        .chain(words)
        .map(str::to_owned)
        .collect();
    argv.push("console=ttyAMA0 quiet panic=-1".to_owned());
    Process::start("the guest", &argv, &dir.join("console"))
}

/// Waits for a line that begins with `key`, and returns the rest of it.
fn said(guest: &mut Process, key: &str) -> String {
    wait(&format!("the guest to say {key:?}"), PATIENCE, || {
        let found = line(&guest.output(), key);
        if found.is_none() {
            guest.assert_alive();
        }
        found
    })
}

/// The rest of the first whole line that begins with `key`.
fn line(output: &str, key: &str) -> Option<String> {
    let (whole, _) = output.rsplit_once('\n')?;
    let rest = whole.lines().find_map(|line| line.strip_prefix(key))?;
    Some(rest.to_owned())
}
