//! Damaged files: refused and left alone, or read as they were written; never anything else.

use std::env;
use std::sync::LazyLock;

use chaturdata_proxy::store::backend::{Backend, Table, Write};
use chaturdata_proxy::store::disk::Fault;
use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::medium::{Event, File, Image, Medium, SECTOR};
use super::{Contents, open, put, small};

/// Whether every offset is tried, or a part of them that changes from one place to the next.
static EVERY: LazyLock<bool> = LazyLock::new(|| {
    #[expect(clippy::disallowed_methods, reason = "how much to test is no setting")]
    env::var("STATE_EVERY_OFFSET").is_ok()
});

/// Opens a damaged file and holds what comes of it against what was written. Says whether it was refused.
pub fn look(damaged: &Image, written: &Contents, what: &str) -> bool {
    let medium = Medium::of(damaged.clone());
    match open(&medium) {
        Ok((_, found)) => {
            assert!(&found == written, "{what}");
            false
        }
        Err(Fault::Damaged(_) | Fault::Apart | Fault::Foreign | Fault::Newer) => {
            assert!(&medium.image() == damaged, "{what}: the file was changed");
            let touched = medium
                .log()
                .iter()
                .any(|event| matches!(event, Event::Write(..) | Event::SetLen(..)));
            assert!(!touched, "{what}: the file was written to");
            true
        }
        Err(other) => unreachable!("{what}: {other}"),
    }
}

/// As the files are left by a process that was killed: the journal alone has the last record.
async fn killed(seed: u64) -> (Image, Contents) {
    let (image, mut contents) = small(seed).await;
    let write = put(Table::Turns, "last", "words");
    super::apply(&mut contents, &write);
    (gone_on(image, &[write], false).await, contents)
}

/// Every place of a file, or a part that differs by `turn`; what redb reads first is always there.
fn offsets(bytes: &[u8], turn: usize) -> impl Iterator<Item = usize> {
    (0..bytes.len()).filter(move |at| *EVERY || *at < 384 || at % 29 == turn)
}

#[tokio::test]
async fn a_flipped_byte_is_refused_or_changes_nothing() {
    let mut refused = 0;
    for (turn, (image, written)) in [small(1).await, killed(2).await].iter().enumerate() {
        for flip in [0xff, 1 << (turn + 1), 1] {
            for at in offsets(&image.database, turn + usize::from(flip)) {
                let mut damaged = image.clone();
                damaged.database[at] ^= flip;
                let what = format!("file {turn}, byte {at} ^ {flip}");
                refused += usize::from(look(&damaged, written, &what));
            }
        }
    }

    // Much of a file is free or out of date, and yet much is not.
    assert!(refused > 1_000, "{refused}");
}

/// Writes records to a state, one after the other, and returns what that leaves; closed, or as a process leaves it
/// that is killed.
async fn gone_on(image: Image, writes: &[Write], closed: bool) -> Image {
    let medium = Medium::of(image);
    let (opened, _) = open(&medium).unwrap();
    let disk = opened.disk;
    let writing = async {
        for write in writes {
            disk.queue(vec![write.clone()]);
            disk.flushed().await.unwrap();
        }
        if closed {
            disk.close().await;
        }
    };
    tokio::select! {
        () = writing => {}
        () = opened.serving => {}
    }
    medium.image()
}

#[tokio::test]
async fn a_flipped_byte_of_the_journal_is_refused_or_costs_the_last_write_alone() {
    let (image, mut before) = small(2).await;
    let value = "words ".repeat(200);
    let writes = ["one", "two", "three", "last"].map(|key| put(Table::Turns, key, &value));
    let image = gone_on(image, &writes, false).await;
    for write in &writes[..3] {
        super::apply(&mut before, write);
    }
    let mut after = before.clone();
    super::apply(&mut after, &writes[3]);
    let (mut refused, mut lost) = (0, 0);

    for at in (0..image.journal.len()).filter(|at| at % 4096 < 64 || at % 61 == 0) {
        let mut damaged = image.clone();
        damaged.journal[at] ^= 0x10;
        match open(&Medium::of(damaged)) {
            Ok((_, found)) if found == after => {}
            Ok((_, found)) => {
                assert!(found == before, "byte {at}");
                lost += 1;
            }
            Err(fault) => {
                assert!(matches!(fault, Fault::Apart), "byte {at}: {fault}");
                refused += 1;
            }
        }
    }

    assert!(refused > 100 && lost > 20, "{refused}, {lost}");
}

