//! Shares as people write them.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

/// A share of a whole: `"1%"` or `0.01`.
///
/// ```
/// use anabranch_operators::Share;
///
/// let share: Share = serde_json::from_str(r#""0.5 %""#)?;
/// assert_eq!(share, serde_json::from_str("0.005")?);
/// assert_eq!(share.to_string(), "0.5%");
/// assert!(serde_json::from_str::<Share>(r#""one""#).is_err());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "String")]
pub struct Share(pub f64);

/// The two ways of writing it.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum Written {
    Text(String),
    Number(f64),
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = |_| format!("`{text}` is no share; write it like 1% or 0.01");
        Ok(Self(match text.trim().strip_suffix('%') {
            Some(percent) => percent.trim().parse::<f64>().map_err(wrong)? / 100.0,
            None => text.trim().parse().map_err(wrong)?,
        }))
    }
}

impl TryFrom<Written> for Share {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        match written {
            Written::Text(text) => text.parse(),
            Written::Number(number) => Ok(Self(number)),
        }
    }
}

impl From<Share> for String {
    fn from(share: Share) -> Self {
        share.to_string()
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Ten digits hide what a division by 100 adds.
        let percent = (self.0 * 100.0 * 1e10).round() / 1e10;
        write!(f, "{percent}%")
    }
}

impl JsonSchema for Share {
    fn schema_name() -> Cow<'static, str> {
        "Share".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Written::json_schema(generator)
    }
}
