//! What the program counts, for Prometheus: one registry per instance, closed label sets, no text.

mod limits;

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

pub use limits::{Active, Shed};

use crate::conversation::Decision;
use limits::Limits;

/// The counters of one instance.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    turns: Family<TurnLabels, Counter>,
    requests: Family<RequestLabels, Counter>,
    waiting: Gauge,
    polls: Counter,
    runs: Histogram,
    lag: Histogram,
    calls: Family<CallLabels, Counter>,
    connections: Gauge,
    limits: Limits,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("chaturdata_proxy"),
            turns: Family::default(),
            requests: Family::default(),
            waiting: Gauge::default(),
            polls: Counter::default(),
            // Run times from a quarter of a second to half an hour.
            runs: Histogram::new(exponential_buckets(0.25, 2.0, 14)),
            lag: Histogram::new(exponential_buckets(0.0625, 2.0, 11)),
            calls: Family::default(),
            connections: Gauge::default(),
            limits: Limits::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("turns", "Turns by decision and outcome", self.turns.clone());
        registry.register(
            "requests",
            "Requests by route and status class",
            self.requests.clone(),
        );
        registry.register(
            "waiting_callers",
            "Callers that wait for an answer",
            self.waiting.clone(),
        );
        registry.register("polls", "Reads of a thread under way", self.polls.clone());
        registry.register(
            "run_seconds",
            "From the upstream's acceptance to the end of the run",
            self.runs.clone(),
        );
        registry.register(
            "lag_bound_seconds",
            "At most this long an answer lay at the upstream before it was read",
            self.lag.clone(),
        );
        registry.register(
            "upstream_calls",
            "Calls of the upstream by kind and result",
            self.calls.clone(),
        );
        registry.register(
            "connections",
            "Connections that are open",
            self.connections.clone(),
        );
        self.limits.register(registry);
    }

    pub fn turn_ended(&self, decision: Decision, outcome: Outcome) {
        self.turns
            .get_or_create(&TurnLabels { decision, outcome })
            .inc();
    }

    pub fn request_ended(&self, route: Route, status: u16) {
        let class = Class::of(status);
        self.requests
            .get_or_create(&RequestLabels { route, class })
            .inc();
    }

    /// Counts a waiting caller for as long as the guard lives.
    pub fn waiting(&self) -> Waiting {
        self.waiting.inc();
        Waiting(self.waiting.clone())
    }

    pub fn polled(&self) {
        self.polls.inc();
    }

    pub fn run_ended(&self, took: Duration) {
        self.runs.observe(took.as_secs_f64());
    }

    /// The answer was there at most `bound` before it was read.
    pub fn lag(&self, bound: Duration) {
        self.lag.observe(bound.as_secs_f64());
    }

    pub fn upstream_call(&self, call: Call, result: CallResult) {
        self.calls.get_or_create(&CallLabels { call, result }).inc();
    }

    /// The gauge of open connections, for the listener to move.
    pub fn connections(&self) -> Gauge {
        self.connections.clone()
    }

    /// All of it in the OpenMetrics text format.
    pub fn render(&self) -> String {
        self.limits.count_tasks();
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a String takes everything");
        text
    }
}

/// A caller that waits.
#[derive(Debug)]
pub struct Waiting(Gauge);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    Completed,
    /// Cut at `max_tokens`, or ended early by the upstream.
    Incomplete,
    Failed,
    Cancelled,
    Expired,
    /// Refused by the upstream, or by our own limits.
    Refused,
    Unreachable,
    Unknown,
}

/// Which of the upstream's calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    Post,
    Read,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallResult {
    Ok,
    Refused,
    Unreachable,
    Unknown,
    KeyRefused,
    NoThread,
    Busy,
    Failed,
}

/// Our routes, whatever their prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    Chat,
    Completions,
    Models,
    Model,
    Capabilities,
    Live,
    Ready,
    Metrics,
    /// No route of ours.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Class {
    Informational,
    Success,
    Redirect,
    CallerError,
    ServerError,
    /// The caller hung up before an answer.
    None,
}

impl Class {
    fn of(status: u16) -> Self {
        match status {
            100..=199 => Self::Informational,
            200..=299 => Self::Success,
            300..=399 => Self::Redirect,
            400..=499 => Self::CallerError,
            500..=599 => Self::ServerError,
            _ => Self::None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TurnLabels {
    decision: Decision,
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: Route,
    class: Class,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    call: Call,
    result: CallResult,
}

impl EncodeLabelValue for Decision {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        EncodeLabelValue::encode(&self.as_str(), encoder)
    }
}

impl EncodeLabelValue for Outcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        let label = match self {
            Self::Completed => "completed",
            Self::Incomplete => "incomplete",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Unknown => "unknown",
        };
        EncodeLabelValue::encode(&label, encoder)
    }
}

impl EncodeLabelValue for Call {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        let label = match self {
            Self::Post => "post",
            Self::Read => "read",
        };
        EncodeLabelValue::encode(&label, encoder)
    }
}

impl EncodeLabelValue for CallResult {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        let label = match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Unknown => "unknown",
            Self::KeyRefused => "key_refused",
            Self::NoThread => "no_thread",
            Self::Busy => "busy",
            Self::Failed => "failed",
        };
        EncodeLabelValue::encode(&label, encoder)
    }
}

impl EncodeLabelValue for Route {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        let label = match self {
            Self::Chat => "/chat/completions",
            Self::Completions => "/completions",
            Self::Models => "/models",
            Self::Model => "/models/{id}",
            Self::Capabilities => "/capabilities",
            Self::Live => "/livez",
            Self::Ready => "/readyz",
            Self::Metrics => "/metrics",
            Self::Other => "other",
        };
        EncodeLabelValue::encode(&label, encoder)
    }
}

impl EncodeLabelValue for Class {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        let label = match self {
            Self::Informational => "1xx",
            Self::Success => "2xx",
            Self::Redirect => "3xx",
            Self::CallerError => "4xx",
            Self::ServerError => "5xx",
            Self::None => "none",
        };
        EncodeLabelValue::encode(&label, encoder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_caller_is_counted_until_it_is_gone() {
        let metrics = Metrics::new();

        let waiting = metrics.waiting();
        let during = metrics.render();
        drop(waiting);
        let after = metrics.render();

        assert!(during.contains("chaturdata_proxy_waiting_callers 1\n"));
        assert!(after.contains("chaturdata_proxy_waiting_callers 0\n"));
    }

    #[test]
    fn turns_are_told_apart_by_decision_and_outcome() {
        let metrics = Metrics::new();

        metrics.turn_ended(Decision::Forked, Outcome::Completed);
        metrics.turn_ended(Decision::Forked, Outcome::Completed);
        metrics.upstream_call(Call::Post, CallResult::KeyRefused);
        metrics.request_ended(Route::Chat, 504);

        let text = metrics.render();
        for line in [
            r#"chaturdata_proxy_turns_total{decision="forked",outcome="completed"} 2"#,
            r#"chaturdata_proxy_upstream_calls_total{call="post",result="key_refused"} 1"#,
            r#"chaturdata_proxy_requests_total{route="/chat/completions",class="5xx"} 1"#,
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    }

    #[test]
    fn two_instances_count_apart() {
        let (one, other) = (Metrics::new(), Metrics::new());

        one.polled();

        assert!(one.render().contains("chaturdata_proxy_polls_total 1\n"));
        assert!(other.render().contains("chaturdata_proxy_polls_total 0\n"));
    }
}
