//! The load generator: connections that each carry on conversations of their own, one turn after the
//! other, and resend their history as OpenAI's clients do.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::wire::{Answer, Connection};

/// A caller that sends a window of its history is known by so many messages at most; a longer history
/// is sent whole.
const LARGEST_WINDOW: usize = 62;

#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    address: SocketAddr,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Seconds before what is counted
    #[arg(long, default_value_t = 1.0)]
    warm: f64,
    /// Messages before each prompt
    #[arg(long, default_value_t = 20)]
    history: usize,
    /// Characters of each message
    #[arg(long, default_value_t = 500)]
    characters: usize,
    /// Make both calls of the upstream, with nothing between
    #[arg(long)]
    direct: bool,
    /// Each turn but a conversation's first must be appended
    #[arg(long)]
    checked: bool,
}

/// What was seen while it was counted.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    pub turns: usize,
    /// Turns that began a conversation; not among the others, and not timed.
    pub openings: usize,
    pub failed: usize,
    /// Turns that went elsewhere than their conversation.
    pub strays: usize,
    pub seconds: f64,
    pub p50_us: u32,
    pub p99_us: u32,
    pub fault: Option<String>,
}

/// Printed once what follows is counted.
pub const BEGIN: &str = "begin";

pub async fn run(options: Options) -> io::Result<()> {
    let counted = Instant::now() + Duration::from_secs_f64(options.warm);
    let window = Window {
        from: counted,
        to: counted + Duration::from_secs_f64(options.seconds),
    };
    let seen = Arc::new(Mutex::new((Tally::default(), Vec::new())));
    for number in 0..options.connections {
        let (options, seen) = (options.clone(), Arc::clone(&seen));
        tokio::spawn(async move {
            let mut caller = Caller {
                options,
                window,
                number,
                seen,
            };
            while Instant::now() < window.to {
                if let Err(error) = caller.converse().await {
                    caller.note(|tally| {
                        tally.failed += 1;
                        tally.fault.get_or_insert(error.to_string());
                    });
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        });
    }
    tokio::time::sleep_until(window.from.into()).await;
    println!("{BEGIN}");
    io::stdout().flush()?;
    tokio::time::sleep_until(window.to.into()).await;
    let (mut tally, mut times) = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    times.sort_unstable();
    let percentile = |percent: usize| {
        let at = (times.len() * percent / 100).min(times.len().saturating_sub(1));
        times.get(at).copied().unwrap_or_default()
    };
    (tally.p50_us, tally.p99_us) = (percentile(50), percentile(99));
    tally.seconds = options.seconds;
    println!("{}", serde_json::to_string(&tally)?);
    Ok(())
}

#[derive(Clone, Copy)]
struct Window {
    from: Instant,
    to: Instant,
}

struct Caller {
    options: Options,
    window: Window,
    number: usize,
    seen: Arc<Mutex<(Tally, Vec<u32>)>>,
}

impl Caller {
    /// One connection, from its beginning until time is up or something fails.
    async fn converse(&mut self) -> io::Result<()> {
        let mut connection = Connection::open(self.options.address, 0).await?;
        let mut count = 0;
        loop {
            count += 1;
            let name = format!("bench-{}-{}-{count}", std::process::id(), self.number);
            let mut conversation =
                Conversation::new(name, self.options.history, self.options.characters);
            while !conversation.is_full() {
                if Instant::now() >= self.window.to {
                    return Ok(());
                }
                self.turn(&mut connection, &mut conversation).await?;
            }
        }
    }

    async fn turn(&self, connection: &mut Connection, of: &mut Conversation) -> io::Result<()> {
        let prompt = of.prompt(self.options.characters);
        let began = Instant::now();
        let (content, decision) = if self.options.direct {
            (of.call(connection, &prompt).await?, None)
        } else {
            connection.send(&of.request(&prompt)).await?;
            let answer = connection.answer().await?;
            if !answer.is_whole() {
                return Err(fault(&answer));
            }
            let decision = answer.header("x-conversation-decision").map(str::to_owned);
            (answer.content(), decision)
        };
        let took = began.elapsed();
        let is_opening = of.turns == 0;
        let expected = if is_opening { "replayed" } else { "appended" };
        let is_stray = self.options.checked && decision.as_deref() != Some(expected);
        of.append(&prompt, &content);
        self.note(|tally| {
            if is_stray {
                tally.strays += 1;
                tally
                    .fault
                    .get_or_insert(format!("{expected}, not {decision:?}"));
            }
            tally.turns += usize::from(!is_opening);
            tally.openings += usize::from(is_opening);
        });
        if !is_opening && self.is_counted() {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.1
                .push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        }
        Ok(())
    }

    fn note(&self, change: impl FnOnce(&mut Tally)) {
        if self.is_counted() {
            change(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner).0);
        }
    }

    fn is_counted(&self) -> bool {
        (self.window.from..self.window.to).contains(&Instant::now())
    }
}

fn fault(answer: &Answer<'_>) -> io::Error {
    let body = String::from_utf8_lossy(answer.body());
    let shown: String = body.chars().take(200).collect();
    io::Error::other(format!("status {}: {shown}", answer.status))
}

/// One conversation: its name, and its last messages as JSON.
pub struct Conversation {
    name: String,
    history: VecDeque<String>,
    least: usize,
    most: usize,
    turns: usize,
    /// Where the calls are made here.
    thread: Option<String>,
}

impl Conversation {
    pub fn new(name: String, history: usize, characters: usize) -> Self {
        // One that is sent whole grows a little around the length that is asked for.
        let (least, most) = if history <= LARGEST_WINDOW {
            (history, usize::MAX)
        } else {
            (history * 9 / 10, history * 11 / 10)
        };
        let history = (0..least).map(|at| {
            let role = if at % 2 == 0 { "user" } else { "assistant" };
            message(role, &words(&format!("message {at} of {name}"), characters))
        });
        Self {
            history: history.collect(),
            name,
            least,
            most,
            turns: 0,
            thread: None,
        }
    }

    fn is_full(&self) -> bool {
        self.history.len() > self.most
    }

    pub fn prompt(&self, characters: usize) -> String {
        words(&format!("turn {} of {}", self.turns, self.name), characters)
    }

    pub fn body(&self, prompt: &str) -> String {
        let mut body = String::from("{\"model\":\"chaturdata\",\"messages\":[");
        for message in &self.history {
            body.push_str(message);
            body.push(',');
        }
        body.push_str(&message("user", prompt));
        body.push_str("]}");
        body
    }

    fn request(&self, prompt: &str) -> Vec<u8> {
        let body = self.body(prompt);
        let name = &self.name;
        let mut request = head("POST /v1/chat/completions", body.len());
        request.push_str(&format!("X-Conversation-Id: {name}\r\n\r\n"));
        request.push_str(&body);
        request.into_bytes()
    }

    /// Both calls, as a caller would make them itself.
    async fn call(&mut self, connection: &mut Connection, prompt: &str) -> io::Result<String> {
        let body = match &self.thread {
            Some(thread) => format!("{{\"message\":\"{prompt}\",\"thread_id\":\"{thread}\"}}"),
            None => format!("{{\"message\":\"{prompt}\"}}"),
        };
        let request = head("POST /api/newMessage", body.len()) + "\r\n" + &body;
        connection.send(request.as_bytes()).await?;
        let posted = connection.answer().await?;
        let thread = posted
            .text("\"thread_id\"")
            .ok_or(io::ErrorKind::InvalidData)?;
        let request = head(&format!("GET /api/getThread?threadId={thread}"), 0) + "\r\n";
        self.thread = Some(thread.to_owned());
        connection.send(request.as_bytes()).await?;
        let read = connection.answer().await?;
        if read.status == 200 {
            Ok(read.content())
        } else {
            Err(fault(&read))
        }
    }

    pub fn append(&mut self, prompt: &str, answer: &str) {
        self.turns += 1;
        self.history.push_back(message("user", prompt));
        self.history.push_back(format!(
            "{{\"role\":\"assistant\",\"content\":\"{answer}\"}}"
        ));
        if self.most == usize::MAX {
            let excess = self.history.len() - self.least;
            self.history.drain(..excess);
        }
    }
}

fn head(line: &str, length: usize) -> String {
    format!(
        "{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sk-bench\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n"
    )
}

fn message(role: &str, text: &str) -> String {
    format!("{{\"role\":\"{role}\",\"content\":\"{text}\"}}")
}

/// A text of so many characters that begins with what makes it another than the rest.
pub fn words(lead: &str, characters: usize) -> String {
    const WORDS: &str = " how did sales by region change since the last quarter and why";
    let filled = lead.chars().chain(WORDS.chars().cycle());
    let mut text: String = filled.take(characters.max(lead.len())).collect();
    if text.ends_with(' ') {
        text.pop();
        text.push('?');
    }
    text
}
