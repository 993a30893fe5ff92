//! Medians and how far the middle half of the values is apart.

use serde::Serialize;

/// Of several runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) median: f64,
    /// A quarter of the values is below the first, a quarter above the second.
    pub(super) quartiles: [f64; 2],
}

impl Spread {
    /// None of no values.
    pub(super) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let [low, median, high] = [1, 2, 3].map(|quarters| quantile(&sorted, quarters));
        Some(Self { median: median?, quartiles: [low?, high?] })
    }
}

/// So many quarters of the way from the least to the greatest, in between where no value is just there.
fn quantile(sorted: &[f64], quarters: usize) -> Option<f64> {
    let steps = sorted.len().checked_sub(1)? * quarters;
    let (below, between) = (steps / 4, steps % 4);
    let low = *sorted.get(below)?;
    let high = *sorted.get(below + 1).unwrap_or(&low);
    Some(low + (high - low) * [0.0, 0.25, 0.5, 0.75][between])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_whatever_the_order() {
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]).map(|spread| spread.median), Some(2.0));
        assert_eq!(Spread::of(&[4.0, 1.0, 3.0, 2.0]).map(|spread| spread.median), Some(2.5));
    }

    #[test]
    fn quartiles_hold_the_middle_half_and_ignore_what_is_far_out() {
        let spread = Spread::of(&[1.0, 2.0, 3.0, 4.0, 1000.0]).expect("there are values");
        assert_eq!(spread, Spread { median: 3.0, quartiles: [2.0, 4.0] });
    }

    #[test]
    fn one_value_is_everything_and_none_is_nothing() {
        assert_eq!(Spread::of(&[7.0]), Some(Spread { median: 7.0, quartiles: [7.0, 7.0] }));
        assert_eq!(Spread::of(&[]), None);
    }
}
