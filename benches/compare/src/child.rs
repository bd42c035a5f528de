//! The processes that take part, each on its own. They end with what holds them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use process::{Ending, Held};
use serde::de::DeserializeOwned;

use crate::mock;

/// A process that was started, and what it prints.
pub struct Process {
    child: Ending,
    out: BufReader<ChildStdout>,
}

impl Process {
    /// With what it complains of in a file.
    pub fn start(command: &mut Command, complaints: &Path) -> io::Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(complaints)?)
            .spawn()?;
        let out = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let out = BufReader::new(out);
        Ok(Self {
            child: Ending(child),
            out,
        })
    }

    pub fn held(&self) -> io::Result<Held> {
        Held::by(self.child.0.id())
    }

    /// Waits until it has printed this line.
    pub fn prints(&mut self, wanted: &str) -> io::Result<()> {
        let mut line = String::new();
        while self.out.read_line(&mut line)? > 0 {
            if line.trim_end() == wanted {
                return Ok(());
            }
            line.clear();
        }
        Err(io::Error::other(format!(
            "it ended before it said {wanted}"
        )))
    }

    /// The last thing that it prints.
    pub fn result<T: DeserializeOwned>(mut self) -> io::Result<T> {
        let mut text = String::new();
        self.out.read_to_string(&mut text)?;
        let line = text.lines().last().unwrap_or_default();
        serde_json::from_str(line).map_err(|_| io::Error::other(format!("it printed {line:?}")))
    }

    /// Waits until something listens there.
    pub fn listens(&mut self, address: SocketAddr, patience: Duration) -> io::Result<()> {
        let until = Instant::now() + patience;
        while TcpStream::connect(address).is_err() {
            if let Some(status) = self.child.0.try_wait()? {
                return Err(io::Error::other(format!("it ended at once: {status}")));
            }
            if Instant::now() > until {
                return Err(io::Error::other("it does not listen"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.0.try_wait(), Ok(None))
    }

    /// Asks it to end in an orderly way, and waits.
    pub fn stop(mut self) -> io::Result<()> {
        let id = self.child.0.id().to_string();
        Command::new("kill").arg(id).status()?;
        self.child.0.wait().map(drop)
    }
}

/// This program, as one of those who take part.
pub fn own(arguments: &[&str]) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments);
    Ok(command)
}

/// The mock upstream.
pub struct Upstream {
    pub address: SocketAddr,
    pub process: Process,
}

impl Upstream {
    pub fn start(folder: &Path, arguments: &[&str]) -> io::Result<Self> {
        let address = process::free_address()?;
        let mut command = own(&["mock", "--listen", &address.to_string()])?;
        command.args(arguments);
        let mut process = Process::start(&mut command, &folder.join("mock.log"))?;
        process.listens(address, Duration::from_secs(10))?;
        Ok(Self { address, process })
    }

    pub fn report(&self) -> io::Result<mock::Report> {
        let text = page(self.address, "/stats")?;
        serde_json::from_str(&text).map_err(io::Error::other)
    }

    pub fn reset(&self) -> io::Result<()> {
        page(self.address, "/reset").map(drop)
    }
}

/// The body of a page.
pub fn page(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text
        .split_once("\r\n\r\n")
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    if !head.starts_with("HTTP/1.1 200") {
        let line = head.lines().next().unwrap_or_default();
        return Err(io::Error::other(format!("{path}: {line}")));
    }
    Ok(body.to_owned())
}
