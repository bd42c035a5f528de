//! Who is measured, and how each is started.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use process::{Folder, free_address};

use crate::child::{Process, own};
use crate::peers::Peer;

/// Something that stands between callers and the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// Nothing: callers make both calls of the upstream.
    Direct,
    Floor,
    Pair,
    /// An axum on hyper's connections that answers after so many seconds, without an upstream.
    Waits(u32),
    Proxy(Store, Pace),
    Peer(Peer),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    Memory,
    Disk,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    Fixed,
    Learned,
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Direct => "the caller itself",
            Self::Floor => "floor: axum, reqwest",
            Self::Pair => "pair: hyper, hyper",
            Self::Waits(_) => "axum that only waits",
            Self::Proxy(Store::Memory, Pace::Learned) => "proxy, memory",
            Self::Proxy(Store::Memory, Pace::Fixed) => "proxy, memory, fixed",
            Self::Proxy(Store::Disk, Pace::Learned) => "proxy, disk",
            Self::Proxy(Store::Disk, Pace::Fixed) => "proxy, disk, fixed",
            Self::Peer(peer) => peer.name(),
        })
    }
}

/// What every start needs.
pub struct Ground {
    pub binary: PathBuf,
    pub folder: Folder,
}

/// One that runs.
pub struct Running {
    pub contender: Contender,
    pub address: SocketAddr,
    pub process: Option<Process>,
}

/// More than anything here opens.
const ROOM: &str = "100000";

impl Ground {
    pub fn start(&self, contender: Contender, upstream: SocketAddr) -> io::Result<Running> {
        let address = match contender {
            Contender::Direct => upstream,
            _ => free_address()?,
        };
        let (listen, to) = (address.to_string(), upstream.to_string());
        let bare = |what| own(&[what, "--listen", &listen, "--upstream", &to]);
        let mut command = match contender {
            Contender::Direct => {
                return Ok(Running {
                    contender,
                    address,
                    process: None,
                });
            }
            Contender::Floor => bare("floor")?,
            Contender::Pair => bare("pair")?,
            Contender::Waits(seconds) => own(&[
                "waits",
                "--listen",
                &listen,
                "--seconds",
                &seconds.to_string(),
            ])?,
            Contender::Proxy(store, pace) => {
                let state = self.folder.path().join(format!("state-{}", address.port()));
                self.proxy(&listen, &to, (store, pace), &state)
            }
            Contender::Peer(peer) => peer.command(address, upstream, self.folder.path())?,
        };
        let complaints = self.folder.path().join(format!("{}.log", address.port()));
        let mut process = Process::start(&mut command, &complaints)?;
        process.listens(address, Duration::from_secs(90))?;
        Ok(Running {
            contender,
            address,
            process: Some(process),
        })
    }

    /// With everything at its default but the bounds on how much it may hold.
    pub fn proxy(
        &self,
        listen: &str,
        upstream: &str,
        (store, pace): (Store, Pace),
        state: &Path,
    ) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args([
                "--listen",
                listen,
                "--upstream-url",
                &format!("http://{upstream}"),
            ])
            .arg("--state-dir")
            .arg(state);
        let store = match store {
            Store::Memory => "memory",
            Store::Disk => "disk",
        };
        let pace = match pace {
            Pace::Fixed => "fixed",
            Pace::Learned => "learned",
        };
        for (key, value) in [
            ("STORE__KIND", store),
            ("PACE__STRATEGY", pace),
            ("SERVER__MAX_CONNECTIONS", ROOM),
            ("SERVER__MAX_WAITING", ROOM),
            ("SERVER__MAX_WAITING_PER_KEY", ROOM),
            ("RUN__MAX_ACTIVE", ROOM),
            ("RUN__MAX_ACTIVE_PER_KEY", ROOM),
        ] {
            command.env(format!("CHATURDATA_PROXY_{key}"), value);
        }
        command
    }
}
