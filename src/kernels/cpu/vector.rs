//! Loops over slices that vectorise: sums, the exponential function. Call them below [`vectorised`](super::simd::vectorised).

/// Partial sums kept side by side: one 512-bit register.
const LANES: usize = 16;

/// Folds `x` and `y` pairwise in [`LANES`] independent chains, which the compiler turns into vector code.
#[inline(always)]
fn fold(x: &[f32], y: &[f32], start: f32, step: impl Fn(f32, f32, f32) -> f32, join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; LANES];
    let (xs, ys) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    let (xr, yr) = (xs.remainder(), ys.remainder());
    for (x, y) in xs.zip(ys) {
        for i in 0..LANES {
            lanes[i] = step(lanes[i], x[i], y[i]);
        }
    }
    for (lane, (x, y)) in lanes.iter_mut().zip(xr.iter().zip(yr)) {
        *lane = step(*lane, *x, *y);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = join(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}

#[inline(always)]
pub(crate) fn sum(x: &[f32]) -> f32 {
    fold(x, x, 0.0, |s, x, _| s + x, |a, b| a + b)
}

#[inline(always)]
pub(crate) fn dot(x: &[f32], y: &[f32]) -> f32 {
    fold(x, y, 0.0, |s, x, y| s + x * y, |a, b| a + b)
}

/// Sum of products of the common length: eight running sums that the compiler can keep in vectors, gathered in f64 every 256 numbers,
/// as sums over a picture of small terms of both signs lose the little that is left in f32.
pub(crate) fn long_dot(a: &[f32], b: &[f32]) -> f64 {
    let n = a.len().min(b.len());
    let (a, b) = (&a[..n], &b[..n]);
    let mut total = 0.0;
    for (a, b) in a.chunks(256).zip(b.chunks(256)) {
        let mut sums = [0.0f32; 8];
        let (ac, bc) = (a.chunks_exact(8), b.chunks_exact(8));
        let tail: f32 = ac.remainder().iter().zip(bc.remainder()).map(|(a, b)| a * b).sum();
        for (a, b) in ac.zip(bc) {
            for i in 0..8 {
                sums[i] += a[i] * b[i];
            }
        }
        total += f64::from(sums.iter().sum::<f32>() + tail);
    }
    total
}

#[inline(always)]
pub(crate) fn maximum(x: &[f32]) -> f32 {
    fold(x, x, f32::NEG_INFINITY, |s, x, _| if x > s { x } else { s }, |a, b| if a > b { a } else { b })
}

#[inline(always)]
pub(crate) fn add_to(out: &mut [f32], x: &[f32]) {
    for (out, x) in out.iter_mut().zip(x) {
        *out += x;
    }
}

/// e^x, within 1.5e-7 of it relatively for x in [-87.3, 88.3]; clamped to that range (so never 0 or infinite); NaN stays NaN. Branch-free.
/// Cody and Waite's reduction by ln 2 in two parts, then Cephes' polynomial.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    /// Adding 1.5 * 2^23 leaves the nearest integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let x = if x < -87.3 { -87.3 } else { x };
    let x = if x > 88.3 { 88.3 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * 0.693_359_4) - n * -2.121_944_4e-4;
    let mut p = 1.987_569_2e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 0.166_666_65;
    p = p * r + 0.5;
    let power = f32::from_bits(shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23);
    (p * r * r + r + 1.0) * power
}

/// A row of `bias` (zeros without) for each of `rows`: what a product is added to.
pub(crate) fn repeated(bias: Option<&[f32]>, rows: usize, columns: usize) -> Vec<f32> {
    match bias {
        Some(bias) => {
            let mut out = Vec::with_capacity(rows * columns);
            for _ in 0..rows {
                out.extend_from_slice(bias);
            }
            out
        }
        None => vec![0.0; rows * columns],
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn exp_is_within_its_bound() {
        let mut worst = 0f64;
        let mut x = -87.29f32;
        while x < 88.29 {
            let want = (x as f64).exp();
            worst = worst.max((super::exp(x) as f64 - want).abs() / want);
            x += 0.000_37;
        }
        assert!(worst < 1.5e-7, "{worst:e}");
        assert!(super::exp(f32::NAN).is_nan());
        assert!(super::exp(-1e30) > 0.0 && super::exp(1e30).is_finite());
    }

    #[test]
    fn folds_take_every_element() {
        for n in [0, 1, 15, 16, 17, 65, 131] {
            let x: Vec<f32> = (0..n).map(|i| i as f32 - 3.0).collect();
            assert_eq!(super::sum(&x), x.iter().sum::<f32>());
            assert_eq!(super::dot(&x, &x), x.iter().map(|x| x * x).sum::<f32>());
            assert_eq!(super::maximum(&x), x.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b)));
        }
    }
}
