//! When what is queued is written: at once where somebody is in a hurry for it, soon where nobody is.

use std::time::Duration;

use chaturdata_proxy::store::backend::{Backend, Table, UNHURRIED, Unwritten, Write};
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
    let is_sync = |event: &&Event| matches!(event, Event::Sync(_));
    medium.log().iter().filter(is_sync).count()
}

#[tokio::test(start_paused = true)]
async fn what_nobody_waits_for_keeps_nobody_waiting_and_is_written_soon() {
    let medium = Medium::default();
    let (opened, _) = open(&medium).unwrap();
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
async fn who_waits_without_a_hurry_is_told_when_it_is_written_for_others_or_in_its_time() {
    let medium = Medium::default();
    let (opened, _) = open(&medium).unwrap();
    let disk = opened.disk;
    let using = async {
        for round in 0..4 {
            let begun = syncs(&medium);
            disk.queue(write(round));
            let start = Instant::now();
            disk.flushed_unhurried().await.unwrap();
            assert_eq!(start.elapsed(), UNHURRIED);
            assert!(syncs(&medium) > begun);
            disk.flushed_unhurried().await.unwrap();
            assert_eq!(start.elapsed(), UNHURRIED);
        }

        // A timer that stood for what was written sooner rings too early for this.
        disk.queue(write(4));
        sleep(Duration::from_millis(10)).await;
        disk.flushed().await.unwrap();
        disk.queue(write(5));
        let start = Instant::now();
        disk.flushed_unhurried().await.unwrap();
        assert_eq!(start.elapsed(), UNHURRIED);

        let begun = syncs(&medium);
        disk.queue(write(6));
        let start = Instant::now();
        let later = disk.flushed_unhurried();
        let (later, at_once) = tokio::join!(later, disk.flushed());
        assert_eq!((later, at_once), (Ok(()), Ok(())));
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert!(syncs(&medium) > begun);
        disk.close().await;
        assert_eq!(disk.flushed_unhurried().await, Err(Unwritten));
    };
    tokio::join!(using, opened.serving);
}
