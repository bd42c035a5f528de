//! Disks that fail: the state is degraded from then on, those who wait are told at once, and a restart
//! finds what was acknowledged.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use chaturdata_proxy::store::backend::{Backend, Unwritten};
use chaturdata_proxy::store::disk::Fault;
use tokio::time::{Instant, advance};

use super::former::second;
use super::medium::{Call, Image, Medium, Planned};
use super::{Contents, Random, apply, open, random_write, small};

const ENOSPC: i32 = 28;
const EIO: i32 = 5;

/// The call with this number fails, among those of one kind, and all of that kind after it if it
/// stays so.
#[derive(Debug)]
struct Fails {
    at: usize,
    call: Call,
    error: i32,
    stays: bool,
    seen: usize,
    failed: Arc<AtomicBool>,
}

impl Planned for Fails {
    fn fails(&mut self, call: Call) -> Option<io::Error> {
        if call != self.call {
            return None;
        }
        self.seen += 1;
        let now = self.seen - 1 == self.at || self.stays && self.seen > self.at;
        self.failed.fetch_or(now, Ordering::Relaxed);
        now.then(|| io::Error::from_raw_os_error(self.error))
    }
}

/// How a life on a failing disk went.
#[derive(Debug, PartialEq, Eq)]
enum Went {
    /// It was not opened.
    Refused,
    Degraded,
    /// It failed when nobody waited any more.
    Late,
    /// The disk was not asked often enough.
    Well,
}

/// Writes a record at a time, each acknowledged, until the disk fails, and looks at what is left.
async fn live(first: &(Image, Contents), fails: Fails) -> Went {
    let what = format!("{fails:?}");
    let failed = Arc::clone(&fails.failed);
    let medium = Medium::failing(first.0.clone(), fails);
    let opened = match open(&medium) {
        Ok((opened, _)) => opened,
        Err(Fault::Unreadable(_) | Fault::Unwritable(_)) => {
            let (_, found) = open(&Medium::of(medium.image())).unwrap();
            assert_eq!(found, first.1, "{what}");
            return Went::Refused;
        }
        Err(other) => unreachable!("{what}: {other}"),
    };
    let mut random = Random(7);
    // What must be there, and what may be there beyond it.
    let mut acknowledged = first.1.clone();
    let mut last = acknowledged.clone();
    let disk = opened.disk;
    let living = async {
        for _ in 0..6 {
            let write = random_write(&mut random);
            apply(&mut last, &write);
            disk.queue(vec![write]);
            if disk.flushed().await.is_err() {
                break;
            }
            acknowledged = last.clone();
        }
        let degraded = disk.is_degraded();
        if degraded {
            disk.queue(vec![random_write(&mut random)]);
            assert_eq!(disk.flushed().await, Err(Unwritten), "{what}");
            assert!(disk.is_degraded());
        }
        disk.close().await;
        degraded
    };
    let (degraded, ()) = tokio::join!(living, opened.serving);
    let (_, found) = open(&Medium::of(medium.image())).expect(&what);
    assert!(found == acknowledged || found == last, "{what}");
    match degraded {
        true => Went::Degraded,
        false if failed.load(Ordering::Relaxed) => Went::Late,
        false => Went::Well,
    }
}

#[tokio::test]
async fn whatever_call_fails_nothing_acknowledged_is_lost() {
    let (_, degraded) = every_failure(&small(1).await).await;

    assert!(degraded > 50, "{degraded}");
}

#[tokio::test]
async fn whatever_call_fails_as_an_earlier_version_is_brought_up_nothing_is_lost() {
    let (here, there) = (
        every_failure(&second()).await,
        every_failure(&small(1).await).await,
    );

    // Beside those that any start can end by.
    assert!(here.0 > there.0 + 10, "{} and {}", here.0, there.0);
}

/// Lives on disks of which one call fails after the other; how many were not opened, and how many degraded.
async fn every_failure(first: &(Image, Contents)) -> (usize, usize) {
    let (mut refused, mut degraded, mut late) = (0, 0, 0);
    for (call, error) in [
        (Call::Write, ENOSPC),
        (Call::Write, EIO),
        (Call::SetLen, ENOSPC),
        (Call::Sync, EIO),
        (Call::Read, EIO),
    ] {
        for stays in [false, true] {
            for at in 0.. {
                let fails = Fails {
                    at,
                    call,
                    error,
                    stays,
                    seen: 0,
                    failed: Arc::default(),
                };
                match live(first, fails).await {
                    Went::Refused => refused += 1,
                    Went::Degraded => degraded += 1,
                    Went::Late => late += 1,
                    Went::Well => break,
                }
            }
        }
    }
    assert!(late > 10, "{late}");
    (refused, degraded)
}

