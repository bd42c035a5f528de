//! What the store answers and has written down, beside what the model says.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use chaturdata_proxy::ids::{Fingerprint, Handle};
use chaturdata_proxy::store::backend::Table;
use chaturdata_proxy::store::{Branch, HandleHash, HandleKey};

use super::{NAMES, Pair, fingerprint, handle, key, point};

impl Pair {
    /// Everything that can be asked for.
    pub fn compare(&mut self) {
        for tenant in 0..2 {
            for name in 0..NAMES {
                let record = self.store.handle(&key(tenant, name));
                let record = record.map(|record| (record.branch, record.delta));
                let expected = self.model.handles.get(&(tenant, name));
                let expected = expected.map(|(which, delta)| (self.slots[*which].0.id, *delta));
                assert_eq!(record, expected, "handle {name} of {tenant}");
            }
        }
        for (which, (slot, _)) in self.slots.iter().enumerate() {
            let known = &self.model.known[which];
            let branch = slot.branch();
            let names: Vec<Handle> = known.names.iter().map(|name| handle(*name)).collect();
            let passed: Vec<Fingerprint> = known.passed.iter().copied().map(fingerprint).collect();
            assert_eq!(branch.handles, names);
            assert!(branch.passed.iter().eq(&passed));
            if let Some(tip) = known.tip {
                assert_eq!(branch.tip, fingerprint(tip));
            }
        }
        let deepest = self.model.known.iter().map(|known| known.depth).max();
        for point in 0..point(deepest.unwrap_or(0), 0) {
            let there = self.store.at(&fingerprint(point));
            let there: Vec<_> = there.iter().map(|slot| slot.id).collect();
            let expected = self.model.at(point);
            let expected: Vec<_> = expected
                .iter()
                .map(|which| self.slots[*which].0.id)
                .collect();
            assert_eq!(there, expected, "at {point}");
        }
        assert_eq!(self.store.len(), self.model.alive());
        self.compare_shelf();
    }

    /// What would be read after a restart: every name, each where it leads, and every branch with all of its
    /// tips; nothing of what is forgotten.
    fn compare_shelf(&self) {
        static KEYS: LazyLock<BTreeMap<HandleHash, HandleKey>> = LazyLock::new(|| {
            let keys = (0..2).flat_map(|tenant| (0..NAMES).map(move |name| key(tenant, name)));
            keys.map(|key| (HandleHash::of(&key), key)).collect()
        });
        let mut written = self.shelf.handles();
        for (hash, key) in &*KEYS {
            assert_eq!(self.store.handle(key), written.remove(hash), "{key:?}");
        }
        assert!(written.is_empty(), "{written:?}");
        let all = self.model.known.iter().zip(&self.slots);
        let written = all.filter(|(known, (slot, _))| known.alive && slot.is_written());
        let branches: Vec<Branch> = written.map(|(_, (slot, _))| slot.branch()).collect();
        let whole = self.shelf.restored().whole_branches();
        let found = whole.iter().map(|rested| rested.line.branch(false));
        let points = |branch: Branch| (branch.tip, branch.passed);
        let older = branches.iter().filter(|branch| branch.passed.has_older());
        assert_eq!(self.shelf.count(Table::Passed), older.count());
        assert!(found.map(points).eq(branches.into_iter().map(points)));
    }
}
