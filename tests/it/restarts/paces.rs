//! What was learned of how long runs take is there after a restart.

use chaturdata_proxy::config::Strategy;
use chaturdata_proxy::store::backend::Table;
use chaturdata_proxy::upstream::sandbox::Kind;

use super::{Home, Shelf, talk};
use crate::proxy::{Proxy, Setup};
use crate::talk::calls;

fn start(home: &Home) -> Proxy {
    let mut setup = Setup::default();
    setup.config.pace.strategy = Strategy::Learned;
    home.start_with(setup)
}

/// How often each of so many runs is polled, in new conversations.
async fn polls(proxy: &Proxy, runs: u32) -> Vec<usize> {
    let reads = || calls(proxy, Kind::Read).len();
    let mut polls = Vec::new();
    for run in 0..runs {
        let before = reads();
        let answer = talk(proxy).says(&format!("question {run}")).await;
        assert_eq!(answer.status, 200);
        polls.push(reads() - before);
    }
    polls
}

fn paces(shelf: &Shelf) -> Vec<(Vec<u8>, Vec<u8>)> {
    let records = &shelf.0.lock().unwrap().records;
    let of_paces = records
        .iter()
        .filter(|((table, _), _)| *table == Table::Paces);
    of_paces
        .map(|((_, key), value)| (key.clone(), value.clone()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn runs_are_polled_as_the_earlier_process_had_learned() {
    let mut home = Home::saying("yes", 8);
    let proxy = start(&home);
    let learning = polls(&proxy, 60).await;

    home.kill(proxy).await;
    let after = polls(&start(&home), 10).await;

    let [cold, known, after] =
        [&learning[..10], &learning[50..], &after].map(|polls| polls.iter().sum::<usize>());
    assert!(known + 5 < cold, "{known} of {learning:?}");
    assert!(after <= known + 2, "{after} after {learning:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_learned_is_written_now_and_then_and_when_the_proxy_stops() {
    let home = Home::saying("yes", 4);
    let proxy = start(&home);

    polls(&proxy, 5).await;
    let early = paces(&home.shelf);
    polls(&proxy, 5).await;
    let soon = paces(&home.shelf);
    polls(&proxy, 25).await;
    let later = paces(&home.shelf);
    polls(&proxy, 5).await;
    proxy.runner.shut_down().await;
    let stopped = paces(&home.shelf);

    assert_eq!(early.len(), 1);
    assert_eq!(early, soon, "within a minute");
    assert_ne!(soon, later);
    assert_ne!(later, stopped);
    let (key, value) = &stopped[0];
    assert_eq!(key.len(), 32, "a keyed hash");
    assert!(value.len() < 400, "{} bytes for 40 runs", value.len());
}

#[tokio::test(start_paused = true)]
async fn a_record_that_no_proxy_would_write_teaches_nothing_and_harms_nothing() {
    let mut home = Home::saying("yes", 40);
    let proxy = start(&home);
    let learning = polls(&proxy, 3).await;
    home.kill(proxy).await;
    let (key, _) = paces(&home.shelf).remove(0);
    let nonsense = (u64::MAX, vec![f32::NAN; 8], vec![(u32::MAX, 0_u32); 2000]);
    let value = postcard::to_allocvec(&nonsense).unwrap();
    let record = ((Table::Paces, key), value);
    home.shelf.0.lock().unwrap().records.extend([record]);

    let after = polls(&start(&home), 3).await;

    assert!(
        after.iter().all(|polls| *polls <= learning[0] + 1),
        "{after:?}"
    );
}
