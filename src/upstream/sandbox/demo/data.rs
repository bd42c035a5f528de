//! The sample data: sales by month, region and product.

use std::sync::LazyLock;

/// What was sold of one product in one region in one month.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sale {
    pub year: u16,
    pub month: u8,
    pub region: &'static str,
    pub product: &'static str,
    pub units: u64,
    /// In US dollars.
    pub revenue: u64,
}

/// What figures can be broken down by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dimension {
    Region,
    Product,
    Month,
    Quarter,
    Year,
}

impl Dimension {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Region => "region",
            Self::Product => "product",
            Self::Month => "month",
            Self::Quarter => "quarter",
            Self::Year => "year",
        }
    }

    pub fn is_time(self) -> bool {
        matches!(self, Self::Month | Self::Quarter | Self::Year)
    }

    /// The sale's place along the dimension. Labels of times sort as the times do.
    pub fn label(self, sale: &Sale) -> String {
        match self {
            Self::Region => sale.region.to_owned(),
            Self::Product => sale.product.to_owned(),
            Self::Month => format!("{}-{:02}", sale.year, sale.month),
            Self::Quarter => format!("{}-Q{}", sale.year, sale.quarter()),
            Self::Year => sale.year.to_string(),
        }
    }
}

impl Sale {
    pub fn quarter(&self) -> u8 {
        self.month.saturating_sub(1) / 3 + 1
    }

    fn parse(line: &'static str) -> Option<Self> {
        let mut fields = line.split(',');
        let (year, month) = fields.next()?.split_once('-')?;
        Some(Self {
            year: year.parse().ok()?,
            month: month.parse().ok()?,
            region: fields.next()?,
            product: fields.next()?,
            units: fields.next()?.parse().ok()?,
            revenue: fields.next()?.parse().ok()?,
        })
    }
}

/// All rows, oldest first.
pub fn sales() -> &'static [Sale] {
    static SALES: LazyLock<Vec<Sale>> = LazyLock::new(|| {
        let lines = include_str!("sales.csv").lines().skip(1);
        lines.filter_map(Sale::parse).collect()
    });
    &SALES
}

/// The labels that a dimension has, each once, in order.
pub fn labels(dimension: Dimension) -> Vec<String> {
    let mut labels: Vec<_> = sales().iter().map(|sale| dimension.label(sale)).collect();
    labels.sort();
    labels.dedup();
    labels
}

/// The newest year that there is data for: "this year", to a question.
pub fn newest_year() -> u16 {
    sales().iter().map(|sale| sale.year).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_row_and_every_combination_is_there() {
        let lines = include_str!("sales.csv").lines().count();

        assert_eq!(sales().len(), lines - 1);
        assert_eq!(sales().len(), 24 * 4 * 4);
        assert_eq!(labels(Dimension::Quarter).len(), 8);
        assert_eq!(labels(Dimension::Year), ["2024", "2025"]);
    }
}
