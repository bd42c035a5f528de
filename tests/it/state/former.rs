//! States that earlier versions of the file have left, with conversations in them: `second.redb`, `fifth.redb` and
//! `sixth.redb`, the last that had no journal. And the records that fuzzing begins with, which go out of date like them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use chaturdata_proxy::store::backend::Table;
use chaturdata_proxy::store::disk::SCHEMA;
use chaturdata_proxy::store::{HandleHash, Restored};

use super::damage::look;
use super::medium::{Image, Medium};
use super::{Contents, open};

pub const SECOND: &[u8] = include_bytes!("second.redb");

/// Compacted. One of its conversations has so many turns that their tips do not all fit beside its own.
const FIFTH: &[u8] = include_bytes!("fifth.redb");

/// The same.
const SIXTH: &[u8] = include_bytes!("sixth.redb");

pub fn second() -> (Image, Contents) {
    let (_, contents) = open(&Medium::of(SECOND.to_vec())).unwrap();
    (SECOND.to_vec().into(), contents)
}

#[test]
fn the_second_version_is_found_whole_and_becomes_this_one() {
    becomes_this_one(SECOND, 2, [13, 13, 13, 1, 1, 0]);
}

#[test]
fn the_fifth_version_is_found_whole_and_becomes_this_one() {
    becomes_this_one(FIFTH, 5, [8, 8, 5, 1, 1, 1]);
}

#[test]
fn the_sixth_version_is_found_whole_and_becomes_this_one() {
    becomes_this_one(SIXTH, 6, [6, 6, 3, 1, 0, 1]);
}

/// What a version has left, with so many records in each table.
fn becomes_this_one(left: &[u8], schema: u8, counts: [usize; 6]) {
    let medium = Medium::of(left.to_vec());
    let (before, contents) = open(&medium).unwrap();
    let facts = (before.facts.schema, before.facts.salt);
    drop(before);
    let (after, again) = open(&Medium::of(medium.image())).unwrap();

    assert_eq!(facts, (schema, after.facts.salt));
    assert_eq!(after.facts.schema, SCHEMA);
    assert_eq!(contents, again);
    let count = |wanted| {
        let tables = contents.keys().map(|(table, _)| *table);
        tables.filter(|table| *table == wanted).count()
    };
    assert_eq!(Table::ALL.map(count), counts);
    names_lead_to_branches(&contents);
}

fn names_lead_to_branches(contents: &Contents) {
    let mut restored = Restored::default();
    for ((table, key), value) in contents {
        restored.take(*table, key, value).unwrap();
    }
    let handles: BTreeMap<_, _> = restored.handles.into_iter().collect();
    let mut names = 0;
    for rested in &restored.branches {
        let branch = rested.line.branch(true);
        for name in branch.handles {
            let leads = handles[&HandleHash::of(&(branch.tenant, name))];
            assert_eq!(leads.branch, rested.id);
            assert!(leads.created > 1_790_000_000, "{leads:?}");
            names += 1;
        }
    }
    assert_eq!(names, handles.len());
}

#[test]
fn a_damaged_one_is_left_as_it_is() {
    let (_, written) = second();
    let mut refused = 0;
    for at in (0..SECOND.len()).step_by(97) {
        let mut damaged = SECOND.to_vec();
        damaged[at] ^= 0x55;
        refused += usize::from(look(&damaged.into(), &written, &format!("byte {at}")));
    }

    assert!(refused > 100, "{refused}");
}

/// The records that fuzzing begins with: where they cannot be read, it tries the least of what there is.
#[test]
fn the_records_that_fuzzing_begins_with_are_such_as_are_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus/record");
    let mut seen = [0; Table::ALL.len()];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let mut rest = bytes.as_slice();
        while let Some(([table, key, low, high], after)) = rest.split_first_chunk() {
            let table = usize::from(*table) % Table::ALL.len();
            let (key, after) = after.split_at(usize::from(*key));
            let (value, after) = after.split_at(u16::from_le_bytes([*low, *high]).into());
            rest = after;
            let taken = Restored::default().take(Table::ALL[table], key, value);
            // Behind the last id there is none, so that it cannot be one.
            let is_last = key == [0xff; 8];
            let name = Table::ALL[table].as_str();
            assert_eq!(taken.is_err(), is_last, "{name} in {}", path.display());
            seen[table] += 1;
        }
    }

    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
}
