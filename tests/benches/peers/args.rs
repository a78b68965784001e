//! The command line: which rows, clients and rounds are measured.

use crate::clients::Client;

pub(crate) const USAGE: &str = "\
cargo bench -p everseed-tests [-- [quick|smoke] [OPTIONS]]

Measures everseed (target/release/everseed, or what EVERSEED in the environment
names) beside other clients, and prints tables in Markdown. A client that is not
installed is named, and its column is empty. Needs root, or a user namespace.

  quick                less work, one round: about 10 minutes
  smoke                hardly any work, but every byte is compared; fails if a
                       client is missing or does not do what it should
      --rows ROW,..    crowd, one, far, fetch, uplink, idle, cpu, pieces,
                       torrents, size
      --clients NAME,..  everseed, floor, nginx, rtorrent, libtorrent,
                       libtorrent-least, aria2, transmission
      --only TEXT      only cases of far, fetch and uplink with TEXT in their
                       title: `100 ms`
      --congestion NAME  congestion control of far, fetch and uplink, at both
                       ends (default: cubic)
      --rounds N       rounds of all rows, in turn; medians count (default: 3,
                       with quick and smoke 1)
      --with OPTIONS   options of everseed, instead of
                       `--slots 50 --max-peers 1000` (far, fetch and uplink:
                       instead of none)
";

/// Figures that are measured together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Row {
    /// Fifty peers download at once.
    Crowd,
    /// One peer downloads; before that, everseed checks the content.
    One,
    /// Far peers download.
    Far,
    /// The client downloads from a far seeder.
    Fetch,
    /// Many peers share a slow uplink.
    Uplink,
    /// Memory with idle peers.
    Idle,
    /// CPU time with idle peers.
    Cpu,
    /// Memory of many pieces.
    Pieces,
    /// Memory of many torrents.
    Torrents,
    /// The size of the program.
    Size,
}

impl Row {
    pub(crate) const ALL: [Row; 10] = [
        Row::Crowd,
        Row::One,
        Row::Far,
        Row::Fetch,
        Row::Uplink,
        Row::Idle,
        Row::Cpu,
        Row::Pieces,
        Row::Torrents,
        Row::Size,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Row::Crowd => "crowd",
            Row::One => "one",
            Row::Far => "far",
            Row::Fetch => "fetch",
            Row::Uplink => "uplink",
            Row::Idle => "idle",
            Row::Cpu => "cpu",
            Row::Pieces => "pieces",
            Row::Torrents => "torrents",
            Row::Size => "size",
        }
    }
}

/// The amount of work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Size {
    Full,
    Quick,
    Smoke,
}

impl Size {
    pub(crate) fn is_smoke(self) -> bool {
        self == Size::Smoke
    }

    /// One of three values.
    pub(crate) fn pick<T>(self, full: T, quick: T, smoke: T) -> T {
        match self {
            Size::Full => full,
            Size::Quick => quick,
            Size::Smoke => smoke,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) size: Size,
    rows: Vec<Row>,
    pub(crate) clients: Vec<Client>,
    pub(crate) rounds: usize,
    /// A text that the title of a measured case contains.
    only: String,
    /// The congestion control of lines to far machines.
    pub(crate) congestion: String,
    /// The command line, printed so that others can repeat the run.
    pub(crate) words: Vec<String>,
    /// The options of everseed, if they are not the usual ones.
    with: Option<String>,
    /// Options that a case adds.
    pub(crate) also: Vec<String>,
}

impl Args {
    /// `None` if the usage is to be printed.
    pub(crate) fn parse(words: &[String]) -> Result<Option<Args>, String> {
        // `cargo bench` passes `--bench`. Without it this is `cargo test`, which only tries whether the bench works.
        let benched = words.iter().any(|word| word == "--bench");
        let mut args = Args {
            size: if benched { Size::Full } else { Size::Smoke },
            rows: Row::ALL.to_vec(),
            clients: Client::ALL.to_vec(),
            rounds: 0,
            only: String::new(),
            congestion: "cubic".to_owned(),
            words: words
                .iter()
                .filter(|word| *word != "--bench")
                .cloned()
                .collect(),
            with: None,
            also: Vec::new(),
        };
        let mut words = words.iter().filter(|word| *word != "--bench");
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "quick" => args.size = Size::Quick,
                "smoke" => args.size = Size::Smoke,
                "--rows" => args.rows = list(value()?, &Row::ALL, Row::name)?,
                "--clients" => args.clients = list(value()?, &Client::ALL, Client::name)?,
                "--rounds" => {
                    let rounds = value()?.parse().ok().filter(|rounds| *rounds > 0);
                    args.rounds = rounds.ok_or("--rounds takes a number from 1")?;
                }
                "--congestion" => args.congestion = value()?.to_owned(),
                "--only" => args.only = value()?.to_owned(),
                "--with" => args.with = Some(value()?.to_owned()),
                "-h" | "--help" => return Ok(None),
                _ => return Err(format!("{word} is unknown")),
            }
        }
        if args.rounds == 0 {
            args.rounds = args.size.pick(3, 1, 1);
        }
        Ok(Some(args))
    }

    /// The options of everseed for a row.
    pub(crate) fn options(&self, row: Row) -> Vec<String> {
        let usual = match row {
            Row::Far | Row::Fetch | Row::Uplink => "",
            _ => "--slots 50 --max-peers 1000",
        };
        let words = self.with.as_deref().unwrap_or(usual);
        let words = words.split_whitespace().map(str::to_owned);
        words.chain(self.also.iter().cloned()).collect()
    }

    /// Whether a case with this title is measured.
    pub(crate) fn wants(&self, title: &str) -> bool {
        title.contains(&self.only)
    }

    pub(crate) fn has(&self, row: Row) -> bool {
        self.rows.contains(&row)
    }
}

/// The named ones, in the order of `all`.
fn list<T: Copy>(names: &str, all: &[T], name: fn(T) -> &'static str) -> Result<Vec<T>, String> {
    let known = |wanted: &&str| !all.iter().any(|one| name(*one) == *wanted);
    if let Some(unknown) = names.split(',').find(known) {
        return Err(format!("{unknown} is unknown"));
    }
    let named = |one: &T| names.split(',').any(|wanted| wanted == name(*one));
    Ok(all.iter().copied().filter(named).collect())
}
