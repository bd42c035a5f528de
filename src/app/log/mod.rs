//! Log lines on stderr: text for a terminal, JSON otherwise, and never a reason to wait or to fail.

pub mod json;

use std::io::{self, IsTerminal, Write};
use std::mem;
use std::panic::PanicHookInfo;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tracing::Level;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry};

use crate::config::{self, LogFormat};
use json::Json;

/// Lines that may wait for stderr; beyond, they are dropped and counted.
const WAITING: usize = 4096;

/// After a write, the lines of so long are written together.
const TOGETHER: Duration = Duration::from_millis(10);

/// How long the end of the program waits for stderr to take the last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The way to stderr. Cloning shares it; lines keep their order.
#[derive(Clone, Debug, Default)]
pub struct Lines(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    text: Vec<u8>,
    /// In `text`.
    lines: usize,
    dropped: u64,
    writer: Writer,
    /// Somebody waits for the last line.
    is_last: bool,
}

/// What the thread that writes does.
#[derive(Debug, Default, PartialEq, Eq)]
enum Writer {
    #[default]
    Resting,
    /// It waits for the next line, and is to be told of it.
    Waiting,
    Writing,
}

/// Begins to log. Records of the `log` facade are left out: reqwest and rustls use it, and have
/// printed headers there.
pub fn start(settings: &config::Log) -> Result<Lines> {
    let json = match settings.format {
        LogFormat::Auto => !io::stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let lines = Lines::to(io::stderr(), json).context("the log cannot be started")?;
    let subscriber = Registry::default().with(layer(lines.clone(), settings, json)?);
    tracing::subscriber::set_global_default(subscriber).context("the log is started already")?;
    std::panic::set_hook(Box::new(report_panic));
    Ok(lines)
}

fn layer(
    lines: Lines,
    settings: &config::Log,
    json: bool,
) -> Result<Box<dyn Layer<Registry> + Send + Sync>> {
    // Only our own modules are known to keep keys and texts out of their lowest levels.
    let ours = filter_fn(|metadata| {
        *metadata.level() <= Level::INFO || metadata.target().starts_with("chaturdata_proxy")
    });
    let wanted = config::targets(&settings.filter).context("log.filter is not a filter")?;
    let layer = if json {
        Json(move |line: &[u8]| lines.0.put(line)).boxed()
    } else {
        let text = tracing_subscriber::fmt::layer()
            .with_writer(lines)
            .log_internal_errors(false);
        // On a terminal there are colours, unless NO_COLOR is set.
        if io::stderr().is_terminal() {
            text.boxed()
        } else {
            text.with_ansi(false).boxed()
        }
    };
    Ok(layer.with_filter(wanted).with_filter(ours).boxed())
}

/// Where, and not why: the message of a panic may quote a caller's text.
fn report_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string);
    tracing::error!(
        place = place.unwrap_or_default(),
        "a panic: this is a fault of the proxy"
    );
}

impl Lines {
    fn to(out: impl Write + Send + 'static, json: bool) -> io::Result<Self> {
        let lines = Self::default();
        let shared = Arc::clone(&lines.0);
        // A thread of its own, so that a reader of stderr that stops reading holds up nothing else.
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || shared.write(out, json))?;
        Ok(lines)
    }

    /// Says something that is no log line, in its place among them.
    pub fn say(&self, text: &str) {
        self.0.put(text.as_bytes());
    }

    /// Waits until what was logged is written, but not for long.
    pub fn finish(&self) {
        let is_busy = |queue: &mut Queue| queue.writer == Writer::Writing || queue.lines > 0;
        let mut queue = self.0.queue();
        queue.is_last = true;
        self.0.changed.notify_all();
        drop(
            self.0
                .changed
                .wait_timeout_while(queue, LAST_LINES, is_busy),
        );
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, line: &[u8]) {
        let mut queue = self.queue();
        if queue.lines == WAITING {
            queue.dropped += 1;
            return;
        }
        queue.lines += 1;
        queue.text.extend_from_slice(line);
        if queue.writer == Writer::Waiting {
            queue.writer = Writer::Resting;
            self.changed.notify_all();
        }
    }

    /// Lasts as long as the program. What cannot be written is lost: there is nowhere to say so.
    fn write(&self, mut out: impl Write, json: bool) {
        let mut text = Vec::new();
        loop {
            let mut queue = self.next();
            text.clear();
            mem::swap(&mut text, &mut queue.text);
            queue.lines = 0;
            let dropped = mem::take(&mut queue.dropped);
            queue.writer = Writer::Writing;
            drop(queue);
            let _ = out.write_all(&text);
            if dropped > 0 {
                let _ = writeln!(out, "{}", notice(dropped, json));
            }
            self.rest();
        }
    }

    /// Waits until there is a line.
    fn next(&self) -> MutexGuard<'_, Queue> {
        let is_empty = |queue: &mut Queue| {
            queue.writer = Writer::Waiting;
            queue.lines == 0
        };
        self.changed
            .wait_while(self.queue(), is_empty)
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn rest(&self) {
        let mut queue = self.queue();
        queue.writer = Writer::Resting;
        self.changed.notify_all();
        let may_rest = |queue: &mut Queue| !queue.is_last;
        drop(self.changed.wait_timeout_while(queue, TOGETHER, may_rest));
    }
}

