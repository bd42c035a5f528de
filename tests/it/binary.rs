//! The built program, as tests start it: with a home of its own and nothing in its environment.

use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

/// The program with a home of its own and an empty environment.
pub struct Program {
    pub home: tempfile::TempDir,
    pub variables: Vec<(&'static str, &'static str)>,
}

/// What it said and how it ended.
pub struct Run {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Program {
    pub fn new() -> Self {
        Self::with(&[])
    }

    pub fn with(variables: &[(&'static str, &'static str)]) -> Self {
        Self {
            home: tempfile::tempdir().unwrap(),
            variables: variables.to_vec(),
        }
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chaturdata-proxy"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.home.path())
            .envs(self.variables.iter().copied())
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Run {
        Run::of(&self.command(arguments).output().unwrap())
    }

    /// Starts a proxy on a free port and waits until it listens.
    pub fn serve(&self, arguments: &[&str]) -> Serving {
        Serving::of(self.command(arguments))
    }

    /// As above, with so many file descriptors.
    pub fn serve_with_descriptors(&self, most: u32, arguments: &[&str]) -> Serving {
        let proxy = self.command(arguments);
        let limited = format!("ulimit -n {most} && exec \"$0\" \"$@\"");
        let mut command = Command::new("sh");
        command
            .args(["-c", &limited])
            .arg(proxy.get_program())
            .args(proxy.get_args())
            .env_clear()
            .env("HOME", self.home.path())
            .envs(self.variables.iter().copied())
            .stdin(Stdio::null());
        Serving::of(command)
    }
}

impl Run {
    pub fn of(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout.clone()).unwrap(),
            err: String::from_utf8(output.stderr.clone()).unwrap(),
        }
    }

    /// The only line that it said on stderr.
    pub fn line(&self) -> &str {
        let line = self.err.strip_suffix('\n').unwrap();
        assert!(!line.contains('\n'), "{line}");
        line
    }
}

/// A proxy that serves; ended with its owner.
pub struct Serving {
    child: Child,
    pub lines: Option<BufReader<ChildStderr>>,
    rest: Option<JoinHandle<String>>,
    said: String,
    pub address: SocketAddr,
}

impl Serving {
    /// Starts a proxy on a free port and waits until it listens.
    pub fn of(mut command: Command) -> Self {
        command
            .args(["--listen", "127.0.0.1:0"])
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains("\"listen\"") {
            assert_ne!(lines.read_line(&mut said).unwrap(), 0, "{said}");
        }
        let line: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        let address = line
            .get("listen")
            .unwrap()
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        Self {
            child,
            lines: Some(lines),
            rest: None,
            said,
            address,
        }
    }

    /// Goes on reading what it says, so that it need not drop any of it.
    pub fn listened_to(mut self) -> Self {
        let mut lines = self.lines.take().unwrap();
        self.rest = Some(std::thread::spawn(move || {
            let mut rest = String::new();
            lines.read_to_string(&mut rest).unwrap();
            rest
        }));
        self
    }

    pub fn signal(&self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.child.id());
        let killed = Command::new("sh").args(["-c", &kill]).status().unwrap();
        assert!(killed.success());
    }

    /// Waits for the end, whatever it says; its exit code.
    pub fn ended(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// Sends a signal, and waits for the end.
    pub fn end(mut self, signal: &str) -> Run {
        self.signal(signal);
        let code = self.child.wait().unwrap().code();
        let mut err = std::mem::take(&mut self.said);
        if let Some(mut lines) = self.lines.take() {
            lines.read_to_string(&mut err).unwrap();
        }
        if let Some(rest) = self.rest.take() {
            err.push_str(&rest.join().unwrap());
        }
        let out = String::new();
        Run { code, out, err }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One request, and all that comes back.
pub fn exchange(address: SocketAddr, request: &str) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // A stream that fails breaks off.
    let _ = socket.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}
