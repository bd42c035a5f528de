//! A process that is killed while it writes: everything that it had acknowledged is there.

use std::env;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use chaturdata_proxy::store::backend::{Backend, Write};
use chaturdata_proxy::store::disk::Disk;

use super::{Contents, Random, apply, random_write};

/// The folder of a process that is about to be killed.
const FOLDER: &str = "STATE_OF_THE_KILLED";
/// What it writes.
const SEED: &str = "SEED_OF_THE_KILLED";

#[expect(
    clippy::disallowed_methods,
    reason = "it is how a test tells its own other process"
)]
fn variable(name: &str) -> Option<String> {
    env::var(name).ok()
}

/// What a process writes at once, with this number.
fn batch(random: &mut Random) -> Vec<Write> {
    let count = 1 + random.below(8);
    (0..count).map(|_| random_write(random)).collect()
}

/// Not a test of its own: it is what the next one starts, and kills.
#[tokio::test]
async fn one_that_writes_until_it_is_killed() {
    let Some(folder) = variable(FOLDER) else {
        return;
    };
    let mut random = Random(variable(SEED).unwrap().parse().unwrap());
    let opened = Disk::open(Path::new(&folder), &mut |_, _, _| Ok(())).unwrap();
    let writing = async {
        for number in 1.. {
            opened.disk.queue(batch(&mut random));
            opened.disk.flushed().await.unwrap();
            let mut out = std::io::stdout().lock();
            writeln!(out, "acknowledged {number}").unwrap();
        }
    };
    tokio::join!(writing, opened.serving);
}

/// Starts one, kills it after some acknowledgements, and tells how many there were.
fn killed(folder: &Path, seed: u64, after: usize) -> usize {
    let mut child = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "state::kills::one_that_writes_until_it_is_killed",
        ])
        .args(["--nocapture", "--quiet"])
        .env(FOLDER, folder)
        .env(SEED, seed.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut acknowledged = 0;
    let mut take = |line: std::io::Result<String>| {
        let line = line.unwrap();
        if let Some((_, number)) = line.split_once("acknowledged ") {
            acknowledged = number.parse().unwrap();
        }
        acknowledged
    };
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while take(lines.next().expect("it writes until it is killed")) < after {}
    child.kill().unwrap();
    child.wait().unwrap();
    // What it had said by then counts too.
    for line in lines {
        take(line);
    }
    acknowledged
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9() {
    let kills = variable("STATE_KILLS").map_or(100, |kills| kills.parse().unwrap());
    let home = tempfile::tempdir().unwrap();
    let mut random = Random(9);
    let mut expected = Contents::new();
    for seed in 0..kills {
        let acknowledged = killed(home.path(), seed, random.below(12));

        let mut found = Contents::new();
        Disk::open(home.path(), &mut |table, key, value| {
            found.insert((table, key.to_vec()), value.to_vec());
            Ok(())
        })
        .unwrap();

        let mut written = Random(seed);
        for _ in 0..acknowledged {
            for write in batch(&mut written) {
                apply(&mut expected, &write);
            }
        }
        if found != expected {
            // One more may have been written that it did not come to say.
            for write in batch(&mut written) {
                apply(&mut expected, &write);
            }
        }
        assert!(found == expected, "kill {seed}, after {acknowledged}");
    }
}
