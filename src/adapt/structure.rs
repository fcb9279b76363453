//! The structure loss: small grey pictures of the twins should stay alike, so that a style does not cost a face. Squared, it acts on the
//! pictures that lose most and leaves the others to the words; without the square its many small pushes kept night from getting dark.

use super::clip_pass::Twins;
use crate::error::Result;
use crate::pairing::{grey16, SIDE};
use candle_core::Tensor;
use rayon::prelude::*;

/// The least length of a small grey picture less the batch's mean: half a level of 8 bits in each of its cells. Pictures of a batch that
/// has all but collapsed would have the gradient of a division by nothing.
const LEAST: f32 = SIDE as f32 / 255.0;

/// `weight` times the mean over the batch of max(0, floor - cos(a, b))^2, with a and b the small grey pictures of `after` and `before`
/// [n, 3, h, w], each less its batch's mean; and its gradient with respect to each part's `after`. h and w must be multiples of 16.
pub(super) fn loss(parts: &[Twins], floor: f32, weight: f32) -> Result<(f32, Vec<Tensor>)> {
    let small = |of: fn(&Twins) -> &Tensor| -> Result<Vec<Vec<f32>>> {
        let greys = parts.par_iter().map(|p| grey16(&of(p).detach())).collect::<Result<Vec<_>>>()?;
        Ok(centred(greys.concat()))
    };
    let (a, b) = (small(|p| &p.after)?, small(|p| &p.before)?);
    let n = a.len() as f32;
    let mut total = 0.0;
    let mut small: Vec<Vec<f32>> = vec![];
    for (a, b) in a.iter().zip(&b) {
        let length = |v: &[f32]| v.iter().map(|x| x * x).sum::<f32>().sqrt();
        let (own, lb) = (length(a), length(b).max(LEAST));
        let la = own.max(LEAST);
        let cosine = a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>() / (la * lb);
        let short = (floor - cosine).max(0.0);
        total += short * short;
        // d cos / da = (b / |b| - cos * a / |a|) / |a|, and below the least length b / |b| / LEAST.
        let along = if own > LEAST { cosine } else { 0.0 };
        let scale = -2.0 * short * weight / n;
        small.push(a.iter().zip(b).map(|(x, y)| scale * (y / lb - along * x / la) / la).collect());
    }
    // Removing the batch's mean is its own transpose.
    let small = centred(small);
    let mut from = 0;
    let gradient = |part: &Twins| -> Result<Tensor> {
        let (n, _, h, w) = part.after.dims4()?;
        let greys = &small[from..from + n];
        from += n;
        let (ch, cw) = (h / SIDE, w / SIDE);
        let share = 1.0 / (3 * ch * cw) as f32;
        let mut gradient = Vec::with_capacity(n * 3 * h * w);
        for g in greys {
            for _ in 0..3 {
                for y in 0..h {
                    let row = &g[y / ch * SIDE..][..SIDE];
                    gradient.extend((0..w).map(|x| row[x / cw] * share));
                }
            }
        }
        Ok(Tensor::from_vec(gradient, part.after.dims(), part.after.device())?)
    };
    Ok((weight * total / n, parts.iter().map(gradient).collect::<Result<_>>()?))
}

fn centred(mut vectors: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
    let n = vectors.len() as f32;
    for i in 0..vectors.first().map_or(0, Vec::len) {
        let mean = vectors.iter().map(|v| v[i]).sum::<f32>() / n;
        vectors.iter_mut().for_each(|v| v[i] -= mean);
    }
    vectors
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn the_gradient_is_that_of_the_differences() {
        let mut rng = crate::rng::Rng::new(9);
        let shape = [3, 3, 32, 32];
        let before = rng.normals(&shape, &Device::Cpu).unwrap();
        let after = rng.normals(&shape, &Device::Cpu).unwrap();
        let twins = |after: &Tensor, cuts: &[usize]| -> Vec<Twins> {
            let part = |t: &Tensor, c: &[usize]| t.narrow(0, c[0], c[1] - c[0]).unwrap();
            cuts.windows(2).map(|c| Twins { before: part(&before, c), after: part(after, c) }).collect()
        };
        let parts = loss(&twins(&after, &[0, 1, 3]), 0.9, 2.0).unwrap().1;
        let gradient = Tensor::cat(&parts, 0).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let start = after.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for i in [0, 33, 1024, 4000, 9000] {
            let at = |d: f32| {
                let mut v = start.clone();
                v[i] += d;
                loss(&twins(&Tensor::from_vec(v, &shape, &Device::Cpu).unwrap(), &[0, 3]), 0.9, 2.0).unwrap().0 as f64
            };
            let want = (at(0.5) - at(-0.5)) as f32;
            // Curvature over the step is of the order of 1 % of a gradient of about 1e-3.
            assert!((gradient[i] - want).abs() < 2e-5 + 0.02 * want.abs(), "{i}: {} instead of {want}", gradient[i]);
        }
    }

    /// Adapted pictures that are all the same but for rounding.
    #[test]
    fn a_collapsed_batch_has_a_gradient_of_ordinary_size() {
        let mut rng = crate::rng::Rng::new(4);
        let shape = [4, 3, 16, 16];
        let before = rng.normals(&shape, &Device::Cpu).unwrap();
        let steepest = |spread: f64| {
            let after = crate::rng::Rng::new(5).normals(&shape, &Device::Cpu).unwrap().affine(spread, 0.3).unwrap();
            let gradient = &loss(&[Twins { before: before.clone(), after }], 0.9, 1.0).unwrap().1[0];
            gradient.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap()
        };
        // A tenth of the contrast has ten times the slope of an ordinary batch, and nothing has more than 300 times.
        let ordinary = steepest(1.0);
        assert!(ordinary > 1e-4 && steepest(1e-6) < 300.0 * ordinary && steepest(0.0) < 300.0 * ordinary, "{ordinary} {}", steepest(1e-6));
    }

    #[test]
    fn alike_pictures_cost_nothing() {
        let x = crate::rng::Rng::new(2).normals(&[4, 3, 16, 16], &Device::Cpu).unwrap();
        let (value, gradients) = loss(&[Twins { after: x.affine(0.5, 0.1).unwrap(), before: x }], 0.9, 1.0).unwrap();
        assert_eq!(value, 0.0);
        assert_eq!(gradients[0].abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap(), 0.0);
    }
}
