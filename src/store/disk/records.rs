//! The tables of the file, what is written to them and read from them.

use std::mem;
use std::panic::resume_unwind;
use std::sync::mpsc::{self, SyncSender};
use std::thread;

use redb::{
    Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, StorageError,
    TableDefinition, TableError, WriteTransaction,
};

use super::seal::{SCHEMA, sealed, verified};
use super::{Fault, former};
use crate::ids::TextHash;
use crate::store::backend::{Table, Write};
use crate::store::record::Unreadable;

/// What the file says of itself.
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const SCHEMA_KEY: &str = "schema";
const SALT_KEY: &str = "salt";
const WRITTEN_KEY: &str = "written";
const TEXTS_KEY: &str = "texts";
const JOURNALLED_KEY: &str = "journalled";

/// The first version whose files say how texts are hashed in them.
const TEXTS_SINCE: u8 = 4;

/// The first version whose files have a table of earlier tips.
const PASSED_SINCE: u8 = 5;

/// The first version whose state has a journal.
pub const JOURNALLED_SINCE: u8 = 7;

/// Takes one verified record.
pub type Read<'a> = dyn FnMut(Table, &[u8], &[u8]) -> Result<(), Unreadable> + 'a;

/// What a file holds beside records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub salt: [u8; 32],
    /// How texts are hashed in it, as long as it is there.
    pub texts: TextHash,
    /// When the last records were written, in milliseconds since the epoch.
    pub written: u64,
    /// The number of the journal's last entry that is in it. A version that had no journal says nothing of it.
    pub journalled: Option<u64>,
    /// The latest version that has written to the file, as it was found.
    pub schema: u8,
}

/// Makes every table, and the facts that last as long as the file.
pub fn begin(db: &Database, facts: &Facts) -> Result<(), redb::Error> {
    let transaction = transaction(db)?;
    lay_out(&transaction, facts)?;
    transaction.commit()?;
    Ok(())
}

/// Makes the tables that are missing, and puts down the facts.
pub fn lay_out(transaction: &WriteTransaction, facts: &Facts) -> Result<(), redb::Error> {
    let mut meta = transaction.open_table(META)?;
    let mut put = |key: &str, value: &[u8]| {
        let sealed = sealed(META_NAME, key.as_bytes(), value);
        meta.insert(key, sealed.as_slice()).map(drop)
    };
    put(SCHEMA_KEY, &[])?;
    put(SALT_KEY, &facts.salt)?;
    put(WRITTEN_KEY, &facts.written.to_le_bytes())?;
    put(TEXTS_KEY, name_of(facts.texts))?;
    let journalled = facts.journalled.unwrap_or_default();
    put(JOURNALLED_KEY, &journalled.to_le_bytes())?;
    for table in Table::ALL {
        transaction.open_table(definition(table))?;
    }
    Ok(())
}

/// Of several writes to one place the last alone, place by place: neighbours share pages.
pub fn last_of_each(writes: &[Write]) -> Vec<&Write> {
    fn place(write: &Write) -> (Table, &[u8]) {
        (write.table, &write.key)
    }
    let mut last: Vec<&Write> = writes.iter().rev().collect();
    last.sort_by(|one, other| place(one).cmp(&place(other)));
    last.dedup_by(|one, other| place(one) == place(other));
    last
}

/// Writes records in their order, all of them or none, and returns once they are durable. Those of one table
/// stand together. With them the database has the journal's entries up to this one.
pub fn write(
    db: &Database,
    writes: &[&Write],
    now: u64,
    journalled: u64,
) -> Result<(), redb::Error> {
    let transaction = transaction(db)?;
    for of_table in writes.chunk_by(|one, other| one.table == other.table) {
        let Some(Write { table, .. }) = of_table.first() else {
            continue;
        };
        let mut open = transaction.open_table(definition(*table))?;
        for Write { key, value, .. } in of_table {
            match value {
                Some(value) => put(&mut open, *table, key, value)?,
                None => {
                    open.remove(key.as_slice())?;
                }
            }
        }
    }
    {
        let mut meta = transaction.open_table(META)?;
        for (key, value) in [(WRITTEN_KEY, now), (JOURNALLED_KEY, journalled)] {
            let sealed = sealed(META_NAME, key.as_bytes(), &value.to_le_bytes());
            meta.insert(key, sealed.as_slice())?;
        }
    }
    transaction.commit()?;
    Ok(())
}

/// Puts one record in its place in the table that is open.
pub fn put(
    open: &mut redb::Table<'_, &'static [u8], &'static [u8]>,
    table: Table,
    key: &[u8],
    value: &[u8],
) -> Result<(), StorageError> {
    let sealed = sealed(stored_as(table), key, value);
    open.insert(key, sealed.as_slice()).map(drop)
}

