//! Power cuts: what is found afterwards is what was queued up to some point, and that point is never
//! before what was acknowledged.

use std::env;
use std::sync::LazyLock;
use std::time::Duration;

use chaturdata_proxy::store::backend::{Backend, Write};
use chaturdata_proxy::store::disk::Facts;
use tokio::time::sleep;

use super::former::SECOND;
use super::medium::{Event, File, Image, Medium, after_power_cut};
use super::{Contents, Random, apply, open, random_write};

/// Power cuts that are tried; more by `STATE_POWER_CUTS`.
static CUTS: LazyLock<usize> = LazyLock::new(|| {
    #[expect(clippy::disallowed_methods, reason = "how much to test is no setting")]
    let wanted = env::var("STATE_POWER_CUTS");
    wanted.map_or(20_000, |wanted| wanted.parse().unwrap())
});

/// A state that was used for a while, and what was done to its disk meanwhile.
struct Life {
    first: Image,
    facts: Facts,
    before: Contents,
    /// Unit by unit.
    queued: Vec<Vec<Write>>,
    log: Vec<Event>,
}

impl Life {
    async fn of(random: &mut Random, first: Image) -> Self {
        let medium = Medium::of(first.clone());
        let (opened, before) = open(&medium).unwrap();
        let disk = opened.disk;
        let mut queued = Vec::new();
        let living = async {
            for _ in 0..2 + random.below(6) {
                for _ in 0..1 + random.below(4) {
                    let unit: Vec<_> = (0..1 + random.below(3))
                        .map(|_| random_write(random))
                        .collect();
                    medium.note(Event::Queued(queued.len() + 1));
                    queued.push(unit.clone());
                    disk.queue(unit);
                }
                if !random.one_in(4) {
                    disk.flushed().await.unwrap();
                    medium.note(Event::Acknowledged(queued.len()));
                }
                if random.one_in(8) {
                    // The database is given what the journal has.
                    sleep(Duration::from_secs(2)).await;
                }
            }
            if random.one_in(2) {
                disk.close().await;
                medium.note(Event::Acknowledged(queued.len()));
            }
        };
        let serving = async {
            opened.serving.await;
            std::future::pending::<()>().await;
        };
        // Not closed, it is dropped with what is queued.
        tokio::select! {
            () = serving => {}
            () = living => {}
        }
        Self {
            first,
            facts: opened.facts,
            before,
            queued,
            log: medium.log(),
        }
    }

    /// Cuts the power at the end of the first `at` events, and says what is wrong with what is found.
    fn cut(&self, at: usize, random: &mut Random) -> Result<Image, String> {
        let log = &self.log[..at];
        let (mut acknowledged, mut most) = (0, 0);
        for event in log {
            match event {
                Event::Acknowledged(count) => acknowledged = *count,
                Event::Queued(count) => most = *count,
                _ => {}
            }
        }
        let image = after_power_cut(&self.first, log, random);
        let (opened, found) =
            open(&Medium::of(image.clone())).map_err(|fault| fault.to_string())?;
        if opened.facts.salt != self.facts.salt {
            return Err("another salt".to_owned());
        }
        let mut expected = self.before.clone();
        for write in self.queued[..acknowledged].iter().flatten() {
            apply(&mut expected, write);
        }
        for unit in &self.queued[acknowledged..most] {
            if found == expected {
                return Ok(image);
            }
            for write in unit {
                apply(&mut expected, write);
            }
        }
        if found == expected {
            return Ok(image);
        }
        Err(format!(
            "no state between {acknowledged} and {most} of what was queued"
        ))
    }
}

/// Lives, each begun on what a power cut left of the one before, cut at every event; the cuts that
/// were tried, or what is wrong with one.
fn lives(seed: u64, cuts: usize, change: fn(Vec<Event>) -> Vec<Event>) -> Result<usize, String> {
    lives_from(empty, seed, cuts, change)
}

fn lives_from(
    begun: fn() -> Image,
    seed: u64,
    cuts: usize,
    change: fn(Vec<Event>) -> Vec<Event>,
) -> Result<usize, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let mut random = Random(seed);
    let mut first = begun();
    let mut tried = 0;
    while tried < cuts {
        let before = random.clone();
        let mut life = runtime.block_on(Life::of(&mut random, first));
        life.log = change(life.log);
        let mut images = Vec::new();
        for at in 0..=life.log.len() {
            let image = life.cut(at, &mut random).map_err(|wrong| {
                format!("seed {seed}, life {before:?}, after {at} events: {wrong}")
            })?;
            images.push(image);
            tried += 1;
        }
        first = match random.below(4) {
            0 => begun(),
            _ => images.swap_remove(random.below(images.len())),
        };
    }
    Ok(tried)
}

/// A state without records.
fn empty() -> Image {
    static EMPTY: LazyLock<Image> = LazyLock::new(|| {
        let medium = Medium::default();
        drop(open(&medium).unwrap());
        medium.image()
    });
    EMPTY.clone()
}

#[test]
fn a_power_cut_leaves_exactly_a_beginning_with_all_that_was_acknowledged() {
    let threads = 4;
    let tried: usize = std::thread::scope(|scope| {
        let lived: Vec<_> = (0..threads)
            .map(|seed| scope.spawn(move || lives(seed, *CUTS / 4, |log| log).unwrap()))
            .collect();
        lived.into_iter().map(|lived| lived.join().unwrap()).sum()
    });

    assert!(tried >= *CUTS, "{tried}");
}

#[test]
fn a_power_cut_as_an_earlier_version_is_brought_up_leaves_all_of_it() {
    let tried = lives_from(|| SECOND.to_vec().into(), 1, 1000, |log| log).unwrap();

    assert!(tried >= 1000, "{tried}");
}

fn without_syncs(of: &[File], log: Vec<Event>) -> Vec<Event> {
    let is_kept = |event: &Event| !matches!(event, Event::Sync(file) if of.contains(file));
    log.into_iter().filter(is_kept).collect()
}

#[test]
fn a_store_that_acknowledges_before_it_syncs_either_file_is_caught_at_once() {
    let never: [fn(Vec<Event>) -> Vec<Event>; 3] = [
        |log| without_syncs(&[File::Database, File::Journal], log),
        |log| without_syncs(&[File::Journal], log),
        |log| without_syncs(&[File::Database], log),
    ];
    for (files, never_synced) in never.into_iter().enumerate() {
        for seed in 0..10 {
            let caught = lives(seed, 400, never_synced);

            assert!(caught.is_err(), "{files}, seed {seed}");
        }
    }
}
