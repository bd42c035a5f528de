//! What the versions before this one have left in a file, and how it becomes what this one writes.

use std::borrow::Cow;

use redb::{Database, ReadTransaction, ReadableDatabase, TableDefinition, TableError};

use super::records::{self, fault};
use super::{Facts, Fault, seal, unwritten};
use crate::store::backend::Table;
use crate::store::record::{self, Unreadable};
use crate::store::{BranchId, HandleHash, HandleRecord};

/// Where the first two versions kept handles: in the order of their names, each with its time.
const HANDLES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new(HANDLES_NAME);
const HANDLES_NAME: &str = "handles";

/// The value as the second version wrote it. The first had none of what branches, turns and handles end
/// in: an `Option`, or a number of seconds.
pub fn upgraded<'a>(table: &str, version: u8, value: &'a [u8]) -> Cow<'a, [u8]> {
    let grown = [
        Table::Branches.as_str(),
        Table::Turns.as_str(),
        HANDLES_NAME,
    ];
    if version == 1 && grown.contains(&table) {
        return Cow::Owned([value, &[0]].concat());
    }
    Cow::Borrowed(value)
}

/// Whether handles are kept as the first two versions did.
pub fn has_handles(transaction: &ReadTransaction) -> Result<bool, Fault> {
    match transaction.open_table(HANDLES) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(false),
        handles => handles.map_err(fault)?,
    };
    // One takes the other's place as a whole.
    match transaction.open_table(records::definition(Table::Handles)) {
        Err(TableError::TableDoesNotExist(_)) => Ok(true),
        handles => {
            handles.map_err(fault)?;
            Err(Fault::Damaged("it has two tables of handles".to_owned()))
        }
    }
}

