//! How much later than its poll was due an answer comes, when thousands wait, and how well polls are
//! placed over real sockets.

use std::io;

use crate::bounds::By::{Clock, Count};
use crate::bounds::{Bounds, CONNECTIONS};
use crate::child::{Process, Upstream, own};
use crate::contender::{Contender, Ground, Pace, Running, Store};
use crate::herd;
use crate::machine::Used;
use crate::mock;
use crate::table::{self, shown};

pub struct Plan<'a> {
    pub callers: usize,
    /// Each caller asks again for so long, and all have begun within the other.
    pub seconds: f64,
    pub over: f64,
    pub runs: &'a str,
    /// Whom else beside the proxy.
    pub others: &'a [Contender],
}

pub fn run(ground: &Ground, plan: &Plan<'_>, bounds: &mut Bounds) -> io::Result<()> {
    let proxies = [Pace::Fixed, Pace::Learned].map(|pace| Contender::Proxy(Store::Memory, pace));
    let mut rows = Vec::new();
    let mut fixed = f64::NAN;
    for contender in proxies.into_iter().chain(plan.others.iter().copied()) {
        let schedule: &[&str] = match contender {
            Contender::Proxy(_, Pace::Fixed) => &["--polls", "2", "3", "--varied"],
            // A shim reads at once, then at its interval.
            Contender::Floor | Contender::Peer(_) => &["--polls", "0", "3"],
            _ => &[],
        };
        let arguments = [&["--runs", plan.runs, "--answer", "100"], schedule].concat();
        let upstream = Upstream::start(ground.folder.path(), &arguments)?;
        table::next(&format_args!("{contender}, runs {}", plan.runs));
        let seen = measured(ground, &upstream, contender, plan);
        let whom = (contender, plan.callers);
        judge(whom, seen.as_ref().ok(), fixed, bounds);
        if let (Contender::Proxy(_, Pace::Fixed), Ok(seen)) = (contender, &seen) {
            fixed = seen.report.efficiency();
        }
        match seen {
            Ok(seen) => rows.push(row(contender, &seen)),
            Err(error) => println!("{contender}: {error}"),
        }
    }
    let head = [
        "",
        "beyond p50 ms",
        "p99",
        "most",
        "lag s",
        "p95",
        "polls",
        "PE",
        "polls/s at most",
        "to upstream",
        "answered",
        "failed",
        "other load",
    ];
    let title = format!("lag: {} callers, {}", plan.callers, plan.runs);
    table::print(&title, &head, &rows);
    Ok(())
}

struct Seen {
    tally: herd::Tally,
    report: mock::Report,
    /// What else the machine did.
    others: f64,
}

impl Seen {
    /// Where no answer told how late it came, nothing was measured.
    fn beyond_p99(&self) -> f64 {
        if self.tally.beyond_most > 0.0 {
            self.tally.beyond_p99
        } else {
            f64::NAN
        }
    }
}

/// What was promised of the proxy, beside the efficiency of its fixed pace.
fn judge(
    (contender, callers): (Contender, usize),
    seen: Option<&Seen>,
    fixed: f64,
    bounds: &mut Bounds,
) {
    let Contender::Proxy(_, pace) = contender else {
        return;
    };
    let mut judge = bounds.of(format!("lag, {contender}"));
    let of = |figure: fn(&Seen) -> f64| seen.map_or(f64::NAN, figure);
    let answered = of(|seen| seen.tally.answered as f64);
    judge("answered", answered, Count.at_least(callers as f64));
    let unanswered = of(|seen| (seen.tally.failed + seen.tally.refused) as f64);
    judge("failed or refused", unanswered, Count.at_most(0.0));
    let connections = of(|seen| seen.report.most_connections as f64);
    judge("to upstream", connections, Count.at_most(CONNECTIONS));
    if pace == Pace::Fixed {
        let beyond = of(Seen::beyond_p99);
        judge("beyond p99, ms", beyond, Clock.at_most(60.0));
    } else {
        let share = of(|seen| seen.report.efficiency()) / fixed;
        judge("PE, of the fixed pace's", share, Clock.at_least(0.97));
    }
}

fn measured(
    ground: &Ground,
    upstream: &Upstream,
    contender: Contender,
    plan: &Plan<'_>,
) -> io::Result<Seen> {
    let running = ground.start(contender, upstream.address)?;
    let mut command = own(&["herd", &running.address.to_string()])?;
    command
        .args(["--callers", &plan.callers.to_string()])
        .args(["--seconds", &plan.seconds.to_string()])
        // All of them at once would be a storm.
        .args(["--over", &plan.over.to_string()]);
    let complaints = ground.folder.path().join("herd.log");
    let before = Used::until_now()?;
    let began = std::time::Instant::now();
    let herd = Process::start(&mut command, &complaints)?;
    let used = |running: &Running| -> io::Result<f64> {
        let target = running
            .process
            .as_ref()
            .map_or(Ok(0.0), |one| one.held().map(|held| held.seconds));
        Ok(target? + upstream.process.held()?.seconds)
    };
    let own = used(&running)?;
    let tally: herd::Tally = herd.result()?;
    let own = used(&running)? - own;
    let report: mock::Report = upstream.report()?;
    // The herd's own processor time is gone with it, and counts as other load.
    let foreign = Used::until_now()?.foreign(before, own, began.elapsed().as_secs_f64());
    if let Some(fault) = &tally.fault {
        println!("{contender}: {fault}");
    }
    println!("{contender}: reads in each second: {:?}", report.rate);
    Ok(Seen {
        tally,
        report,
        others: foreign.others,
    })
}

fn row(contender: Contender, seen: &Seen) -> Vec<String> {
    let (tally, report) = (&seen.tally, &seen.report);
    let has_schedule = !matches!(contender, Contender::Proxy(_, Pace::Learned));
    let beyond = |milliseconds: f64| {
        if has_schedule {
            shown(milliseconds, 1)
        } else {
            "-".to_owned()
        }
    };
    vec![
        contender.to_string(),
        beyond(tally.beyond_p50),
        beyond(tally.beyond_p99),
        beyond(tally.beyond_most),
        shown(report.mean_lag, 3),
        shown(report.lag_p95, 2),
        shown(report.mean_polls, 2),
        shown(report.efficiency(), 3),
        report
            .rate
            .iter()
            .max()
            .copied()
            .unwrap_or_default()
            .to_string(),
        report.most_connections.to_string(),
        tally.answered.to_string(),
        tally.failed.to_string(),
        shown(seen.others, 2),
    ]
}
