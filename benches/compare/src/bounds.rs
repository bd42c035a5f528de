//! What was promised of the figures, and whether they keep it.

use std::fmt;
use std::io;

use crate::table::{self, shown};

/// What a figure goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// On a shared machine it says little.
    Clock,
    /// Which pages of a program's files are mapped beside those that it needs is the kernel's choice, and
    /// what an allocator has at hand a matter of which thread did what.
    Memory,
    /// A number or a size, whatever else the machine does.
    Count,
}

/// Connections to the upstream: as many as the proxy opens by default, and the one that asks the mock.
pub const CONNECTIONS: f64 = 65.0;

/// What was promised of one figure.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    limit: Limit,
    by: By,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

impl By {
    /// Beyond so many times its bound it fails on any machine; a time as the stages of `.ci` have it too.
    fn slack(self) -> f64 {
        match self {
            Self::Clock => 3.0,
            Self::Memory => 1.25,
            Self::Count => 1.0,
        }
    }

    pub fn at_most(self, bound: f64) -> Promise {
        Promise {
            limit: Limit::AtMost(bound),
            by: self,
        }
    }

    pub fn at_least(self, bound: f64) -> Promise {
        Promise {
            limit: Limit::AtLeast(bound),
            by: self,
        }
    }
}

impl Limit {
    /// What was not measured keeps nothing.
    fn is_kept_by(self, seen: f64) -> bool {
        seen.is_finite()
            && match self {
                Self::AtMost(bound) => seen <= bound,
                Self::AtLeast(bound) => seen >= bound,
            }
    }

    fn eased(self, times: f64) -> Self {
        match self {
            Self::AtMost(bound) => Self::AtMost(bound * times),
            Self::AtLeast(bound) => Self::AtLeast(bound / times),
        }
    }

    fn bound(self) -> f64 {
        match self {
            Self::AtMost(bound) | Self::AtLeast(bound) => bound,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self {
            Self::AtMost(_) => "most",
            Self::AtLeast(_) => "least",
        };
        write!(f, "at {side} {}", brief(self.bound()))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Held,
    /// Beyond the promise, yet not so far that it fails.
    Short,
    Failed,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Held => "held",
            Self::Short => "short",
            Self::Failed => "FAILED",
        })
    }
}

/// A figure beside what was promised of it.
struct Judged {
    what: String,
    seen: f64,
    promised: Limit,
    fails: Limit,
}

impl Judged {
    fn verdict(&self) -> Verdict {
        if self.promised.is_kept_by(self.seen) {
            Verdict::Held
        } else if self.fails.is_kept_by(self.seen) {
            Verdict::Short
        } else {
            Verdict::Failed
        }
    }
}

/// All that was promised of what was measured so far.
pub struct Bounds {
    is_strict: bool,
    judged: Vec<Judged>,
}

impl Bounds {
    /// A strict one lets nothing beyond its bound, whatever it goes by.
    pub fn new(is_strict: bool) -> Self {
        Self {
            is_strict,
            judged: Vec::new(),
        }
    }

    /// A figure that is not a number was not measured, and fails.
    pub fn judge(&mut self, what: impl Into<String>, seen: f64, promise: Promise) {
        let times = if self.is_strict {
            1.0
        } else {
            promise.by.slack()
        };
        self.judged.push(Judged {
            what: what.into(),
            seen,
            promised: promise.limit,
            fails: promise.limit.eased(times),
        });
    }

    /// Judges figures of this.
    pub fn of(&mut self, whose: String) -> impl FnMut(&str, f64, Promise) {
        move |what, seen, promise| self.judge(format!("{whose}: {what}"), seen, promise)
    }

    pub fn print(&self) {
        let rows = self.judged.iter().map(|judged| {
            vec![
                judged.what.clone(),
                brief(judged.seen),
                judged.promised.to_string(),
                brief(judged.fails.bound()),
                judged.verdict().to_string(),
            ]
        });
        let head = ["what", "seen", "promised", "fails beyond", ""];
        table::print("bounds", &head, &rows.collect::<Vec<_>>());
    }

