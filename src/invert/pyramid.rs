//! Squared distance of a picture and of its averages, with its gradient.

/// Averages over 1, 2, 4, 8 and 16 pixels.
const LEVELS: usize = 5;

/// `x` and `target` are planes of side x side (side a power of two of 32 or more). Returns the mean squared difference plus `weight`
/// times the sum of those of the averages over 2, 4, 8 and 16 pixels, and its gradient with respect to `x`.
pub(super) fn loss(x: &[f32], target: &[f32], side: usize, weight: f32) -> (f32, Vec<f32>) {
    let mut differences = vec![x.iter().zip(target).map(|(a, b)| a - b).collect::<Vec<f32>>()];
    let levels = if weight > 0.0 { LEVELS } else { 1 };
    for level in 1..levels {
        let width = side >> level;
        let fine = &differences[level - 1];
        let mut coarse = vec![0.0; fine.len() / 4];
        for (y, row) in coarse.chunks_mut(width).enumerate() {
            let (a, b) = fine[4 * width * y..][..4 * width].split_at(2 * width);
            for (i, v) in row.iter_mut().enumerate() {
                *v = 0.25 * (a[2 * i] + a[2 * i + 1] + b[2 * i] + b[2 * i + 1]);
            }
        }
        differences.push(coarse);
    }
    let mut total = 0f64;
    let mut grad: Vec<f32> = vec![];
    for level in (0..levels).rev() {
        let d = &differences[level];
        let w = if level == 0 { 1.0 } else { weight };
        // A sum of millions of squares in f32 forgets most of the last ones, and which latent is the best would be chance.
        let square: f64 = d.iter().map(|v| f64::from(v * v)).sum();
        total += f64::from(w) * square / d.len() as f64;
        let own = 2.0 * w / d.len() as f32;
        let width = side >> level;
        let coarse = std::mem::take(&mut grad);
        grad = d.iter().map(|v| own * v).collect();
        if !coarse.is_empty() {
            for (y, row) in grad.chunks_mut(width).enumerate() {
                for (x, v) in row.iter_mut().enumerate() {
                    *v += 0.25 * coarse[(y / 2) * (width / 2) + x / 2];
                }
            }
        }
    }
    (total as f32, grad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gradient_is_that_of_the_differences() {
        let mut rng = crate::rng::Rng::new(5);
        let mut noise = |n: usize| (0..n).map(|_| rng.normal()).collect::<Vec<_>>();
        let (x, t) = (noise(3 * 32 * 32), noise(3 * 32 * 32));
        let (_, grad) = loss(&x, &t, 32, 0.7);
        for i in [0, 5, 1000, 2047, 3071] {
            let at = |d: f32| {
                let mut x = x.clone();
                x[i] += d;
                loss(&x, &t, 32, 0.7).0 as f64
            };
            // A quadratic: central differences are exact but for rounding, about 1e-7 of the loss over the step.
            let want = (at(0.5) - at(-0.5)) / 1.0;
            assert!((grad[i] as f64 - want).abs() < 5e-6, "{i}: {} {want}", grad[i]);
        }
    }

    #[test]
    fn a_constant_difference_counts_once_a_level() {
        let (x, t) = (vec![0.5; 3 * 32 * 32], vec![0.0; 3 * 32 * 32]);
        assert!((loss(&x, &t, 32, 1.0).0 - 5.0 * 0.25).abs() < 1e-6);
        assert!((loss(&x, &t, 32, 0.0).0 - 0.25).abs() < 1e-6);
    }

    /// At 1024 px the sum has 3 million terms.
    #[test]
    fn a_large_picture_is_summed_as_exactly_as_a_small_one() {
        let (x, t) = (vec![0.1f32; 3 << 20], vec![0.0; 3 << 20]);
        let want = f64::from(0.1f32).powi(2);
        let apart = (f64::from(loss(&x, &t, 1024, 0.0).0) / want - 1.0).abs();
        assert!(apart < 1e-6, "{apart:e}");
    }
}