#[tokio::test]
async fn a_copy_that_was_put_back_is_refused_beside_the_journal_of_a_later_state_alone() {
    let (copy, written) = small(2).await;
    let next = put(Table::Turns, "next", "words");
    let later = gone_on(copy.clone(), &[next], true).await;
    assert!(later.journal.is_empty());
    look(&copy, &written, "the copy alone");

    let last = put(Table::Turns, "last", "words");
    let put_back = Image {
        journal: gone_on(later, &[last], false).await.journal,
        ..copy
    };

    assert!(look(&put_back, &written, "beside the journal"));
    assert!(matches!(open(&Medium::of(put_back)), Err(Fault::Apart)));
}

#[tokio::test]
async fn a_zeroed_sector_is_refused_or_changes_nothing() {
    for (turn, (image, written)) in [small(3).await, killed(4).await].iter().enumerate() {
        for start in (0..image.database.len()).step_by(SECTOR) {
            for length in [SECTOR, 8 * SECTOR] {
                let mut damaged = image.clone();
                let end = (start + length).min(image.database.len());
                damaged.database[start..end].fill(0);
                look(&damaged, written, &format!("file {turn}, {start}..{end}"));
            }
        }
    }
}

#[tokio::test]
async fn a_file_that_is_cut_off_is_refused_or_has_lost_nothing() {
    for (turn, (image, written)) in [small(5).await, killed(6).await].iter().enumerate() {
        let bytes = &image.database;
        let with = |database: &[u8]| Image {
            database: database.to_vec(),
            ..image.clone()
        };
        // Empty storage is a new state; an empty file is none, which the folder's own test shows.
        for length in offsets(bytes, 3)
            .skip(1)
            .chain((4096..bytes.len()).step_by(4096))
        {
            look(
                &with(&bytes[..length]),
                written,
                &format!("file {turn}, {length} bytes"),
            );
        }
        look(&with(&[&bytes[..], &[0; 4096]].concat()), written, "longer");
    }
}

/// What a reader finds that checks nothing, neither pages nor records.
fn believed(bytes: Vec<u8>) -> Option<Vec<Vec<u8>>> {
    const TURNS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("turns");
    let db = Builder::new()
        .create_with_backend(Medium::of(bytes).file(File::Database))
        .ok()?;
    let read = db.begin_read().ok()?;
    let turns = read.open_table(TURNS).ok()?;
    let values = turns.iter().ok()?;
    values
        .map(|entry| entry.ok().map(|(_, value)| value.value().to_vec()))
        .collect()
}

#[tokio::test]
async fn a_store_that_checks_nothing_is_caught_at_once() {
    let bytes = small(1).await.0.database;
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
fn forged(image: Image, forge: impl FnOnce(&Database)) -> Medium {
    let medium = Medium::of(image);
    let database = medium.file(File::Database);
    let db = Builder::new().create_with_backend(database).unwrap();
    forge(&db);
    drop(db);
    Medium::of(medium.image())
}

const TURNS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("turns");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

#[tokio::test]
async fn a_record_in_anothers_place_is_refused() {
    let last = put(Table::Turns, "last", "words");
    let image = gone_on(small(7).await.0, &[last], true).await;

    let moved = forged(image, |db| {
        let write = db.begin_write().unwrap();
        {
            let mut turns = write.open_table(TURNS).unwrap();
            let (_, first) = turns.first().unwrap().unwrap();
            let stored = first.value().to_vec();
            drop(first);
            turns
                .insert(b"another".as_slice(), stored.as_slice())
                .unwrap();
        }
        write.commit().unwrap();
    });

    assert!(matches!(open(&moved), Err(Fault::Damaged(_))));
}

#[tokio::test]
async fn a_newer_schema_is_refused_before_anything_is_read() {
    let (image, _) = small(8).await;

    let newer = forged(image, |db| {
        let write = db.begin_write().unwrap();
        let version: &[u8] = &[u8::MAX, b'?'];
        write
            .open_table(META)
            .unwrap()
            .insert("schema", version)
            .unwrap();
        write.commit().unwrap();
    });

    assert!(matches!(open(&newer), Err(Fault::Newer)));
}

#[tokio::test]
async fn a_newer_format_of_the_file_is_refused() {
    let (mut image, _) = small(9).await;

    // The version of each of the two commits.
    for at in [64, 192] {
        image.database[at] = 4;
    }

    assert!(matches!(open(&Medium::of(image)), Err(Fault::Newer)));
}

#[tokio::test]
async fn what_is_no_state_of_ours_is_refused() {
    let other = Medium::default();
    let database = other.file(File::Database);
    let db = Builder::new().create_with_backend(database).unwrap();
    let write = db.begin_write().unwrap();
    write.open_table(TURNS).unwrap();
    write.commit().unwrap();
    drop(db);

    assert!(matches!(
        open(&Medium::of(other.image())),
        Err(Fault::Foreign)
    ));
    let text = b"a file of another program".to_vec();
    assert!(matches!(open(&Medium::of(text)), Err(Fault::Foreign)));
}
