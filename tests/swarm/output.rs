//! Output that nobody reads: the terminal of a log was stopped, or the pipes of a service are full.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use everseed_tests::content::Content;
use everseed_tests::dir::Dir;
use everseed_tests::net::{Family, Net};
use everseed_tests::peer::{Peer, handshake};
use everseed_tests::seeder::{Setup, make};
use everseed_tests::service::Service;
use everseed_tests::watched::age;
use everseed_tests::{PATIENCE, wait};
use rustix::fs::{CWD, Mode, OFlags, mkfifoat};

/// The terminal that shows the log was stopped. Connected peers are served, and others come and go. When the terminal
/// goes on, it shows the lines that were kept and the number of those that were not.
#[test]
fn a_log_that_nobody_reads_keeps_nobody_waiting() {
    let (net, dir) = (Net::new(), Dir::new("serving"));
    let pipe = dir.join("log");
    mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).expect("a pipe");
    let open = |nonblocking: bool| {
        let mut options = File::options();
        options.read(true).write(true);
        let flags = if nonblocking {
            OFlags::NONBLOCK
        } else {
            OFlags::empty()
        };
        options.custom_flags(flags.bits().cast_signed());
        options.open(&pipe).expect("a pipe")
    };
    let mut log = open(true);
    let content = Content::file("fast.bin", 1 << 20, 2);
    let to_pipe = format!("exec \"$@\" 2> '{}'", pipe.display());
    let setup = Setup::new(content.path(), net.addr(Family::V4)).args(["-vv"]);
    let mut seeder = setup.under(["sh", "-c", &to_pipe, "sh"]).start(&dir);
    let (addr, hash) = (seeder.addr(), seeder.info_hash());
    let mut served = Peer::unchoked(addr, hash, true);
    served.pieces(0..64);
    fill_up(&mut log);
    for _ in 0..400 {
        let mut caller = Peer::connect(addr);
        caller.send(&handshake(hash, true));
        let mut answer = [0; 68];
        caller.stream.read_exact(&mut answer).expect("a handshake");
    }
    served.pieces(0..64);
    // A thread reads the log from here to its end.
    let said = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut log, mut said) = (open(false), Vec::new());
            let mut bytes = [0; 4096];
            while !said.ends_with(END) {
                let len = log.read(&mut bytes).expect("a log");
                said.extend_from_slice(&bytes[..len]);
            }
            String::from_utf8_lossy(&said).into_owned()
        });
        served.pieces(0..64);
        seeder.stop();
        open(false).write_all(END).expect("a pipe");
        reader.join().expect("what was said")
    });
    assert!(said.contains(": connected, "), "{said}");
    assert!(said.contains(" more lines "), "{said}");
}

/// No program reads the output of a service, neither its results nor its log. The service still serves new files in its
/// watched folder, and stops on a signal.
#[test]
fn a_service_whose_output_nobody_reads() {
    let (net, dir) = (Net::new(), Dir::new("unread"));
    let share = dir.sub("share");
    let pipe = dir.join("pipe");
    mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).expect("a pipe");
    let mut options = File::options();
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let options = options.read(true).write(true).custom_flags(flags);
    let mut unread = options.open(&pipe).expect("a pipe");
    let to_pipe = format!("exec \"$@\" > '{}' 2>&1", pipe.display());
    let content = Content::file("fast.bin", 1 << 20, 2);
    let listen = net.addr(Family::V4);
    let config = format!(
        "log = \"debug\"\nwatch = \"{}\"\ndata = \"{}\"\n",
        share.display(),
        content.parent().display()
    );
    for full_from_the_start in [true, false] {
        if full_from_the_start {
            fill_up(&mut unread);
        } else {
            while unread.read(&mut [0; 4096]).is_ok() {}
        }
        let wrapper = ["sh", "-c", &to_pipe, "sh"].map(str::to_owned);
        let mut service = Service::start(&dir, listen, &config, &wrapper);
        wait("it to listen", PATIENCE, || {
            std::net::TcpStream::connect(listen).ok()
        });
        fill_up(&mut unread);
        let torrent = share.join("fast.torrent");
        let hash = make(content.path(), &torrent, &[]);
        age(&torrent);
        wait("it to be seeded", PATIENCE, || {
            service.process.assert_alive();
            let mut peer = Peer::connect(listen);
            peer.send(&handshake(hash, true));
            peer.stream.read_exact(&mut [0; 68]).ok()
        });
        Peer::unchoked(listen, hash, true).pieces(0..64);
        service.stop();
        fs::remove_file(&torrent).expect("to take it away");
    }
}

/// Fills a pipe to the last byte.
fn fill_up(pipe: &mut File) {
    for len in [4096, 1] {
        while pipe.write(&[b'\n'; 4096][..len]).is_ok() {}
    }
}

/// The line that the test writes behind a log.
const END: &[u8] = b"the end";
