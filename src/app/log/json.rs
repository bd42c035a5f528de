//! Log lines as JSON: one flat object for each event.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// In bytes. Longer lines are rare.
const USUAL: usize = 512;

/// Gives each event's line to a function: when, how grave, what, and from where. There are no spans here.
#[derive(Debug)]
pub struct Json<F>(pub F);

impl<S: Subscriber, F: Fn(&[u8]) + 'static> Layer<S> for Json<F> {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line(Vec::with_capacity(USUAL));
        line.0.extend_from_slice(br#"{"timestamp":"#);
        line.value(timestamp(SystemTime::now()));
        line.field("level", event.metadata().level().as_str());
        event.record(&mut line);
        line.field("target", event.metadata().target());
        line.0.extend_from_slice(b"}\n");
        (self.0)(&line.0);
    }
}

/// In UTC, to the microsecond; the first or the last that can be written where a clock is as wrong as that.
fn timestamp(now: SystemTime) -> String {
    const LAST: Duration = Duration::from_secs(253_402_300_799);
    let now = now.clamp(UNIX_EPOCH, UNIX_EPOCH + LAST);
    humantime::format_rfc3339_micros(now).to_string()
}

struct Line(Vec<u8>);

impl Line {
    fn field(&mut self, name: &str, value: impl Serialize) {
        self.0.push(b',');
        self.value(name);
        self.0.push(b':');
        self.value(value);
    }

    fn value(&mut self, value: impl Serialize) {
        // Words and numbers become JSON, and a vector takes all that is written to it.
        let _ = serde_json::to_writer(&mut self.0, &value);
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.field(field.name(), format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.field(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.field(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.field(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.field(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.field(field.name(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_wrong_breaks_no_line() {
        let day = Duration::from_secs(86_400);
        let at = UNIX_EPOCH + Duration::from_micros(1_795_867_200_000_001);

        assert_eq!(timestamp(at), "2026-11-28T12:00:00.000001Z");
        assert_eq!(timestamp(UNIX_EPOCH - day), "1970-01-01T00:00:00.000000Z");
        let late = UNIX_EPOCH + 4_000_000 * day;
        assert_eq!(timestamp(late), "9999-12-31T23:59:59.000000Z");
    }
}
