//! Puts the parts together: an upstream, a runner on it, the server in front.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::net::TcpListener;

use super::state::State;
use crate::clock::Moment;
use crate::config::{self, Config};
use crate::conversation::resolve::Secrets;
use crate::conversation::salt::Salt;
use crate::metrics::Metrics;
use crate::run::live::{Foundation, Runner};
use crate::server::{Access, Limits, Parts, SandboxService, Stop, router, serve};
use crate::signal::Signal;
use crate::upstream::Upstream;
use crate::upstream::chaturdata::ChatUrData;
use crate::upstream::sandbox::Sandbox;
use crate::upstream::sandbox::script::Script;

/// The upstream that the settings name.
pub fn upstream(config: &Config) -> Result<Arc<dyn Upstream>> {
    Ok(if config.sandbox.enabled {
        Arc::new(Sandbox::new(script(
            "sandbox.script",
            config.sandbox.script.as_deref(),
        )?))
    } else {
        Arc::new(ChatUrData::new(&config.upstream)?)
    })
}

/// Serves callers until `stop`, and then until they have their answers or the drain time is over.
pub async fn proxy(
    listener: TcpListener,
    config: Config,
    (access, upstream): (Access, Arc<dyn Upstream>),
    state: State,
    stop: Signal,
) -> Result<()> {
    let State {
        backend,
        salt,
        restored,
        clock,
        keeper,
    } = state;
    let secrets = Secrets {
        salt: salt.clone(),
        ids: Salt::random().context("the system gives no random bytes")?,
    };
    let metrics = Arc::new(Metrics::new());
    let foundation = Foundation {
        upstream,
        secrets,
        backend: backend.clone(),
        clock,
        restored,
        metrics: metrics.clone(),
    };
    let runner = Runner::new(&config, foundation);
    // A key that callers bring is not at hand before they do.
    if let Access::Held { key, .. } = &access {
        runner.resume_all(key);
    }
    let stop = Stop::on(stop);
    let limits = Limits::new(&config.server, metrics.connections());
    let service = router(Parts {
        config: Arc::new(config),
        runner: runner.clone(),
        access,
        salt,
        metrics,
        state: backend,
        stop: stop.clone(),
    });
    let serving = async {
        tokio::select! {
            () = serve(listener, service, limits, stop) => {}
            never = runner.watch_clocks(Moment::of_wall) => match never {},
        }
        runner.shut_down().await;
    };
    keeper.keep(serving).await;
    Ok(())
}

/// Serves the simulated upstream in the upstream's own wire format.
pub async fn sandbox(
    listener: TcpListener,
    config: Config,
    script: Script,
    stop: Signal,
) -> Result<()> {
    let service = SandboxService(Sandbox::new(script));
    let limits = Limits::new(&config.server, Metrics::new().connections());
    serve(listener, service, limits, Stop::on(stop)).await;
    Ok(())
}

/// The script in the file that `setting` names. Without one, the sample data answers.
pub fn script(setting: &str, file: Option<&Path>) -> Result<Script, config::Error> {
    let Some(path) = file else {
        return Ok(Script::default());
    };
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| config::Error(format!("{setting}: {shown} cannot be read: {error}")))?;
    Script::parse(&text).map_err(|error| {
        // One line: a parser draws its complaints over several.
        let what: Vec<String> = error
            .to_string()
            .lines()
            .map(|line| line.trim().to_owned())
            .collect();
        config::Error(format!("{setting}: {shown} is {}", what.join(" ")))
    })
}
