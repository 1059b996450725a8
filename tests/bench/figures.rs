//! Figures: what is measured, the bar it should hold, and how both are shown.

use serde_json::{Map, Value, json};

/// A figure and its bar.
pub struct Figure {
    name: &'static str,
    bar: Option<f64>,
    unit: &'static str,
}

impl Figure {
    /// A figure that should be at most the bar.
    pub const fn at_most(name: &'static str, bar: f64, unit: &'static str) -> Self {
        Self { name, bar: Some(bar), unit }
    }

    /// A figure that is told, and has no bar.
    #[allow(dead_code)] // not every benchmark has one
    pub const fn told(name: &'static str, unit: &'static str) -> Self {
        Self { name, bar: None, unit }
    }
}

/// One row for each figure that any run measured: the median of the runs.
pub fn rows(bars: &[Figure], runs: &[Map<String, Value>]) -> Vec<Value> {
    let row = |figure: &Figure| {
        let values: Vec<f64> =
            runs.iter().filter_map(|run| run.get(figure.name)?.as_f64()).collect();
        let value = rounded(median(values)?);
        Some(
            json!({"name": figure.name, "value": value, "unit": figure.unit, "bar": figure.bar, "holds": figure.bar.is_none_or(|bar| value <= bar)}),
        )
    };
    bars.iter().filter_map(row).collect()
}

/// The median; None of nothing.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// Rounded up to three digits after the point, so that rounding never makes a bar hold.
fn rounded(value: f64) -> f64 {
    (value * 1000.0 - 1e-6).ceil() / 1000.0 + 0.0
}

/// The rows as a table, and a sentence where a bar does not hold.
pub fn table(rows: &[Value]) -> String {
    let text = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
    let mut out =
        format!("{:<31} {:>10} {:<9} {:>8}  {}\n", "figure", "value", "unit", "bar", "holds");
    for row in rows {
        let (bar, holds) = match &row["bar"] {
            Value::Null => ("-".to_owned(), "-"),
            bar => (format!("≤ {bar}"), if row["holds"] == true { "yes" } else { "NO" }),
        };
        out.push_str(&format!(
            "{:<31} {:>10} {:<9} {:>8}  {holds}\n",
            text(row, "name"),
            row["value"].to_string(),
            text(row, "unit"),
            bar
        ));
    }
    let barred = rows.iter().filter(|row| !row["bar"].is_null()).count();
    let missed: Vec<String> =
        rows.iter().filter(|row| row["holds"] != true).map(|row| text(row, "name")).collect();
    match missed.len() {
        0 if barred == 0 => {}
        0 => out.push_str("Every bar holds.\n"),
        n => out.push_str(&format!("{n} of {barred} bars do NOT hold: {}.\n", missed.join(", "))),
    }
    out
}

/// A line of progress.
pub fn say(what: &str) {
    eprintln!("{} {what}", jiff::Timestamp::now().strftime("%H:%M:%S"));
}

/// A size that the environment says, or else the usual one.
pub fn size(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}"))
    })
}
