//! Damaged files: refused and left alone, or read as they were written; never anything else.

use std::env;
use std::sync::LazyLock;

use chaturdata_proxy::store::backend::Table;
use chaturdata_proxy::store::disk::Fault;
use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::medium::{Event, Medium, SECTOR};
use super::{Contents, open, put, small};

/// Whether every offset is tried, or a part of them that changes from one place to the next.
static EVERY: LazyLock<bool> = LazyLock::new(|| {
    #[expect(clippy::disallowed_methods, reason = "how much to test is no setting")]
    env::var("STATE_EVERY_OFFSET").is_ok()
});

/// In this byte a single bit names the last commit. In a file that was not closed, turned over, it
/// names the one before: as if the state had been restored from a backup.
const LAST_COMMIT: (usize, u8) = (9, 1);

/// Opens a damaged file and holds what comes of it against what was written. Says whether it was refused.
pub fn look(damaged: &[u8], written: &Contents, what: &str) -> bool {
    let medium = Medium::of(damaged.to_vec());
    match open(medium.clone()) {
        Ok((_, found)) => {
            assert!(&found == written, "{what}");
            false
        }
        Err(Fault::Damaged(_) | Fault::Foreign | Fault::Newer) => {
            assert!(medium.bytes() == damaged, "{what}: the file was changed");
            let touched = medium
                .log()
                .iter()
                .any(|event| matches!(event, Event::Write(..) | Event::SetLen(_)));
            assert!(!touched, "{what}: the file was written to");
            true
        }
        Err(other) => unreachable!("{what}: {other}"),
    }
}

/// As a file is left by a process that was killed.
async fn killed(seed: u64) -> (Vec<u8>, Contents) {
    let (bytes, mut contents) = small(seed).await;
    let medium = Medium::of(bytes);
    let (opened, _) = open(medium.clone()).unwrap();
    let disk = opened.disk;
    let write = put(Table::Turns, "last", "words");
    super::apply(&mut contents, &write);
    let writing = async {
        use chaturdata_proxy::store::backend::Backend;
        disk.queue(vec![write]);
        disk.flushed().await.unwrap();
        medium.bytes()
    };
    tokio::select! {
        bytes = writing => (bytes, contents),
        () = opened.serving => unreachable!("it is not closed"),
    }
}

/// Every place of a file, or a part that differs by `turn`; what redb reads first is always there.
fn offsets(bytes: &[u8], turn: usize) -> impl Iterator<Item = usize> {
    (0..bytes.len()).filter(move |at| *EVERY || *at < 384 || at % 29 == turn)
}

#[tokio::test]
async fn a_flipped_byte_is_refused_or_changes_nothing() {
    let mut refused = 0;
    for (turn, (bytes, written)) in [small(1).await, killed(2).await].iter().enumerate() {
        for flip in [0xff, 1 << (turn + 1), 1] {
            for at in offsets(bytes, turn + usize::from(flip)) {
                if turn == 1 && (at, flip) == LAST_COMMIT {
                    continue;
                }
                let mut damaged = bytes.clone();
                damaged[at] ^= flip;
                let what = format!("file {turn}, byte {at} ^ {flip}");
                refused += usize::from(look(&damaged, written, &what));
            }
        }
    }

    // Much of a file is free or out of date, and yet much is not.
    assert!(refused > 1_000, "{refused}");
}

#[tokio::test]
async fn the_bit_that_names_the_last_commit_leads_to_the_one_before_at_worst() {
    let (mut bytes, mut written) = killed(2).await;
    let (at, flip) = LAST_COMMIT;

    bytes[at] ^= flip;

    let (_, found) = open(Medium::of(bytes)).unwrap();
    written.remove(&(Table::Turns, b"last".to_vec()));
    assert!(found == written);
}

#[tokio::test]
async fn a_zeroed_sector_is_refused_or_changes_nothing() {
    for (turn, (bytes, written)) in [small(3).await, killed(4).await].iter().enumerate() {
        for start in (0..bytes.len()).step_by(SECTOR) {
            for length in [SECTOR, 8 * SECTOR] {
                let mut damaged = bytes.clone();
                let end = (start + length).min(bytes.len());
                damaged[start..end].fill(0);
                look(&damaged, written, &format!("file {turn}, {start}..{end}"));
            }
        }
    }
}

