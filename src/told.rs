//! Numbers in what people read.

/// How many of what: `1 error`, `2 errors`, `0 deliveries`.
pub fn count(n: impl TryInto<u64>, what: &str) -> String {
    match (n.try_into().unwrap_or(u64::MAX), what.strip_suffix("ry")) {
        (1, _) => format!("1 {what}"),
        (n, Some(stem)) => format!("{n} {stem}ries"),
        (n, None) => format!("{n} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_one_and_all_else_are_many() {
        let told =
            [(0, "error"), (1, "error"), (2, "error"), (1, "delivery"), (7, "delivery")].map(|(n, w)| count(n, w));
        assert_eq!(told, ["0 errors", "1 error", "2 errors", "1 delivery", "7 deliveries"]);
    }
}
