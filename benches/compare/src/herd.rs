//! Callers that wait, thousands at once, each on a connection of its own.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::sync::{Barrier, Semaphore};

use crate::drive::words;
use crate::wire::Connection;

/// Connections that are made at once: more would overflow the queues of listeners.
const OPENING: usize = 64;

/// The more ports of one source address are taken, the longer the system looks for another.
const PER_SOURCE: usize = 2000;

#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    address: SocketAddr,
    #[arg(long)]
    callers: usize,
    /// Ask for streams
    #[arg(long)]
    stream: bool,
    /// Ask again and again for so many seconds
    #[arg(long, default_value_t = 0.0)]
    seconds: f64,
    /// The callers begin within so many seconds
    #[arg(long, default_value_t = 0.0)]
    over: f64,
    /// Characters of a prompt
    #[arg(long, default_value_t = 100)]
    characters: usize,
    /// Keys that ask
    #[arg(long, default_value_t = 1)]
    keys: usize,
    /// The conversation that all of them mean
    #[arg(long)]
    handle: Option<String>,
    /// Connections that are made at once
    #[arg(long, default_value_t = OPENING)]
    opening: usize,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    pub answered: usize,
    /// That were told to come later.
    pub refused: usize,
    pub failed: usize,
    pub fault: Option<String>,
    /// From when the poll that found an end was due to when its caller had the answer, where the
    /// answers tell; in milliseconds.
    pub beyond_p50: f64,
    pub beyond_p99: f64,
    pub beyond_most: f64,
    /// How long the callers of each key waited on the mean, in seconds.
    pub keys: Vec<f64>,
}

/// By key: the seconds of all who were answered, and how many these are.
type Waits = Vec<(f64, usize)>;

/// Printed once every caller has asked.
pub const WAITING: &str = "waiting";

type Seen = Arc<Mutex<(Tally, Vec<f64>, Waits)>>;

pub async fn run(options: Options) -> io::Result<()> {
    let seen = Seen::default();
    let opening = Arc::new(Semaphore::new(options.opening));
    let asked = Arc::new(Barrier::new(options.callers + 1));
    let mut callers = Vec::with_capacity(options.callers);
    for number in 0..options.callers {
        let caller = Caller {
            options: options.clone(),
            number,
            seen: Arc::clone(&seen),
        };
        let (opening, asked) = (Arc::clone(&opening), Arc::clone(&asked));
        callers.push(tokio::spawn(caller.wait(opening, asked)));
    }
    asked.wait().await;
    println!("{WAITING}");
    io::stdout().flush()?;
    for caller in callers {
        caller.await.map_err(io::Error::other)?;
    }
    let (mut tally, mut beyond, waits) =
        seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    tally.keys = waits
        .iter()
        .map(|(waited, count)| waited / (*count).max(1) as f64)
        .collect();
    beyond.sort_by(f64::total_cmp);
    let percentile = |share: f64| {
        let at = (beyond.len() as f64 * share) as usize;
        beyond
            .get(at.min(beyond.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    };
    tally.beyond_p50 = percentile(0.5);
    tally.beyond_p99 = percentile(0.99);
    tally.beyond_most = percentile(1.0);
    println!("{}", serde_json::to_string(&tally)?);
    Ok(())
}

struct Caller {
    options: Options,
    number: usize,
    seen: Seen,
}

impl Caller {
    async fn wait(self, opening: Arc<Semaphore>, asked: Arc<Barrier>) {
        let part = self.number as f64 / self.options.callers as f64;
        tokio::time::sleep(Duration::from_secs_f64(part * self.options.over)).await;
        let permit = opening.acquire().await.ok();
        let mut sent = Instant::now();
        let begun = self.begin().await;
        drop(permit);
        // Nobody waits for those who have not asked yet, where all ask again.
        if self.options.seconds == 0.0 {
            asked.wait().await;
        } else {
            tokio::spawn(async move { asked.wait().await });
        }
        let until = Instant::now() + Duration::from_secs_f64(self.options.seconds);
        let mut connection = match begun {
            Ok(connection) => connection,
            Err(error) => return self.failed(&error),
        };
        let mut count = 0;
        loop {
            if let Err(error) = self.answered(&mut connection, sent).await {
                return self.failed(&error);
            }
            if Instant::now() >= until {
                return;
            }
            count += 1;
            sent = Instant::now();
            if let Err(error) = connection.send(&self.request(count)).await {
                return self.failed(&error);
            }
        }
    }

    async fn begin(&self) -> io::Result<Connection> {
        let source = u8::try_from(self.number / PER_SOURCE + 1).unwrap_or(u8::MAX);
        let mut connection = Connection::open(self.options.address, source).await?;
        connection.send(&self.request(0)).await?;
        Ok(connection)
    }

    fn request(&self, count: usize) -> Vec<u8> {
        let lead = format!("question {count} of caller {}", self.number);
        let prompt = words(&lead, self.options.characters);
        let stream = self.options.stream;
        let body = format!(
            "{{\"model\":\"chaturdata\",\"stream\":{stream},\
             \"messages\":[{{\"role\":\"user\",\"content\":\"{prompt}\"}}]}}"
        );
        let (key, length) = (self.key(), body.len());
        let handle = self.options.handle.as_ref();
        let handle = handle.map_or(String::new(), |handle| {
            format!("X-Conversation-Id: {handle}\r\n")
        });
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sk-{key}\r\n\
             {handle}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        request.into_bytes()
    }

    fn key(&self) -> usize {
        self.number % self.options.keys
    }

    async fn answered(&self, connection: &mut Connection, sent: Instant) -> io::Result<()> {
        let answer = connection.answer().await?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        if answer.status == 429 {
            self.seen().0.refused += 1;
            return Ok(());
        }
        if !answer.is_whole() {
            let body = String::from_utf8_lossy(answer.body());
            let shown: String = body.chars().take(200).collect();
            return Err(io::Error::other(format!(
                "status {}: {shown}",
                answer.status
            )));
        }
        let beyond = now
            .ok()
            .and_then(|now| beyond(&answer.content(), now.as_micros() as f64));
        let mut seen = self.seen();
        seen.0.answered += 1;
        seen.1.extend(beyond);
        seen.2.resize(self.options.keys, (0.0, 0));
        if let Some((waited, count)) = seen.2.get_mut(self.key()) {
            *waited += sent.elapsed().as_secs_f64();
            *count += 1;
        }
        Ok(())
    }

    fn seen(&self) -> MutexGuard<'_, (Tally, Vec<f64>, Waits)> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, error: &io::Error) {
        let mut seen = self.seen();
        seen.0.failed += 1;
        seen.0.fault.get_or_insert(error.to_string());
    }
}

/// How late the answer came, in milliseconds, from what the mock has put in front of it: how late its
/// poll was and when it came, in microseconds.
fn beyond(content: &str, now: f64) -> Option<f64> {
    let (told, _) = content.strip_prefix('[')?.split_once(']')?;
    let (late, at) = told.split_once(' ')?;
    let (late, at): (f64, f64) = (late.parse().ok()?, at.parse().ok()?);
    Some((late.max(0.0) + now - at) / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_tells_how_late_it_came() {
        assert_eq!(beyond("[2000 5000000] answer", 5_003_000.0), Some(5.0));
        assert_eq!(beyond("[-300 5000000] answer", 5_003_000.0), Some(3.0));
        assert_eq!(beyond("answer", 5_003_000.0), None);
    }
}
