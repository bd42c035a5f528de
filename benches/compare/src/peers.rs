//! What people would use in the proxy's place, installed by the ordinary package clients into a folder
//! of their own.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A program that somebody would write, or install.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// FastAPI and aiohttp.
    Aiohttp,
    /// FastAPI and httpx.
    Httpx,
    Node,
    /// LiteLLM's proxy with a handler of one's own.
    LiteLlm,
}

/// Says what was installed.
const MARK: &str = "installed";

/// Where the sources are.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers");

impl Peer {
    pub const ALL: [Self; 4] = [Self::Node, Self::Aiohttp, Self::Httpx, Self::LiteLlm];

    pub fn name(self) -> &'static str {
        match self {
            Self::Aiohttp => "FastAPI, aiohttp",
            Self::Httpx => "FastAPI, httpx",
            Self::Node => "Node, undici",
            Self::LiteLlm => "LiteLLM",
        }
    }

    pub fn is_installed(self) -> bool {
        let (folder, wanted) = self.parts();
        let known = fs::read_to_string(installed(folder).join(MARK));
        let versions = fs::read_to_string(Path::new(SOURCES).join(wanted));
        matches!((known, versions), (Ok(known), Ok(versions)) if known == versions)
    }

    /// Where it is installed, and the file that says what.
    fn parts(self) -> (&'static str, &'static str) {
        match self {
            Self::Aiohttp | Self::Httpx => ("fastapi", "requirements-fastapi.txt"),
            Self::LiteLlm => ("litellm", "requirements-litellm.txt"),
            Self::Node => ("node", "package.json"),
        }
    }

    /// Installs it where that was not done before.
    pub fn install(self) -> io::Result<()> {
        if self.is_installed() {
            return Ok(());
        }
        let (folder, wanted) = self.parts();
        let (folder, wanted) = (installed(folder), Path::new(SOURCES).join(wanted));
        println!(
            "installing what {} needs into {}",
            self.name(),
            folder.display()
        );
        fs::create_dir_all(&folder)?;
        let log = folder.join("install.log");
        if self == Self::Node {
            fs::copy(&wanted, folder.join("package.json"))?;
            let install = ["install", "--no-audit", "--no-fund", "--silent", "--prefix"];
            carry_out(Command::new("npm").args(install).arg(&folder), &log)?;
        } else {
            carry_out(
                Command::new("python3").args(["-m", "venv"]).arg(&folder),
                &log,
            )?;
            let mut pip = Command::new(folder.join("bin/pip"));
            carry_out(
                pip.args(["install", "--quiet", "--requirement"])
                    .arg(&wanted),
                &log,
            )?;
        }
        fs::copy(wanted, folder.join(MARK)).map(drop)
    }

    pub fn command(
        self,
        listen: SocketAddr,
        upstream: SocketAddr,
        folder: &Path,
    ) -> io::Result<Command> {
        let (port, url) = (listen.port().to_string(), format!("http://{upstream}"));
        let python =
            |of: &str, program: &str| Command::new(installed(of).join("bin").join(program));
        let mut command = match self {
            Self::Aiohttp | Self::Httpx => {
                let module = if self == Self::Aiohttp {
                    "with_aiohttp"
                } else {
                    "with_httpx"
                };
                let mut command = python("fastapi", "uvicorn");
                command
                    .arg(format!("{module}:app"))
                    .args(["--app-dir", SOURCES, "--port", &port, "--no-access-log"])
                    .args(["--log-level", "warning", "--backlog", "8192"]);
                command
            }
            Self::Node => {
                let mut command = Command::new("node");
                command.arg(Path::new(SOURCES).join("shim.cjs")).arg(&port);
                command.env("NODE_PATH", installed("node").join("node_modules"));
                command
            }
            Self::LiteLlm => {
                // It looks for handlers beside its settings.
                for name in ["litellm.yaml", "handler.py"] {
                    fs::copy(Path::new(SOURCES).join(name), folder.join(name))?;
                }
                let mut command = python("litellm", "litellm");
                command.arg("--config").arg(folder.join("litellm.yaml"));
                command.args([
                    "--host",
                    "127.0.0.1",
                    "--port",
                    &port,
                    "--telemetry",
                    "False",
                ]);
                command.current_dir(folder);
                // The key that callers present; a strong one would protect nothing here.
                command.env("LITELLM_MASTER_KEY", "sk-bench");
                command.env(
                    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY",
                    "true",
                );
                command
            }
        };
        command
            .env("UPSTREAM_URL", url)
            .env("PYTHONDONTWRITEBYTECODE", "1");
        Ok(command)
    }
}

fn installed(what: &str) -> PathBuf {
    let target = std::env::current_exe().unwrap_or_default();
    // The program is in target/release.
    let target = target.ancestors().nth(2).unwrap_or(Path::new("target"));
    target.join("peers").join(what)
}

fn carry_out(command: &mut Command, log: &Path) -> io::Result<()> {
    let log_file = File::create(log)?;
    let complaints = log_file.try_clone()?;
    let status = command
        .stdin(Stdio::null())
        .stdout(log_file)
        .stderr(complaints)
        .status()?;
    if status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{status}; see {}", log.display())))
}
