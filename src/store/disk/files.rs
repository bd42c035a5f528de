//! The two files of a state: units are durable once the journal has them, and it makes room for others once the
//! database has them too.

use std::fmt;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use redb::Database;

use super::journal::{Journal, Span};
use super::{Folder, records};
use crate::store::backend::Write;

/// Both files.
#[derive(Debug)]
pub struct Files {
    base: Arc<Base>,
    journal: Journal,
    /// What the database does not have yet, in its order.
    ahead: Vec<Write>,
    /// Nobody knows yet whether the database has the last batch.
    is_applying: bool,
}

/// The database, and the folder that is held as long as anybody writes to it.
#[derive(Debug)]
struct Base {
    db: Database,
    folder: Option<Folder>,
}

/// What is on its way into the database, while the journal goes on.
#[derive(Debug)]
pub struct Batch {
    base: Arc<Base>,
    writes: Vec<Write>,
    span: Span,
}

impl Files {
    pub fn new(db: Database, journal: Journal, folder: Option<Folder>) -> Self {
        Self {
            base: Arc::new(Base { db, folder }),
            journal,
            ahead: Vec::new(),
            is_applying: false,
        }
    }

    /// Whether it is durable now. Where the journal has no room for it, it is once the database has it.
    pub fn write(&mut self, mut writes: Vec<Write>, now: u64) -> Result<bool, String> {
        let add = AssertUnwindSafe(|| self.journal.add(&writes, now));
        let added = told(catch_unwind(add))?;
        self.ahead.append(&mut writes);
        Ok(added)
    }

    /// Whether the database does not have everything.
    pub fn is_ahead(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// Whether that fills the journal.
    pub fn is_filling(&self) -> bool {
        self.journal.is_filling()
    }

    /// All that the database does not have yet: one batch at a time, in their order.
    pub fn batch(&mut self) -> Batch {
        self.is_applying = true;
        Batch {
            base: Arc::clone(&self.base),
            writes: mem::take(&mut self.ahead),
            span: self.journal.span(),
        }
    }

    /// The database has this batch.
    pub fn applied(&mut self, span: Span) {
        self.is_applying = false;
        self.journal.free(span);
    }

    /// What is in neither file is lost by now; what is in one is found again.
    pub fn close(self) {
        let is_whole = !self.is_ahead() && !self.is_applying;
        let close = AssertUnwindSafe(|| {
            // A thread that is stuck goes on with it, and holds the folder.
            let Some(Base { db, folder }) = Arc::into_inner(self.base) else {
                return;
            };
            // What was closed is one file, which can be copied and put back.
            let is_closed = db.close().is_ok() && is_whole && self.journal.end().is_ok();
            if let Some(folder) = folder.filter(|_| is_closed) {
                folder.remove_journal();
            }
        });
        let _ = catch_unwind(close);
    }
}

impl Batch {
    /// Puts it into the database, and returns once that is durable.
    pub fn apply(self, now: u64) -> Result<Span, String> {
        let Self { base, writes, span } = self;
        let last = records::last_of_each(&writes);
        let write = AssertUnwindSafe(|| records::write(&base.db, &last, now, span.last));
        told(catch_unwind(write))?;
        Ok(span)
    }
}

/// What an attempt came to, as a sentence where it failed.
fn told<T, E: fmt::Display>(attempt: thread::Result<Result<T, E>>) -> Result<T, String> {
    match attempt {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err("writing panicked".to_owned()),
    }
}
