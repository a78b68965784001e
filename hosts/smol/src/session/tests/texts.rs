//! The times that the texts for users name are those of the program.

use std::time::Duration;

use crate::options::{run, seed};
use crate::session::item::LONGEST_PAUSE;
use crate::session::library::POLL;
use crate::session::scan::SETTLED;
use crate::session::torrent::{ASLEEP, AWAY, EVERY};
use crate::session::turn::CHORES;
use crate::session::turns::{TURN, TURN_AWAY};
use crate::session::watch::NAMES_EVERY;
use crate::storage::prune::KEPT;

/// A time as it is written in the texts.
fn written(time: Duration) -> &'static [&'static str] {
    match time.as_secs() {
        5 => &["5 seconds"],
        10 => &["10 s", "ten seconds"],
        20 => &["20 s"],
        30 => &["30 s", "half a minute", "half minute"],
        300 => &["five minutes"],
        3600 => &["an hour"],
        2_592_000 => &["30 days"],
        other => panic!("{other} s: name it in the texts as well"),
    }
}

/// The words of a text, without its line breaks and marks of comments.
fn words(text: &str) -> String {
    let words = text.split_whitespace().filter(|&word| word != "#");
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn times_in_the_texts_are_true() {
    let folder = env!("CARGO_MANIFEST_DIR");
    let read = |path: &str| std::fs::read_to_string(format!("{folder}/{path}"));
    let (run, seed) = (words(run::HELP), words(seed::HELP));
    let example = words(&read("packages/everseed.toml").unwrap());
    // It is not in the package of the crate alone.
    let readme = read("../../README.md").ok().map(|text| words(&text));
    let names = POLL * NAMES_EVERY;
    let many = EVERY.max(Duration::from_millis(10) * 30_000);
    let mut cases = vec![
        (&run, "Watched folders are looked at every {}", POLL),
        (&run, "and the names in them every {} even if", names),
        (&run, "New content in them is looked at after {}", SETTLED),
        (
            &run,
            "then after pauses that double, up to {}",
            LONGEST_PAUSE,
        ),
        (
            &run,
            "While peers are connected it is looked at every {}",
            EVERY,
        ),
        (&run, "otherwise once {}", ASLEEP),
        (&run, "a torrent that is gone is kept for {}", KEPT),
        (&seed, "Files are looked at every {}", EVERY),
        (&seed, "a folder of 30,000 every {}", many),
        (&seed, "is not mounted is looked for every {}", AWAY),
        (&example, "as soon as it stays unchanged for {}", SETTLED),
        (
            &example,
            "when it has stayed as it is for {}, then 40",
            SETTLED * 2,
        ),
        (&example, "then 40, up to {}", LONGEST_PAUSE),
        (&example, "or the system's zone), within {} of them", CHORES),
    ];
    if let Some(readme) = &readme {
        cases.extend([
            (readme, "once it has not changed for {}", SETTLED),
            (
                readme,
                "has not changed for a while: {} at first",
                SETTLED * 2,
            ),
            (readme, "Folders are looked at every {}", POLL),
            (readme, "the names in them are read every {}", names),
            (readme, "gives its place to a waiting one after {}", TURN),
            (readme, "away gives it after {}", TURN_AWAY),
            (
                readme,
                "everseed wakes up 360 times an hour, once every {}",
                CHORES,
            ),
            (readme, "Content is looked at once {}", ASLEEP),
        ]);
    }
    for (text, sentence, time) in cases {
        let is_there = |written: &&str| text.contains(&sentence.replace("{}", written));
        assert!(
            written(time).iter().any(is_there),
            "{sentence:?} with {time:?} is not said"
        );
    }
}
