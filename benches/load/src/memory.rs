//! Everything that holds memory at once, in a control group that allows 128 MB.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::caller::Pool;
use crate::program::{Proxy, Start};
use crate::tally::{Verdict, megabytes};

const LIMIT: u64 = 128_000_000;

const IDLE: usize = 2000;
const IN_FLIGHT: usize = 500;
const NOT_READING: usize = 200;
const ENDLESS: usize = 50;

fn script() -> String {
    let long = "a long answer ".repeat(64 * 1024 / 14);
    format!(
        r#"
behaviour = {{ reply = ["an answer"], reply_after = "1h" }}

[[rules]]
when = "long"
behaviour = {{ reply = ["{long}"], reply_after = "1s" }}

[[rules]]
when = "endless"
behaviour = {{ reply = ["an answer"], reply_after = "1h", reads = [{{ answer = "endless" }}] }}
"#
    )
}

pub async fn run(binary: &Path, verdict: &mut Verdict) -> io::Result<()> {
    let Some(group) = Group::new() else {
        println!("SKIPPED: no control group can be made here, so no memory limit can be set");
        return Ok(());
    };
    let processes = group.path.join("cgroup.procs");
    let mut proxy = Proxy::start(&Start {
        binary,
        script: &script(),
        settings: &[("pace.interval", "500ms"), ("pace.min_gap", "200ms")],
        group: Some(&processes),
    })
    .await?;
    let mut sockets = Vec::new();
    tell(&proxy, "at the start");
    for _ in 0..IDLE {
        sockets.push(TcpStream::connect(proxy.pool.address).await?);
    }
    sleep(Duration::from_secs(1)).await;
    tell(&proxy, "idle");
    for (kind, count) in [
        ("wait", IN_FLIGHT),
        ("long", NOT_READING),
        ("endless", ENDLESS),
    ] {
        for number in 0..count {
            sockets.push(asking(&proxy.pool, kind, number).await?);
        }
        sleep(Duration::from_secs(6)).await;
        tell(&proxy, kind);
    }

    let held = proxy.held()?;
    let waiting = proxy.counts("waiting_callers").await?;
    println!(
        "{waiting} callers wait, {} descriptors are open",
        held.descriptors
    );
    println!("memory {:.0} MB at most", megabytes(held.peak));
    verdict.claim(proxy.is_alive(), "the proxy lives within 128 MB");
    let least = (IN_FLIGHT + ENDLESS) as f64;
    verdict.claim(waiting >= least, "everyone who waits is still there");
    verdict.claim(held.descriptors > IDLE, "idle connections are still open");
    let mut answered = asking(&proxy.pool, "long", NOT_READING).await?;
    let mut head = [0; 12];
    answered.read_exact(&mut head).await?;
    verdict.claim(head.ends_with(b" 200"), "one more is answered");
    drop((sockets, answered));
    drop(proxy);
    Ok(())
}

fn tell(proxy: &Proxy, what: &str) {
    let held = proxy.held().unwrap_or_default();
    println!("{what}: {:.0} MB", megabytes(held.resident));
}

/// A stream that is asked for, and not read. Eight keys ask.
async fn asking(pool: &Pool, kind: &str, number: usize) -> io::Result<TcpStream> {
    let body = serde_json::json!({
        "model": "chaturdata",
        "stream": true,
        "messages": [{"role": "user", "content": format!("{kind} {number}")}],
    });
    let body = body.to_string();
    let key = number % 8;
    let mut socket = TcpStream::connect(pool.address).await?;
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sk-{key}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(request.as_bytes()).await?;
    Ok(socket)
}

/// A control group of our own, with the memory limit set.
struct Group {
    path: PathBuf,
}

impl Group {
    fn new() -> Option<Self> {
        let name = format!("load-{}", std::process::id());
        let kinds = [
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            ("/sys/fs/cgroup", "memory.max"),
        ];
        for (root, limit) in kinds {
            let path = Path::new(root).join(&name);
            if fs::create_dir(&path).is_err() {
                continue;
            }
            let group = Self { path };
            if fs::write(group.path.join(limit), LIMIT.to_string()).is_ok() {
                return Some(group);
            }
        }
        None
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // It can only go when its last process has.
        for _ in 0..50 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::yield_now();
        }
    }
}
