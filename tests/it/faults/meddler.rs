//! A relay between the proxy and its upstream that meddles with the bytes of single calls.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chaturdata_proxy::upstream::sandbox::Kind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// Meddles with the next calls of one kind.
#[derive(Clone, Debug)]
pub struct Fault {
    pub call: Kind,
    pub side: Side,
    /// How many bytes of that side pass unharmed.
    pub at: usize,
    pub what: What,
    /// How many calls it befalls.
    pub times: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// On the way to the upstream.
    Request,
    /// On the way back: the upstream has had the whole request.
    Answer,
}

/// What becomes of the bytes beyond [`Fault::at`].
#[derive(Clone, Debug)]
pub enum What {
    /// The connection is reset.
    Reset,
    /// It is closed in good order.
    Truncate,
    /// They are swallowed, and the connection stays.
    Hang,
    /// They are not even read.
    BlackHole,
    /// They come one at a time.
    Trickle,
    /// The connection is reset, and the whole request reaches the upstream this much later.
    Late(Duration),
    /// Others come in their place.
    Instead(Arc<[u8]>),
    /// White space comes in their place, a byte at a time and without an end.
    Drip,
    /// The thread shows so many messages more, before its own.
    Before(usize),
}

/// Between two bytes that come one at a time.
const TRICKLE: Duration = Duration::from_millis(1);
const DRIP: Duration = Duration::from_millis(20);

/// The relay. Without a fault it only passes on.
#[derive(Clone)]
pub struct Meddler {
    pub url: String,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: String,
    fault: Mutex<Option<Fault>>,
    /// The longest request and the longest answer of each kind of call.
    longest: Mutex<[[usize; 2]; 2]>,
    put_in: AtomicUsize,
    befell: AtomicBool,
}

impl Meddler {
    /// In front of the upstream at this address, for as long as the runtime lasts.
    pub async fn before(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            fault: Mutex::default(),
            longest: Mutex::default(),
            put_in: AtomicUsize::new(0),
            befell: AtomicBool::new(false),
        });
        let meddler = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            shared: shared.clone(),
        };
        spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = shared.clone();
                spawn(async move {
                    // A connection that breaks off is what is tried here.
                    let _ = shared.relay(stream).await;
                });
            }
        });
        meddler
    }

    pub fn meddle(&self, fault: Fault) {
        *self.shared.fault.lock().unwrap() = Some(fault);
    }

    /// Passes on from here on; tells whether the fault has befallen any call.
    pub fn stop(&self) -> bool {
        *self.shared.fault.lock().unwrap() = None;
        self.shared.befell.swap(false, Ordering::SeqCst)
    }

    /// How much was written of what came in place of answers, in bytes.
    pub fn put_in(&self) -> usize {
        self.shared.put_in.load(Ordering::SeqCst)
    }

    /// The longest side of such a call so far, in bytes.
    pub fn longest(&self, call: Kind, side: Side) -> usize {
        self.shared.longest.lock().unwrap()[call as usize][side as usize]
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the relay ends with its test's runtime"
)]
pub fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(future);
}

impl Shared {
    async fn relay(&self, mut caller: TcpStream) -> io::Result<()> {
        caller.set_nodelay(true)?;
        loop {
            let mut request = Vec::new();
            let first = caller.read_buf(&mut request).await?;
            if first == 0 {
                return Ok(());
            }
            let call = match request.starts_with(b"POST") {
                true => Kind::Post,
                false => Kind::Read,
            };
            match self.due(call) {
                None => {
                    whole(&mut caller, &mut request).await?;
                    let answer = self.ask(&request).await?;
                    self.note(call, request.len(), answer.len());
                    caller.write_all(&answer).await?;
                }
                Some(fault) if fault.side == Side::Request => {
                    return self.spoil_request(&fault, caller, request).await;
                }
                Some(fault) => {
                    whole(&mut caller, &mut request).await?;
                    let answer = self.ask(&request).await?;
                    return self.spoil_answer(&fault, caller, &answer).await;
                }
            }
        }
    }

    fn due(&self, call: Kind) -> Option<Fault> {
        let mut fault = self.fault.lock().unwrap();
        let due = fault.as_mut().filter(|fault| fault.call == call)?;
        due.times = due.times.checked_sub(1)?;
        self.befell.store(true, Ordering::SeqCst);
        Some(due.clone())
    }

