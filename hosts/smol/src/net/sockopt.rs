//! Socket options that no library of ours knows, as system calls by number.
//!
//! All are optional: a kernel without one costs memory or time and nothing else.

#![allow(unsafe_code)]

use std::ffi::c_int;
use std::os::fd::{AsFd, AsRawFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Bytes of the kernel's memory that hold what is not sent or not acknowledged on a socket; `None` if the kernel does
/// not tell (before Linux 4.12).
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

/// Bytes that were written to a socket and are not sent yet; 0 if the kernel does not tell.
pub(crate) fn unsent(socket: &impl AsFd) -> usize {
    let mut bytes: c_int = 0;
    // SAFETY: The kernel writes one number.
    let done = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), SIOCOUTQNSD, &raw mut bytes) };
    usize::try_from(bytes).map_or(0, |bytes| if done == 0 { bytes } else { 0 })
}

/// Whether the kernel takes more bytes to send. If not, it signals later when it does.
pub(crate) fn takes_more(socket: &impl AsFd) -> bool {
    let mut sockets = [PollFd::new(socket, PollFlags::OUT)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // After an error the next write finds the cause.
    poll(&mut sockets, Some(&now)).map_or(true, |ready| ready > 0)
}

/// Bytes that a peer can have on their way: its rate times the shortest round trip so far. `None` if the kernel does
/// not tell (before Linux 4.9).
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

/// Sets the receive buffer, the kernel's overhead included; beyond the system's limit if this process may.
pub(crate) fn set_received(socket: &impl AsFd, bytes: usize) {
    set_forced(socket, SO_RCVBUFFORCE, libc::SO_RCVBUF, bytes);
}

/// Sets the receive buffer of a connected socket, whose window was made for the former one.
pub(crate) fn change_received(socket: &impl AsFd, bytes: usize) {
    set_received(socket, bytes);
    set(socket, libc::IPPROTO_TCP, libc::TCP_WINDOW_CLAMP, bytes);
}

/// Sets the send buffer, likewise.
pub(crate) fn set_sent(socket: &impl AsFd, bytes: usize) {
    set_forced(socket, SO_SNDBUFFORCE, libc::SO_SNDBUF, bytes);
}

/// Unlocks the receive buffer, so that the kernel sizes it again. Only then can the windows of a listener's callers
/// later grow beyond 64 KiB.
pub(crate) fn unlock_received(socket: &impl AsFd) {
    set(socket, libc::SOL_SOCKET, SO_BUF_LOCK, SOCK_SNDBUF_LOCK);
}

/// Makes a UDP socket report datagrams that did not arrive, in its error queue.
pub(crate) fn tell_unreachable(socket: &impl AsFd, v6: bool) {
    match v6 {
        false => set(socket, libc::IPPROTO_IP, libc::IP_RECVERR, 1),
        true => set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1),
    };
}

fn set_forced(socket: &impl AsFd, forced: c_int, name: c_int, bytes: usize) {
    // The kernel doubles the number, to count its overhead with the bytes.
    let _ = set(socket, libc::SOL_SOCKET, forced, bytes / 2)
        || set(socket, libc::SOL_SOCKET, name, bytes / 2);
}

/// Sets an option. Returns whether the kernel did it.
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

/// Numbers that libc does not name on all machines; they are the same on all that everseed is built for.
const SO_SNDBUFFORCE: c_int = 32;
const SO_RCVBUFFORCE: c_int = 33;
const SO_MEMINFO: c_int = 55;
const SO_BUF_LOCK: c_int = 72;
const SIOCOUTQNSD: libc::Ioctl = 0x894b;
const SOCK_SNDBUF_LOCK: usize = 1;

/// The length of the answer to `SO_MEMINFO`, and the index of the number in it.
const MEMINFO_VARS: usize = 9;
const WMEM_QUEUED: usize = 5;

/// The length of `struct tcp_info` in words, up to the delivery rate in bytes per second. Before that come the
/// shortest round trip in µs and two counts.
const INFO_WORDS: usize = 42;
