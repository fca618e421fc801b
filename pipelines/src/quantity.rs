//! Sizes and durations as people write them in job files: `"64MiB"`, `"1MB/s"`, `"500ms"`.
//!
//! ```
//! use anabranch_pipelines::quantity::{ByteSize, Interval};
//! use std::time::Duration;
//!
//! assert_eq!("64MiB".parse::<ByteSize>()?, ByteSize(64 << 20));
//! assert_eq!("1.5 MB".parse::<ByteSize>()?, ByteSize(1_500_000));
//! assert_eq!(ByteSize(64 << 20).to_string(), "64 MiB");
//! assert_eq!("500ms".parse::<Interval>()?, Interval(Duration::from_millis(500)));
//! # Ok::<(), anabranch_pipelines::quantity::QuantityError>(())
//! ```

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Text that is no quantity.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{text}` is no {what}; write it like {example}")]
pub struct QuantityError {
    text: String,
    what: &'static str,
    example: &'static str,
}

/// A number of bytes. `kB`, `MB`, `GB`, `TB` are powers of 1000, `KiB`, `MiB`, `GiB`, `TiB` of 1024.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// The number as a `usize`, or the largest one.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for ByteSize {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unit = |unit: &str| {
            Some(match unit.to_ascii_lowercase().as_str() {
                "" | "b" => 1.0,
                "kb" => 1e3,
                "mb" => 1e6,
                "gb" => 1e9,
                "tb" => 1e12,
                "kib" => 1024.0,
                "mib" => 1_048_576.0,
                "gib" => 1_073_741_824.0,
                "tib" => 1_099_511_627_776.0,
                _ => return None,
            })
        };
        number_and_unit(text, unit)
            .map(|bytes| Self(bytes.round() as u64))
            .ok_or_else(|| error(text, "size", "\"64MiB\" or \"1.5GB\""))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut size = self.0 as f64;
        let mut units = ["B", "KiB", "MiB", "GiB", "TiB"].into_iter();
        let mut unit = units.next().unwrap_or("B");
        for larger in units {
            if size < 1023.95 {
                break;
            }
            size /= 1024.0;
            unit = larger;
        }
        if unit == "B" || (size - size.round()).abs() < 0.005 {
            write!(f, "{} {unit}", size.round())
        } else if size < 10.0 {
            write!(f, "{size:.2} {unit}")
        } else {
            write!(f, "{size:.1} {unit}")
        }
    }
}

/// A length of time: `"500ms"`, `"10s"`, `"5m"`, `"1h"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Interval(pub Duration);

impl FromStr for Interval {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unit = |unit: &str| {
            Some(match unit {
                "ms" => 1e-3,
                "s" => 1.0,
                "m" | "min" => 60.0,
                "h" => 3600.0,
                _ => return None,
            })
        };
        number_and_unit(text, unit)
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .map(Self)
            .ok_or_else(|| error(text, "duration", "\"500ms\", \"10s\" or \"5m\""))
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        match ms {
            0 => f.write_str("0s"),
            _ if ms.is_multiple_of(3_600_000) => write!(f, "{}h", ms / 3_600_000),
            _ if ms.is_multiple_of(60_000) => write!(f, "{}m", ms / 60_000),
            _ if ms.is_multiple_of(1000) => write!(f, "{}s", ms / 1000),
            _ => write!(f, "{ms}ms"),
        }
    }
}

/// Splits `"1.5 MiB"` and multiplies; `None` for negative, infinite or unknown.
fn number_and_unit(text: &str, unit: impl Fn(&str) -> Option<f64>) -> Option<f64> {
    let text = text.trim().trim_end_matches("/s");
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let value = number.parse::<f64>().ok()? * unit(rest.trim())?;
    (value.is_finite() && value >= 0.0 && value < u64::MAX as f64).then_some(value)
}

fn error(text: &str, what: &'static str, example: &'static str) -> QuantityError {
    QuantityError { text: text.to_owned(), what, example }
}

macro_rules! as_string {
    ($kind:ty) => {
        impl TryFrom<String> for $kind {
            type Error = QuantityError;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }
        impl From<$kind> for String {
            fn from(quantity: $kind) -> Self {
                quantity.to_string()
            }
        }
    };
}

as_string!(ByteSize);
as_string!(Interval);
