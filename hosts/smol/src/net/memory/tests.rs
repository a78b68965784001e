use super::*;

fn wanted(torrents: usize) -> Plan {
    let mut plan = Plan {
        peers: 1000,
        slots: 16,
        dht: true,
        lsd: true,
        ..Plan::default()
    };
    let geometry = Geometry::new(1 << 30, 1 << 20).unwrap();
    for _ in 0..torrents {
        plan.add(&geometry, 1);
    }
    plan
}

/// Everything that a plan may take.
fn total(plan: &Plan) -> usize {
    let waiting = plan.waiting * WAITING_PEER;
    let places = (plan.places + plan.web) * PLACE;
    let kernel = waiting + places + plan.received + plan.buffer + plan.lent;
    let asleep = plan.asleep * ASLEEP;
    let download = plan.blocks * BLOCK_COST + plan.peer_bitfields;
    plan.fixed() + asleep + download + kernel + plan.peers * peer()
}

/// The first line that people read says what the numbers are of.
#[test]
fn told_in_words() {
    let mut plan = wanted(1).fit(16 << 20).unwrap();
    plan.lent = 12 << 20;
    let one = "room for 1 torrent, 1000 peers, up to 16 of them served at a time with 12.0 MiB on its way to them";
    assert_eq!(plan.to_string(), one);
    (plan.torrents, plan.asleep, plan.blocks) = (50, 10_000, 256);
    plan.few_slots = true;
    let more = "room for 50 torrents awake and 10000 asleep, 1000 peers, at least 16 of them served at a time with \
                12.0 MiB on its way to them, 4.00 MiB of blocks that are downloaded";
    assert_eq!(plan.to_string(), more);
}

#[test]
fn it_holds() {
    for downloads in [false, true] {
        for budget in (0..400).map(|n| n * 100_000) {
            let mut plan = wanted(20);
            plan.asleep = 10_000;
            if downloads {
                plan.add_download(&Geometry::new(1 << 40, 1 << 20).unwrap());
            }
            let holds = |budget: u64, plan: Plan| {
                assert!(total(&plan) as u64 <= budget, "{budget}: {plan}");
            };
            match plan.fit(budget) {
                Ok(plan) => holds(budget, plan),
                Err(error) => {
                    assert!(error.least as u64 > budget, "{error}");
                    let least = error.least as u64;
                    holds(least, plan.fit(least).expect("as much as it takes"));
                }
            }
        }
    }
}

#[test]
fn more_memory_is_more_peers() {
    let of = |budget| wanted(1).fit(budget).map(|plan| (plan.peers, plan.lent));
    assert_eq!(of(1 << 30), Ok((1000, 16 * MOST_HELD)));
    assert!(of(900 << 10).is_err());
    let (few, lent) = of(2_000_000).unwrap();
    assert!(few >= 200, "{few} peers");
    assert!(lent < MOST_HELD, "{lent}");
}

/// What the networks here, the peers of peers and the distributed hash table take together, with what the kernel
/// may hold for their sockets.
#[test]
fn being_found_takes_little() {
    let with = wanted(1);
    let without = Plan {
        dht: false,
        lsd: false,
        ..with
    };
    // As `torrent::gossip` of the node asserts.
    let pex = 460;
    let all = with.fixed() - without.fixed() + pex;
    assert!(all <= 64 * 1024, "{all} bytes");
}

#[test]
fn who_has_too_little_is_told_how_much_it_takes() {
    let error = wanted(1).fit(1_000_000).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("1000000 bytes of memory are too few"),
        "{text}"
    );
    assert!(text.contains("--memory 1"), "{text}");
}
