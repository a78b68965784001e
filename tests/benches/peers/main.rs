//! `cargo bench -p everseed-tests` measures everseed beside other clients that a user could choose, and beside the
//! least that a program could do. All do the same work in one run. It prints the tables of the README.
//!
//! | module | what it is |
//! |---|---|
//! | [`args`] | the command line: which rows, clients and rounds |
//! | [`clients`] | starts each client as a seeder |
//! | [`floor`] | a seeder that does only what every seeder has to do |
//! | [`data`], [`tracker`] | torrents, their files and their tracker |
//! | [`bench`] | a run: its network, its clients, its results |
//! | [`serving`], [`far`], [`fetch`], [`uplink`], [`idle`], [`start`] | the measurements |
//! | [`figures`], [`table`], [`machine`] | titles and goals of the figures, and the tables |
//!
//! The bench measures from outside, through `/proc` and `ss`. All clients are on loopback, in a network of their own,
//! with the content in the page cache. There a part of the cost of receiving counts as the sender's, so only ratios
//! within one run say something.

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
    // After so little work the figures say nothing.
    let (clients, failed) = (bench.clients.len(), bench.failures.join("; "));
    println!(
        "{clients} clients measured{}{failed}",
        if failed.is_empty() { "" } else { "; failed: " }
    );
    ExitCode::from(u8::from(!failed.is_empty()))
}

/// Measures a row for one client after the other. Idle clients are measured side by side.
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
