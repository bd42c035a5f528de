//! Serving, from the first log line to the exit: bind, say so, drain at a signal.

use std::future::Future;
use std::io::{self, IsTerminal};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Builder;
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use super::access::{self, access};
use super::caches::give_back;
use super::healthcheck::reachable;
use super::log::{self, Lines};
use super::{Start, callers_file, descriptors, parts, state};
use crate::config::Settings;
use crate::server::Access;
use crate::signal::Signal;
use crate::upstream::Upstream;

/// How many callers may wait for their connection to be taken in. More come at once than the usual 128, and
/// whoever finds no room tries again after a second, or is cut off. Systems have bounds of their own.
const BACKLOG: u32 = 4096;

const SANDBOX_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8485);

/// Serves callers until a signal.
pub fn serve(mut start: Start) -> Result<()> {
    start
        .warnings
        .extend(descriptors::fit(&mut start.settings.config));
    let plan = access(&start.situation)?;
    let upstream = parts::upstream(&start.settings.config)?;
    let lines = log::start(&start.settings.config.log)?;
    for warning in &start.warnings {
        warn!("{warning}");
    }
    run(&lines, proxy(start, (plan, upstream), &lines))
}

/// Serves the simulated upstream alone until a signal.
pub fn sandbox(
    listen: Option<SocketAddr>,
    script: Option<&Path>,
    settings: &Settings,
) -> Result<()> {
    let listen = listen.unwrap_or(SANDBOX_LISTEN);
    let script = parts::script("--script", script)?;
    let mut config = settings.config.clone();
    let warning = descriptors::fit(&mut config);
    let lines = log::start(&config.log)?;
    if let Some(warning) = warning {
        warn!("{warning}");
    }
    let serving = async {
        let signals = Signals::new()?;
        let listener = bind(listen)?;
        let address = listener.local_addr()?;
        info!(listen = %address, "the simulated upstream listens");
        if io::stderr().is_terminal() {
            lines.say(&format!(
                "\nTry:\n  chaturdata-proxy --upstream-url http://{}\n\n",
                reachable(address)
            ));
        }
        let stop = Signal::default();
        let served = parts::sandbox(listener, config, script, stop.clone());
        until_stopped(served, signals, &stop).await
    };
    run(&lines, serving)
}

fn run(lines: &Lines, serving: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = serving => ended,
            never = give_back() => match never {},
        }
    });
    // What still runs after the drain is cut: it must not hold up the exit.
    runtime.shutdown_background();
    lines.finish();
    ended
}

async fn proxy(
    start: Start,
    (plan, upstream): (access::Start, Arc<dyn Upstream>),
    lines: &Lines,
) -> Result<()> {
    // First, so that a signal during the start is an orderly end too.
    let signals = Signals::new()?;
    let listener = bind(start.situation.listen)?;
    let address = listener.local_addr()?;
    let config = start.settings.config.clone();
    // While it is read, callers wait for the connection that they have.
    let state = spawn_blocking(move || state::open(&config)).await??;
    let config = start.settings.config.clone();
    let access = admitted(start, plan, lines)?;
    announce(address, plan, lines);
    let stop = Signal::default();
    let served = parts::proxy(listener, config, (access, upstream), state, stop.clone());
    until_stopped(served, signals, &stop).await
}

/// The access that was decided on, with its keys.
fn admitted(start: Start, plan: access::Start, lines: &Lines) -> Result<Access> {
    let held = |callers, anyone| {
        let key = start.keys.upstream.clone();
        let key = key.context("there is no upstream key to hold")?;
        Ok(Access::Held {
            key,
            callers,
            anyone,
        })
    };
    match plan {
        access::Start::Sandbox => Ok(Access::Sandbox),
        access::Start::PassThrough => Ok(Access::PassThrough),
        access::Start::CallerKeys => held(start.callers, false),
        access::Start::Anyone => held(start.callers, true),
        access::Start::FirstKey => {
            let file = callers_file(&start.settings)?;
            let key = file.add("first")?;
            lines.say(&format!(
                "\nCallers of this proxy need a key. Here is the first, shown this once:\n\n  {}\n\n\
                 More of them: chaturdata-proxy keys add NAME\n",
                key.expose()
            ));
            held(file.keys()?, false)
        }
    }
}

fn bind(listen: SocketAddr) -> Result<TcpListener> {
    listening(listen).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            anyhow!("{listen} is taken by another program; choose another with --listen")
        }
        io::ErrorKind::PermissionDenied => anyhow!(
            "{listen} needs rights that this program does not have; choose a port above 1023 with --listen"
        ),
        io::ErrorKind::AddrNotAvailable => {
            anyhow!("{listen} is not an address of this machine; choose another with --listen")
        }
        _ => anyhow!("{listen} cannot be listened on: {error}; choose another with --listen"),
    })
}

fn listening(listen: SocketAddr) -> io::Result<TcpListener> {
    let socket = match listen {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // As everywhere but on Windows, where it would let others listen there too.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.bind(listen)?;
    socket.listen(BACKLOG)
}

/// Where it listens, for the log; and for a person, what to try.
fn announce(address: SocketAddr, plan: access::Start, lines: &Lines) {
    let version = env!("CARGO_PKG_VERSION");
    info!(listen = %address, access = plan.as_str(), version, "listening");
    if !io::stderr().is_terminal() {
        return;
    }
    let key = match plan {
        access::Start::Sandbox | access::Start::Anyone => "",
        access::Start::PassThrough => " -H 'Authorization: Bearer <your Chat Ur Data key>'",
        access::Start::CallerKeys | access::Start::FirstKey => {
            " -H 'Authorization: Bearer <a key of this proxy>'"
        }
    };
    let address = reachable(address);
    lines.say(&format!(
        "\nThe base URL for OpenAI clients is http://{address}/v1. Try:\n  \
         curl http://{address}/v1/chat/completions -H 'Content-Type: application/json'{key} \\\n    \
         -d '{{\"model\": \"chaturdata\", \"messages\": [{{\"role\": \"user\", \"content\": \"Revenue by region?\"}}]}}'\n\n"
    ));
}

/// Serves until a signal, then lets callers have their answers; a second signal ends it at once.
async fn until_stopped(
    served: impl Future<Output = Result<()>>,
    mut signals: Signals,
    stop: &Signal,
) -> Result<()> {
    let mut served = Box::pin(served);
    tokio::select! {
        ended = &mut served => return ended,
        () = signals.next() => {}
    }
    info!(
        "stopping: callers that wait get their answers or are told; a second signal stops at once"
    );
    stop.give();
    tokio::select! {
        ended = served => ended,
        () = signals.next() => bail!("stopped at once by a second signal"),
    }
}

/// The signals that end the program, caught from the moment this is made.
#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    #[expect(clippy::unnecessary_wraps, reason = "as on unix")]
    fn new() -> Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}
