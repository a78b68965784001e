//! A distant machine: packets take time in both directions, share a line of limited rate, wait in a queue before it,
//! and some are lost.
//!
//! Not all kernels can do that themselves (`netem`), so a thread does it here. It carries packets between two tun
//! devices, one in the test's network, the other in that of a [`Neighbour`]. It looks at them every `TICK`, by which
//! a packet may be late.

use std::collections::VecDeque;
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::ioctl::{Updater, ioctl, opcode};

use crate::net::{Neighbour, Net, set_up_ours};

/// The line to a machine and back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Way {
    /// Round-trip time on an empty line.
    pub round_trip: Duration,
    /// Rate in each direction, in bits per second.
    pub rate_bps: u64,
    /// Lost packets in a million, in each direction.
    pub loss_ppm: u32,
    /// Decides which packets are lost: the same number loses the same packets.
    pub chance: u64,
    /// Bytes that may wait for the line; a packet that finds more is dropped.
    pub queue: u64,
}

impl Way {
    /// A line without loss, whose queue holds as much as is on its way on a full line.
    pub fn new(round_trip: Duration, rate_bps: u64) -> Way {
        let on_its_way = u128::from(rate_bps / 8) * round_trip.as_millis() / 1000;
        Way {
            round_trip,
            rate_bps,
            loss_ppm: 0,
            chance: 0,
            queue: u64::try_from(on_its_way).expect("a line of this world"),
        }
    }

    /// The same line with this loss.
    #[must_use]
    pub fn losing(self, loss_ppm: u32, chance: u64) -> Way {
        Way {
            loss_ppm,
            chance,
            ..self
        }
    }
}

/// A distant machine. Its addresses begin at [`Far::ip`]. It sees the addresses of its test, and the near end of its
/// line.
#[derive(Debug)]
pub struct Far {
    neighbour: Neighbour,
    number: u8,
    stop: Arc<AtomicBool>,
    line: Option<JoinHandle<()>>,
}

impl Far {
    /// Adds a machine at this distance from the one of this thread.
    pub fn new(net: &Net, way: Way) -> Far {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let neighbour = Neighbour::alone(net);
        let device = format!("far{number}");
        let near = tun(&device);
        let far = neighbour.inside(|| tun(&device));
        let up = format!(
            "link set {device} addrgenmode none\nlink set {device} up mtu {MTU} txqueuelen {PACKETS}\n"
        );
        // The loopback interface here has all of 10.0.0.0/8, so this route has to come before it.
        let here = format!(
            "route add unicast 10.30.{number}.0/24 dev {device} table local\n\
             address add 172.31.{number}.1/32 dev {device}\n"
        );
        set_up_ours(net, &format!("{up}{here}"));
        let there = format!(
            "link set lo up\nroute add local 10.30.{number}.0/24 dev lo\n\
             route add 10.0.0.0/24 dev {device} src 10.30.{number}.1\n\
             route add 172.31.{number}.1 dev {device} src 10.30.{number}.1\n"
        );
        neighbour.set_up(&format!("{up}{there}"));
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let line = thread::spawn(move || carry(way, [near, far], &stopped));
        Far {
            neighbour,
            number,
            stop,
            line: Some(line),
        }
    }

    /// Its first address; the next two hundred are its own too.
    pub fn ip(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 30, self.number, 1)
    }

    /// The address of the near end of its line. libtorrent listens only on the interface of its address.
    pub fn near_ip(&self) -> Ipv4Addr {
        Ipv4Addr::new(172, 31, self.number, 1)
    }

    /// Uses this congestion control for all connections between the two, from either end. Only so two systems measure
    /// the same.
    pub fn use_congestion_control(&self, net: &Net, name: &str) {
        let number = self.number;
        let (there, here) = (
            format!(
                "route replace 10.0.0.0/24 dev far{number} src 10.30.{number}.1 congctl {name}\n\
                 route replace 172.31.{number}.1 dev far{number} src 10.30.{number}.1 congctl {name}\n"
            ),
            format!(
                "route replace unicast 10.30.{number}.0/24 dev far{number} table local congctl {name}\n"
            ),
        );
        self.neighbour.set_up(&there);
        set_up_ours(net, &here);
    }

    /// Runs `work` on that machine; sockets that it opens stay there.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.neighbour.inside(work)
    }

    /// The command that runs a program there, to be put before the program.
    pub fn enter(&self) -> Vec<String> {
        self.neighbour.enter()
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(line) = self.line.take() {
            let _ = line.join();
        }
    }
}

