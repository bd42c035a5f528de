//! What panics takes nothing else along.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chaturdata_proxy::secret::Secret;
use chaturdata_proxy::store::backend::{Backend, Table, Unwritten, Write};
use chaturdata_proxy::store::disk::Disk;
use chaturdata_proxy::upstream::sandbox::Sandbox;
use chaturdata_proxy::upstream::sandbox::script::Script;
use chaturdata_proxy::upstream::{
    Call, NewMessage, PostError, Posted, ReadError, Thread, ThreadId, Upstream,
};
use redb::StorageBackend;
use redb::backends::InMemoryBackend;
use tokio::time::sleep;

use crate::proxy::{Proxy, Setup};
use crate::talk::{Talk, decision, said, soon, told};

/// A sandbox that panics at the next read when it is told to.
#[derive(Debug)]
struct Panics {
    sandbox: Sandbox,
    next: AtomicBool,
}

impl Upstream for Panics {
    fn post<'a>(
        &'a self,
        key: &'a Secret,
        message: &'a NewMessage,
    ) -> Call<'a, Result<Posted, PostError>> {
        self.sandbox.post(key, message)
    }

    fn read<'a>(
        &'a self,
        key: &'a Secret,
        thread: &'a ThreadId,
    ) -> Call<'a, Result<Thread, ReadError>> {
        assert!(!self.next.swap(false, Ordering::Relaxed), "planted words");
        self.sandbox.read(key, thread)
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_panics_is_told_and_leaves_its_conversation_usable() {
    let sandbox = Sandbox::new(Script::always(soon("yes")));
    let upstream = Arc::new(Panics {
        sandbox: sandbox.clone(),
        next: false.into(),
    });
    let proxy = Proxy::over(Setup::default(), sandbox, upstream.clone());
    let mut talk = Talk::new(&proxy);
    assert_eq!(said(&talk.says("one").await), "yes");

    upstream.next.store(true, Ordering::Relaxed);
    let failed = talk.says("two").await;
    let next = talk.says("three").await;

    assert_eq!(
        told(&failed),
        "500 server_error internal_error x-should-retry=false"
    );
    assert!(!failed.text.contains("planted"), "{}", failed.text);
    assert_eq!((said(&next), decision(&next)), ("yes", "replayed"));
}

/// A disk whose writer panics when it is told to.
#[derive(Debug)]
struct Explodes(InMemoryBackend, Arc<AtomicBool>);

impl StorageBackend for Explodes {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(at, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        assert!(!self.1.load(Ordering::Relaxed), "planted");
        self.0.sync_data()
    }

    fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write(at, bytes)
    }
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_panics_degrades_the_state_and_leaves_nobody_waiting() {
    // The journal, and the database, which has what has rested there for a while.
    for (planted, after) in [([true, false], Err(Unwritten)), ([false, true], Ok(()))] {
        let explodes = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let [journal, database] = explodes
            .each_ref()
            .map(|explodes| Explodes(InMemoryBackend::new(), Arc::clone(explodes)));
        let opened = Disk::open_on(database, (journal, 1 << 16), &mut |_, _, _| Ok(())).unwrap();
        let disk = opened.disk;
        let written = async || {
            disk.queue(vec![Write {
                table: Table::Turns,
                key: vec![1],
                value: Some(vec![2]),
            }]);
            disk.flushed().await
        };
        let used = async {
            let before = written().await;
            for (explodes, planted) in explodes.iter().zip(planted) {
                explodes.store(planted, Ordering::Relaxed);
            }
            let later = written().await;
            sleep(Duration::from_secs(10)).await;
            let (degraded, in_the_end) = (disk.is_degraded(), written().await);
            disk.close().await;
            (before, later, degraded, in_the_end)
        };

        let (went, ()) = tokio::join!(used, opened.serving);

        assert_eq!(went, (Ok(()), after, true, Err(Unwritten)), "{planted:?}");
    }
}
