//! What responses say again of their requests, in memory alone: bounded, the oldest go first.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ids::{ResponseId, Tenant};
use crate::openai::items::Item;
use crate::openai::responses::Echo;

/// Bytes of requests, and how many responses, of all tenants.
const MOST_BYTES: usize = 64 << 20;
const MOST: usize = 10_000;

/// What anything costs beside its bytes.
const OVERHEAD: usize = 1024;

/// What responses say again of their requests.
#[derive(Clone, Debug, Default)]
pub struct Echoes(Arc<Mutex<Kept>>);

/// What one response says again of its request.
pub struct Said {
    pub echo: Echo,
    pub input: Vec<Item>,
    pub prompt_tokens: u64,
    /// Bytes of the request.
    pub bytes: usize,
}

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Said").finish_non_exhaustive()
    }
}

type Key = (Tenant, ResponseId);

#[derive(Debug, Default)]
struct Kept {
    by_id: HashMap<Key, (u64, Arc<Said>)>,
    /// From the oldest on.
    order: BTreeMap<u64, Key>,
    next: u64,
    bytes: usize,
}

impl Echoes {
    pub fn find(&self, tenant: Tenant, id: ResponseId) -> Option<Arc<Said>> {
        let kept = self.kept();
        kept.by_id.get(&(tenant, id)).map(|(_, said)| said.clone())
    }

    pub fn remember(&self, tenant: Tenant, id: ResponseId, said: Arc<Said>) {
        let mut kept = self.kept();
        kept.remove(&(tenant, id));
        kept.bytes += said.bytes + OVERHEAD;
        let number = kept.next;
        kept.next += 1;
        kept.order.insert(number, (tenant, id));
        kept.by_id.insert((tenant, id), (number, said));
        while kept.bytes > MOST_BYTES || kept.by_id.len() > MOST {
            let Some((_, oldest)) = kept.order.pop_first() else {
                return;
            };
            kept.remove(&oldest);
        }
    }

    pub fn forget(&self, tenant: Tenant, id: ResponseId) {
        self.kept().remove(&(tenant, id));
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn remove(&mut self, key: &Key) {
        if let Some((number, said)) = self.by_id.remove(key) {
            self.order.remove(&number);
            self.bytes -= said.bytes + OVERHEAD;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(bytes: usize) -> Arc<Said> {
        Arc::new(Said {
            echo: Echo::default(),
            input: Vec::new(),
            prompt_tokens: 0,
            bytes,
        })
    }

    fn id(number: u8) -> ResponseId {
        ResponseId([number; 16])
    }

    const ONE: Tenant = Tenant([1; 32]);
    const OTHER: Tenant = Tenant([2; 32]);

    #[test]
    fn what_a_tenant_said_is_its_own_until_it_is_forgotten() {
        let echoes = Echoes::default();

        echoes.remember(ONE, id(1), said(7));

        assert!(echoes.find(ONE, id(1)).is_some());
        assert!(echoes.find(OTHER, id(1)).is_none());
        echoes.forget(ONE, id(1));
        assert!(echoes.find(ONE, id(1)).is_none());
        assert_eq!(echoes.kept().bytes, 0);
        assert!(echoes.kept().order.is_empty());
    }

    #[test]
    fn the_oldest_go_where_there_is_no_room() {
        let echoes = Echoes::default();

        for number in 0..3 {
            echoes.remember(ONE, id(number), said(MOST_BYTES / 2 - OVERHEAD));
        }
        echoes.remember(ONE, id(2), said(1));

        assert!(echoes.find(ONE, id(0)).is_none());
        assert!(echoes.find(ONE, id(1)).is_some());
        assert!(echoes.find(ONE, id(2)).is_some());
        assert_eq!(echoes.kept().order.len(), 2);
    }

    #[test]
    fn what_has_no_room_at_all_is_not_kept() {
        let echoes = Echoes::default();

        echoes.remember(ONE, id(1), said(MOST_BYTES));

        assert!(echoes.find(ONE, id(1)).is_none());
        assert_eq!(echoes.kept().bytes, 0);
    }
}
