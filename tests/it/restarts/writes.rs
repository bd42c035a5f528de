//! What a turn has written: each step once, and nothing that has not changed.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chaturdata_proxy::clock::Moment;
use chaturdata_proxy::server::Access;
use chaturdata_proxy::store::backend::{Backend, Flushed, Table, Write};
use chaturdata_proxy::upstream::sandbox::script::{Behaviour, Script};
use tokio::time::sleep;

use super::delta;
use crate::proxy::{Proxy, Setup};
use crate::talk::{decision, seconds};

#[derive(Debug, Default)]
struct Units {
    /// Of which tables each is.
    tables: Mutex<Vec<Vec<Table>>>,
    bytes: AtomicUsize,
    /// How often somebody waited until all were written.
    waits: AtomicUsize,
}

impl Units {
    fn taken(&self) -> Vec<Vec<Table>> {
        std::mem::take(&mut self.tables.lock().unwrap())
    }
}

impl Backend for Units {
    fn queue(&self, unit: Vec<Write>) {
        let tables = unit.iter().map(|write| write.table).collect();
        self.tables.lock().unwrap().push(tables);
        let values = unit.iter().filter_map(|write| write.value.as_ref());
        self.bytes.fetch_add(values.map(Vec::len).sum(), Relaxed);
    }

    fn flushed(&self) -> Flushed<'_> {
        self.waits.fetch_add(1, Relaxed);
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

#[tokio::test(start_paused = true)]
async fn what_a_turn_writes_does_not_grow_with_its_conversation() {
    const TURNS: usize = 99;
    let (units, proxy) = started();
    let mut written = Vec::new();
    for _ in 0..4 {
        let before = units.bytes.load(Relaxed);
        for _ in 0..TURNS {
            delta(&proxy, "talk").says("and more").await;
        }
        written.push((units.bytes.load(Relaxed) - before) / TURNS);
    }

    assert!(written[0] > 500, "{written:?}");
    let most = written[0] + 400;
    assert!(written.iter().all(|written| *written < most), "{written:?}");
}

/// Before its message is posted, and before its answer is told. That the upstream has the message is told with
/// that, or waits for the disk once more.
#[tokio::test(start_paused = true)]
async fn a_turn_that_is_answered_at_once_waits_for_the_disk_twice() {
    let mut at_once = Behaviour::says("yes", Duration::ZERO);
    at_once.post.status = Some("completed".to_owned());
    for (behaviour, waits) in [(at_once, 2), (Behaviour::says("yes", seconds(4)), 3)] {
        let (units, proxy) = started();
        proxy.sandbox.set_script(Script::always(behaviour));

        delta(&proxy, "talk").says("hello").await;

        assert_eq!(units.waits.load(Relaxed), waits);
    }
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_no_request_can_be_a_retry_of_is_forgotten_though_none_comes() {
    let (units, proxy) = started();
    delta(&proxy, "talk").says("hello").await;
    units.taken();
    let time_passes = async |wait| {
        tokio::select! {
            never = proxy.runner.watch_clocks(Moment::of_wall) => match never {},
            () = sleep(wait) => units.taken(),
        }
    };

    assert_eq!(time_passes(seconds(24)).await, [[Table::Turns]; 0]);
    assert_eq!(time_passes(seconds(3)).await, [[Table::Turns]]);
    assert_eq!(time_passes(seconds(60)).await, [[Table::Turns]; 0]);
}