/// Hands over every record, verified. The first that is not whole ends it.
pub fn read(db: &Database, read: &mut Read<'_>) -> Result<Facts, Fault> {
    let facts = facts(db)?;
    let (sender, batches) = mpsc::sync_channel(BATCHES);
    thread::scope(|scope| {
        let reading = scope.spawn(move || verified_batches(db, &sender));
        for batch in batches {
            batch.each(read)?;
        }
        reading.join().unwrap_or_else(|panic| resume_unwind(panic))
    })?;
    Ok(facts)
}

/// Reads while what was read before is being taken.
fn verified_batches(db: &Database, batches: &SyncSender<Batch>) -> Result<(), Fault> {
    for table in Table::ALL {
        let mut batch = Batch::of(table);
        each(db, table, |key, value| {
            let value =
                value.ok_or_else(|| Fault::Damaged(format!("a record of {}", table.as_str())))?;
            batch.push(key, value);
            if batch.bytes.len() < Batch::FULL {
                return Ok(());
            }
            // Nobody takes any more where one could not be taken.
            let full = mem::replace(&mut batch, Batch::of(table));
            batches
                .send(full)
                .map_err(|_| Fault::Damaged(String::new()))
        })?;
        let _ = batches.send(batch);
    }
    Ok(())
}

/// How many batches are read ahead.
const BATCHES: usize = 4;

/// Some records of a table.
struct Batch {
    table: Table,
    bytes: Vec<u8>,
    /// How long each key and each value is.
    lengths: Vec<(usize, usize)>,
}

impl Batch {
    const FULL: usize = 256 << 10;

    fn of(table: Table) -> Self {
        Self {
            table,
            bytes: Vec::new(),
            lengths: Vec::new(),
        }
    }

    fn push(&mut self, key: &[u8], value: &[u8]) {
        self.bytes.extend(key);
        self.bytes.extend(value);
        self.lengths.push((key.len(), value.len()));
    }

    fn each(&self, read: &mut Read<'_>) -> Result<(), Fault> {
        let mut rest = self.bytes.as_slice();
        for (key, value) in &self.lengths {
            let (record, others) = rest.split_at(key + value);
            let (key, value) = record.split_at(*key);
            rest = others;
            read(self.table, key, value).map_err(|Unreadable| {
                Fault::Damaged(format!("a record of {} means nothing", self.table.as_str()))
            })?;
        }
        Ok(())
    }
}

