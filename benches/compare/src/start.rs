//! From exec to the first answer, what an idle proxy holds, and how large its program is.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use process::free_address;

use crate::bounds::Bounds;
use crate::bounds::By::{Clock, Count, Memory};
use crate::child::{Process, page};
use crate::contender::{Ground, Pace, Store};
use crate::table::{self, median, shown};

pub fn run(ground: &Ground, starts: usize, bounds: &mut Bounds) -> io::Result<()> {
    let mut rows = Vec::new();
    for (name, store) in [("memory", Store::Memory), ("disk", Store::Disk)] {
        let (mut times, mut resident) = (Vec::new(), Vec::new());
        for _ in 0..starts {
            let folder = ground.folder.path().join("state-start");
            let started = started(ground, store, &folder, 100_000)?;
            times.push(started.took.as_secs_f64() * 1000.0);
            resident.push(started.held as f64 / 1024.0 / 1024.0);
        }
        let (time, idle) = (median(times), median(resident));
        rows.push(vec![
            format!("proxy, {name}"),
            shown(time, 1),
            shown(idle, 1),
        ]);
        let mut judge = bounds.of(format!("start, {name}"));
        judge("first 200, ms", time, Clock.at_most(20.0));
        judge("idle, MiB", idle, Memory.at_most(12.0));
    }
    table::print("start", &["", "first 200, ms", "idle, MiB"], &rows);
    let size = fs::metadata(&ground.binary)?.len() as f64 / 1024.0 / 1024.0;
    println!("\nthe program: {size:.1} MiB");
    bounds.judge("the program, MiB", size, Count.at_most(16.0));
    Ok(())
}

/// A start.
pub struct Started {
    /// Until the first answer.
    pub took: Duration,
    /// A little later, and at most until then.
    pub held: u64,
    pub peak: u64,
}

/// Starts on this state, with room for so many conversations.
pub fn started(ground: &Ground, store: Store, state: &Path, room: usize) -> io::Result<Started> {
    let address: SocketAddr = free_address()?;
    let listen = address.to_string();
    let mut command = ground.proxy(&listen, &listen, (store, Pace::Learned), state);
    command.env("CHATURDATA_PROXY_CONVERSATIONS__MAX", room.to_string());
    let complaints = ground.folder.path().join("start.log");
    let began = Instant::now();
    let mut process = Process::start(&mut command, &complaints)?;
    while page(address, "/livez").is_err() {
        if began.elapsed() > Duration::from_secs(60) || process.has_ended() {
            return Err(io::Error::other("it does not answer"));
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    let took = began.elapsed();
    std::thread::sleep(Duration::from_millis(300));
    let held = process.held()?;
    process.stop()?;
    Ok(Started {
        took,
        held: held.resident,
        peak: held.peak,
    })
}
