//! A check that was stopped goes on at the same piece. Files that changed are checked again.
#![allow(missing_docs)]

mod common;

use std::fs;

use common::{Listed, Scratch, random, torrent_of};
use everseed_core::rng::Rng;
use everseed_disk::check::{CHUNK, Check};
use everseed_disk::{Content, read_torrent};

const PIECE: usize = 16384;
const PIECES: usize = 20;

fn open(scratch: &Scratch) -> Content {
    let path = scratch.path();
    let torrent = path.join("t.torrent");
    let metainfo = read_torrent(&torrent).unwrap();
    Content::open(&torrent, &metainfo, &path.join("data"), &path.join("state")).unwrap()
}

/// A torrent of two files, the third piece of which is bad.
fn content(scratch: &Scratch) -> Content {
    let mut bytes = random(7, PIECE * PIECES);
    let file = |path, len| Listed {
        path,
        len,
        attr: "",
    };
    let half = PIECE * PIECES / 2 + 100;
    let listed = [file("a", half), file("b", PIECE * PIECES - half)];
    scratch.write("t.torrent", &torrent_of("d", PIECE, &listed, &bytes));
    fs::create_dir_all(scratch.path().join("data/d")).unwrap();
    fs::create_dir_all(scratch.path().join("state")).unwrap();
    bytes[2 * PIECE] ^= 1;
    scratch.write("data/d/a", &bytes[..half]);
    scratch.write("data/d/b", &bytes[half..]);
    open(scratch)
}

fn steps(check: &mut Check, content: &Content, most: usize) {
    let mut chunk = vec![0; CHUNK];
    for _ in 0..most {
        assert!(check.step(content, &mut chunk).unwrap().is_none());
    }
}

fn finish(mut check: Check, content: &Content) -> Vec<u8> {
    let mut chunk = vec![0; CHUNK];
    while check.left(content) > 0 {
        check.step(content, &mut chunk).unwrap();
    }
    check.finish(content, &mut || true).unwrap().unwrap()
}

#[test]
fn goes_on() {
    let scratch = Scratch::new("checkpoint");
    let whole = finish(Check::new(&content(&scratch)), &open(&scratch));
    assert_eq!(whole, [0b1101_1111, 0xff, 0xf0]);
    let first = open(&scratch);
    let mut check = Check::resume(&first);
    assert_eq!(check.done(), 0);
    steps(&mut check, &first, 9);
    check.checkpoint().unwrap().save(&first).unwrap();
    steps(&mut check, &first, 3);
    drop(check);
    let again = open(&scratch);
    let check = Check::resume(&again);
    assert_eq!(check.done(), 9 * PIECE as u64);
    let late = check.checkpoint().unwrap();
    assert_eq!(finish(check, &again), whole);
    // The check has ended, so a checkpoint that is saved later is not kept. The same holds for a check that was given
    // up.
    late.save(&again).unwrap();
    let mut check = Check::resume(&again);
    assert_eq!(check.done(), 0);
    steps(&mut check, &again, 9);
    let late = check.checkpoint().unwrap();
    check.give_up();
    late.save(&again).unwrap();
    assert_eq!(Check::resume(&again).done(), 0);
}

/// Pieces of a file that changed after its check are checked again, and no others.
#[test]
fn changed_meanwhile() {
    let scratch = Scratch::new("checkpoint-changed");
    let content = content(&scratch);
    let known = |pieces: usize| {
        let mut check = Check::resume(&content);
        assert_eq!(check.done(), (pieces * PIECE) as u64);
        steps(&mut check, &content, 18 - pieces);
        check.checkpoint().unwrap().save(&content).unwrap();
        check
    };
    known(0);
    // The file keeps its size, and its time is set back. It ends within piece 10, whose rest is in the other file.
    let path = scratch.path().join("data/d/a");
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[0] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(time).unwrap();
    known(18 - 11);
    fs::rename(
        scratch.path().join("data/d/b"),
        scratch.path().join("data/b"),
    )
    .unwrap();
    known(10);
    fs::rename(
        scratch.path().join("data/b"),
        scratch.path().join("data/d/b"),
    )
    .unwrap();
    let check = known(10);
    assert_eq!(finish(check, &content), [0b0101_1111, 0xff, 0xf0]);
}

/// Files change, and checks are saved and stopped at random. The result is that of one whole check.
#[test]
fn stopped_and_changed_at_random() {
    let mut rng = Rng::new(15);
    for _ in 0..30 {
        let scratch = Scratch::new("checkpoint-random");
        let content = content(&scratch);
        for _ in 0..rng.below(8) {
            let mut check = Check::resume(&content);
            let left = check.left(&content).div_ceil(PIECE as u64);
            let most = u32::try_from(left.saturating_sub(1)).unwrap();
            steps(&mut check, &content, rng.below(most + 1) as usize);
            if rng.below(3) > 0 {
                check.checkpoint().unwrap().save(&content).unwrap();
            }
            let path = scratch
                .path()
                .join(["data/d/a", "data/d/b"][rng.below(2) as usize]);
            match rng.below(4) {
                0 => {
                    let mut bytes = fs::read(&path).unwrap();
                    let at = rng.below(u32::try_from(bytes.len()).unwrap()) as usize;
                    bytes[at] ^= 1;
                    fs::write(&path, &bytes).unwrap();
                }
                1 => {
                    let bytes = fs::read(&path).unwrap();
                    fs::remove_file(&path).unwrap();
                    fs::write(&path, &bytes).unwrap();
                }
                _ => {}
            }
        }
        let resumed = finish(Check::resume(&content), &content);
        assert_eq!(resumed, finish(Check::new(&content), &content));
    }
}

#[test]
fn damaged_record() {
    let scratch = Scratch::new("checkpoint-damaged");
    let content = content(&scratch);
    let mut check = Check::resume(&content);
    steps(&mut check, &content, 12);
    check.checkpoint().unwrap().save(&content).unwrap();
    let states = fs::read_dir(scratch.path().join("state")).unwrap();
    let mut records = states.map(|entry| entry.unwrap().path());
    let record = records
        .find(|path| path.extension().is_some_and(|kind| kind == "check"))
        .unwrap();
    let good = fs::read(&record).unwrap();
    let mut rng = Rng::new(11);
    for _ in 0..200 {
        let mut bytes = good.clone();
        let at = rng.below(u32::try_from(bytes.len()).unwrap()) as usize;
        match rng.below(3) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, 7),
            _ => bytes[at] ^= 1 << rng.below(8),
        }
        fs::write(&record, &bytes).unwrap();
        assert_eq!(Check::resume(&content).done(), 0, "{at}");
    }
    fs::write(&record, &good).unwrap();
    assert_eq!(Check::resume(&content).done(), 12 * PIECE as u64);
}
