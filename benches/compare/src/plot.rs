//! Lag against polls, drawn: the lower left is better.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use crate::optimum::Cost;

/// One distribution of run times.
pub struct Panel {
    pub title: String,
    pub fixed: Vec<Cost>,
    pub backed_off: Vec<Cost>,
    pub learned: Vec<Cost>,
    pub best: Vec<Cost>,
}

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 300.0;
const MARGIN: f64 = 48.0;

/// The largest lag that is drawn, in seconds.
const MOST_LAG: f64 = 4.0;

const KINDS: [(&str, &str); 4] = [
    ("fixed interval", "#8a8f98"),
    ("back-off", "#d1495b"),
    ("learned", "#1b6ca8"),
    ("optimum", "#2f9e44"),
];

pub fn write(path: &Path, panels: &[Panel]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, svg(panels))
}

fn svg(panels: &[Panel]) -> String {
    let rows = panels.len().div_ceil(2);
    let (width, height) = (2.0 * WIDTH, rows as f64 * HEIGHT + 30.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    for (number, (name, colour)) in KINDS.iter().enumerate() {
        let x = MARGIN + 150.0 * number as f64;
        line(
            &mut svg,
            &format!("<circle cx=\"{x}\" cy=\"16\" r=\"4\" fill=\"{colour}\"/>"),
        );
        line(
            &mut svg,
            &format!("<text x=\"{}\" y=\"20\">{name}</text>", x + 10.0),
        );
    }
    for (number, panel) in panels.iter().enumerate() {
        let (x, y) = (
            (number % 2) as f64 * WIDTH,
            (number / 2) as f64 * HEIGHT + 30.0,
        );
        line(&mut svg, &format!("<g transform=\"translate({x} {y})\">"));
        draw(&mut svg, panel);
        line(&mut svg, "</g>");
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw(svg: &mut String, panel: &Panel) {
    let scale = Scale::of(panel);
    axes(svg, &panel.title, &scale);
    let curves = [&panel.fixed, &panel.backed_off, &panel.learned, &panel.best];
    for (costs, (name, colour)) in curves.into_iter().zip(KINDS) {
        let points: Vec<(f64, f64)> = costs
            .iter()
            .filter(|cost| scale.shows(cost))
            .map(|cost| (scale.x(cost.polls), scale.y(cost.lag)))
            .collect();
        let path: Vec<String> = points
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let path = path.join(" ");
        line(
            svg,
            &format!(
                "<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>"
            ),
        );
        for (x, y) in points.iter().filter(|_| name != "optimum") {
            line(
                svg,
                &format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"),
            );
        }
    }
}

fn axes(svg: &mut String, title: &str, scale: &Scale) {
    let (right, bottom) = (WIDTH - 16.0, HEIGHT - MARGIN);
    let middle = f64::midpoint(MARGIN, right);
    let mut text = |x: f64, y: f64, rest: &str| {
        line(
            svg,
            &format!("<text x=\"{x:.1}\" y=\"{y:.1}\" {rest}</text>"),
        );
    };
    text(MARGIN, 18.0, &format!("font-weight=\"bold\">{title}"));
    for lag in 0..=MOST_LAG as u32 {
        let y = scale.y(f64::from(lag)) + 4.0;
        text(MARGIN - 6.0, y, &format!("text-anchor=\"end\">{lag} s"));
    }
    for polls in scale.least as u32..=scale.most as u32 {
        let x = scale.x(f64::from(polls));
        text(x, bottom + 16.0, &format!("text-anchor=\"middle\">{polls}"));
    }
    let legend = "text-anchor=\"middle\">mean lag against polls per run";
    text(middle, bottom + 34.0, legend);
    line(
        svg,
        &format!("<path d=\"M{MARGIN} 26V{bottom}H{right}\" fill=\"none\" stroke=\"#444\"/>"),
    );
}

/// From polls and seconds to places in a panel.
struct Scale {
    least: f64,
    most: f64,
}

impl Scale {
    /// So that all but the optimum's curve is shown.
    fn of(panel: &Panel) -> Self {
        let all = [&panel.fixed, &panel.learned, &panel.backed_off];
        let polls = all.into_iter().flatten().map(|cost| cost.polls);
        let (least, most) = polls.fold((f64::MAX, 0.0_f64), |(least, most), polls| {
            (least.min(polls), most.max(polls))
        });
        Self {
            least: (least - 0.5).floor(),
            most: (most + 0.5).ceil(),
        }
    }

    fn shows(&self, cost: &Cost) -> bool {
        (self.least..=self.most).contains(&cost.polls) && cost.lag <= MOST_LAG
    }

    fn x(&self, polls: f64) -> f64 {
        MARGIN + (polls - self.least) / (self.most - self.least) * (WIDTH - 16.0 - MARGIN)
    }

    fn y(&self, lag: f64) -> f64 {
        HEIGHT - MARGIN - lag / MOST_LAG * (HEIGHT - MARGIN - 26.0)
    }
}

fn line(svg: &mut String, text: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(svg, "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_lies_within_its_panel() {
        let cost = |lag, polls| Cost { lag, polls };
        let panel = Panel {
            title: "some".to_owned(),
            fixed: vec![cost(1.5, 3.7)],
            backed_off: vec![cost(2.6, 4.6)],
            learned: vec![cost(1.2, 3.6)],
            best: vec![cost(1.15, 3.7), cost(9.0, 1.0)],
        };

        let drawn = svg(&[panel]);

        assert!(drawn.starts_with("<svg") && drawn.ends_with("</svg>\n"));
        assert_eq!(drawn.matches("r=\"3\"").count(), 3);
        assert!(!drawn.contains("NaN") && !drawn.contains("\"-"));
    }
}