    fn note(&self, call: Kind, request: usize, answer: usize) {
        let longest = &mut self.longest.lock().unwrap()[call as usize];
        for (longest, length) in longest.iter_mut().zip([request, answer]) {
            *longest = length.max(*longest);
        }
    }

    /// The upstream's whole answer to these bytes, on a connection of its own.
    async fn ask(&self, request: &[u8]) -> io::Result<Vec<u8>> {
        let mut upstream = TcpStream::connect(&self.upstream).await?;
        upstream.write_all(request).await?;
        let mut answer = Vec::new();
        whole(&mut upstream, &mut answer).await?;
        Ok(answer)
    }

    /// `request` holds what has been read of it.
    async fn spoil_request(
        &self,
        fault: &Fault,
        mut caller: TcpStream,
        mut request: Vec<u8>,
    ) -> io::Result<()> {
        if let What::BlackHole = fault.what {
            return forever(caller).await;
        }
        whole(&mut caller, &mut request).await?;
        let at = fault.at.min(request.len());
        match &fault.what {
            What::Late(later) => {
                caller.set_zero_linger()?;
                drop(caller);
                sleep(*later).await;
                self.ask(&request).await.map(drop)
            }
            What::Trickle => {
                let mut upstream = TcpStream::connect(&self.upstream).await?;
                trickle(&mut upstream, &request, at).await?;
                let mut answer = Vec::new();
                whole(&mut upstream, &mut answer).await?;
                caller.write_all(&answer).await
            }
            What::Instead(_) | What::Drip => self.spoil_answer(fault, caller, &[]).await,
            what => {
                let mut upstream = TcpStream::connect(&self.upstream).await?;
                upstream.write_all(&request[..at]).await?;
                end(what, caller).await
            }
        }
    }

    async fn spoil_answer(
        &self,
        fault: &Fault,
        mut caller: TcpStream,
        answer: &[u8],
    ) -> io::Result<()> {
        let at = fault.at.min(answer.len());
        match &fault.what {
            What::Trickle => trickle(&mut caller, answer, at).await,
            What::Before(count) => caller.write_all(&longer(answer, *count)).await,
            What::Instead(other) => {
                caller.write_all(&answer[..at]).await?;
                for chunk in other.chunks(64 << 10) {
                    caller.write_all(chunk).await?;
                    self.put_in.fetch_add(chunk.len(), Ordering::SeqCst);
                }
                Ok(())
            }
            What::Drip => {
                caller
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
                    .await?;
                loop {
                    caller.write_all(b" ").await?;
                    sleep(DRIP).await;
                }
            }
            what => {
                caller.write_all(&answer[..at]).await?;
                end(what, caller).await
            }
        }
    }
}

/// This answer, of a thread that holds so many messages more.
fn longer(answer: &[u8], count: usize) -> Vec<u8> {
    const SHOWN: &str = "\"messages\":[";
    let answer = str::from_utf8(answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let (before, after) = body.split_once(SHOWN).unwrap();
    let earlier = (0..count).map(|n| format!(r#"{{"id":"m{n}","role":"user","content":"old"}},"#));
    let body = format!("{before}{SHOWN}{}{after}", earlier.collect::<String>());
    let length = body.len();
    let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}");
    format!("{head}\r\n\r\n{body}").into_bytes()
}

async fn end(what: &What, mut caller: TcpStream) -> io::Result<()> {
    match what {
        What::Truncate => caller.shutdown().await,
        What::BlackHole => forever(caller).await,
        What::Hang => {
            while caller.read_buf(&mut Vec::with_capacity(1024)).await? > 0 {}
            Ok(())
        }
        _ => {
            // What was written must have left, or the reset overtakes it.
            sleep(TRICKLE).await;
            caller.set_zero_linger()
        }
    }
}

/// Holds the connection without reading it.
async fn forever(caller: TcpStream) -> io::Result<()> {
    std::future::pending::<()>().await;
    drop(caller);
    Ok(())
}

async fn trickle(stream: &mut TcpStream, bytes: &[u8], at: usize) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (whole, rest) = bytes.split_at(at);
    stream.write_all(whole).await?;
    for byte in rest {
        sleep(TRICKLE).await;
        stream.write_all(&[*byte]).await?;
    }
    Ok(())
}

/// Reads on until a head and the body that it promises are there.
async fn whole(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<()> {
    while !is_whole(bytes) {
        if stream.read_buf(bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

fn is_whole(bytes: &[u8]) -> bool {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return false;
    };
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    bytes.len() - end - 4 >= length.map_or(0, |length| length.trim().parse().unwrap())
}
