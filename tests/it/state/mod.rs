//! What is kept on disk: what was acknowledged is there, and nothing that was not written ever is.

mod commands;
mod damage;
mod failing;
mod folder;
mod former;
mod hurry;
mod kills;
mod medium;
mod power;
mod readiness;
mod scale;

use std::collections::BTreeMap;
use std::io::{self, Write as _};

use chaturdata_proxy::store::backend::{Backend, Table, Write};
use chaturdata_proxy::store::disk::{Disk, Fault, Opened};

use medium::{File, Image, JOURNAL, Medium};

/// Everything in a state, by table and key.
type Contents = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

fn apply(contents: &mut Contents, write: &Write) {
    let key = (write.table, write.key.clone());
    match &write.value {
        Some(value) => contents.insert(key, value.clone()),
        None => contents.remove(&key),
    };
}

/// Opens a state, and returns everything in it too.
fn open(medium: &Medium) -> Result<(Opened, Contents), Fault> {
    let mut contents = Contents::new();
    let (database, journal) = (medium.file(File::Database), medium.file(File::Journal));
    let opened = Disk::open_on(database, (journal, JOURNAL), &mut |table, key, value| {
        let twice = contents.insert((table, key.to_vec()), value.to_vec());
        assert_eq!(twice, None, "a record comes twice");
        Ok(())
    })?;
    Ok((opened, contents))
}

/// Says, in the midst of the test's own output, that something was not tried here.
fn skipped(why: &str) {
    let _ = writeln!(io::stderr(), "SKIPPED: {why}");
}

fn put(table: Table, key: &str, value: &str) -> Write {
    Write {
        table,
        key: key.into(),
        value: Some(value.into()),
    }
}

/// Random numbers that a seed brings back.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// A write of a few hundred bytes, mostly, to one of few keys, so that records are replaced and removed.
fn random_write(random: &mut Random) -> Write {
    let table = Table::ALL[random.below(Table::ALL.len())];
    let key = vec![b'k'; random.below(12)];
    let length = match random.below(10) {
        0 => 0,
        1 => 5_000,
        _ => random.below(600),
    };
    let is_put = !random.one_in(5);
    let value = (0..length).map(|_| random.next().to_le_bytes()[0]);
    let value = is_put.then(|| value.collect());
    Write { table, key, value }
}

/// A state with some records, closed in good order.
async fn small(seed: u64) -> (Image, Contents) {
    let medium = Medium::default();
    let (opened, mut contents) = open(&medium).unwrap();
    let mut random = Random(seed);
    let disk = opened.disk;
    let writing = async {
        for _ in 0..20 {
            let write = random_write(&mut random);
            apply(&mut contents, &write);
            disk.queue(vec![write]);
            disk.flushed().await.unwrap();
        }
        disk.close().await;
    };
    tokio::join!(writing, opened.serving);
    (medium.image(), contents)
}
