//! The proxy is killed and started again on what it had written: what was asked before is answered
//! after, and nothing is posted twice.

mod answers;
mod conversations;
mod forms;
mod long;
mod paces;
mod posts;
mod responses;
mod strict;
mod writes;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use chaturdata_proxy::conversation::salt::Salt;
use chaturdata_proxy::server::Access;
use chaturdata_proxy::store::backend::{Backend, Flushed, Table, Unwritten, Write};
use chaturdata_proxy::store::{HandleHash, HandleRecord, Restored, record};
use chaturdata_proxy::upstream::sandbox::Sandbox;
use chaturdata_proxy::upstream::sandbox::script::{Behaviour, Script};
use http::Request;
use tokio::time::timeout;

use crate::proxy::{Proxy, Setup};
use crate::talk::{Talk, seconds};

/// Records as they would be on a disk that is never slow.
#[derive(Clone, Debug, Default)]
pub struct Shelf(Arc<Mutex<Content>>);

#[derive(Clone, Debug, Default)]
pub struct Content {
    records: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
    /// The process is gone: what its tasks still do is not seen.
    is_frozen: bool,
    has_failed: bool,
}

impl Shelf {
    pub fn restored(&self) -> Restored {
        drop(self.handles());
        let mut restored = Restored::default();
        for ((table, key), value) in &self.0.lock().unwrap().records {
            restored.take(*table, key, value).unwrap();
        }
        restored
    }

    /// Where names lead, each of which stands there once.
    pub fn handles(&self) -> BTreeMap<HandleHash, HandleRecord> {
        let content = self.0.lock().unwrap();
        let mut handles = BTreeMap::new();
        for ((table, key), value) in &content.records {
            if *table == Table::Handles {
                let (hash, leads) = record::read_handle(key, value).unwrap();
                let twice = handles.insert(hash, leads);
                assert_eq!(twice, None, "a name stands there twice");
            }
        }
        handles
    }

    /// How many records of a table there are.
    pub fn count(&self, wanted: Table) -> usize {
        let content = self.0.lock().unwrap();
        let keys = content.records.keys();
        keys.filter(|(table, _)| *table == wanted).count()
    }

    /// As it is by now, for the next process, or for later.
    fn copied(&self) -> Self {
        let records = self.0.lock().unwrap().records.clone();
        Self(Arc::new(Mutex::new(Content {
            records,
            ..Content::default()
        })))
    }
}

impl Backend for Shelf {
    fn queue(&self, unit: Vec<Write>) {
        let mut content = self.0.lock().unwrap();
        if content.is_frozen || content.has_failed {
            return;
        }
        for Write { table, key, value } in unit {
            match value {
                Some(value) => content.records.insert((table, key), value),
                None => content.records.remove(&(table, key)),
            };
        }
    }

    fn flushed(&self) -> Flushed<'_> {
        let failed = self.is_degraded();
        Box::pin(async move { if failed { Err(Unwritten) } else { Ok(()) } })
    }

    fn is_degraded(&self) -> bool {
        self.0.lock().unwrap().has_failed
    }
}

/// One state folder, and the upstream behind the proxies that use it one after another.
pub struct Home {
    pub shelf: Shelf,
    pub salt: Salt,
    pub sandbox: Sandbox,
}

impl Home {
    pub fn new(script: Script) -> Self {
        Self {
            shelf: Shelf::default(),
            salt: Salt::random().unwrap(),
            sandbox: Sandbox::new(script),
        }
    }

    /// Whose upstream says this after so many seconds.
    pub fn saying(text: &str, after: u64) -> Self {
        Self::new(Script::always(Behaviour::says(text, seconds(after))))
    }

    pub fn start(&self) -> Proxy {
        self.start_with(Setup::default())
    }

    pub fn start_with(&self, setup: Setup) -> Proxy {
        let setup = Setup {
            access: Access::PassThrough,
            state: Arc::new(self.shelf.clone()),
            salt: self.salt.clone(),
            restored: self.shelf.restored(),
            ..setup
        };
        Proxy::over(setup, self.sandbox.clone(), Arc::new(self.sandbox.clone()))
    }

    /// `kill -9`: nothing that happens from here on is written.
    pub async fn kill(&mut self, proxy: Proxy) {
        self.shelf.0.lock().unwrap().is_frozen = true;
        proxy.runner.shut_down().await;
        self.shelf = self.shelf.copied();
    }
}

/// A caller that presents its key.
pub fn talk(proxy: &Proxy) -> Talk<'_> {
    Talk::new(proxy).header("authorization", "Bearer sk-caller")
}

/// One under a handle, that sends only what is new.
pub fn delta<'a>(proxy: &'a Proxy, name: &str) -> Talk<'a> {
    talk(proxy).header("x-conversation-id", name)
}

/// Sends it, and is cut off after so many seconds without an answer.
async fn is_cut_off(proxy: &Proxy, request: Request<Body>, after: u64) {
    let waited = timeout(seconds(after), proxy.send(request)).await;
    assert!(waited.is_err(), "answered before the kill");
}
