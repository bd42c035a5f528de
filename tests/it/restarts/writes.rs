//! What a turn has written: each step once, and nothing that has not changed.

use std::sync::{Arc, Mutex};

use chaturdata_proxy::server::Access;
use chaturdata_proxy::store::backend::{Backend, Flushed, Table, Write};

use super::delta;
use crate::proxy::{Proxy, Setup};
use crate::talk::decision;

/// Of which tables each unit is.
#[derive(Debug, Default)]
struct Units(Mutex<Vec<Vec<Table>>>);

impl Units {
    fn taken(&self) -> Vec<Vec<Table>> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Backend for Units {
    fn queue(&self, unit: Vec<Write>) {
        let tables = unit.iter().map(|write| write.table).collect();
        self.0.lock().unwrap().push(tables);
    }

    fn flushed(&self) -> Flushed<'_> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn is_degraded(&self) -> bool {
        false
    }
}

/// Its message, that it was taken, its answer, that this was told.
const STEPS: [&[Table]; 4] = [
    &[Table::Turns],
    &[Table::Turns],
    &[Table::Turns, Table::Branches],
    &[Table::Turns],
];

fn started() -> (Arc<Units>, Proxy) {
    let units = Arc::new(Units::default());
    let proxy = Proxy::start(Setup {
        access: Access::PassThrough,
        state: units.clone(),
        ..Setup::default()
    });
    (units, proxy)
}

#[tokio::test(start_paused = true)]
async fn new_text_under_a_name_writes_each_step_once() {
    let (units, proxy) = started();
    let begun = delta(&proxy, "talk").says("hello").await;
    assert_eq!(decision(&begun), "created");
    let first = units.taken().concat();
    assert!(first.contains(&Table::Handles), "{first:?}");

    for _ in 0..3 {
        let more = delta(&proxy, "talk").says("and more").await;

        assert_eq!(decision(&more), "appended");
        assert_eq!(units.taken(), STEPS);
    }
}

#[tokio::test(start_paused = true)]
async fn a_whole_history_under_a_name_writes_each_step_once() {
    let (units, proxy) = started();
    let mut talk = delta(&proxy, "talk");
    // From the second on it is known that each request is the whole of it.
    for text in ["hello", "and more"] {
        talk.says(text).await;
        units.taken();
    }

    for _ in 0..3 {
        let more = talk.says("and yet more").await;

        assert_eq!(decision(&more), "appended");
        assert_eq!(units.taken(), STEPS);
    }
}
