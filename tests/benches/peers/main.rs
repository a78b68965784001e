//! everseed beside the clients that a user would pick instead, on the same work in one run, and beside
//! the least that a program could do: `cargo bench -p everseed-tests` prints the tables of README.
//!
//! | module | what it is |
//! |---|---|
//! | [`args`] | what is to be measured |
//! | [`clients`] | how each client is made to seed to everybody at once |
//! | [`floor`] | the least that a seeder could do |
//! | [`data`], [`tracker`] | what is seeded |
//! | [`bench`] | a run: its network, its clients, its results |
//! | [`serving`], [`far`], [`fetch`], [`uplink`], [`idle`], [`start`] | the measurements |
//! | [`figures`], [`table`], [`machine`] | what they are called, their goals, and how they are shown |
//!
//! It measures from outside, by `/proc` and `ss`. Everything is on loopback in a network of its own with
//! the content in the page cache, and part of what receiving costs is counted as the sender's there: only
//! ratios within one run say something.

mod args;
mod bench;
mod clients;
mod data;
mod far;
mod fetch;
mod figures;
mod floor;
mod idle;
mod machine;
mod serving;
mod start;
mod table;
mod tracker;
mod uplink;

use std::process::ExitCode;

use args::{Args, Row};
use bench::Bench;
use clients::Client;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Some((floor::COMMAND, rest)) = words.split_first().map(|(w, r)| (w.as_str(), r)) {
        return floor::run(rest);
    }
    match Args::parse(&words) {
        Ok(Some(args)) => run(args),
        Ok(None) => {
            print!("{}", args::USAGE);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprint!("{error}\n\n{}", args::USAGE);
            ExitCode::from(2)
        }
    }
}

fn run(args: Args) -> ExitCode {
    let mut bench = Bench::new(args);
    for round in 0..bench.args.rounds {
        eprintln!("round {} of {}", round + 1, bench.args.rounds);
        bench.round = round as u64;
        for row in Row::ALL {
            if bench.args.has(row) {
                measure(&mut bench, row);
            }
        }
    }
    if !bench.args.size.is_smoke() {
        print!("{}", table::show(&bench));
        return ExitCode::SUCCESS;
    }
    // Of so little work the numbers say nothing.
    let (clients, failed) = (bench.clients.len(), bench.failures.join("; "));
    println!(
        "{clients} clients measured{}{failed}",
        if failed.is_empty() { "" } else { "; failed: " }
    );
    ExitCode::from(u8::from(!failed.is_empty()))
}

/// One row for one client after the other, but for idle ones, which are measured side by side.
fn measure(bench: &mut Bench, row: Row) {
    let by_client: fn(&mut Bench, Client) -> Result<(), String> = match row {
        Row::Crowd => serving::crowd,
        Row::One => serving::one,
        Row::Far => far::far,
        Row::Fetch => fetch::fetch,
        Row::Uplink => uplink::uplink,
        Row::Pieces => start::pieces,
        Row::Torrents => start::torrents,
        Row::Size => start::size,
        Row::Idle => return idle::memory(bench),
        Row::Cpu => return idle::cpu(bench),
    };
    for client in bench.clients.clone() {
        let result = by_client(bench, client);
        bench.note_failure(client, row, result);
    }
}
