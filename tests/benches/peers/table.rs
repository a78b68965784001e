//! The results as tables in Markdown: medians, with the least and the most if there were several rounds.

use std::fmt::Write;

use crate::bench::Bench;
use crate::clients::Client;
use crate::figures::{Figure, Goal};
use crate::machine;

/// Both tables: everseed with its goals and the best of the others, then all clients.
pub(crate) fn show(bench: &Bench) -> String {
    let rounds = match bench.args.rounds {
        1 => "one round".to_owned(),
        rounds => format!("medians of {rounds} rounds, with the least and the most"),
    };
    let mut out = format!(
        "\nOn {}; load {} before and {} after; {rounds}:\n\n    {}\n",
        machine::machine(),
        bench.load,
        machine::load(),
        machine::command(&bench.args)
    );
    out += "\n| | everseed | goal | best of others |\n|---|---|---|---|\n";
    for figure in measured(bench) {
        let ours = spread(bench.values(figure, Client::Everseed));
        let (goal, missed) = goal(bench, figure);
        let mark = if missed { " (missed)" } else { "" };
        let (title, best) = (figure.title(), best(bench, figure));
        let _ = writeln!(out, "| {title} | {ours} | {goal}{mark} | {best} |");
    }
    out += &beside(bench);
    for note in &bench.notes {
        let _ = writeln!(out, "\n{note}.");
    }
    out
}

/// The table of all clients. Its last columns are everseed's figures divided by those of others, round by round.
fn beside(bench: &Bench) -> String {
    let clients = &bench.args.clients;
    let (ours, theirs) = (Client::Everseed, |client: &&Client| {
        matches!(
            client,
            Client::Floor | Client::Rtorrent | Client::Libtorrent
        )
    });
    let compared: Vec<_> = match clients.contains(&ours) {
        true => clients.iter().filter(theirs).copied().collect(),
        false => Vec::new(),
    };
    let what = match bench.args.rounds {
        1 => String::new(),
        rounds => format!("median of {rounds} rounds (least to most)"),
    };
    let titles = clients.iter().map(|client| client.title().to_owned());
    let titles = titles.chain(compared.iter().map(|c| format!("× {}", c.title())));
    let titles: Vec<_> = titles.collect();
    let (head, lines) = (titles.join(" | "), "---|".repeat(titles.len() + 1));
    let mut out = format!("\n| {what} | {head} |\n|{lines}\n");
    for figure in measured(bench) {
        let value = |client: &Client| spread(bench.values(figure, *client));
        let times = |client: &Client| {
            let ratios = ratios(bench.values(figure, ours), bench.values(figure, *client));
            match ratios.iter().all(|ratio| ratio.is_finite()) {
                true => spread(&ratios),
                false => String::new(),
            }
        };
        let cells = clients.iter().map(value).chain(compared.iter().map(times));
        let cells: Vec<_> = cells.collect();
        let _ = writeln!(out, "| {} | {} |", figure.title(), cells.join(" | "));
    }
    out
}

fn measured(bench: &Bench) -> impl Iterator<Item = Figure> {
    let known = |figure: &Figure| {
        let mut clients = bench.clients.iter();
        clients.any(|client| !bench.values(*figure, *client).is_empty())
    };
    Figure::all().filter(known)
}

/// The goal, what everseed reached in this run, and whether it missed the goal.
fn goal(bench: &Bench, figure: Figure) -> (String, bool) {
    let ours = median(bench.values(figure, Client::Everseed));
    let is = |missed: fn(f64, f64) -> bool, goal| ours.is_some_and(|ours| missed(ours, goal));
    let more: fn(f64, f64) -> bool = |ours, goal| ours > goal;
    let less: fn(f64, f64) -> bool = |ours, goal| ours < goal;
    match figure.goal() {
        Goal::Open => (String::new(), false),
        Goal::AtMost(goal) if figure == Figure::Hash => {
            let openssl = median(&ratios(
                &bench.openssl,
                bench.values(figure, Client::Everseed),
            ));
            let percent = openssl.map_or(String::new(), |r| format!(", is {:.0} %", r * 100.0));
            let text = format!("{goal}, 90 % of OpenSSL's speed{percent}");
            (text, is(more, goal) || openssl.is_some_and(|r| r < 0.9))
        }
        Goal::AtMost(goal) => (
            goal.to_string(),
            is(more, goal + if goal == 0.0 { PAGES } else { 0.0 }),
        ),
        Goal::Within(least, most) => {
            let text = format!("{least} to {most}");
            (text, is(less, least) || is(more, most))
        }
        Goal::AtLeast(goal) => (format!("at least {goal}"), is(less, goal)),
        Goal::AtMostTimes(of) => times(bench, figure, of, more),
        Goal::AtLeastTimes(of) => times(bench, figure, of, less),
        Goal::AtLeastTimesLeast(of) => {
            let each = of.iter().map(|one| times(bench, figure, &[*one], less));
            let (texts, missed): (Vec<_>, Vec<_>) = each.unzip();
            (texts.join(" or "), missed.iter().all(|missed| *missed))
        }
    }
}

/// A goal relative to other clients. Rounds are compared one by one, because the machine may change between them.
fn times(
    bench: &Bench,
    figure: Figure,
    of: &[(f64, Client)],
    missed: fn(f64, f64) -> bool,
) -> (String, bool) {
    let ours = bench.values(figure, Client::Everseed);
    let mut any = false;
    let parts = of.iter().map(|(goal, client)| {
        let ratios = ratios(ours, bench.values(figure, *client));
        any |= median(&ratios).is_some_and(|is| missed(is, *goal));
        let is = match ratios.is_empty() {
            true => String::new(),
            false => format!(", is {}", spread(&ratios)),
        };
        format!("{goal} × {}{is}", client.title())
    });
    let parts: Vec<_> = parts.collect();
    (parts.join("; "), any)
}

/// The best of the other clients.
fn best(bench: &Bench, figure: Figure) -> String {
    let others = bench.clients.iter().filter(|client| client.is_other());
    let values = others.filter_map(|c| Some((median(bench.values(figure, *c))?, c)));
    let best = values.min_by(|(a, _), (b, _)| match figure.more_is_better() {
        true => b.total_cmp(a),
        false => a.total_cmp(b),
    });
    best.map_or(String::new(), |(value, client)| {
        format!("{} {}", client.title(), number(Some(value)))
    })
}

/// Our values divided by theirs, round by round.
fn ratios(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    ours.iter().zip(theirs).map(|(a, b)| a / b).collect()
}

/// The median, with the least and the most if there are several values.
fn spread(values: &[f64]) -> String {
    let median = number(median(values));
    let least = values.iter().copied().reduce(f64::min);
    let most = values.iter().copied().reduce(f64::max);
    match values.len() {
        0 | 1 => median,
        _ => format!("{median} ({} to {})", number(least), number(most)),
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.len().checked_sub(1)? / 2, values.len() / 2);
    Some((values[low] + values[high]) / 2.0)
}

/// A value with as many digits as mean something.
fn number(value: Option<f64>) -> String {
    match value {
        None => String::new(),
        Some(value) if value.abs() >= 100.0 => format!("{value:.0}"),
        Some(value) if value.abs() >= 10.0 => format!("{value:.1}"),
        Some(value) if value.abs() >= 0.1 || value == 0.0 => format!("{value:.2}"),
        Some(value) => format!("{value:.3}"),
    }
}

/// MiB by which memory may differ and still counts as given back.
const PAGES: f64 = 16.0 / 1024.0;
