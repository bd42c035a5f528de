//! The sandbox's own answers, with the figures computed a second time from the file.

use std::collections::BTreeMap;
use std::time::Duration;

use chaturdata_proxy::upstream::sandbox::Sandbox;
use chaturdata_proxy::upstream::sandbox::script::Script;
use chaturdata_proxy::upstream::{NewMessage, RunStatus, ThreadId, Upstream};
use tokio::time::sleep;

use super::key;

/// One conversation with the sandbox.
pub struct Talk {
    sandbox: Sandbox,
    thread: Option<ThreadId>,
}

impl Talk {
    pub fn new() -> Self {
        let sandbox = Sandbox::new(Script::default());
        Self {
            sandbox,
            thread: None,
        }
    }

    pub async fn ask(&mut self, text: &str) -> String {
        let message = NewMessage {
            thread: self.thread.clone(),
            text: text.to_owned(),
        };
        let posted = self.sandbox.post(&key(), &message).await.unwrap();
        sleep(Duration::from_secs(6)).await;
        let read = self.sandbox.read(&key(), &posted.thread).await.unwrap();
        self.thread = Some(posted.thread);
        assert_eq!(read.status, Some(RunStatus::Completed));
        read.messages.last().unwrap().text.clone()
    }
}

/// What a row is counted under.
type Label = dyn Fn(&[&str; 5]) -> String;

/// Month, region, product, units, revenue.
pub fn rows() -> Vec<[&'static str; 5]> {
    let lines = include_str!("../../../src/upstream/sandbox/demo/sales.csv")
        .lines()
        .skip(1);
    lines
        .map(|line| line.split(',').collect::<Vec<_>>().try_into().unwrap())
        .collect()
}

pub fn total(column: usize, keep: impl Fn(&[&str; 5]) -> bool) -> u64 {
    rows()
        .iter()
        .filter(|row| keep(row))
        .map(|row| row[column].parse::<u64>().unwrap())
        .sum()
}

fn totals(
    label: impl Fn(&[&str; 5]) -> String,
    keep: impl Fn(&[&str; 5]) -> bool,
) -> BTreeMap<String, u64> {
    let mut totals = BTreeMap::new();
    for row in rows().iter().filter(|row| keep(row)) {
        *totals.entry(label(row)).or_default() += row[4].parse::<u64>().unwrap();
    }
    totals
}

fn grouped(n: u64) -> String {
    if n < 1000 {
        n.to_string()
    } else {
        format!("{},{:03}", grouped(n / 1000), n % 1000)
    }
}

#[expect(clippy::cast_precision_loss, reason = "the sample data is small")]
fn ratio(a: u64, b: u64) -> f64 {
    a as f64 / b as f64
}

