//! When what is queued is written: at once where somebody is in a hurry for it, soon where nobody is.

use std::time::Duration;

use chaturdata_proxy::store::backend::{Backend, Table, Write};
use futures_util::FutureExt;
use tokio::time::{Instant, sleep};

use super::medium::{Event, Medium};
use super::open;

fn write(key: u8) -> Vec<Write> {
    vec![Write {
        table: Table::Turns,
        key: vec![key; 8],
        value: Some(vec![key]),
    }]
}

/// How often it was made sure that the disk has everything.
fn syncs(medium: &Medium) -> usize {
    let is_sync = |event: &&Event| matches!(event, Event::Sync);
    medium.log().iter().filter(is_sync).count()
}

#[tokio::test(start_paused = true)]
async fn what_nobody_waits_for_keeps_nobody_waiting_and_is_written_soon() {
    let medium = Medium::default();
    let (opened, _) = open(medium.clone()).unwrap();
    let disk = opened.disk;
    let using = async {
        let begun = syncs(&medium);
        let mut later = Vec::new();
        // Each comes before the time of the one before it is over, and puts nothing off.
        for key in 0..4 {
            disk.queue(write(key));
            sleep(Duration::from_millis(10)).await;
            later.push(syncs(&medium) > begun);
        }
        assert_eq!(later, [false, false, true, true]);

        let start = Instant::now();
        disk.queue(write(4));
        disk.flushed().await.unwrap();
        assert!(start.elapsed() < Duration::from_millis(10));
        disk.close().await;
    };
    tokio::join!(using, opened.serving);
}

#[tokio::test(start_paused = true)]
async fn who_is_in_no_hurry_waits_until_it_is_25_ms_old() {
    let medium = Medium::default();
    let (opened, _) = open(medium.clone()).unwrap();
    let disk = opened.disk;
    let using = async {
        let began = Instant::now();
        disk.queue(write(1));
        let (one, other) = tokio::join!(disk.flushed_in_time(), disk.flushed_in_time());
        assert_eq!((one, other), (Ok(()), Ok(())));
        assert_eq!(began.elapsed(), Duration::from_millis(25));

        disk.queue(write(2));
        disk.flushed().await.unwrap();
        assert_eq!(began.elapsed(), Duration::from_millis(25));
        disk.close().await;
    };
    tokio::join!(using, opened.serving);
}

#[tokio::test(start_paused = true)]
async fn who_is_in_a_hurry_takes_along_who_is_not() {
    let medium = Medium::default();
    let (opened, _) = open(medium.clone()).unwrap();
    let disk = opened.disk;
    let using = async {
        let began = Instant::now();
        disk.queue(write(1));
        disk.flushed().await.unwrap();
        let before = syncs(&medium);
        disk.queue(write(2));
        let in_time = disk.flushed_in_time();
        disk.queue(write(3));
        let later = disk.flushed_in_time();
        disk.flushed().await.unwrap();

        assert_eq!(in_time.now_or_never(), Some(Ok(())));
        assert_eq!(later.now_or_never(), Some(Ok(())));
        assert_eq!(began.elapsed(), Duration::ZERO);
        // Of one commit, in two phases.
        assert_eq!(syncs(&medium), before + 2);
        disk.close().await;
    };
    tokio::join!(using, opened.serving);
}
