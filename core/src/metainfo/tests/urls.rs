//! Trackers, web seeds and nodes of the DHT that a torrent names.

use super::*;

#[test]
fn trackers_and_web_seeds() {
    let long = format!("http://{}", "x".repeat(MAX_URL));
    let cases: [(&str, &[(u16, &str)]); 12] = [
        ("8:announce1:a", &[(0, "a")]),
        ("8:announce0:13:announce-list1:b", &[(0, "b")]),
        ("8:announce1:a13:announce-list0:", &[(0, "a")]),
        (
            "13:announce-listllll1:beel1:cel1:de1:eel1:fee",
            &[(0, "b"), (0, "c"), (0, "d"), (0, "e"), (1, "f")],
        ),
        (
            "8:announce1:a13:announce-listll1:b1:cel1:dee",
            &[(0, "b"), (0, "c"), (1, "d")],
        ),
        ("8:announce1:a13:announce-listllelee", &[(0, "a")]),
        ("8:announce1:a13:announce-listllel0:i1eee", &[(0, "a")]),
        ("13:announce-listllel1:bel0:el1:cee", &[(0, "b"), (1, "c")]),
        ("13:announce-listl1:b1:ce", &[(0, "b"), (1, "c")]),
        ("8:announcel1:b1:ce", &[(0, "b"), (1, "c")]),
        ("8:announcel1:be13:announce-listll1:cee", &[(0, "c")]),
        ("8:announcel1:be13:announce-listle", &[(0, "b")]),
    ];
    let collect = |text: &str| {
        let text = format!("d{text}4:info{}e", single());
        let metainfo = parse(text.as_bytes()).unwrap();
        let mut trackers = metainfo.trackers(file(text.as_bytes())).unwrap();
        let mut found = Vec::new();
        while let Some((tier, url)) = trackers.next().unwrap() {
            found.push((tier, url.to_string()));
        }
        let mut seeds = metainfo.web_seeds(file(text.as_bytes())).unwrap();
        let mut urls = Vec::new();
        while let Some(url) = seeds.next().unwrap() {
            urls.push(url.to_string());
        }
        (found, urls)
    };
    for (text, expected) in cases {
        let expected: Vec<_> = expected.iter().map(|(n, u)| (*n, u.to_string())).collect();
        assert_eq!(collect(text).0, expected, "{text}");
    }
    let listed = format!("13:announce-listll{}1:bee", string(&long));
    assert_eq!(collect(&listed).0, [(0, "b".to_string())]);
    let around = "13:announce-listll4: b\r\n5:a\r\nbc2:  2:\r\n2:d\0el6:\u{feff}c\0 ee";
    let found = ["b", "a"].map(|url| (0, url.to_string()));
    let found = [&found[..], &[(0, "d".to_string()), (1, "c".to_string())]].concat();
    assert_eq!(collect(around).0, found);
    assert_eq!(collect("8:url-list1:w").1, ["w"]);
    assert_eq!(collect("8:url-listl3:a b5:a\0bcd3: v e").1, ["a b", "v"]);
    assert_eq!(collect("8:url-listl1:v0:1:we").1, ["v", "w"]);
    assert_eq!(collect("8:url-list0:").1, Vec::<String>::new());
    assert_eq!(collect("8:url-listi4e").1, Vec::<String>::new());
}

#[test]
fn dht_nodes() {
    let long = format!("l{}i1ee", string(&"x".repeat(256)));
    let cases: [(&str, &[(&str, u16)]); 8] = [
        ("", &[]),
        ("5:nodesi4e", &[]),
        ("5:nodesle", &[]),
        (
            "5:nodesll9:127.0.0.1i6881eel9:a.examplei1eee",
            &[("127.0.0.1", 6881), ("a.example", 1)],
        ),
        (
            "5:nodesll1:ai0eel1:bi65536eel1:ci-1eel1:di99999999999999999999eee",
            &[],
        ),
        (
            "5:nodesli4e1:ad1:b1:ce4:lessllel1:ael1:a1:beli1e1:aeel1:bi2e1:xeee",
            &[("b", 2)],
        ),
        ("5:nodesll0:i1eel3:a\0bi1eel3: a i1eee", &[("a", 1)]),
        (&format!("5:nodesl{long}l1:bi2eee"), &[("b", 2)]),
    ];
    for (text, expected) in cases {
        let text = format!("d4:info{}{text}e", single());
        let metainfo = parse(text.as_bytes()).unwrap();
        let mut nodes = metainfo.dht_nodes(file(text.as_bytes())).unwrap();
        let mut found = Vec::new();
        while let Some((host, port)) = nodes.next().unwrap() {
            found.push((host.to_string(), port));
        }
        let expected: Vec<_> = expected.iter().map(|(h, p)| (h.to_string(), *p)).collect();
        assert_eq!(found, expected, "{text}");
    }
}