/// Hands over every record of a table; `None` stands for one that is not whole.
pub fn each(
    db: &Database,
    table: Table,
    take: impl FnMut(&[u8], Option<&[u8]>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let transaction = db.begin_read().map_err(fault)?;
    if table == Table::Handles && former::has_handles(&transaction)? {
        return former::each_handle(&transaction, take);
    }
    let records = match transaction.open_table(definition(table)) {
        // Nothing was learned yet.
        Err(TableError::TableDoesNotExist(_)) if table == Table::Paces => return Ok(()),
        Err(TableError::TableDoesNotExist(_))
            if table == Table::Passed && begun_by(db)? < Some(PASSED_SINCE) =>
        {
            return Ok(());
        }
        // The first version had none.
        Err(TableError::TableDoesNotExist(_))
            if table == Table::Conversations && begun_by(db)? == Some(1) =>
        {
            return Ok(());
        }
        Err(TableError::TableDoesNotExist(name)) => {
            return Err(Fault::Damaged(format!("the table {name} is missing")));
        }
        records => records.map_err(fault)?,
    };
    each_of(stored_as(table), &records, take)
}

/// The same of a table that is open; `name` is what its records are sealed with.
pub fn each_of(
    name: &str,
    records: &ReadOnlyTable<&'static [u8], &'static [u8]>,
    mut take: impl FnMut(&[u8], Option<&[u8]>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    for entry in records.iter().map_err(fault)? {
        let (key, stored) = entry.map_err(fault)?;
        let (key, stored) = (key.value(), stored.value());
        take(key, verified(name, key, stored).as_deref())?;
    }
    Ok(())
}

/// The version that has begun the file, or has brought it up.
pub fn begun_by(db: &Database) -> Result<Option<u8>, Fault> {
    let transaction = db.begin_read().map_err(fault)?;
    let meta = transaction.open_table(META).map_err(fault)?;
    let stored = meta.get(SCHEMA_KEY).map_err(fault)?;
    Ok(stored.and_then(|stored| stored.value().first().copied()))
}

/// What the file says of itself. A newer version is known before anything else is looked at.
pub fn facts(db: &Database) -> Result<Facts, Fault> {
    let transaction = db.begin_read().map_err(fault)?;
    let meta = match transaction.open_table(META) {
        Err(TableError::Storage(error)) => return Err(fault(error)),
        Err(_) => return Err(Fault::Foreign),
        Ok(meta) => meta,
    };
    let mut schema = 0;
    let mut found = |key: &'static str| -> Result<Option<Vec<u8>>, Fault> {
        let Some(stored) = meta.get(key).map_err(fault)? else {
            return Ok(None);
        };
        match stored.value().first() {
            Some(version) if *version > SCHEMA => Err(Fault::Newer),
            version => {
                schema = schema.max(version.copied().unwrap_or_default());
                let value = verified(META_NAME, key.as_bytes(), stored.value());
                let value = value.ok_or_else(|| Fault::Damaged(format!("its {key}")))?;
                Ok(Some(value.into_owned()))
            }
        }
    };
    let none = |key: &str| Fault::Damaged(format!("it has no {key}"));
    let mut value = |key: &'static str| found(key)?.ok_or_else(|| none(key));
    value(SCHEMA_KEY)?;
    let fixed = |what: &str| Fault::Damaged(format!("its {what} has another length"));
    let salt = value(SALT_KEY)?.try_into().map_err(|_| fixed(SALT_KEY))?;
    let number = |key, value: Vec<u8>| {
        let bytes = value.try_into().map_err(|_| fixed(key))?;
        Ok(u64::from_le_bytes(bytes))
    };
    let written = number(WRITTEN_KEY, value(WRITTEN_KEY)?)?;
    let texts = match found(TEXTS_KEY)? {
        Some(name) => named(&name).ok_or_else(|| Fault::Damaged(format!("its {TEXTS_KEY}")))?,
        None if begun_by(db)? < Some(TEXTS_SINCE) => TextHash::Sha256,
        None => return Err(none(TEXTS_KEY)),
    };
    let journalled = match found(JOURNALLED_KEY)? {
        Some(last) => Some(number(JOURNALLED_KEY, last)?),
        None if begun_by(db)? < Some(JOURNALLED_SINCE) => None,
        None => return Err(none(JOURNALLED_KEY)),
    };
    Ok(Facts {
        salt,
        texts,
        written,
        journalled,
        schema,
    })
}

/// What a way of hashing texts is called in the file.
fn name_of(texts: TextHash) -> &'static [u8] {
    match texts {
        TextHash::Highway => b"highway",
        TextHash::Sha256 => b"sha256",
    }
}

fn named(name: &[u8]) -> Option<TextHash> {
    let all = [TextHash::Highway, TextHash::Sha256];
    all.into_iter().find(|texts| name_of(*texts) == name)
}

const META_NAME: &str = "meta";

pub fn definition(table: Table) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(stored_as(table))
}

/// What a table is called in the file, and its records are sealed with. That of the handles has another
/// name than in the first two versions, which ordered it otherwise.
pub fn stored_as(table: Table) -> &'static str {
    match table {
        Table::Handles => "names",
        other => other.as_str(),
    }
}

pub fn transaction(db: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut transaction = db.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    // A second sync, after which the file says for sure which commit is its last: damage to that one
    // is then refused, and not taken for a commit that never came to its end. What a quick repair needs
    // beside that is not written: every page is looked at when the file is opened.
    transaction.set_two_phase_commit(true);
    Ok(transaction)
}

/// What an error of the database means for its file.
pub fn fault(error: impl Into<redb::Error>) -> Fault {
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    match error.into() {
        redb::Error::Io(error) if error.kind() == InvalidData => Fault::Foreign,
        redb::Error::Io(error) if error.kind() == UnexpectedEof => {
            Fault::Damaged("it is cut off".to_owned())
        }
        redb::Error::Io(error) => Fault::Unreadable(error),
        redb::Error::Corrupted(what) if what.contains("file format version") => Fault::Newer,
        redb::Error::Corrupted(what) => Fault::Damaged(what),
        other => Fault::Damaged(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_writes_to_one_place_the_last_counts() {
        let write = |table, key: u8, value: Option<u8>| Write {
            table,
            key: vec![key],
            value: value.map(|value| vec![value]),
        };
        let writes = [
            write(Table::Turns, 2, Some(1)),
            write(Table::Branches, 2, Some(2)),
            write(Table::Turns, 1, None),
            write(Table::Turns, 2, Some(3)),
            write(Table::Turns, 1, Some(4)),
            write(Table::Turns, 2, None),
        ];

        assert_eq!(last_of_each(&writes), [&writes[1], &writes[4], &writes[5]]);
    }
}
