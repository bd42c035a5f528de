//! What is bounded, and what the bounds do.

use std::fmt;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Metrics;

#[derive(Debug, Default)]
pub struct Limits {
    runs_active: Gauge,
    tasks: Gauge,
    shed: Family<ShedLabels, Counter>,
    failing: Gauge,
    failing_keys: Gauge,
    breaker: Family<BreakerLabels, Counter>,
}

impl Limits {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "runs_active",
            "Runs under way, whether anybody waits for them or not",
            self.runs_active.clone(),
        );
        registry.register("tasks", "Tasks that are alive", self.tasks.clone());
        registry.register(
            "shed",
            "Requests turned away for want of room, by whose room it was",
            self.shed.clone(),
        );
        registry.register(
            "upstream_failing",
            "1 while the upstream fails and nothing new is posted",
            self.failing.clone(),
        );
        registry.register(
            "failing_keys",
            "Upstream keys that nothing new is posted with, since their calls fail",
            self.failing_keys.clone(),
        );
        registry.register(
            "breaker_changes",
            "How often the upstream, or a key of it, began and ceased to fail",
            self.breaker.clone(),
        );
    }

    /// Of the runtime that this is called in.
    pub fn count_tasks(&self) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let tasks = runtime.metrics().num_alive_tasks();
            self.tasks.set(i64::try_from(tasks).unwrap_or(i64::MAX));
        }
    }
}

impl Metrics {
    /// Counts a run for as long as the guard lives.
    pub fn active(&self) -> Active {
        self.limits.runs_active.inc();
        Active(self.limits.runs_active.clone())
    }

    pub fn shed(&self, whose: Shed) {
        let labels = ShedLabels { whose };
        self.limits.shed.get_or_create(&labels).inc();
    }

    /// The upstream began to fail, or ceased to.
    pub fn upstream_failing(&self, fails: bool) {
        self.limits.failing.set(fails.into());
        self.breaker_changed(Circuit::Upstream, fails);
    }

    /// The same for one key of it.
    pub fn key_failing(&self, fails: bool) {
        if fails {
            self.limits.failing_keys.inc();
        } else {
            self.limits.failing_keys.dec();
        }
        self.breaker_changed(Circuit::Key, fails);
    }

    fn breaker_changed(&self, circuit: Circuit, fails: bool) {
        let change = if fails {
            Change::Opened
        } else {
            Change::Closed
        };
        let labels = BreakerLabels { circuit, change };
        self.limits.breaker.get_or_create(&labels).inc();
    }
}

/// A run under way.
#[derive(Debug)]
pub struct Active(Gauge);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Whose room was used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shed {
    /// That of the caller's key.
    Key,
    /// That of all.
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Circuit {
    Upstream,
    Key,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Change {
    Opened,
    Closed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShedLabels {
    whose: Shed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BreakerLabels {
    circuit: Circuit,
    change: Change,
}

impl EncodeLabelValue for Shed {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        let label = match self {
            Self::Key => "key",
            Self::All => "all",
        };
        EncodeLabelValue::encode(&label, encoder)
    }
}

impl EncodeLabelValue for Circuit {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        let label = match self {
            Self::Upstream => "upstream",
            Self::Key => "key",
        };
        EncodeLabelValue::encode(&label, encoder)
    }
}

impl EncodeLabelValue for Change {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        let label = match self {
            Self::Opened => "opened",
            Self::Closed => "closed",
        };
        EncodeLabelValue::encode(&label, encoder)
    }
}
