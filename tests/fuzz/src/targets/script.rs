//! A sandbox's script, and a sandbox that follows it.

use std::cell::RefCell;
use std::time::Duration;

use chaturdata_proxy::upstream::sandbox::script::Script;
use chaturdata_proxy::upstream::sandbox::{Request, Sandbox};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::proxy::paused;

/// No script's call takes longer, unless it never ends.
const LONG: Duration = Duration::from_secs(3600);

thread_local! {
    static RUNTIME: RefCell<Runtime> = RefCell::new(paused());
}

/// The input is a script.
pub fn script(text: &[u8]) {
    let Ok(text) = str::from_utf8(text) else {
        return;
    };
    match Script::parse(text) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(script) => RUNTIME.with_borrow(|runtime| runtime.block_on(follow(script))),
    }
}

/// The input is a message for the sample data.
pub fn demo(message: &[u8]) {
    if let Ok(message) = str::from_utf8(message) {
        RUNTIME.with_borrow(|runtime| runtime.block_on(tell(Script::default(), message)));
    }
}

async fn follow(script: Script) {
    tell(script, "hello").await;
}

async fn tell(script: Script, message: &str) {
    let sandbox = Sandbox::new(script);
    let post = Request::NewMessage {
        message: message.to_owned(),
        thread_id: None,
    };
    let _ = timeout(LONG, sandbox.answer(None, post)).await;
    for thread in sandbox.threads() {
        for _ in 0..3 {
            let read = Request::GetThread {
                thread_id: thread.to_string(),
            };
            let _ = timeout(LONG, sandbox.answer(None, read)).await;
        }
    }
}
