//! One branch in memory: its record, and what guards it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::uses::{Spot, Uses};
use super::{put, take};
use crate::clock::Moment;
use crate::store::backend::{Table, Write};
use crate::store::record::{self, Line};
use crate::store::{Branch, BranchId, Lease, LeaseLock, State};

/// A branch's record, and what guards it. There may be millions, and they outlive what is made beside them.
#[derive(Debug)]
pub struct Slot {
    pub id: BranchId,
    /// Requests that wait for the lease.
    pub waiting: AtomicU32,
    /// The backend has this branch, and so the handles that lead to it.
    written: AtomicBool,
    record: Mutex<Record>,
}

#[derive(Debug)]
pub struct Record {
    form: Form,
    /// Made when it is asked for, and given up when the branch is put to rest and nobody has it: of many
    /// branches few are in use.
    lease: Option<LeaseLock>,
    pub used: Moment,
    /// Where it stands in the order of uses.
    pub spot: Spot,
    pub forgotten: bool,
}

#[derive(Debug)]
enum Form {
    Awake(Box<Branch>),
    /// As it is written down, with all of its earlier tips: in a third of the space.
    Resting {
        line: Line,
        doubted: bool,
    },
}

impl Slot {
    pub fn new(id: BranchId, branch: Branch, used: Moment) -> Arc<Self> {
        Self::with(id, Form::Awake(Box::new(branch)), used, false)
    }

    /// One that an earlier process has written.
    pub fn restored(id: BranchId, line: Line, used: Moment) -> Arc<Self> {
        let doubted = true;
        Self::with(id, Form::Resting { line, doubted }, used, true)
    }

    fn with(id: BranchId, form: Form, used: Moment, written: bool) -> Arc<Self> {
        Arc::new(Self {
            id,
            waiting: AtomicU32::new(0),
            written: written.into(),
            record: Mutex::new(Record {
                form,
                lease: None,
                used,
                spot: Spot::default(),
                forgotten: false,
            }),
        })
    }

    /// What whoever posts on its thread holds meanwhile.
    pub fn lease_lock(&self) -> LeaseLock {
        self.lock().lease.get_or_insert_default().clone()
    }

    /// The lease, if nobody has it and nobody waits for it.
    pub fn try_lease(&self) -> Option<Lease> {
        self.lease_lock().try_lock_owned().ok()
    }

    pub fn is_leased(&self) -> bool {
        let record = self.lock();
        let lease = record.lease.as_ref();
        lease.is_some_and(|lease| lease.try_lock().is_err())
    }

    /// A copy of the record as it is.
    pub fn branch(&self) -> Branch {
        self.lock().branch()
    }

    /// Looks at the record without copying it. Must not wait.
    pub fn look<T>(&self, look: impl FnOnce(&Branch) -> T) -> T {
        self.lock().look(look)
    }

    pub fn used(&self) -> Moment {
        self.lock().used
    }

    pub fn is_written(&self) -> bool {
        self.written.load(Ordering::Acquire)
    }

    /// From here on the backend has it.
    pub fn is_now_written(&self) {
        self.written.store(true, Ordering::Release);
    }

    pub fn lock(&self) -> MutexGuard<'_, Record> {
        // A panic while a record was changed leaves a whole record: every change is one assignment
        // after another of values that are already made.
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record {
    pub fn branch(&self) -> Branch {
        match &self.form {
            Form::Awake(branch) => Branch::clone(branch),
            Form::Resting { line, doubted } => line.branch(*doubted),
        }
    }

    /// Looks at what it is once it is changed. One that rests goes on to rest.
    pub fn change<T>(&mut self, change: impl FnOnce(&mut Branch) -> T) -> T {
        let rests = self.rests();
        let changed = change(self.wake());
        if rests {
            self.rest();
        }
        changed
    }

    /// As it is written down; `None` where there is nothing to remember.
    pub fn written(&self, id: BranchId) -> Option<Vec<Write>> {
        self.look(|branch| {
            let key = || record::numbered(id.0);
            let with = record::branch(branch, self.used)?;
            let beside = branch.passed.beside_branch().map(record::passed);
            let beside = beside.map(|value| put(Table::Passed, key(), value));
            let branch = put(Table::Branches, key(), with);
            Some([branch].into_iter().chain(beside).collect())
        })
    }

    /// What takes away what was written down.
    pub fn taken(&self, id: BranchId) -> Vec<Write> {
        let has_older = self.look(|branch| branch.passed.has_older());
        let tables = [Table::Branches]
            .into_iter()
            .chain(has_older.then_some(Table::Passed));
        let taken = tables.map(|table| take(table, record::numbered(id.0)));
        taken.collect()
    }

    pub fn rests(&self) -> bool {
        matches!(self.form, Form::Resting { .. })
    }

    fn look<T>(&self, look: impl FnOnce(&Branch) -> T) -> T {
        match &self.form {
            Form::Awake(branch) => look(branch),
            Form::Resting { line, doubted } => look(&line.branch(*doubted)),
        }
    }

    /// Makes it quick to look at.
    pub fn wake(&mut self) -> &mut Branch {
        if let Form::Resting { line, doubted } = &self.form {
            self.form = Form::Awake(Box::new(line.branch(*doubted)));
        }
        match &mut self.form {
            Form::Awake(branch) => branch,
            Form::Resting { .. } => unreachable!("it was just woken"),
        }
    }

    /// Notes that it is used, unless it is forgotten.
    pub fn use_now(&mut self, order: &mut Uses, id: BranchId, now: Moment) {
        if !self.forgotten {
            self.used = now;
            self.put_last(order, id);
            self.wake();
        }
    }

    pub fn put_last(&mut self, order: &mut Uses, id: BranchId) {
        if !self.forgotten {
            self.spot = order.put_last(self.spot, id);
        }
    }

    /// Makes it small, unless it holds what is not written down.
    pub fn rest(&mut self) {
        // Whoever has the lease, or waits for it, has this too; and nobody can ask for it just now.
        self.lease.take_if(|lease| Arc::strong_count(lease) == 1);
        if let Form::Awake(branch) = &self.form
            && branch.beside.is_none()
            && branch.state != State::Unborn
            && let Some(line) = Line::of(branch, self.used)
        {
            let doubted = branch.doubted;
            self.form = Form::Resting { line, doubted };
        }
    }
}

#[cfg(test)]
pub mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::ids::{Fingerprint, Handle, Tenant};
    use crate::store::{Passed, Seen};
    use crate::upstream::ThreadId;

