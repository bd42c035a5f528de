//! What callers and `readyz` see of a disk that takes nothing more.

use std::io;
use std::sync::Arc;

use chaturdata_proxy::store::backend::Backend;
use http::StatusCode;

use super::medium::{Call, Medium, Planned};
use super::{Random, open, random_write};
use crate::proxy::{Proxy, Setup};

/// Takes no write from its second commit on.
#[derive(Debug, Default)]
struct Full(usize);

impl Planned for Full {
    fn fails(&mut self, call: Call) -> Option<io::Error> {
        self.0 += usize::from(call == Call::Sync);
        (call == Call::Write && self.0 > 6).then(|| io::ErrorKind::StorageFull.into())
    }
}

#[tokio::test]
async fn a_disk_that_takes_no_more_degrades_the_proxy_which_answers_on() {
    let first = Medium::default();
    drop(open(&first).unwrap());
    let (opened, _) = open(&Medium::failing(first.image(), Full::default())).unwrap();
    let disk = opened.disk.clone();
    let proxy = Proxy::start(Setup {
        state: Arc::new(opened.disk),
        ..Setup::quick()
    });
    let asking = async {
        let before = proxy.get("/readyz").await;
        let mut random = Random(1);
        while !disk.is_degraded() {
            disk.queue(vec![random_write(&mut random)]);
            let _ = disk.flushed().await;
        }
        let answer = proxy.chat("hello").await;
        let after = proxy.get("/readyz").await;
        disk.close().await;
        (before, answer, after)
    };

    let ((before, answer, after), ()) = tokio::join!(asking, opened.serving);

    assert_eq!(before.text, r#"{"status":"ok"}"#);
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(after.status, StatusCode::OK);
    assert_eq!(
        after.text,
        r#"{"status":"degraded","reason":"state_not_written"}"#
    );
}
