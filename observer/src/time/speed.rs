//! How fast recorded time goes by.

use std::{fmt, str::FromStr};

/// How fast a recording is replayed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// So many of its seconds in one, [`Speed::SLOWEST`] to [`Speed::FASTEST`].
    Times(f64),
    /// As fast as it can be read.
    Max,
}

impl Speed {
    /// The least that is accepted.
    pub const SLOWEST: f64 = 0.0625;
    /// The most.
    pub const FASTEST: f64 = 1024.0;

    /// Twice as fast; beyond [`Speed::FASTEST`] there is only [`Speed::Max`].
    #[must_use]
    pub fn faster(self) -> Self {
        match self {
            Self::Times(times) if times * 2.0 <= Self::FASTEST => Self::Times(times * 2.0),
            Self::Times(_) | Self::Max => Self::Max,
        }
    }

    /// Half as fast, down to [`Speed::SLOWEST`].
    #[must_use]
    pub fn slower(self) -> Self {
        match self {
            Self::Times(times) => Self::Times((times / 2.0).max(Self::SLOWEST)),
            Self::Max => Self::Times(Self::FASTEST),
        }
    }
}

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Self::Max);
        }
        match text.parse() {
            Ok(times) if (Self::SLOWEST..=Self::FASTEST).contains(&times) => Ok(Self::Times(times)),
            _ => Err(format!("a number from {} to {}, or max", Self::SLOWEST, Self::FASTEST)),
        }
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Times(times) => write!(f, "{times}×"),
            Self::Max => write!(f, "max"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_double_and_halve_within_bounds() {
        assert_eq!(Speed::Times(3.0).faster(), Speed::Times(6.0));
        assert_eq!((Speed::Times(Speed::FASTEST).faster(), Speed::Max.faster()), (Speed::Max, Speed::Max));
        assert_eq!(Speed::Max.slower(), Speed::Times(Speed::FASTEST));
        assert_eq!(Speed::Times(Speed::SLOWEST).slower(), Speed::Times(Speed::SLOWEST));
        assert_eq!(("max".parse(), "2.5".parse()), (Ok(Speed::Max), Ok(Speed::Times(2.5))));
        for bad in ["0", "-1", "nan", "inf", "fast", "1e9"] {
            assert!(bad.parse::<Speed>().is_err(), "{bad}");
        }
        assert_eq!((Speed::Times(0.5).to_string(), Speed::Times(16.0).to_string()), ("0.5×".into(), "16×".into()));
    }
}
