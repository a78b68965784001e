//! The first process of the guest. It sets up the machine as a distribution does, starts everseed, and prints
//! everseed's memory on the console. There is no shell and no other program.

use std::fs::{self, File};
use std::io;
use std::net::Ipv4Addr;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Timestamps, utimensat};
use rustix::mount::{MountFlags, mount};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, recv, send, socket};
use rustix::system::{RebootCommand, finit_module, reboot};
use rustix::time::{ClockId, Timespec, clock_settime};

fn main() {
    if let Err(error) = run() {
        println!("init: {error}");
    }
    // Powers off, because the kernel panics when its first process ends.
    let _ = reboot(RebootCommand::PowerOff);
}

fn run() -> io::Result<()> {
    mount("proc", "/proc", "proc", MountFlags::empty(), None)?;
    mount("dev", "/dev", "devtmpfs", MountFlags::empty(), None)?;
    modules()?;
    network()?;
    far_future()?;
    let unit = fs::read_to_string("/usr/lib/systemd/system/everseed.service")?;
    let start = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="));
    let words: Vec<&str> = start.unwrap_or_default().split_whitespace().collect();
    let [program, args @ ..] = &words[..] else {
        return Err(io::Error::other("the unit starts nothing"));
    };
    let mut child = Command::new(program).args(args).spawn()?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Err(io::Error::other(format!("everseed ended: {status}")));
        }
        let of = |table| fs::read_to_string(format!("/proc/{}/{table}", child.id()));
        // `smaps_rollup` is exact. `status` has the peak, and may be some pages behind.
        let (now, ever) = (of("smaps_rollup")?, of("status")?);
        let all = fs::read_to_string("/proc/meminfo")?;
        println!(
            "memory: most {} now {} anonymous {} machine {} available {}",
            kib(&ever, "VmHWM:"),
            kib(&now, "Rss:"),
            kib(&now, "Anonymous:"),
            kib(&all, "MemTotal:"),
            kib(&all, "MemAvailable:"),
        );
        sleep(Duration::from_secs(1));
    }
}

/// Sets the clock and the content's times to a time that does not fit into 32 bits.
fn far_future() -> io::Result<()> {
    const YEAR_2040: Timespec = Timespec {
        tv_sec: 2_208_988_800,
        tv_nsec: 0,
    };
    clock_settime(ClockId::Realtime, YEAR_2040)?;
    let times = Timestamps {
        last_access: YEAR_2040,
        last_modification: YEAR_2040,
    };
    for entry in fs::read_dir("/srv/everseed")? {
        utimensat(CWD, entry?.path(), &times, AtFlags::empty())?;
    }
    Ok(())
}

/// The number after a key in one of the kernel's tables.
fn kib<'a>(text: &'a str, key: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let words = line.and_then(|line| line.split_whitespace().next());
    words.unwrap_or("?")
}

/// Loads the modules of the network card, in the order of their names.
fn modules() -> io::Result<()> {
    let entries = fs::read_dir("/modules")?;
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        finit_module(File::open(path)?, c"", 0)?;
    }
    Ok(())
}

/// The network as qemu expects it, by rtnetlink(7).
fn network() -> io::Result<()> {
    const LOOPBACK: u32 = 1;
    const CARD: u32 = 2;
    const SELF: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
    const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
    ask(RTM_NEWLINK, &up(LOOPBACK))?;
    ask(RTM_NEWLINK, &up(CARD))?;
    let card = CARD.to_ne_bytes();
    let mut address = vec![AF_INET, 24, 0, 0];
    address.extend(card);
    attribute(&mut address, IFA_LOCAL, SELF);
    attribute(&mut address, IFA_ADDRESS, SELF);
    ask(RTM_NEWADDR, &address)?;
    // struct rtmsg: no prefix, table RT_TABLE_MAIN, protocol RTPROT_BOOT, scope universe, type unicast.
    let mut route = vec![AF_INET, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0];
    attribute(&mut route, RTA_GATEWAY, GATEWAY);
    ask(RTM_NEWROUTE, &route)
}

/// The body of a message that switches a link on.
fn up(link: u32) -> Vec<u8> {
    const IFF_UP: u32 = 1;
    let mut body = vec![0; 4];
    body.extend(link.to_ne_bytes());
    // The flags, then the mask of flags that change.
    body.extend(IFF_UP.to_ne_bytes());
    body.extend(IFF_UP.to_ne_bytes());
    body
}

fn attribute(body: &mut Vec<u8>, kind: u16, ip: Ipv4Addr) {
    body.extend(8_u16.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(ip.octets());
}

/// Sends one message to the kernel, and returns the kernel's error.
fn ask(kind: u16, body: &[u8]) -> io::Result<()> {
    const REQUEST_ACK_CREATE: u16 = 0x1 | 0x4 | 0x400;
    const HEAD: usize = 16;
    let len = u32::try_from(HEAD + body.len()).map_err(io::Error::other)?;
    let mut message = len.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(REQUEST_ACK_CREATE.to_ne_bytes());
    // Sequence number and sender; the kernel fills in the sender.
    message.extend([0; 8]);
    message.extend(body);
    // Without a protocol the socket is for rtnetlink.
    let kernel = socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    send(&kernel, &message, SendFlags::empty())?;
    let mut answer = [0; 256];
    recv(&kernel, &mut answer, RecvFlags::empty())?;
    let code = answer.get(HEAD..HEAD + 4).and_then(|b| b.try_into().ok());
    match code.map_or(0, i32::from_ne_bytes) {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(-code)),
    }
}

const AF_INET: u8 = 2;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_GATEWAY: u16 = 5;
