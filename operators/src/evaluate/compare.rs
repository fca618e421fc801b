//! Numbers about curves: how metrics go with accuracy, and how many bytes one codec saves against another.

/// How two quantities go together over settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Correlation {
    /// Pearson's coefficient.
    pub r: f64,
    /// Its 95 % interval, by Fisher's transformation.
    pub interval: [f64; 2],
    /// Pairs.
    pub count: usize,
}

/// Pearson's correlation of pairs, those with an infinite number left out; `None` for fewer than four, or when one of
/// the two does not vary.
///
/// The interval takes pairs for independent. Settings of one codec are not: take it for a lower bound of how unsure
/// the coefficient is.
///
/// ```
/// use anabranch_operators::evaluate::correlation;
///
/// let pairs = [(1.0, 2.0), (2.0, 4.1), (3.0, 5.9), (4.0, 8.2), (5.0, f64::INFINITY)];
/// let found = correlation(&pairs).unwrap();
/// assert!(found.r > 0.99 && found.count == 4);
/// assert!(correlation(&[(1.0, 1.0); 9]).is_none());
/// ```
pub fn correlation(pairs: &[(f64, f64)]) -> Option<Correlation> {
    let finite = pairs.iter().filter(|(x, y)| x.is_finite() && y.is_finite());
    let finite: Vec<(f64, f64)> = finite.copied().collect();
    let count = finite.len();
    if count < 4 {
        return None;
    }
    let n = count as f64;
    let (x, y) = finite.iter().fold((0.0, 0.0), |(a, b), (x, y)| (a + x / n, b + y / n));
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (a, b) in &finite {
        xx += (a - x).powi(2);
        yy += (b - y).powi(2);
        xy += (a - x) * (b - y);
    }
    // What is left of equal numbers is rounding.
    let varies = |sum: f64, mean: f64| sum > n * (1e-12 * mean).powi(2) && sum > 0.0;
    if !varies(xx, x) || !varies(yy, y) {
        return None;
    }
    let r = (xy / (xx * yy).sqrt()).clamp(-1.0, 1.0);
    let half = 1.959_964 / (n - 3.0).sqrt();
    let interval = [-half, half].map(|by| (r.atanh() + by).tanh());
    Some(Correlation { r, interval, count })
}

/// How many bytes more (above 0) or fewer a codec needs for the same quality as another, on average over the quality
/// that both reach: Bjontegaard's measure (VCEG-M33, 2001), as a factor less one.
///
/// Points are (bytes, quality). Of each codec counts the best quality that so many bytes buy, since a curve of
/// accuracy may fall; between points the logarithm of bytes is linear in quality, instead of Bjontegaard's cubic,
/// which overshoots. `None` when the two have no range of quality in common.
///
/// ```
/// use anabranch_operators::evaluate::bd_rate;
///
/// let one = [(100.0, 30.0), (200.0, 35.0), (400.0, 40.0)];
/// let half = one.map(|(bytes, quality)| (bytes / 2.0, quality));
/// assert!((bd_rate(&one, &half).unwrap() + 0.5).abs() < 1e-9);
/// assert!(bd_rate(&one, &[(10.0, 5.0), (20.0, 6.0)]).is_none());
/// ```
pub fn bd_rate(reference: &[(f64, f64)], codec: &[(f64, f64)]) -> Option<f64> {
    let (reference, codec) = (frontier(reference), frontier(codec));
    let ends = |curve: &[(f64, f64)]| Some((curve.first()?.0, curve.last()?.0));
    let ((a, b), (c, d)) = (ends(&reference)?, ends(&codec)?);
    let (low, high) = (a.max(c), b.min(d));
    if low >= high {
        return None;
    }
    let mut at: Vec<f64> = reference.iter().chain(&codec).map(|(quality, _)| *quality).collect();
    at.retain(|quality| *quality > low && *quality < high);
    at.extend([low, high]);
    at.sort_by(f64::total_cmp);
    let mut sum = 0.0;
    // Both are straight between two such qualities.
    for pair in at.windows(2) {
        let [from, to] = pair else { continue };
        let middle = f64::midpoint(*from, *to);
        sum += (rate(&codec, middle)? - rate(&reference, middle)?) * (to - from);
    }
    Some((sum / (high - low)).exp() - 1.0)
}

/// Quality and the logarithm of the fewest bytes that reach it, both rising.
fn frontier(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let usable = points.iter().filter(|(bytes, quality)| *bytes > 0.0 && quality.is_finite());
    let mut points: Vec<(f64, f64)> =
        usable.map(|(bytes, quality)| (bytes.ln(), *quality)).collect();
    points.sort_by(|one, other| one.0.total_cmp(&other.0).then(other.1.total_cmp(&one.1)));
    let mut best = f64::NEG_INFINITY;
    let mut rising = Vec::new();
    for (bytes, quality) in points {
        if quality > best {
            best = quality;
            rising.push((quality, bytes));
        }
    }
    rising
}

/// The logarithm of bytes at a quality between the first and the last.
fn rate(curve: &[(f64, f64)], quality: f64) -> Option<f64> {
    curve.windows(2).find_map(|pair| {
        let [(q0, r0), (q1, r1)] = pair else { return None };
        let within = (*q0..=*q1).contains(&quality);
        within.then(|| r0 + (r1 - r0) * (quality - q0) / (q1 - q0))
    })
}
