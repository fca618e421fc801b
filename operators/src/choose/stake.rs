//! How much is bet on a mean being smaller than is claimed.
//!
//! Whoever claims that losses in [-1, 1] have at least the mean `m` must accept a bet that pays `m - loss` for each
//! unit: on average it pays nothing or less. Capital that is staked record by record then grows above `1 / alpha` with
//! probability `alpha` at most, however often one looks (Ville's inequality); when it does, the claim is given up.
//!
//! The best stake depends on how many records are discordant, which nobody knows beforehand. So the capital is
//! divided evenly among stakes that halve from one to the next, and left there: a mixture of martingales is one. It is
//! never worse than the best of them by more than the factor [`COUNT`], and depends on the losses but not on their
//! order (unlike the plug-in stakes of Waudby-Smith and Ramdas, "Estimating means of bounded random variables by
//! betting", JRSS B 86, 2024, section 4, whose capital this otherwise is).

/// Stakes among which capital is divided.
pub(super) const COUNT: usize = 10;

/// The largest stake, of what would be lost at most: one that is all of it would never recover from a single loss.
const LARGEST: f64 = 0.95;

/// What each stake makes of a unit of capital when the loss is `loss` and the claim is a mean of at least `claim`
/// (below 1). Never negative.
pub(super) fn factors(claim: f64, loss: f64) -> [f64; COUNT] {
    let paid = (claim - loss) / (1.0 - claim);
    let mut stake = 2.0 * LARGEST;
    [(); COUNT].map(|()| {
        stake /= 2.0;
        1.0 + stake * paid
    })
}

/// The logarithm of the mean of numbers that are given by their logarithms.
pub(super) fn log_mean(logs: &[f64; COUNT]) -> f64 {
    let largest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if !largest.is_finite() {
        return largest;
    }
    let sum: f64 = logs.iter().map(|log| (log - largest).exp()).sum();
    largest + (sum / COUNT as f64).ln()
}
