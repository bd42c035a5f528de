//! What a write costs does not grow with what there is.

use std::time::Duration;

use chaturdata_proxy::ids::{Handle, Tenant};
use chaturdata_proxy::store::backend::{Backend, Table, Write};
use chaturdata_proxy::store::disk::Disk;
use chaturdata_proxy::store::{BranchId, HandleHash, HandleRecord, record};
use tokio::time::sleep;

use super::medium::{Event, File, Medium};
use super::open;

/// Names that are used for the first time, a few in each second.
fn queue_names(disk: &Disk, numbers: std::ops::Range<u64>) {
    let unit = numbers.map(|number| {
        let name = Handle(format!("chat-{number}").into());
        let leads = HandleRecord {
            branch: BranchId(number),
            delta: true,
            created: 1_790_000_000 + number / 20,
        };
        let hash = HandleHash::of(&(Tenant([7; 32]), name));
        Write {
            table: Table::Handles,
            key: record::handle_key(hash, leads.created),
            value: Some(record::handle_value(leads)),
        }
    });
    disk.queue(unit.collect());
}

/// The bytes that are written for 64 new names where there are so many, once both files have them.
async fn written_among(count: u64) -> usize {
    // How long the database has to take what the journal has.
    let rest = || sleep(Duration::from_secs(10));
    let medium = Medium::default();
    let (opened, _) = open(&medium).unwrap();
    let disk = opened.disk;
    let using = async {
        queue_names(&disk, 0..count);
        rest().await;
        let before = medium.log().len();
        queue_names(&disk, count..count + 64);
        rest().await;
        let log = medium.log();
        disk.close().await;
        let written = |file| {
            let bytes = log[before..].iter().map(|event| match event {
                Event::Write(of, _, bytes) if *of == file => bytes.len(),
                _ => 0,
            });
            bytes.sum::<usize>()
        };
        assert!(written(File::Journal) > 0);
        written(File::Journal) + written(File::Database)
    };
    let (bytes, ()) = tokio::join!(using, opened.serving);
    bytes
}

#[tokio::test(start_paused = true)]
async fn a_new_name_is_written_for_as_little_among_fifty_thousand_as_among_a_thousand() {
    let few = written_among(1000).await;
    let many = written_among(50_000).await;

    assert!(2 * many <= 3 * few, "{many} bytes, and {few}");
}
