//! A number measured several times: its median, and how far the others lie from it.

use serde::Serialize;

/// Rounds of one number, in the order they were measured.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Spread {
    /// The middle one; between the two middle ones of an even number.
    pub median: f64,
    /// The lowest.
    pub lowest: f64,
    /// The highest.
    pub highest: f64,
    /// All.
    pub rounds: Vec<f64>,
}

impl From<Vec<f64>> for Spread {
    fn from(rounds: Vec<f64>) -> Spread {
        let mut sorted = rounds.clone();
        sorted.sort_by(f64::total_cmp);
        let (Some(&lowest), Some(&highest)) = (sorted.first(), sorted.last()) else { return Spread::default() };
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
        Spread { median, lowest, highest, rounds }
    }
}

impl FromIterator<f64> for Spread {
    fn from_iter<I: IntoIterator<Item = f64>>(rounds: I) -> Spread {
        rounds.into_iter().collect::<Vec<f64>>().into()
    }
}

impl Spread {
    /// As a person reads it: `61.2 (58.0–63.1)`, or the number alone where there is one.
    pub fn words(&self) -> String {
        let Spread { median, lowest, highest, .. } = self;
        if self.rounds.len() < 2 {
            return figure(*median);
        }
        format!("{} ({}–{})", figure(*median), figure(*lowest), figure(*highest))
    }
}

/// Three figures or so: 12,345 and 98.7 and 1.23.
pub fn figure(number: f64) -> String {
    match number.abs() {
        large if large >= 1_000.0 => thousands(number.round() as i64),
        hundreds if hundreds >= 100.0 => format!("{number:.0}"),
        tens if tens >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

fn thousands(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0 { format!("-{text}") } else { text }
}
