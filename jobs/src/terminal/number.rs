//! Numbers as people read them.

use anabranch_pipelines::quantity::ByteSize;

/// `1234567` as `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 record`, `2,000 records`.
pub(super) fn records(number: u64) -> String {
    plural(number, "record")
}

/// `1 shard`, `3 shards`.
pub(crate) fn plural(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// Four digits of it: `1.834`, `123.4`, `0.01234`.
pub(super) fn figure(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let digits = 3 - (value.abs().log10().floor() as i32).clamp(-6, 3);
    format!("{value:.*}", usize::try_from(digits).unwrap_or(0))
}

/// `12.4 MiB`.
pub(crate) fn bytes(number: u64) -> String {
    ByteSize(number).to_string()
}

/// `0.42 s`, `12.3 s`, `4 min 05 s`, `2 h 03 min`.
pub(crate) fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 0.9995 => format!("{s:.2} s"),
        s if s < 59.95 => format!("{s:.1} s"),
        s if s < 3599.5 => {
            format!("{} min {:02} s", (s.round() as u64) / 60, (s.round() as u64) % 60)
        }
        s => format!("{} h {:02} min", (s as u64) / 3600, (s as u64) % 3600 / 60),
    }
}

/// `1,234 records/s`; nothing when no time has passed.
pub(super) fn rate(records: u64, seconds: f64) -> Option<String> {
    let rate = records as f64 / seconds;
    (seconds > 0.0 && rate.is_finite()).then(|| match rate {
        rate if rate < 10.0 => format!("{rate:.1} records/s"),
        rate => format!("{} records/s", count(rate.round() as u64)),
    })
}

/// How much smaller `after` is than `before`: `3.2 times smaller`, `1.4 times larger`.
pub(super) fn ratio(before: u64, after: u64) -> Option<String> {
    if before == 0 || after == 0 {
        return None;
    }
    let ratio = before as f64 / after as f64;
    Some(match ratio {
        r if r >= 1.05 => format!("{r:.1} times smaller"),
        r if r > 0.95 => "the same size".to_owned(),
        r => format!("{:.1} times larger", 1.0 / r),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [0.1, 59.96, 245.0, 7400.0].map(seconds),
            ["0.10 s", "1 min 00 s", "4 min 05 s", "2 h 03 min"]
        );
        assert_eq!((records(1), plural(2, "shard")), ("1 record".into(), "2 shards".into()));
        assert_eq!(rate(5, 0.0), None);
        assert_eq!(rate(100, 0.1).unwrap(), "1,000 records/s");
        assert_eq!(ratio(320, 100).unwrap(), "3.2 times smaller");
        assert_eq!(ratio(100, 140).unwrap(), "1.4 times larger");
        assert_eq!(ratio(0, 1), None);
    }
}
