//! The resources of a program: CPU time, its own memory, and the kernel's memory for its connections.

use std::fs;
use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::process::program;
use crate::{PATIENCE, wait};

/// CPU time of a process and its children so far, of all their threads.
pub fn cpu(pid: u32) -> Duration {
    family(pid).into_iter().map(own_cpu).sum()
}

/// CPU time of a process. The counts of its threads are exact to the nanosecond; those of ended threads are only in
/// the process's count, in hundredths of a second.
fn own_cpu(pid: u32) -> Duration {
    // `PID (NAME) STATE ..`: utime and stime are the 14th and 15th field.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    let ticks = fields
        .skip(11)
        .take(2)
        .filter_map(|n| n.parse::<u64>().ok());
    threads_cpu(pid).max(Duration::from_millis(ticks.sum::<u64>() * 10))
}

/// CPU time of a process's present threads, to the nanosecond.
pub fn threads_cpu(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    let threads = tasks.into_iter().flatten().flatten().filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(threads.sum())
}

/// CPU time of one thread, to the nanosecond.
pub fn thread_cpu(pid: u32, thread: u32) -> Duration {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{thread}/schedstat"));
    let first = text.unwrap_or_default();
    let first = first.split(' ').next().and_then(|first| first.parse().ok());
    Duration::from_nanos(first.unwrap_or(0))
}

/// A process and its children.
fn family(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = fs::read_to_string(path).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|n| n.parse().ok());
    std::iter::once(pid).chain(children).collect()
}

/// Resident memory of a process and its children, in bytes.
pub fn resident(pid: u32) -> u64 {
    family(pid)
        .into_iter()
        .map(|pid| field(pid, "smaps_rollup", "Rss:"))
        .sum()
}

/// The part of it that no file backs, and that the kernel cannot just drop.
pub fn anonymous(pid: u32) -> u64 {
    family(pid)
        .into_iter()
        .map(|pid| field(pid, "smaps_rollup", "Anonymous:"))
        .sum()
}

/// [`anonymous`] once it stays the same for some seconds. What is used for the first time comes late on a slow machine.
pub fn settled(pid: u32) -> u64 {
    let (mut last, mut since) = (0, Instant::now());
    wait("memory that stays the same", PATIENCE, || {
        let now = anonymous(pid);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        (since.elapsed() > SETTLED).then_some(now)
    })
}

/// The most resident memory since the start or the last [`forget_peak`].
pub fn peak(pid: u32) -> u64 {
    family(pid)
        .into_iter()
        .map(|pid| field(pid, "status", "VmHWM:"))
        .sum()
}

/// Resets [`peak`].
pub fn forget_peak(pid: u32) {
    for pid in family(pid) {
        let path = format!("/proc/{pid}/clear_refs");
        fs::write(&path, "5").unwrap_or_else(|e| panic!("{path}: {e}"));
    }
}

/// A number in KiB from a file of `/proc/PID`, in bytes; 0 if the process is gone. Resident memory comes from
/// `smaps_rollup`, because the numbers in `status` are not exact to the page.
fn field(pid: u32, file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let word = line.and_then(|line| line.split_whitespace().next());
    word.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// The kernel's memory for TCP connections of this address, in bytes: received and unread, written and not
/// acknowledged, and reserved. `/proc/net/sockstat` has only the sum of the whole machine.
pub fn tcp_memory(of: IpAddr) -> u64 {
    let ss = program("ss", "iproute2");
    let output = Command::new(&ss)
        .args(["-tmnHO", "state", "connected", "src"])
        .arg(of.to_string())
        .output();
    let output = output.unwrap_or_else(|e| panic!("{ss}: {e}"));
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().filter_map(socket_memory).sum()
}

/// The memory in a line with `skmem:(r0,rb131072,t0,tb87040,f4096,w12288,o0,bl0,d0)`.
fn socket_memory(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once("skmem:(")?;
    let (numbers, _) = rest.split_once(')')?;
    let held = numbers.split(',').filter_map(|number| {
        let digits = number.trim_start_matches(|c: char| c.is_ascii_alphabetic());
        let name = &number[..number.len() - digits.len()];
        // The kernel counts reserved bytes in a signed number, which is now and then below 0 for a moment, and prints
        // it unsigned.
        let bytes = digits.parse::<u32>().ok()?.cast_signed();
        matches!(name, "r" | "f" | "w").then(|| u64::try_from(bytes).unwrap_or(0))
    });
    Some(held.sum())
}

/// The time after which nothing more is expected to change.
const SETTLED: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_a_socket() {
        let line =
            "ESTAB 0 0 10.0.0.1:1 10.0.0.2:2 skmem:(r1,rb131072,t0,tb87040,f4096,w20,o7,bl0,d0)";
        assert_eq!(socket_memory(line), Some(4117));
        let below = line.replace("f4096", "f4294966272");
        assert_eq!(socket_memory(&below), Some(21));
        assert_eq!(socket_memory("ESTAB 0 0 10.0.0.1:1 10.0.0.2:2"), None);
    }

    #[test]
    fn this_process() {
        let pid = std::process::id();
        let before = cpu(pid);
        let mut sum = 0_u64;
        while cpu(pid) < before + Duration::from_millis(20) {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(resident(pid) >= anonymous(pid) && anonymous(pid) > 0);
        assert!(peak(pid) >= resident(pid) / 2);
    }
}
