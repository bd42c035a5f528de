//! What an earlier process has left, record by record.

use std::collections::{HashMap, VecDeque};
use std::mem;

use super::backend::Table;
use super::conversations::Made;
use super::paces::Learned;
use super::record::{self, Rested, Turn, TurnId, Unreadable};
use super::{BranchId, HandleHash, HandleKey, HandleRecord};
use crate::clock::Moment;
use crate::ids::{Fingerprint, Tenant};

/// Every record that was found.
#[derive(Debug, Default)]
pub struct Restored {
    /// Without the earlier tips that were written beside them.
    pub branches: Vec<Rested>,
    pub handles: Vec<(HandleHash, HandleRecord)>,
    pub turns: Vec<(TurnId, Turn)>,
    pub conversations: Vec<(HandleKey, Made)>,
    pub paces: Vec<(Tenant, Learned)>,
    /// Earlier tips, of branches that have many.
    older: Vec<(BranchId, VecDeque<Fingerprint>)>,
}

impl Restored {
    /// Takes one record as it was written.
    pub fn take(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), Unreadable> {
        match table {
            Table::Branches => self.branches.push(Rested::read(key, value)?),
            Table::Handles => self.handles.push(record::read_handle(key, value)?),
            Table::Turns => self.turns.push(record::read_turn(key, value)?),
            Table::Conversations => {
                let conversation = record::read_conversation(key, value)?;
                self.conversations.push(conversation);
            }
            Table::Paces => self.paces.push(Learned::read(key, value)?),
            Table::Passed => self.older.push(record::read_passed(key, value)?),
        }
        Ok(())
    }

    /// Takes out the branches, each with all of its earlier tips.
    pub fn whole_branches(&mut self) -> Vec<Rested> {
        let mut older: HashMap<_, _> = mem::take(&mut self.older).into_iter().collect();
        let branches = mem::take(&mut self.branches).into_iter();
        let whole = branches.map(|branch| match older.remove(&branch.id) {
            Some(older) => branch.with_older(older),
            None => branch,
        });
        whole.collect()
    }

    /// The newest moment that any record names.
    pub fn newest(&self) -> Option<Moment> {
        let used = self.branches.iter().map(|branch| branch.used);
        let turns = self.turns.iter().filter_map(|(_, turn)| {
            let times = turn.times;
            let told = times.told.map(|(_, last)| last);
            [
                Some(times.began),
                times.ended,
                times.left,
                times.written,
                told,
            ]
            .into_iter()
            .flatten()
            .max()
        });
        let made = self.conversations.iter().map(|(_, made)| made.at);
        let paces = self.paces.iter().map(|(_, learned)| learned.used);
        used.chain(turns).chain(made).chain(paces).max()
    }
}