#[tokio::test]
async fn a_full_disk_degrades_and_a_sync_is_never_tried_again() {
    let first = small(2).await;
    // Past the start, which syncs too.
    let fails = Fails {
        at: 8,
        call: Call::Sync,
        error: EIO,
        stays: false,
        seen: 0,
        failed: Arc::default(),
    };

    assert_eq!(live(&first, fails).await, Went::Degraded);
}

/// Answers no sync once it hangs, until that one is let go, or all are.
#[derive(Debug)]
struct Hangs {
    hangs: Arc<AtomicBool>,
    until: Receiver<()>,
}

impl Planned for Hangs {
    fn fails(&mut self, call: Call) -> Option<io::Error> {
        if call == Call::Sync && self.hangs.load(Ordering::Relaxed) {
            // Until the sender says so, or is gone.
            let _ = self.until.recv();
        }
        None
    }
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_is_given_up_and_keeps_nobody_waiting() {
    let (let_go, until) = channel();
    let hangs = Arc::new(AtomicBool::new(false));
    let plan = Hangs {
        hangs: Arc::clone(&hangs),
        until,
    };
    let medium = Medium::failing(Image::default(), plan);
    let (opened, mut acknowledged) = open(&medium).unwrap();
    let disk = opened.disk;
    let mut random = Random(8);
    let writes = [random_write(&mut random), random_write(&mut random)];
    apply(&mut acknowledged, &writes[0]);
    let mut last = acknowledged.clone();
    apply(&mut last, &writes[1]);
    let using = async {
        let [first, second] = writes;
        hangs.store(true, Ordering::Relaxed);
        disk.queue(vec![first]);
        let flushed = disk.flushed();
        for _ in 0..10 {
            advance(Duration::from_secs(1)).await;
        }
        let_go.send(()).unwrap();
        assert_eq!(flushed.await, Ok(()));
        // The timer of the first, which stays, rings too early for the second.
        disk.queue(vec![second]);
        let told = async {
            let asked = Instant::now();
            assert_eq!(disk.flushed().await, Err(Unwritten));
            let after = asked.elapsed().as_secs();
            assert!((30..=35).contains(&after), "{after}");
            assert!(disk.is_degraded());
            disk.queue(vec![random_write(&mut random)]);
            assert_eq!(disk.flushed().await, Err(Unwritten));
            disk.close().await;
        };
        // Time does not go on by itself while a thread is at work.
        let time = async {
            for _ in 0..40 {
                advance(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            () = told => {}
            () = time => panic!("somebody waits for it yet"),
        }
        drop(let_go);
    };

    tokio::join!(using, opened.serving);

    let (_, found) = open(&Medium::of(medium.image())).unwrap();
    assert!(found == acknowledged || found == last);
}

#[tokio::test(start_paused = true)]
async fn many_wait_for_one_write() {
    let (opened, _) = open(&Medium::default()).unwrap();
    let disk = opened.disk;
    let mut random = Random(3);
    let used = async {
        disk.queue(vec![random_write(&mut random)]);
        disk.queue(Vec::new());
        let waiting: Vec<_> = (0..1_000).map(|_| disk.flushed()).collect();
        let flushed = futures_util::future::join_all(waiting).await;
        disk.close().await;
        flushed
    };

    let (flushed, ()) = tokio::join!(used, opened.serving);

    assert!(flushed.iter().all(Result::is_ok));
}

#[tokio::test]
async fn what_is_queued_is_written_before_the_end() {
    let medium = Medium::default();
    let (opened, mut expected) = open(&medium).unwrap();
    let mut random = Random(4);
    for _ in 0..100 {
        let write = random_write(&mut random);
        apply(&mut expected, &write);
        opened.disk.queue(vec![write]);
    }

    tokio::join!(opened.disk.close(), opened.serving);

    let (_, found) = open(&Medium::of(medium.image())).unwrap();
    assert_eq!(found, expected);
    opened.disk.queue(vec![random_write(&mut random)]);
    assert_eq!(opened.disk.flushed().await, Err(Unwritten));
}

#[tokio::test]
async fn a_writer_that_is_gone_leaves_nobody_waiting() {
    let (opened, _) = open(&Medium::default()).unwrap();
    opened.disk.queue(vec![random_write(&mut Random(5))]);
    let waiting = opened.disk.flushed();

    drop(opened.serving);

    assert_eq!(waiting.await, Err(Unwritten));
    opened.disk.close().await;
}

#[tokio::test]
async fn what_the_disk_does_not_take_is_not_heaped_up_for_ever() {
    let (opened, _) = open(&Medium::default()).unwrap();
    let mut random = Random(6);

    // Nobody polls the writer.
    for _ in 0..1_000_000 {
        let mut write = random_write(&mut random);
        write.value = Some(vec![0; 100_000]);
        opened.disk.queue(vec![write]);
        if opened.disk.is_degraded() {
            break;
        }
    }

    assert!(opened.disk.is_degraded());
    assert_eq!(opened.disk.flushed().await, Err(Unwritten));
}
