//! Options of sockets that no library of ours knows: system calls with a number each.
//!
//! They are wishes: a kernel that does not know one costs memory or time, nothing else.

#![allow(unsafe_code)]

use std::ffi::c_int;
use std::os::fd::{AsFd, AsRawFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Bytes of the kernel's memory that hold what was sent on a socket and is not acknowledged, or not sent yet;
/// `None` if it does not tell (before Linux 4.12).
pub(crate) fn unacknowledged(socket: &impl AsFd) -> Option<u32> {
    let mut numbers = [0_u32; MEMINFO_VARS];
    let mut len = libc::socklen_t::try_from(size_of_val(&numbers)).ok()?;
    // SAFETY: The kernel writes at most `len` bytes to `numbers`, which are so many, and then `len`.
    let done = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_MEMINFO,
            (&raw mut numbers).cast(),
            &raw mut len,
        )
    };
    (done == 0).then_some(numbers[WMEM_QUEUED])
}

/// Bytes that were written to a socket and not sent yet; 0 if the kernel does not tell.
pub(crate) fn unsent(socket: &impl AsFd) -> usize {
    let mut bytes: c_int = 0;
    // SAFETY: The kernel writes one number.
    let done = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), SIOCOUTQNSD, &raw mut bytes) };
    usize::try_from(bytes).map_or(0, |bytes| if done == 0 { bytes } else { 0 })
}

/// Whether the kernel takes more of what is sent. If not, it says when it does to who waits for that.
pub(crate) fn takes_more(socket: &impl AsFd) -> bool {
    let mut sockets = [PollFd::new(socket, PollFlags::OUT)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // With an error the next write finds out.
    poll(&mut sockets, Some(&now)).map_or(true, |ready| ready > 0)
}

/// Bytes that a peer can have on their way: its rate times the shortest round trip there was; `None` if the kernel
/// does not tell (before Linux 4.9).
pub(crate) fn on_their_way(socket: &impl AsFd) -> Option<u64> {
    let mut words = [0_u32; INFO_WORDS];
    let size = size_of_val(&words);
    let mut len = libc::socklen_t::try_from(size).ok()?;
    // SAFETY: The kernel writes at most `len` bytes to `words`, which are so many, and then `len`.
    let done = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            words.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if done != 0 || usize::try_from(len).ok()? < size {
        return None;
    }
    let [.., min_rtt_us, _, _, low, high] = words;
    let rate = match cfg!(target_endian = "little") {
        true => u64::from(high) << 32 | u64::from(low),
        false => u64::from(low) << 32 | u64::from(high),
    };
    Some(rate.saturating_mul(min_rtt_us.into()) / 1_000_000)
}

/// Bytes that the kernel holds unread at most, with its own beside them, beyond what is allowed to everybody if
/// this process may.
pub(crate) fn set_received(socket: &impl AsFd, bytes: usize) {
    set_forced(socket, SO_RCVBUFFORCE, libc::SO_RCVBUF, bytes);
}

/// The same for one that is connected, whose window was made for the room that there was then.
pub(crate) fn change_received(socket: &impl AsFd, bytes: usize) {
    set_received(socket, bytes);
    set(socket, libc::IPPROTO_TCP, libc::TCP_WINDOW_CLAMP, bytes);
}

/// The same for what was sent.
pub(crate) fn set_sent(socket: &impl AsFd, bytes: usize) {
    set_forced(socket, SO_SNDBUFFORCE, libc::SO_SNDBUF, bytes);
}

/// Leaves it to the kernel again how much it holds of what was received. Only then the windows of those who call a listener can grow beyond 64 KiB later.
pub(crate) fn unlock_received(socket: &impl AsFd) {
    set(socket, libc::SOL_SOCKET, SO_BUF_LOCK, SOCK_SNDBUF_LOCK);
}

/// Has a UDP socket tell of datagrams that did not arrive, in its queue of errors.
pub(crate) fn tell_unreachable(socket: &impl AsFd, v6: bool) {
    match v6 {
        false => set(socket, libc::IPPROTO_IP, libc::IP_RECVERR, 1),
        true => set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1),
    };
}

fn set_forced(socket: &impl AsFd, forced: c_int, name: c_int, bytes: usize) {
    // The kernel takes twice as much, for it counts its own with the bytes.
    let _ = set(socket, libc::SOL_SOCKET, forced, bytes / 2)
        || set(socket, libc::SOL_SOCKET, name, bytes / 2);
}

/// Whether it did as it was told.
fn set(socket: &impl AsFd, level: c_int, name: c_int, value: usize) -> bool {
    let value = c_int::try_from(value).unwrap_or(c_int::MAX);
    let Ok(len) = libc::socklen_t::try_from(size_of_val(&value)) else {
        return false;
    };
    // SAFETY: The kernel reads `len` bytes of `value`, which are so many.
    let done = unsafe {
        let value = (&raw const value).cast();
        libc::setsockopt(socket.as_fd().as_raw_fd(), level, name, value, len)
    };
    done == 0
}

/// Numbers of the kernel's that libc does not name on all machines; they are the same on those that everseed is
/// made for.
const SO_SNDBUFFORCE: c_int = 32;
const SO_RCVBUFFORCE: c_int = 33;
const SO_MEMINFO: c_int = 55;
const SO_BUF_LOCK: c_int = 72;
const SIOCOUTQNSD: libc::Ioctl = 0x894b;
const SOCK_SNDBUF_LOCK: usize = 1;

/// What `SO_MEMINFO` answers, and where in it the number is.
const MEMINFO_VARS: usize = 9;
const WMEM_QUEUED: usize = 5;

/// The words of `struct tcp_info` up to the rate at which data was delivered, in bytes per second, before which
/// comes the shortest round trip in µs and two counts.
const INFO_WORDS: usize = 42;