    pub fn branch() -> Branch {
        Branch {
            tenant: Tenant([1; 32]),
            handles: vec![Handle("one".into()), Handle("other".into())],
            narrow: Some("chat".to_owned()),
            thread: Some(ThreadId("th_1".into())),
            tip: Fingerprint([2; 16]),
            window: VecDeque::from([[3; 8], [4; 8]]),
            instructions: [5; 32],
            state: State::Closed,
            seen: Some(Seen {
                keys: vec![[6; 8]],
                total: 300,
                newest_first: Some(true),
            }),
            passed: Passed::resting(VecDeque::from([[7; 16], [9; 16]].map(Fingerprint)), 1),
            doubted: false,
            origin: Some(BranchId(9)),
            beside: None,
            form: Some([8; 32]),
        }
    }

    fn rests(slot: &Slot) -> bool {
        slot.lock().rests()
    }

    /// Of the allocator's next size, 112, a caller who waits needs several: pages full of those would be kept
    /// for one slot each, once the callers are gone.
    #[test]
    fn one_takes_little_room() {
        let counts = size_of::<[usize; 2]>();

        let room = size_of::<Slot>() + counts;

        assert!(room <= 96, "{room}");
    }

    #[test]
    fn one_that_rests_is_what_it_was() {
        for doubted in [false, true] {
            let expected = Branch {
                doubted,
                ..branch()
            };
            let slot = Slot::new(BranchId(1), expected.clone(), Moment(5));

            slot.lock().rest();

            assert!(rests(&slot));
            assert_eq!(format!("{:?}", slot.branch()), format!("{expected:?}"));
            slot.look(|seen| assert_eq!(format!("{seen:?}"), format!("{expected:?}")));
            slot.lock().change(|branch| branch.narrow = None);
            assert!(rests(&slot));
            assert_eq!(slot.branch().narrow, None);
            assert_eq!(slot.lock().wake().handles, expected.handles);
            assert!(!rests(&slot));
        }
    }

    #[test]
    fn one_that_rests_has_the_lease_that_somebody_holds() {
        let slot = Slot::new(BranchId(1), branch(), Moment(5));
        let held = slot.try_lease();

        slot.lock().rest();

        assert!(held.is_some() && slot.is_leased() && slot.try_lease().is_none());
        drop(held);
        assert!(!slot.is_leased());
        slot.lock().rest();
        assert!(slot.lock().lease.is_none());
        assert!(slot.try_lease().is_some());
    }

    /// Whether a branch rests between its turns or not, the same of it is written when.
    #[test]
    fn one_that_rests_between_turns_writes_what_another_writes() {
        let [awake, resting] = [(); 2].map(|()| Slot::new(BranchId(1), branch(), Moment(5)));
        resting.lock().rest();

        for turn in 0..100 {
            let written = [&awake, &resting].map(|slot| {
                let mut record = slot.lock();
                let point = Fingerprint([turn; 16]);
                record.change(|branch| branch.passed.push(point));
                record.written(slot.id)
            });
            assert!(rests(&resting));
            assert_eq!(written[0], written[1], "turn {turn}");
        }
        let tables = |slot: &Slot| slot.lock().taken(slot.id).len();
        assert_eq!((tables(&awake), tables(&resting)), (2, 2));
    }

    #[test]
    fn what_is_not_written_down_does_not_rest() {
        let beside = Some(Handle("talk".into()));
        for branch in [
            Branch { beside, ..branch() },
            Branch {
                state: State::Unborn,
                ..branch()
            },
            Branch {
                thread: None,
                ..branch()
            },
        ] {
            let slot = Slot::new(BranchId(1), branch, Moment(5));

            slot.lock().rest();

            assert!(!rests(&slot));
        }
    }
}