#[tokio::test]
async fn a_file_that_is_cut_off_is_refused_or_has_lost_nothing() {
    for (turn, (bytes, written)) in [small(5).await, killed(6).await].iter().enumerate() {
        // Empty storage is a new state; an empty file is none, which the folder's own test shows.
        for length in offsets(bytes, 3)
            .skip(1)
            .chain((4096..bytes.len()).step_by(4096))
        {
            look(
                &bytes[..length],
                written,
                &format!("file {turn}, {length} bytes"),
            );
        }
        let longer = [&bytes[..], &[0; 4096]].concat();
        look(&longer, written, "longer");
    }
}

/// What a reader finds that checks nothing, neither pages nor records.
fn believed(bytes: Vec<u8>) -> Option<Vec<Vec<u8>>> {
    const TURNS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("turns");
    let db = Builder::new().create_with_backend(Medium::of(bytes)).ok()?;
    let read = db.begin_read().ok()?;
    let turns = read.open_table(TURNS).ok()?;
    let values = turns.iter().ok()?;
    values
        .map(|entry| entry.ok().map(|(_, value)| value.value().to_vec()))
        .collect()
}

#[tokio::test]
async fn a_store_that_checks_nothing_is_caught_at_once() {
    let (bytes, _) = small(1).await;
    let written = believed(bytes.clone()).unwrap();

    let wrong = (4096..bytes.len()).step_by(97).find(|at| {
        let mut damaged = bytes.clone();
        damaged[*at] ^= 0xff;
        std::panic::catch_unwind(|| believed(damaged))
            .is_ok_and(|found| found.is_some_and(|found| found != written))
    });

    assert!(wrong.is_some());
}

/// Changes a state behind the store's back, in a way that its pages' own checks do not see.
fn forged(bytes: Vec<u8>, forge: impl FnOnce(&Database)) -> Medium {
    let medium = Medium::of(bytes);
    let db = Builder::new().create_with_backend(medium.clone()).unwrap();
    forge(&db);
    drop(db);
    Medium::of(medium.bytes())
}

const TURNS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("turns");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

#[tokio::test]
async fn a_record_in_anothers_place_is_refused() {
    let (bytes, _) = killed(7).await;

    let moved = forged(bytes, |db| {
        let write = db.begin_write().unwrap();
        {
            let mut turns = write.open_table(TURNS).unwrap();
            let stored = turns
                .get(b"last".as_slice())
                .unwrap()
                .unwrap()
                .value()
                .to_vec();
            turns
                .insert(b"first".as_slice(), stored.as_slice())
                .unwrap();
        }
        write.commit().unwrap();
    });

    assert!(matches!(open(moved), Err(Fault::Damaged(_))));
}

#[tokio::test]
async fn a_newer_schema_is_refused_before_anything_is_read() {
    let (bytes, _) = small(8).await;

    let newer = forged(bytes, |db| {
        let write = db.begin_write().unwrap();
        let version: &[u8] = &[u8::MAX, b'?'];
        write
            .open_table(META)
            .unwrap()
            .insert("schema", version)
            .unwrap();
        write.commit().unwrap();
    });

    assert!(matches!(open(newer), Err(Fault::Newer)));
}

#[tokio::test]
async fn a_newer_format_of_the_file_is_refused() {
    let (mut bytes, _) = small(9).await;

    // The version of each of the two commits.
    for at in [64, 192] {
        bytes[at] = 4;
    }

    assert!(matches!(open(Medium::of(bytes)), Err(Fault::Newer)));
}

#[tokio::test]
async fn what_is_no_state_of_ours_is_refused() {
    let other = Medium::default();
    let db = Builder::new().create_with_backend(other.clone()).unwrap();
    let write = db.begin_write().unwrap();
    write.open_table(TURNS).unwrap();
    write.commit().unwrap();
    drop(db);

    assert!(matches!(
        open(Medium::of(other.bytes())),
        Err(Fault::Foreign)
    ));
    let text = b"a file of another program".to_vec();
    assert!(matches!(open(Medium::of(text)), Err(Fault::Foreign)));
}
