//! `everseed seed` and `everseed get` as configurations. So all three verbs give a session the same kind of first
//! commands.

use crate::options::get::Fetch;
use crate::options::run::{Config, Item};
use crate::options::seed::SeedArgs;

impl Config {
    /// The configuration of a `seed` command.
    pub fn of_seed(args: SeedArgs) -> Config {
        let items = args.paths.iter().map(|path| Item {
            path: path.clone(),
            data: args.data.clone(),
            files: args.files.clone(),
            fetch: None,
        });
        let items = items.collect();
        Config::one_off(args, items, None)
    }

    /// The configuration of a `get` command: every torrent goes to the same folder, with the same goal.
    pub fn of_get(args: SeedArgs, fetch: &Fetch) -> Config {
        let items = args.paths.iter().map(|path| {
            let mut fetch = fetch.clone();
            // Errors in a link were found when the arguments were parsed.
            let _ = fetch.take_link(path.to_str().unwrap_or_default());
            // The download limit is for all downloads together.
            fetch.down = None;
            Item {
                path: path.clone(),
                data: None,
                files: args.files.clone(),
                fetch: Some(Box::new(fetch)),
            }
        });
        let items = items.collect();
        Config::one_off(args, items, fetch.down)
    }

    fn one_off(seed: SeedArgs, items: Vec<Item>, down: Option<u64>) -> Config {
        Config {
            seed,
            download: None,
            down,
            rates: Vec::new(),
            watch: Vec::new(),
            torrents: 0,
            state_in_ram: true,
            items,
        }
    }

    /// The same configuration without any items.
    pub(crate) fn without_items(&self) -> Config {
        Config {
            watch: Vec::new(),
            items: Vec::new(),
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lexopt::Parser;

    #[test]
    fn each_torrent_has_its_own_goal() {
        let magnet =
            "magnet:?xt=urn:btih:0123456789abcdef0123456789abcdef01234567&so=0&x.pe=192.0.2.1:1";
        let parser =
            Parser::from_args(["a.torrent", magnet, "-o", "out", "--down=1M", "--state=s"]);
        let (args, fetch) = Fetch::parse(parser).unwrap();
        let config = Config::of_get(args, &fetch);
        assert_eq!(config.down, Some(1_000_000));
        let goals: Vec<&Fetch> = config
            .items
            .iter()
            .filter_map(|i| i.fetch.as_deref())
            .collect();
        let [file, link] = goals.as_slice() else {
            panic!("{goals:?}");
        };
        assert!(file.only.is_empty() && file.peers.is_empty());
        assert_eq!(
            (link.only.as_slice(), link.peers.len()),
            (&["1".to_owned()][..], 1)
        );
        assert!(
            goals
                .iter()
                .all(|goal| goal.out.ends_with("out") && goal.down.is_none())
        );
    }
}
