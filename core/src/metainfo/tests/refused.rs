//! Torrents that are refused, and the error for each.

use super::*;

#[test]
fn a_torrent_cut_short_says_where() {
    let files = [entry(40, &["a", "b"]), entry(60, &["c"])].concat();
    let bytes = torrent(&multi(&files, 100));
    for len in 0..bytes.len() {
        let (kind, offset) = (bencode::ErrorKind::Truncated, len as u64);
        let error = bencode::Error { kind, offset };
        assert_eq!(parse(&bytes[..len]), Err(MetainfoError::Bencode(error)));
    }
}

#[test]
fn what_is_refused() {
    use MetainfoError::*;
    let without = |key: &str| parse(&torrent(&single().replace(key, "1:q"))).unwrap_err();
    assert_eq!(without("4:name"), Missing(Field::Name));
    assert_eq!(without("12:piece length"), Missing(Field::PieceLength));
    assert_eq!(without("6:pieces"), Missing(Field::Pieces));
    assert_eq!(without("6:length"), Missing(Field::Length));
    assert_eq!(parse(b"d4:spam0:e"), Err(Missing(Field::Info)));
    let with = |from: &str, to: &str| parse(&torrent(&single().replace(from, to))).unwrap_err();
    let place = |of: &str| {
        torrent(&single())
            .windows(of.len())
            .position(|w| w == of.as_bytes())
    };
    let offset = place("i100e").unwrap() as u64;
    assert_eq!(with("i100e", "i-1e"), BadLength { offset });
    let wrong_type = |offset, expected| {
        let kind = bencode::ErrorKind::WrongType { expected };
        Bencode(bencode::Error { kind, offset })
    };
    assert_eq!(with("i100e", "3:100"), Missing(Field::Length));
    let offset = place("80:h").unwrap() as u64;
    let text = wrong_type(offset, bencode::Type::String);
    assert_eq!(with(&format!("80:{}", "h".repeat(80)), "le"), text);
    let dict = wrong_type(7, bencode::Type::Dict);
    assert_eq!(parse(b"d4:infolee"), Err(dict));
    assert_eq!(with("i100e", "i0e"), Geometry(GeometryError::Total));
    assert_eq!(with("i32e", "i0e"), Geometry(GeometryError::PieceLength));
    assert_eq!(
        with("i32e", "i536870913e"),
        Geometry(GeometryError::PieceLength)
    );
    let wrong = WrongPieces {
        bytes: 80,
        pieces: 5,
    };
    assert_eq!(with("i100e", "i129e"), wrong);
    assert_eq!(with("4:file", "i4e"), Missing(Field::Name));
    // No file at all, and a list that does not fit the pieces although the length beside it does.
    assert_eq!(with("6:lengthi100e", "5:filesle"), Missing(Field::Length));
    let two = format!("5:filesl{}e4:name", entry(200, &["a"]));
    let wrong = WrongPieces {
        bytes: 80,
        pieces: 7,
    };
    assert_eq!(with("4:name", &two), wrong);
    let v2 = "d9:file treede12:meta versioni2e4:name1:n12:piece lengthi16384ee";
    assert_eq!(parse(&torrent(v2)), Err(Version2));
    let sum = entry(i64::MAX as u64, &["a"]).repeat(3);
    assert!(matches!(
        parse(&torrent(&multi(&sum, 1))),
        Err(BadLength { .. })
    ));
    assert_eq!(
        parse(&torrent(&multi("d4:pathl1:aee", 1))),
        Err(Missing(Field::Length))
    );
    assert_eq!(parse(b"d4:infodee "), Err(Missing(Field::Length)));
}