/// Said in place of lines that found no room.
fn notice(lost: u64, json: bool) -> String {
    if json {
        format!(r#"{{"level":"WARN","message":"log lines were dropped","lines":{lost}}}"#)
    } else {
        format!("WARN {lost} log lines were dropped")
    }
}

impl Write for Lines {
    /// A whole line: the subscriber writes each at once.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Page {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Stderr whose reader is gone.
    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    /// Stderr that nobody reads, until `go` is given.
    struct Blocked(Receiver<()>, Page);

    impl Write for Blocked {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            self.1.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(filter: &str, log: impl FnOnce()) -> String {
        let page = Page::default();
        let lines = Lines::to(page.clone(), true).unwrap();
        let settings = config::Log {
            filter: filter.to_owned(),
            format: LogFormat::Json,
        };
        let subscriber = Registry::default().with(layer(lines.clone(), &settings, true).unwrap());
        tracing::subscriber::with_default(subscriber, log);
        lines.finish();
        page.text()
    }

    #[test]
    fn foreign_modules_are_never_heard_below_info() {
        let text = logged("trace,hyper::proto=trace", || {
            tracing::trace!(target: "hyper::proto", "authorization: Bearer secret");
            tracing::debug!(target: "rustls", "session keys");
            tracing::info!(target: "hyper", "a foreign line");
            tracing::trace!("a line of ours");
        });

        assert!(
            !text.contains("secret") && !text.contains("session"),
            "{text}"
        );
        assert!(
            text.contains("a foreign line") && text.contains("a line of ours"),
            "{text}"
        );
    }

    #[test]
    fn a_json_line_holds_what_its_event_does() {
        let text = logged("trace", || {
            tracing::warn!(
                target: "chaturdata_proxy::there",
                code = "a \"quoted\"\nword",
                status = 404,
                deep.name = true,
                ratio = 0.5,
                below = -1,
                absent = None::<u64>,
                debug = ?["\u{1}"],
                "said {}",
                "\u{e9}"
            );
        });
        let (head, rest) = text.split_at(r#"{"timestamp":"2026-11-28T12:00:00.000000Z""#.len());
        let written = head.split('"').nth(3).map(humantime::parse_rfc3339);

        assert!(matches!(written, Some(Ok(_))), "{head}");
        insta::assert_snapshot!(rest, @r#","level":"WARN","message":"said é","code":"a \"quoted\"\nword","status":404,"deep.name":true,"ratio":0.5,"below":-1,"debug":"[\"\\u{1}\"]","target":"chaturdata_proxy::there"}"#);
    }

    #[test]
    fn the_filter_is_obeyed() {
        let text = logged("warn,chaturdata_proxy::run=debug", || {
            tracing::info!("not wanted");
            tracing::debug!(target: "chaturdata_proxy::run", "wanted");
        });

        assert!(
            text.contains("wanted") && !text.contains("not wanted"),
            "{text}"
        );
    }

    #[test]
    fn a_closed_stderr_hurts_nobody() {
        let lines = Lines::to(Broken, true).unwrap();

        lines.say("one");
        lines.finish();
        lines.say("two");
        lines.finish();
    }

    #[test]
    fn a_reader_that_stops_costs_lines_and_no_time() {
        let (go, wait) = sync_channel(0);
        let page = Page::default();
        let lines = Lines::to(Blocked(wait, page.clone()), true).unwrap();

        // As many as wait may be on their way to the reader already.
        for _ in 0..2 * WAITING + 10 {
            lines.say("line\n");
        }
        drop(go);
        lines.finish();

        assert!(
            page.text().contains("log lines were dropped"),
            "{}",
            page.text()
        );
    }
}