    /// An error that names what failed.
    pub fn kept(&self) -> io::Result<()> {
        let failed = self
            .judged
            .iter()
            .filter(|judged| judged.verdict() == Verdict::Failed)
            .map(|judged| judged.what.as_str());
        let failed: Vec<&str> = failed.collect();
        if failed.is_empty() {
            return Ok(());
        }
        let words = format!("out of bounds: {}", failed.join("; "));
        Err(io::Error::other(words))
    }
}

/// With few digits, and none that say nothing.
fn brief(number: f64) -> String {
    let digits = if number.abs() < 100.0 { 3 } else { 1 };
    let text = shown(number, digits);
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(mut bounds: Bounds, seen: f64, promise: Promise) -> Verdict {
        bounds.judge("it", seen, promise);
        let verdict = bounds.judged[0].verdict();
        assert_eq!(bounds.kept().is_err(), verdict == Verdict::Failed);
        verdict
    }

    #[test]
    fn a_time_falls_short_before_it_fails() {
        let of = |seen, promise| verdict(Bounds::new(false), seen, promise);
        let (most, least) = (By::Clock.at_most(20.0), By::Clock.at_least(0.9));

        assert_eq!(of(20.0, most), Verdict::Held);
        assert_eq!(of(20.1, most), Verdict::Short);
        assert_eq!(of(60.0, most), Verdict::Short);
        assert_eq!(of(60.1, most), Verdict::Failed);
        assert_eq!(of(0.9, least), Verdict::Held);
        assert_eq!(of(0.89, least), Verdict::Short);
        assert_eq!(of(0.29, least), Verdict::Failed);
    }

    #[test]
    fn memory_falls_short_before_it_fails() {
        let of = |seen| verdict(Bounds::new(false), seen, By::Memory.at_most(12.0));

        assert_eq!(of(12.0), Verdict::Held);
        assert_eq!(of(15.0), Verdict::Short);
        assert_eq!(of(15.1), Verdict::Failed);
    }

    #[test]
    fn a_count_or_a_size_fails_just_beyond_its_bound() {
        let of = |seen, promise| verdict(Bounds::new(false), seen, promise);

        assert_eq!(of(12.0, By::Count.at_most(12.0)), Verdict::Held);
        assert_eq!(of(12.01, By::Count.at_most(12.0)), Verdict::Failed);
        assert_eq!(of(0.0, By::Count.at_most(0.0)), Verdict::Held);
        assert_eq!(of(1.0, By::Count.at_most(0.0)), Verdict::Failed);
        assert_eq!(of(500.0, By::Count.at_least(500.0)), Verdict::Held);
        assert_eq!(of(499.0, By::Count.at_least(500.0)), Verdict::Failed);
    }

    #[test]
    fn where_it_is_strict_nothing_is_short() {
        let of = |seen, promise| verdict(Bounds::new(true), seen, promise);

        assert_eq!(of(20.0, By::Clock.at_most(20.0)), Verdict::Held);
        assert_eq!(of(20.1, By::Clock.at_most(20.0)), Verdict::Failed);
        assert_eq!(of(0.89, By::Clock.at_least(0.9)), Verdict::Failed);
    }

    #[test]
    fn what_was_not_measured_fails() {
        let of = |seen, promise| verdict(Bounds::new(false), seen, promise);

        for seen in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for by in [By::Clock, By::Memory, By::Count] {
                assert_eq!(of(seen, by.at_most(1.0)), Verdict::Failed);
                assert_eq!(of(seen, by.at_least(1.0)), Verdict::Failed);
            }
        }
    }

    #[test]
    fn the_error_names_what_failed_and_nothing_else() {
        let mut bounds = Bounds::new(false);
        bounds.judge("first 200, ms", 30.0, By::Clock.at_most(20.0));
        bounds.judge("the program, MiB", 17.0, By::Count.at_most(16.0));
        bounds.judge("faults", f64::NAN, By::Count.at_most(0.0));

        let error = bounds.kept().unwrap_err();

        assert_eq!(error.to_string(), "out of bounds: the program, MiB; faults");
    }

    #[test]
    fn figures_have_few_digits() {
        for (number, text) in [
            (700.0, "700"),
            (0.12345, "0.123"),
            (14.5, "14.5"),
            (512.26, "512.3"),
            (f64::NAN, "-"),
        ] {
            assert_eq!(brief(number), text);
        }
        assert_eq!(Limit::AtLeast(0.75).to_string(), "at least 0.75");
    }
}
