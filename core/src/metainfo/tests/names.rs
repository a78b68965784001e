//! Names of files: which of two keys counts, and what becomes of bytes that are no text.

use super::*;

/// An old encoding of a long name grows when it is replaced byte by byte.
#[test]
fn a_bad_name_does_no_harm_beside_a_better_one() {
    let old = [0xb0; 100];
    let replace = |text: String, mark: &str| {
        let text = text.into_bytes();
        let mark = mark.as_bytes();
        let at = text.windows(mark.len()).position(|w| w == mark).unwrap();
        [&text[..at], b"100:", &old, &text[at + mark.len()..]].concat()
    };
    let file = "d6:lengthi100e4:pathl3:???e10:path.utf-8l2:\u{e4}ee";
    let info = |file: &str| format!("d4:info{}e", multi(file, 100));
    let bytes = replace(info(file), "3:???");
    let metainfo = parse(&bytes).unwrap();
    assert_eq!(list(&metainfo, &bytes)[0].0, "\u{e4}");
    let alone = file.replace("10:path.utf-8", "1:q");
    let bytes = replace(info(&alone), "3:???");
    let metainfo = parse(&bytes).unwrap();
    assert_eq!(list(&metainfo, &bytes)[0].0, "_".repeat(100));

    let both = single().replace("4:name4:file", "4:name3:???10:name.utf-82:\u{e4}");
    let both = format!("d4:info{both}e");
    assert_eq!(name(&replace(both.clone(), "3:???")), "ä");
    let alone = both.replace("10:name.utf-8", "1:q");
    assert_eq!(name(&replace(alone, "3:???")), "_".repeat(100).as_str());
}

/// A key that says nothing does no harm beside one that does, whichever it is and wherever it stands.
#[test]
fn the_name_that_says_something_is_taken() {
    let nothing = ["le", "l0:e", "l1:.2:..e", "li1ee", "i1e", "0:"];
    for odd in nothing {
        for (one, two) in [("path", "path.utf-8"), ("path.utf-8", "path")] {
            for file in [
                format!("d6:lengthi100e{}l1:ae{}{odd}e", string(one), string(two)),
                format!("d6:lengthi100e{}{odd}{}l1:aee", string(two), string(one)),
            ] {
                let bytes = format!("d4:info{}e", multi(&file, 100)).into_bytes();
                let metainfo = parse(&bytes).unwrap();
                assert_eq!(list(&metainfo, &bytes)[0].0, "a", "{file}");
            }
        }
    }
    for (one, two) in [("name", "name.utf-8"), ("name.utf-8", "name")] {
        for odd in ["0:", "1:.", "2:..", "1:/", "i1e"] {
            let [one, two] = [string(one), string(two)];
            for keys in [format!("{one}1:a{two}{odd}"), format!("{two}{odd}{one}1:a")] {
                let text = single().replace("4:name4:file", &keys);
                assert_eq!(name(format!("d4:info{text}e").as_bytes()), "a", "{keys}");
            }
        }
    }
}
