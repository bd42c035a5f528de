//! More conversations than are looked at closely: most rest, and they are forgotten a few at a time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use chaturdata_proxy::clock::{Clock, Moment};
use chaturdata_proxy::ids::{Handle, Tenant};
use chaturdata_proxy::store::backend::{Nowhere, Table};
use chaturdata_proxy::store::{
    Bounds, Branch, BranchId, HandleHash, HandleRecord, Restored, State, Store, record,
};
use chaturdata_proxy::upstream::ThreadId;
use tokio::time::advance;

use super::store::fingerprint;

const MAX_AGE: Duration = Duration::from_secs(100);

fn store(max: usize) -> Store {
    let bounds = Bounds {
        max,
        max_age: MAX_AGE,
    };
    Store::new(bounds, Clock::at(Moment(0)), Arc::new(Nowhere))
}

fn name(number: usize) -> Handle {
    Handle(format!("talk {number}").into())
}

fn branch(number: usize) -> Branch {
    Branch {
        handles: vec![name(number)],
        narrow: Some(format!("chat {number}")),
        thread: Some(ThreadId(format!("th_{number}").into())),
        window: VecDeque::from([[1; 8], [2; 8]]),
        state: State::Open,
        ..Branch::unborn(Tenant([1; 32]), fingerprint(number), [3; 32])
    }
}

#[tokio::test(start_paused = true)]
async fn many_that_grew_old_at_once_are_forgotten_a_few_at_a_time() {
    let store = store(10_000);
    for number in 0..1000 {
        store.insert(branch(number));
    }
    advance(MAX_AGE + Duration::from_secs(1)).await;

    store.insert(branch(1000));

    assert!((800..950).contains(&store.len()), "{}", store.len());
    for number in 1001..1010 {
        store.insert(branch(number));
    }
    assert_eq!(store.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn as_many_busy_ones_as_there_may_be_do_not_keep_the_others() {
    let store = store(300);
    let busy: Vec<_> = (0..300)
        .map(|number| store.insert(branch(number)))
        .collect();
    for number in 300..1000 {
        store.insert(branch(number));
    }

    // Each use passes over a part of them.
    assert!(store.len() <= 310, "{}", store.len());
    drop(busy);
    for number in 1000..1300 {
        store.insert(branch(number));
    }
    assert_eq!(store.len(), 300);
}

#[tokio::test(start_paused = true)]
async fn a_branch_that_thousands_were_used_after_is_what_it_was() {
    let store = store(20_000);
    let (first, lease) = store.insert(branch(0));
    store.advance(&first, None, |branch| branch.tip = fingerprint(20_001));
    drop(lease);
    let before = format!("{:?}", first.branch());
    for number in 1..9000 {
        store.insert(branch(number));
    }

    assert_eq!(format!("{:?}", first.branch()), before);
    let there: Vec<BranchId> = store
        .at(&fingerprint(20_001))
        .iter()
        .map(|slot| slot.id)
        .collect();
    assert_eq!(there, [first.id]);
    store.advance(&first, None, |branch| branch.tip = fingerprint(20_002));
    assert_eq!(first.branch().tip, fingerprint(20_002));
    assert_eq!(store.at(&fingerprint(20_001)).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_process_has_left_is_forgotten_in_the_order_of_its_last_use() {
    let mut store = store(3);
    let mut restored = Restored::default();
    for (number, used) in [(0_u64, 3000), (1, 1000), (2, 2000)] {
        let branch = branch(usize::try_from(number).unwrap());
        let line = record::branch(&branch, Moment(used)).unwrap();
        let key = record::numbered(number);
        restored.take(Table::Branches, &key, &line).unwrap();
    }
    store.restore(restored.whole_branches(), &restored.handles);
    let left = || (0..6).filter(|id| store.branch(BranchId(*id)).is_some());

    let mut lefts = Vec::new();
    for number in 3..6 {
        drop(store.insert(branch(number)));
        lefts.push(left().collect::<Vec<u64>>());
    }

    assert_eq!(lefts, [[0, 2, 3], [0, 3, 4], [3, 4, 5]]);
    assert!(store.at(&fingerprint(1)).is_empty());
}

#[tokio::test(start_paused = true)]
async fn thousands_that_an_earlier_process_has_left_are_all_found_again() {
    const COUNT: usize = 12_000;
    let mut store = store(2 * COUNT);
    let mut restored = Restored::default();
    for number in 0..=COUNT {
        let id = number as u64;
        let leads = HandleRecord {
            branch: BranchId(id),
            delta: true,
            created: id,
        };
        let key = record::handle_key(HandleHash::of(&(Tenant([1; 32]), name(number))), id);
        let value = record::handle_value(leads);
        restored.take(Table::Handles, &key, &value).unwrap();
        // The last name leads nowhere.
        if number < COUNT {
            let line = record::branch(&branch(number), Moment(1000)).unwrap();
            let key = record::numbered(id);
            restored.take(Table::Branches, &key, &line).unwrap();
        }
    }

    store.restore(restored.whole_branches(), &restored.handles);

    assert_eq!(store.len(), COUNT);
    for number in 0..COUNT {
        let there = store.at(&fingerprint(number));
        let [slot] = there.as_slice() else {
            panic!("{} branches at {number}", there.len());
        };
        let leads = store.handle(&(Tenant([1; 32]), name(number))).unwrap();
        assert_eq!((leads.branch, leads.created), (slot.id, number as u64));
        slot.look(|found| {
            assert_eq!(found.handles, [name(number)]);
            assert!(found.doubted);
        });
    }
    assert_eq!(store.handle(&(Tenant([1; 32]), name(COUNT))), None);
    assert_eq!(store.handle(&(Tenant([2; 32]), name(0))), None);
}
