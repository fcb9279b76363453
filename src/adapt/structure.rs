//! The structure loss: small grey pictures of the twins should stay alike, so that a style does not cost a face.

use crate::error::Result;
use crate::pairing::{grey16, SIDE};
use candle_core::Tensor;

/// `weight` times the mean over the batch of max(0, floor - cos(a, b)), with a and b the small grey pictures of `after` and `before`
/// [n, 3, h, w], each less its batch's mean; and its gradient with respect to `after`. h and w must be multiples of 16.
pub(super) fn loss(before: &Tensor, after: &Tensor, floor: f32, weight: f32) -> Result<(f32, Tensor)> {
    let (n, _, h, w) = after.dims4()?;
    let (a, b) = (centred(grey16(&after.detach())?), centred(grey16(before)?));
    let mut total = 0.0;
    let mut small: Vec<Vec<f32>> = vec![];
    for (a, b) in a.iter().zip(&b) {
        let length = |v: &[f32]| v.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-8);
        let (la, lb) = (length(a), length(b));
        let cosine = a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>() / (la * lb);
        let active = cosine < floor;
        total += if active { floor - cosine } else { 0.0 };
        // d cos / da = (b / |b| - cos * a / |a|) / |a|
        let scale = if active { -weight / n as f32 } else { 0.0 };
        small.push(a.iter().zip(b).map(|(x, y)| scale * (y / lb - cosine * x / la) / la).collect());
    }
    // Removing the batch's mean is its own transpose.
    let small = centred(small);
    let (ch, cw) = (h / SIDE, w / SIDE);
    let share = 1.0 / (3 * ch * cw) as f32;
    let mut gradient = Vec::with_capacity(n * 3 * h * w);
    for g in &small {
        for _ in 0..3 {
            for y in 0..h {
                let row = &g[y / ch * SIDE..][..SIDE];
                gradient.extend((0..w).map(|x| row[x / cw] * share));
            }
        }
    }
    Ok((weight * total / n as f32, Tensor::from_vec(gradient, after.dims(), after.device())?))
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
        let gradient = loss(&before, &after, 0.9, 2.0).unwrap().1.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let start = after.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for i in [0, 33, 1024, 4000, 9000] {
            let at = |d: f32| {
                let mut v = start.clone();
                v[i] += d;
                loss(&before, &Tensor::from_vec(v, &shape, &Device::Cpu).unwrap(), 0.9, 2.0).unwrap().0 as f64
            };
            let want = (at(0.5) - at(-0.5)) as f32;
            // Curvature over the step is of the order of 1 % of a gradient of about 1e-3.
            assert!((gradient[i] - want).abs() < 2e-5 + 0.02 * want.abs(), "{i}: {} instead of {want}", gradient[i]);
        }
    }

    #[test]
    fn alike_pictures_cost_nothing() {
        let x = crate::rng::Rng::new(2).normals(&[4, 3, 16, 16], &Device::Cpu).unwrap();
        let (value, gradient) = loss(&x, &x.affine(0.5, 0.1).unwrap(), 0.9, 1.0).unwrap();
        assert_eq!(value, 0.0);
        assert_eq!(gradient.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap(), 0.0);
    }
}