/// A tun device in this thread's network: its packets are read and written through the descriptor.
#[allow(unsafe_code)]
fn tun(name: &str) -> OwnedFd {
    /// The used part of `struct ifreq`; the kernel takes 40 bytes at most.
    #[repr(C, align(8))]
    struct Request {
        name: [u8; 16],
        flags: u16,
        rest: [u8; 22],
    }
    const TUN: u16 = 1;
    const NO_HEAD: u16 = 0x1000;
    let path = "/dev/net/tun";
    let device = File::options().read(true).write(true).open(path);
    let device = device.unwrap_or_else(|e| panic!("{path}: {e}: a far machine needs it, and root"));
    let mut request = Request {
        name: [0; 16],
        flags: TUN | NO_HEAD,
        rest: [0; 22],
    };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: TUNSETIFF reads and writes a `struct ifreq`, for which there is room.
    let made = unsafe {
        let request = Updater::<{ opcode::write::<i32>(b'T', 202) }, Request>::new(&mut request);
        ioctl(&device, request)
    };
    made.unwrap_or_else(|e| panic!("{path}: {name}: {e}"));
    rustix::io::ioctl_fionbio(&device, true).expect("a device that does not block");
    device.into()
}

/// Packets on their way in one direction.
struct Line {
    way: Way,
    /// Packets with their times of arrival.
    packets: VecDeque<(Instant, Vec<u8>)>,
    /// The time at which the last packet has left the sender.
    free_at: Instant,
    /// The random state that decides which packets are lost.
    chance: u64,
}

impl Line {
    fn new(way: Way, direction: u64) -> Line {
        Line {
            way,
            packets: VecDeque::new(),
            free_at: Instant::now(),
            chance: 2 * way.chance + direction,
        }
    }

    fn take(&mut self, now: Instant, packet: &[u8]) {
        let start = self.free_at.max(now);
        let waits_ns = (start - now).as_nanos() * u128::from(self.way.rate_bps) / 8;
        let waits = waits_ns / 1_000_000_000 + packet.len() as u128;
        let full = waits > u128::from(self.way.queue) || self.packets.len() >= PACKETS;
        if full || self.loses() {
            return;
        }
        let bits = packet.len() as u64 * 8;
        self.free_at = start + Duration::from_nanos(bits * 1_000_000_000 / self.way.rate_bps);
        let due = self.free_at + self.way.round_trip / 2;
        self.packets.push_back((due, packet.to_vec()));
    }

    fn loses(&mut self) -> bool {
        // A linear congruential generator, whose high bits are good.
        self.chance = (self.chance)
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.chance >> 33) % 1_000_000 < u64::from(self.way.loss_ppm)
    }

    /// Delivers the packets that have arrived by now.
    fn deliver(&mut self, now: Instant, to: &OwnedFd) {
        while let Some((due, packet)) = self.packets.front()
            && *due <= now
        {
            // A packet without room there is lost, as on a real device.
            let _ = rustix::io::write(to, packet);
            self.packets.pop_front();
        }
    }
}

/// Carries packets between the devices until it is told to stop.
fn carry(way: Way, ends: [OwnedFd; 2], stop: &AtomicBool) {
    let mut lines = [Line::new(way, 0), Line::new(way, 1)];
    let mut packet = [0; 2 * MTU];
    while !stop.load(Ordering::Relaxed) {
        if lines.iter().all(|line| line.packets.is_empty()) {
            let mut fds = [&ends[0], &ends[1]].map(|end| PollFd::new(end, PollFlags::IN));
            let _ = poll(&mut fds, Some(&A_WHILE));
        } else {
            thread::sleep(TICK);
        }
        for (from, line) in lines.iter_mut().enumerate() {
            let now = Instant::now();
            while let Ok(len) = rustix::io::read(ends[from].as_fd(), &mut packet) {
                line.take(now, &packet[..len]);
            }
            line.deliver(now, &ends[1 - from]);
        }
    }
}

/// The pause between two looks at the devices.
const TICK: Duration = Duration::from_micros(500);

/// The longest time until the thread sees that it has to stop.
const A_WHILE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// The longest packet, as on Ethernet.
const MTU: usize = 1500;

/// The most packets on their way in one direction, and in a device.
const PACKETS: usize = 20_000;