/// Hands over every one as this version writes it, in the order in which they lie; `None` stands for one
/// that is not whole.
pub fn each_handle(
    transaction: &ReadTransaction,
    mut take: impl FnMut(&[u8], Option<&[u8]>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    each(transaction, |key, handle| match handle {
        Some(handle) => {
            let (key, value) = written(handle);
            take(&key, Some(&value))
        }
        None => take(key, None),
    })
}

/// As [`records::each`], in the order of this version's keys, in which neighbours share pages.
pub fn each_in_order(
    db: &Database,
    table: Table,
    mut take: impl FnMut(&[u8], Option<&[u8]>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let transaction = db.begin_read().map_err(fault)?;
    if table != Table::Handles || !has_handles(&transaction)? {
        return records::each(db, table, take);
    }
    for handle in sorted_handles(&transaction)? {
        let (key, value) = written(handle);
        take(&key, Some(&value))?;
    }
    Ok(())
}

fn sorted_handles(transaction: &ReadTransaction) -> Result<Vec<Led>, Fault> {
    let mut handles = Vec::new();
    each(transaction, |_, handle| {
        let broken = || Fault::Damaged(format!("a record of {HANDLES_NAME}"));
        handles.push(handle.ok_or_else(broken)?);
        Ok(())
    })?;
    handles.sort_unstable_by_key(|(hash, leads)| (leads.created, *hash));
    Ok(handles)
}

/// A name, and where it leads.
type Led = (HandleHash, HandleRecord);

/// Its key and its value as this version writes them.
fn written((hash, leads): Led) -> (Vec<u8>, Vec<u8>) {
    let key = record::handle_key(hash, leads.created);
    (key, record::handle_value(leads))
}

fn each(
    transaction: &ReadTransaction,
    mut take: impl FnMut(&[u8], Option<Led>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let handles = transaction.open_table(HANDLES).map_err(fault)?;
    records::each_of(HANDLES_NAME, &handles, |key, value| {
        take(key, value.and_then(|value| read_handle(key, value).ok()))
    })
}

fn read_handle(key: &[u8], value: &[u8]) -> Result<Led, Unreadable> {
    let (branch, delta, created) = record::value_of(value)?;
    let leads = HandleRecord {
        branch: BranchId(branch),
        delta,
        created,
    };
    Ok((HandleHash::of(&record::read_conversation_key(key)?), leads))
}

/// Makes a file that an earlier version has begun one of this version, as a whole: a crash leaves the one or
/// the other.
pub fn bring_up(db: &Database, facts: &Facts) -> Result<(), Fault> {
    let reading = db.begin_read().map_err(fault)?;
    let handles = if has_handles(&reading)? {
        Some(sorted_handles(&reading)?)
    } else {
        None
    };
    if handles.is_none() && records::begun_by(db)? == Some(seal::SCHEMA) {
        return Ok(());
    }
    let replace = || {
        let transaction = records::transaction(db)?;
        records::lay_out(&transaction, facts)?;
        if let Some(handles) = handles {
            let mut table = transaction.open_table(records::definition(Table::Handles))?;
            for handle in handles {
                let (key, value) = written(handle);
                records::put(&mut table, Table::Handles, &key, &value)?;
            }
            drop(table);
            transaction.delete_table(HANDLES)?;
        }
        transaction.commit()?;
        Ok(())
    };
    replace().map_err(|error: redb::Error| unwritten(error))
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;
    use redb::{TableHandle, WriteTransaction};

    use super::super::{Held, begin, fresh, open};
    use super::*;
    use crate::clock::Moment;
    use crate::ids::{Handle, Tenant, TextHash};
    use crate::store::backend::Write;
    use crate::store::record::{Cut, Phase, Times};
    use crate::store::{Restored, Seen};

    /// A record: the version that wrote it, its table, key and value.
    type Written = (u8, &'static str, Vec<u8>, Vec<u8>);

    /// Records as the first version wrote them: each field of theirs in its order.
    fn first_records() -> [Written; 3] {
        let bytes = "a value can be written down";
        let known = ([7_u8; 32], Moment(9), vec!["conv_1"], None::<&str>);
        let held = ("th_1", [1_u8; 16], Vec::<[u8; 8]>::new(), [2_u8; 32], true);
        let rest = (None::<Seen>, Vec::<[u8; 16]>::new(), None::<u64>);
        let branch = postcard::to_allocvec(&(known, held, rest)).expect(bytes);
        let asked = ([7_u8; 32], [3_u8; 32], None::<[u8; 32]>, "conv_1");
        let stands = (4_u64, Some("th_1"), [5_u8; 16], Seen::default());
        let tips = ([1_u8; 16], [6_u8; 16], Vec::<[u8; 8]>::new());
        let end = (Cut::At(None), Phase::Answered([8; 32]), Times::default());
        let turn = postcard::to_allocvec(&(asked, stands, tips, end)).expect(bytes);
        let handle = postcard::to_allocvec(&(4_u64, true)).expect(bytes);
        [
            (1, "branches", 4_u64.to_be_bytes().to_vec(), branch),
            (1, "turns", 5_u64.to_be_bytes().to_vec(), turn),
            (1, "handles", [&[7; 32][..], b"conv_1"].concat(), handle),
        ]
    }

    /// As the second wrote them.
    fn second_records() -> [Written; 3] {
        first_records().map(|(_, table, key, value)| {
            let end: &[u8] = if table == "handles" { &[77] } else { &[0] };
            (2, table, key, [&value, end].concat())
        })
    }

    /// The first wrote them, and the second one of them anew.
    fn records_of_both() -> [Written; 3] {
        let [branch, _, handle] = first_records();
        let [_, turn, _] = second_records();
        [branch, turn, handle]
    }

    /// As one version has begun it, and one has written to it last.
    fn written_by([begun, last]: [u8; 2], records: [Written; 3]) -> Held<InMemoryBackend> {
        let file = Held::new(InMemoryBackend::new()).unwrap();
        file.let_through().unwrap();
        let db = Database::builder()
            .create_with_backend(file.clone())
            .unwrap();
        let transaction = db.begin_write().unwrap();
        let facts: [(&str, u8, &[u8]); 3] = [
            ("schema", begun, &[]),
            ("salt", begun, &[9; 32]),
            ("written", last, &[0; 8]),
        ];
        for (key, version, value) in facts {
            let definition = TableDefinition::<&str, &[u8]>::new("meta");
            let sealed = seal::sealed_by(version, "meta", key.as_bytes(), value);
            let mut meta = transaction.open_table(definition).unwrap();
            meta.insert(key, sealed.as_slice()).unwrap();
        }
        for (version, name, key, value) in records {
            let definition = TableDefinition::<&[u8], &[u8]>::new(name);
            let sealed = seal::sealed_by(version, name, &key, &value);
            let mut table = transaction.open_table(definition).unwrap();
            table.insert(key.as_slice(), sealed.as_slice()).unwrap();
        }
        // The first knew none that were made before anything was said in them.
        if last > 1 {
            let definition = records::definition(Table::Conversations);
            transaction.open_table(definition).unwrap();
        }
        transaction.commit().unwrap();
        db.close().unwrap();
        file
    }

    /// Opens it, and says what it holds and which tables it has by then.
    fn opened(file: &Held<InMemoryBackend>, version: u8) -> (Restored, Vec<String>, Database) {
        let mut restored = Restored::default();
        let (db, facts) = open(
            file.clone(),
            &InMemoryBackend::new(),
            &mut |table, key, value| restored.take(table, key, value),
        )
        .unwrap();
        let known = (facts.salt, facts.schema, facts.texts);
        assert_eq!(known, ([9; 32], version, TextHash::Sha256));
        let transaction = db.begin_read().unwrap();
        let tables = transaction.list_tables().unwrap();
        let mut tables: Vec<String> = tables.map(|table| table.name().to_owned()).collect();
        tables.sort();
        (restored, tables, db)
    }

    fn is_what_was_written(restored: &Restored, created: u64) {
        let [rested] = restored.branches.as_slice() else {
            panic!("{:?}", restored.branches);
        };
        let branch = rested.line.branch(true);
        assert_eq!((rested.id.0, branch.form), (4, None));
        assert_eq!(branch.thread.as_ref().unwrap().to_string(), "th_1");
        let [(_, turn)] = restored.turns.as_slice() else {
            panic!("{:?}", restored.turns);
        };
        assert_eq!((turn.branch, &turn.kept), (4, &None));
        let leads = HandleRecord {
            branch: BranchId(4),
            delta: true,
            created,
        };
        let key = (Tenant([7; 32]), Handle("conv_1".into()));
        assert_eq!(restored.handles, [(HandleHash::of(&key), leads)]);
    }

    #[test]
    fn a_state_of_an_earlier_version_is_read_and_written_on_as_one_of_this() {
        let cases = [
            ([1, 1], first_records(), 0),
            ([1, 2], records_of_both(), 0),
            ([2, 2], second_records(), 77),
        ];
        for (versions, records, created) in cases {
            let file = written_by(versions, records);

            let (before, tables, db) = opened(&file, versions[1]);
            is_what_was_written(&before, created);
            assert_eq!(
                tables,
                [
                    "branches",
                    "conversations",
                    "meta",
                    "names",
                    "paces",
                    "passed",
                    "turns"
                ]
            );
            let write_on = Write {
                table: Table::Conversations,
                key: [&[7; 32][..], b"conv_2"].concat(),
                value: Some(vec![1, 2]),
            };
            records::write(&db, &[&write_on], 5, 0).unwrap();
            db.close().unwrap();

            let (after, _, _db) = opened(&file, seal::SCHEMA);
            is_what_was_written(&after, created);
            assert_eq!(after.conversations.len(), 1);
        }
    }

    #[test]
    fn a_state_that_was_brought_up_is_newer_than_earlier_versions_read() {
        let file = written_by([2, 2], second_records());
        let (_, _, db) = opened(&file, 2);

        let transaction = db.begin_read().unwrap();
        let definition = TableDefinition::<&str, &[u8]>::new("meta");
        let meta = transaction.open_table(definition).unwrap();
        for fact in ["schema", "salt", "written"] {
            let stored = meta.get(fact).unwrap().unwrap();
            assert_eq!(stored.value().first(), Some(&seal::SCHEMA), "{fact}");
        }
    }

    type Changed<'a> = (&'a str, Option<(u8, &'a [u8])>);

    /// A file of this version in which some facts are missing, or are of this version and this value.
    fn with_facts(facts: &[Changed<'_>]) -> Result<Facts, Fault> {
        changed(facts, |_| {})
    }

    fn changed(
        facts: &[Changed<'_>],
        change: impl FnOnce(&WriteTransaction),
    ) -> Result<Facts, Fault> {
        let file = Held::new(InMemoryBackend::new()).unwrap();
        file.let_through().unwrap();
        let db = begin(file.clone(), &fresh().unwrap()).unwrap();
        let transaction = db.begin_write().unwrap();
        change(&transaction);
        {
            let definition = TableDefinition::<&str, &[u8]>::new("meta");
            let mut meta = transaction.open_table(definition).unwrap();
            for (fact, value) in facts {
                meta.remove(*fact).unwrap();
                if let Some((version, value)) = value {
                    let sealed = seal::sealed_by(*version, "meta", fact.as_bytes(), value);
                    meta.insert(*fact, sealed.as_slice()).unwrap();
                }
            }
        }
        transaction.commit().unwrap();
        db.close().unwrap();
        let opened = || open(file.clone(), &InMemoryBackend::new(), &mut |_, _, _| Ok(()));
        let (db, facts) = opened()?;
        db.close().unwrap();
        let (_, again) = opened()?;
        assert_eq!((again.texts, again.schema), (facts.texts, seal::SCHEMA));
        Ok(facts)
    }

    #[test]
    fn how_texts_are_hashed_is_said_by_files_of_this_version_and_known_of_earlier_ones() {
        let texts = |value: &'static [u8]| ("texts", Some((seal::SCHEMA, value)));
        let third = [("schema", Some((3, &[][..]))), ("texts", None)];
        let fifth = [
            ("schema", Some((5, &[][..]))),
            ("texts", Some((5, &b"highway"[..]))),
        ];
        for (facts, texts) in [
            (&[][..], Some(TextHash::Highway)),
            (&[texts(b"sha256")], Some(TextHash::Sha256)),
            (&third, Some(TextHash::Sha256)),
            (&fifth, Some(TextHash::Highway)),
            (&[texts(b"md5")], None),
            (&[("texts", None)], None),
            (&[("schema", Some((4, &[][..]))), ("texts", None)], None),
        ] {
            match (with_facts(facts), texts) {
                (Ok(found), Some(texts)) => assert_eq!(found.texts, texts),
                (Err(Fault::Damaged(_)), None) => {}
                (other, _) => panic!("{facts:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn the_table_of_earlier_tips_is_missed_since_there_is_one() {
        let taken = |transaction: &WriteTransaction| {
            let passed = records::definition(Table::Passed);
            assert!(transaction.delete_table(passed).unwrap());
        };
        let fourth = [("schema", Some((4, &[][..])))];

        changed(&fourth, taken).unwrap();
        for since in [5, seal::SCHEMA] {
            let later = changed(&[("schema", Some((since, &[][..])))], taken);

            assert!(
                matches!(later, Err(Fault::Damaged(_))),
                "{since}: {later:?}"
            );
        }
    }

    #[test]
    fn a_handle_of_an_earlier_version_that_is_not_whole_is_seen() {
        let mut records = second_records();
        records[2].3.push(0);
        let file = written_by([2, 2], records);

        let opened = open(file, &InMemoryBackend::new(), &mut |table, key, value| {
            Restored::default().take(table, key, value)
        });

        assert!(matches!(opened, Err(Fault::Damaged(_))), "{opened:?}");
    }
}
