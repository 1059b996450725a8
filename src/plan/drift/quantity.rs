//! Quantities as Kubernetes writes them, such as `500m` or `4Gi`.

/// Parses a quantity such as `500m` or `4Gi` into billionths, rounded up and capped as Kubernetes
/// does; None for any other text.
#[must_use]
pub fn parse_quantity(text: &str) -> Option<i128> {
    const CAP: i128 = i64::MAX as i128 * 1_000_000_000;
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let (twos, tens) = find_scale(suffix)?;
    let fraction = fraction.trim_end_matches('0');
    let tens =
        tens.saturating_add(9).saturating_sub(i32::try_from(fraction.len()).unwrap_or(i32::MAX));
    let amount = format!("0{whole}{fraction}")
        .parse()
        .ok()
        .and_then(|digits| apply_scale(digits, twos, tens))
        .unwrap_or(CAP)
        .min(CAP);
    Some(if text.starts_with('-') { -amount } else { amount })
}

/// Computes digits × 2^twos × 10^tens; None on overflow.
fn apply_scale(digits: i128, twos: u32, tens: i32) -> Option<i128> {
    let binary = digits.checked_mul(1_i128.checked_shl(twos)?)?;
    match 10_i128.checked_pow(tens.unsigned_abs()) {
        Some(power) if tens < 0 => Some(binary / power + i128::from(binary % power != 0)),
        None if tens < 0 => Some(i128::from(binary != 0)),
        Some(power) => binary.checked_mul(power),
        None => (binary == 0).then_some(0),
    }
}

/// The powers of two and of ten that a suffix stands for.
fn find_scale(suffix: &str) -> Option<(u32, i32)> {
    Some(match suffix {
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "" => (0, 0),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        _ => (0, suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantities_of_one_amount_are_equal_however_they_are_written() {
        let same = [
            ("1", "1000m"),
            ("1.5", "1500m"),
            ("1Gi", "1024Mi"),
            ("0.5Gi", "512Mi"),
            ("1e3", "1k"),
            ("1E3", "1k"),
            ("3e-3", "3m"),
            (".5", "500m"),
            ("5.", "5"),
            ("+1", "1"),
            ("-0", "0"),
            ("1E", "1000P"),
            ("1u", "1000n"),
            ("0.1n", "1n"),
            ("100E", "1000E"),
            ("0e999999999", "0"),
            ("1e-999999999", "1n"),
            ("1.50", "1.5"),
        ];
        for (a, b) in same {
            assert!(parse_quantity(a).is_some(), "{a}");
            assert_eq!(parse_quantity(a), parse_quantity(b), "{a} and {b}");
        }
        assert_ne!(parse_quantity("1G"), parse_quantity("1Gi"));
        assert_eq!(parse_quantity("-1"), Some(-1_000_000_000));
    }

    #[test]
    fn what_is_no_quantity_is_none() {
        for text in [
            "", ".", "-", "+-1", "m", "1GB", "1 Gi", "1K", "1.2.3", "1e", "1e1.5", "0x1", "1ki",
            "٣", "true", "1eE1",
        ] {
            assert_eq!(parse_quantity(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,12}|[-+]?[0-9.]{0,50}(e[-+]?[0-9]{1,12}|[a-zA-Z]{0,3})") {
            if let Some(amount) = parse_quantity(&text) {
                prop_assert!(amount.unsigned_abs() <= i64::MAX.unsigned_abs() as u128 * 1_000_000_000);
            }
        }

        #[test]
        fn thousandths_and_units_agree(n in any::<u32>()) {
            prop_assert_eq!(parse_quantity(&format!("{n}")), parse_quantity(&format!("{n}000m")));
        }
    }
}
