//! A bar shared out among several.

/// How many of the cells each part gets, by its share. Every part that is there gets one as long as there are any, the first
/// ones first.
pub(crate) fn shares(parts: &[u64], cells: usize) -> Vec<usize> {
    let mut shares = vec![0; parts.len()];
    if parts.iter().all(|part| *part == 0) {
        return shares;
    }
    let mut left = cells;
    for (share, _) in shares.iter_mut().zip(parts).filter(|(_, part)| **part > 0) {
        if left > 0 {
            *share = 1;
            left -= 1;
        }
    }
    // The rest one by one to whoever has the fewest cells for its part (D'Hondt), so that no share is rounded away.
    for _ in 0..left {
        let due = |index: &usize| u128::from(parts[*index]) * 1_000_000 / (shares[*index] as u128 + 1);
        if let Some(next) = (0..parts.len()).rev().max_by_key(due) {
            shares[next] += 1;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_cells_are_shared_out_and_nobody_is_left_out() {
        assert_eq!(shares(&[100, 0, 1], 8), [7, 0, 1]);
        assert_eq!(shares(&[3, 1], 8), [6, 2]);
        assert_eq!(shares(&[5], 8), [8]);
        assert_eq!(shares(&[9, 9, 9], 2), [1, 1, 0]);
        assert_eq!(shares(&[0, 0], 8), [0, 0]);
        assert_eq!((shares(&[], 8), shares(&[1], 0)), (vec![], vec![0]));
    }
}
