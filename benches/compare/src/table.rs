//! Figures for people: medians, and tables of them.

use std::fmt::Display;

/// Says what is measured next to whoever waits for the tables.
pub fn next(what: &impl Display) {
    eprintln!("measuring {what}");
}

/// The middle one; of none, not a number.
pub fn median(of: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = of.into_iter().filter(|number| !number.is_nan()).collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.get(middle), sorted.len() % 2) {
        (None, _) => f64::NAN,
        (Some(upper), 0) => f64::midpoint(*upper, sorted[middle - 1]),
        (Some(middle), _) => *middle,
    }
}

/// With so many digits behind the point; a dash where there is no number.
pub fn shown(number: f64, digits: usize) -> String {
    if number.is_nan() {
        "-".to_owned()
    } else {
        format!("{number:.digits$}")
    }
}

/// Columns as wide as they need be: the first to the left, the others to the right.
pub fn print(title: &str, head: &[&str], rows: &[Vec<String>]) {
    println!("\n## {title}\n");
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        widest.max(head.get(column).map_or(0, |cell| cell.chars().count()))
    };
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells = cells.enumerate().map(|(column, cell)| match column {
            0 => format!("{cell:<width$}", width = width(0)),
            _ => format!("{cell:>width$}", width = width(column)),
        });
        println!("| {} |", cells.collect::<Vec<_>>().join(" | "));
    };
    line(&mut head.iter().copied());
    let rules = (0..head.len()).map(|column| {
        let dashes = "-".repeat(width(column) + 1);
        if column == 0 {
            format!("-{dashes}")
        } else {
            format!("{dashes}:")
        }
    });
    println!("|{}|", rules.collect::<Vec<_>>().join("|"));
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median([]).is_nan());
        assert_eq!(shown(f64::NAN, 1), "-");
    }
}
