use everseed_disk::{make, read_torrent};

use super::*;

const NUMBER: TorrentNumber = TorrentNumber(0);

const T: TorrentId = TorrentId {
    slot: 0,
    tenancy: 0,
};

fn conn(slot: u16) -> ConnId {
    ConnId { slot, tenancy: 1 }
}

/// The torrent of a small file. The folder is removed, because nothing here reads it.
fn content(name: &str) -> Arc<Content> {
    let folder = std::env::temp_dir().join(format!("everseed-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (file, torrent) = (folder.join("file"), folder.join("torrent"));
    std::fs::write(&file, [7; 100]).unwrap();
    make::make(&file, &torrent, &make::Options::default(), &mut |_| {}).unwrap();
    let metainfo = read_torrent(&torrent).unwrap();
    let content = Content::open_at(&torrent, &metainfo, &file, &folder).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    Arc::new(content)
}

fn warm(content: &Arc<Content>, slot: u16) -> Task {
    let span = Span {
        torrent: T,
        offset: 0,
        len: 1,
    };
    Task::Warm(Arc::clone(content), conn(slot), BodySource::Content, span)
}

#[test]
fn a_check_keeps_nobody_waiting() {
    let content = content("worker-order");
    let piece = content.geometry().piece(0).unwrap();
    let mut queues = Queues::new(4, 4);
    queues.push(Task::Check(content.clone(), NUMBER, Arc::default()));
    queues.push(Task::Look(content.clone(), NUMBER, false));
    queues.push(Task::Verify(content.clone(), T, piece));
    queues.push(warm(&content, 0));
    queues.push(Task::StandBack);
    assert!(matches!(queues.pop_short(), Some(Task::Warm(..))));
    assert!(matches!(queues.pop_short(), Some(Task::StandBack)));
    assert!(matches!(queues.pop_short(), Some(Task::Look(..))));
    assert!(matches!(queues.pop_short(), Some(Task::Verify(..))));
    assert!(queues.pop_short().is_none());
}

/// A torrent of `len` zeros in pieces of 16 KiB, whose file exists.
fn zeros(folder: &std::path::Path, name: &str, len: usize) -> Arc<Content> {
    let (file, torrent) = (folder.join(name), folder.join(format!("{name}.torrent")));
    std::fs::write(&file, vec![0; len]).unwrap();
    let options = make::Options {
        piece_len: Some(16384),
        ..make::Options::default()
    };
    make::make(&file, &torrent, &options, &mut |_| {}).unwrap();
    let metainfo = read_torrent(&torrent).unwrap();
    Arc::new(Content::open_at(&torrent, &metainfo, &file, folder).unwrap())
}

/// A check that has to wait keeps no files open, and whoever holds the queues closes none: that may wait.
#[test]
fn who_changes_over_to_another_check_closes_nothing_yet() {
    let folder = std::env::temp_dir().join(format!("everseed-over-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let [long, small] =
        [("long", 3), ("small", 1)].map(|(name, pieces)| zeros(&folder, name, pieces * 16384));
    let mut queues = Queues::new(4, 4);
    queues.push(Task::Check(Arc::clone(&long), NUMBER, Arc::default()));
    let (mut job, open) = queues.pop_job().unwrap();
    assert!(open.is_empty());
    let mut check = everseed_disk::check::Check::new(&long);
    check.step(&long, &mut [0; 16384]).unwrap();
    job.work = Long::Check(Some(Box::new(check)));
    queues.put_back(job);
    queues.push(Task::Check(small, NUMBER.next(), Arc::default()));
    let (job, open) = queues.pop_job().unwrap();
    assert_eq!((job.number, open.len()), (NUMBER.next(), 1));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_small_check_does_not_wait_for_a_long_one_nor_a_long_one_for_ever() {
    let folder = std::env::temp_dir().join(format!("everseed-turns-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let long = zeros(&folder, "long", 40 * 16384);
    let small = zeros(&folder, "small", 16384);
    let shared = Arc::new(Shared {
        queues: Mutex::new(Queues::new(4, 4)),
        work: Condvar::new(),
        files: Arc::new(FileCache::new(1)),
        written: FileCache::new(1),
        alarm: Alarm::new().unwrap(),
    });
    let mut scratch = Scratch {
        bytes: vec![0; check::CHUNK],
        begun: Vec::new(),
        batch: Vec::new(),
        keeper: None,
    };
    shared
        .lock()
        .push(Task::Check(long, NUMBER, Arc::default()));
    let mut smalls = 0;
    let mut ended = false;
    for step in 0..400 {
        // Each step adds a small check: it is done in this step or the next.
        let task = Task::Check(Arc::clone(&small), TorrentNumber(1 + step), Arc::default());
        shared.lock().push(task);
        let (job, open) = shared.lock().pop_job().unwrap();
        drop(open);
        shared.step(job, &mut scratch);
        let done = pop(&mut shared.lock().done);
        if let Some(Done::Torrent(number, Outcome::Checked(found))) = done {
            assert!(bits_are_set(&found.unwrap().0), "{number:?}");
            smalls += u64::from(number > NUMBER);
            ended |= number == NUMBER;
        }
        assert!(
            smalls + 1 + step / u64::from(queues::TURN_OF_OLDEST) >= step,
            "{step}"
        );
    }
    assert!(ended);
    std::fs::remove_dir_all(&folder).unwrap();
}

/// A download that never pauses leaves a check its turns, and a file that grows for minutes gives way at once.
#[test]
fn writes_leave_a_check_its_turns() {
    let content = content("worker-writes");
    let block = || Block {
        content: Arc::clone(&content),
        id: everseed_core::pool::BlockId {
            slot: 0,
            tenancy: 0,
        },
        span: Span {
            torrent: T,
            offset: 0,
            len: 1,
        },
        bytes: &mut [],
    };
    let mut queues = Queues::new(4, 1000);
    (0..1000).for_each(|_| queues.push(Task::Write(block())));
    queues.push(Task::Check(Arc::clone(&content), NUMBER, Arc::default()));
    let (mut writes, mut steps) = (0, 0);
    loop {
        if queues.owes_step() {
            let (job, _open) = queues.pop_job().unwrap();
            queues.put_back(job);
            steps += 1;
        }
        match queues.pop_short() {
            Some(Task::Write(_)) => writes += 1,
            _ => break,
        }
    }
    assert_eq!((writes, steps), (1000, 999 / queues::WRITES_IN_A_ROW));
    assert!(!queues.owes_step());
    queues.put_off([block()].into_iter());
    assert!(queues.owes_step());
    queues.push(warm(&content, 1));
    assert!(!queues.owes_step(), "peers wait for what it reads");
}

fn bits_are_set(bits: &[u8]) -> bool {
    !bits.is_empty() && bits.iter().all(|&byte| byte == 0xff || byte == 0x80)
}

#[test]
fn who_is_gone_needs_no_reads() {
    let content = content("worker-gone");
    let mut queues = Queues::new(4, 4);
    for slot in [1, 2, 1] {
        queues.push(warm(&content, slot));
    }
    queues.forget(conn(1));
    assert!(matches!(queues.pop_short(), Some(Task::Warm(_, id, ..)) if id == conn(2)));
    assert!(queues.pop_short().is_none());
}

/// The serving thread, which forgets tasks, must never be the last owner of a content, because closing its files may
/// wait. Each content is kept once, however many tasks are dropped.
#[test]
fn who_forgets_closes_nothing() {
    let content = content("worker-forgets");
    let weak = Arc::downgrade(&content);
    let mut queues = Queues::new(4, 4);
    let piece = content.geometry().piece(0).unwrap();
    for _ in 0..9 {
        queues.push(warm(&content, 1));
        queues.push(Task::Verify(Arc::clone(&content), T, piece));
        queues.forget(conn(1));
        queues.forget_pieces(T);
    }
    drop(content);
    assert!(queues.pop_short().is_none());
    assert_eq!(weak.strong_count(), 1);
    assert_eq!(queues.gone.len(), 1);
}

#[test]
fn what_was_found_before_a_change_is_not_told() {
    let content = content("worker-change");
    let piece = content.geometry().piece(0).unwrap();
    let other = TorrentId { slot: 1, ..T };
    let mut queues = Queues::new(4, 4);
    let ask = |queues: &mut Queues, of| queues.push(Task::Verify(content.clone(), of, piece));
    // One result is unreported, one piece is being hashed, one task waits.
    for _ in 0..3 {
        ask(&mut queues, T);
    }
    queues.pop_short();
    queues.report(Done::Verified(T, piece, Ok(true)));
    queues.pop_short();
    queues.forget_pieces(other);
    assert_eq!((queues.done.len(), queues.soon.len()), (1, 1));
    queues.forget_pieces(T);
    queues.report(Done::Verified(T, piece, Ok(true)));
    assert!(queues.done.is_empty() && queues.pop_short().is_none());
    ask(&mut queues, T);
    queues.pop_short();
    queues.report(Done::Verified(T, piece, Ok(true)));
    assert_eq!(queues.done.len(), 1);
}

/// One thread for each disk syncs what is on that disk, in the order in which it came.
#[test]
fn each_disk_is_synced_by_a_thread_of_its_own() {
    let mut queues = Queues::new(4, 4);
    for (number, disk) in [(0, 1), (1, 2), (2, 1)] {
        let content = content(&format!("worker-disk-{number}"));
        content.stay_on_device(disk);
        let what = Syncing::Part(content, TorrentNumber(number));
        queues.syncs.push((what.disk(), what));
    }
    queues.syncing = vec![Some(1), Some(2)];
    for (disk, expected, left) in [
        (2, Some(1), 2),
        (1, Some(0), 2),
        (2, None, 1),
        (1, Some(2), 1),
        (1, None, 0),
    ] {
        let next = queues.next_sync(Some(disk)).map(|what| match what {
            Syncing::Part(_, TorrentNumber(number)) => number,
            other => panic!("{other:?}"),
        });
        assert_eq!((next, queues.syncing.len()), (expected, left), "{disk}");
    }
}
