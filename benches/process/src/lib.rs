//! What programs that measure need to know of the processes that they start.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Child;

/// What a process holds, and what it has used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Held {
    /// In bytes.
    pub resident: u64,
    pub peak: u64,
    pub descriptors: usize,
    /// Of processor time, since the start.
    pub seconds: f64,
}

impl Held {
    pub fn by(id: u32) -> io::Result<Self> {
        let status = fs::read_to_string(format!("/proc/{id}/status"))?;
        let kilobytes = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name));
            let number = line.and_then(|line| line.split_whitespace().nth(1));
            number.and_then(|number| number.parse::<u64>().ok())
        };
        Ok(Self {
            resident: kilobytes("VmRSS:").unwrap_or(0) * 1024,
            peak: kilobytes("VmHWM:").unwrap_or(0) * 1024,
            descriptors: fs::read_dir(format!("/proc/{id}/fd"))?.count(),
            seconds: processor_time(id)?,
        })
    }
}

/// In user and system mode; the kernel counts hundredths.
fn processor_time(id: u32) -> io::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: f64 = ticks.filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(ticks / 100.0)
}

/// One that nobody listens on.
pub fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// A folder that goes with this.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> io::Result<Self> {
        let name = format!("load-{}-{}", std::process::id(), free_address()?.port());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left lies where the system clears up.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A process that ends with this. Not the runtime's own kind of process: that is a feature of the runtime
/// which the proxy does without, so that the proxy would be built a second time for its sake.
#[derive(Debug)]
pub struct Ending(pub Child);

impl Drop for Ending {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
