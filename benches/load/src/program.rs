//! The built program as processes of its own: a sandbox, and a proxy before it.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use process::{Ending, Folder, Held, free_address};
use tokio::time::{Instant, sleep};

use crate::caller::Pool;

/// A proxy, with the sandbox behind it. Both end with this.
pub struct Proxy {
    pub pool: Pool,
    process: Ending,
    _sandbox: Ending,
    _folder: Folder,
}

/// How the proxy is started.
pub struct Start<'a> {
    pub binary: &'a Path,
    /// What the sandbox does, in its own words.
    pub script: &'a str,
    /// The proxy's settings: keys of its file, and values as its variables have them.
    pub settings: &'a [(&'a str, &'a str)],
    /// A file that the proxy writes its process id to before it begins.
    pub group: Option<&'a Path>,
}

impl Proxy {
    pub async fn start(start: &Start<'_>) -> io::Result<Self> {
        let folder = Folder::new()?;
        let script = folder.path().join("script.toml");
        fs::write(&script, start.script)?;
        let upstream = free_address()?;
        let sandbox = Command::new(start.binary)
            .args(["sandbox", "--listen", &upstream.to_string(), "--script"])
            .arg(&script)
            .stderr(Stdio::null())
            .spawn()?;
        let sandbox = Ending(sandbox);
        let address = free_address()?;
        let mut command = match start.group {
            None => Command::new(start.binary),
            Some(group) => {
                let mut shell = Command::new("sh");
                shell
                    .args(["-c", "echo $$ > \"$0\" && exec \"$@\""])
                    .args([group, start.binary]);
                shell
            }
        };
        command
            .args(["--listen", &address.to_string()])
            .args(["--upstream-url", &format!("http://{upstream}")])
            .arg("--state-dir")
            .arg(folder.path().join("state"))
            .stderr(Stdio::null());
        for (key, value) in start.settings {
            let name = key.to_uppercase().replace('.', "__");
            command.env(format!("CHATURDATA_PROXY_{name}"), value);
        }
        let proxy = Self {
            pool: Pool::new(address),
            process: Ending(command.spawn()?),
            _sandbox: sandbox,
            _folder: folder,
        };
        listening(upstream).await?;
        listening(address).await?;
        Ok(proxy)
    }

    pub fn held(&self) -> io::Result<Held> {
        Held::by(self.process.0.id())
    }

    /// A value that the proxy counts.
    pub async fn counts(&self, name: &str) -> io::Result<f64> {
        let page = self.pool.page("/metrics").await?;
        let wanted = format!("chaturdata_proxy_{name}");
        let values = page.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let of = series.split('{').next()?;
            (of == wanted).then(|| value.parse::<f64>().ok())?
        });
        Ok(values.sum())
    }

    pub fn is_alive(&mut self) -> bool {
        matches!(self.process.0.try_wait(), Ok(None))
    }
}

async fn listening(address: SocketAddr) -> io::Result<()> {
    let until = Instant::now() + Duration::from_secs(20);
    while tokio::net::TcpStream::connect(address).await.is_err() {
        if Instant::now() > until {
            return Err(io::Error::other(format!("nothing listens on {address}")));
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