#[tokio::test(start_paused = true)]
async fn figures_come_from_the_rows() {
    let mut talk = Talk::new();
    let chairs = |row: &[&str; 5]| row[2] == "Chair" && row[0].starts_with("2025");

    let all = talk.ask("total revenue").await;
    let units = talk.ask("how many chairs were sold in 2025?").await;
    let price = talk
        .ask("what is the average price of chairs in 2025?")
        .await;
    let spring = talk
        .ask("what is the revenue in Europe from March to May 2024?")
        .await;

    let spring_total = total(4, |row| {
        row[1] == "Europe" && ["2024-03", "2024-04", "2024-05"].contains(&row[0])
    });
    assert!(
        all.contains(&format!("| ${} |", grouped(total(4, |_| true)))),
        "{all}"
    );
    assert!(
        units.contains(&format!("| {} |", grouped(total(3, chairs)))),
        "{units}"
    );
    assert!(
        price.contains(&format!(
            "| ${:.2} |",
            ratio(total(4, chairs), total(3, chairs))
        )),
        "{price}"
    );
    assert!(
        spring.contains(&format!("| ${} |", grouped(spring_total))),
        "{spring}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_breakdown_shows_every_group_and_its_total() {
    let quarter = |row: &[&str; 5]| {
        format!(
            "{}-Q{}",
            &row[0][..4],
            row[0][5..].parse::<u32>().unwrap().div_ceil(3)
        )
    };
    let labels: [(&str, &Label); 5] = [
        ("region", &|row| row[1].to_owned()),
        ("product", &|row| row[2].to_owned()),
        ("month", &|row| row[0].to_owned()),
        ("quarter", &quarter),
        ("year", &|row| row[0][..4].to_owned()),
    ];
    let mut talk = Talk::new();

    for (dimension, label) in labels {
        let answer = talk.ask(&format!("revenue by {dimension}?")).await;

        let totals = totals(label, |_| true);
        for (label, revenue) in &totals {
            assert!(
                answer.contains(&format!("| {label} | ${} |", grouped(*revenue))),
                "{answer}"
            );
        }
        assert!(
            answer.contains(&format!("| Total | ${} |", grouped(totals.values().sum()))),
            "{answer}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn growth_shares_and_averages_are_right() {
    let mut talk = Talk::new();
    let europe =
        |year: &'static str| total(4, move |row| row[1] == "Europe" && row[0].starts_with(year));
    let months = totals(|row| row[0].to_owned(), |_| true);
    let (best, most) = months.iter().max_by_key(|(_, revenue)| **revenue).unwrap();

    let growth = talk.ask("growth of revenue by region").await;
    let share = talk.ask("what share of revenue comes from Europe?").await;
    let average = talk.ask("what is the average revenue per month?").await;
    let peak = talk.ask("which month had the highest revenue?").await;

    let (before, after) = (europe("2024"), europe("2025"));
    let change = (ratio(after, before) - 1.0) * 100.0;
    let row = format!(
        "| Europe | ${} | ${} | +{change:.1}% |",
        grouped(before),
        grouped(after)
    );
    let part = ratio(before + after, total(4, |_| true)) * 100.0;
    assert!(growth.contains(&row), "{growth}");
    assert!(share.contains(&format!("| {part:.1}% |")), "{share}");
    assert!(
        average.contains(&format!("| ${} |", grouped((total(4, |_| true) + 12) / 24))),
        "{average}"
    );
    assert!(
        peak.contains(&format!("| {best} | ${} |", grouped(*most))),
        "{peak}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_follow_up_keeps_what_was_asked_before() {
    let mut talk = Talk::new();
    talk.ask("revenue by region?").await;
    talk.ask("and only for 2025?").await;

    let products = talk.ask("and by product?").await;

    insta::assert_snapshot!(products, @"
    **Revenue by product, 2025**

    | Product | Revenue |
    | --- | ---: |
    | Desk | $1,035,625 |
    | Chair | $938,279 |
    | Shelf | $334,439 |
    | Lamp | $269,935 |
    | Total | $2,578,278 |

    _Sandbox: sample data, 384 rows, 2024-01 to 2025-12._
    ");
    for (label, revenue) in totals(|row| row[2].to_owned(), |row| row[0].starts_with("2025")) {
        assert!(products.contains(&format!("| {label} | ${} |", grouped(revenue))));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_takes_a_while_and_grows_towards_its_end() {
    let sandbox = Sandbox::new(Script::default());
    let message = NewMessage {
        thread: None,
        text: "revenue by month".to_owned(),
    };
    let thread = sandbox.post(&key(), &message).await.unwrap().thread;
    let mut lengths = Vec::new();

    loop {
        let read = sandbox.read(&key(), &thread).await.unwrap();
        lengths.push(read.messages.get(1).map_or(0, |answer| answer.text.len()));
        if read.status == Some(RunStatus::Completed) {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }

    let waited = lengths.len() * 100;
    lengths.dedup();
    assert!((2000..6200).contains(&waited), "{waited} ms");
    assert_eq!(lengths[0], 0);
    assert_eq!(lengths.len(), 6, "{lengths:?}");
    assert!(lengths.is_sorted(), "{lengths:?}");
}
