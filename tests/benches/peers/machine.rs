//! The machine, its load and the command of a run, for the head of the tables.

use std::fs;

use crate::args::Args;

/// The machine's CPU, memory, kernel and system.
pub(crate) fn machine() -> String {
    let field = |path: &str, name: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_once([':', '=']));
        value.map_or(String::new(), |(_, value)| {
            value.trim().trim_matches('"').to_owned()
        })
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cpu = match field("/proc/cpuinfo", "model name") {
        // Some architectures do not name the model.
        none if none.is_empty() => std::env::consts::ARCH.to_owned(),
        name => name,
    };
    let memory = field("/proc/meminfo", "MemTotal");
    let kib: u64 = memory.trim_end_matches(" kB").parse().unwrap_or(0);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let system = field("/etc/os-release", "PRETTY_NAME");
    format!(
        "{cores} × {cpu}, {:.1} GiB, Linux {}, {system}",
        kib as f64 / f64::from(1 << 20),
        kernel.trim()
    )
}

/// The load: the mean number of programs that want a CPU, over a minute.
pub(crate) fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or_default().to_owned()
}

/// The command that repeats the run.
pub(crate) fn command(args: &Args) -> String {
    let set = std::env::var("EVERSEED").ok();
    let name = set.as_ref().map(|path| {
        let name = path.rsplit('/').next().unwrap_or(path);
        format!("EVERSEED={name} ")
    });
    let quoted = |word: &String| match word.contains([' ', ',']) && !word.contains('\'') {
        true => format!(" '{word}'"),
        false => format!(" {word}"),
    };
    let words: String = args.words.iter().map(quoted).collect();
    let mark = if words.is_empty() { "" } else { " --" };
    format!(
        "{}cargo bench -p everseed-tests{mark}{words}",
        name.unwrap_or_default()
    )
}
