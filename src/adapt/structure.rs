//! The structure loss: small grey pictures of the twins should stay alike, so that a style does not cost a face. Squared, it acts on the
//! pictures that lose most and leaves the others to the words; without the square its many small pushes kept night from getting dark.

use super::clip_pass::Twins;
use crate::error::{Error, Result};
use crate::kernels::{grey16, grey16_gradient, unit_rows, GREY_SIDE};
use candle_core::{Tensor, Var, D};
use rayon::prelude::*;

/// The least length of a small grey picture less the batch's mean: half a level of 8 bits in each of its cells. Pictures of a batch that
/// has all but collapsed would have the gradient of a division by nothing.
const LEAST: f64 = GREY_SIDE as f64 / 255.0;

/// `weight` times the mean over the batch of max(0, floor - cos(a, b))^2, with a and b the small grey pictures of `after` and `before`
/// [n, 3, h, w], each less its batch's mean; and its gradient with respect to each part's `after`.
///
/// Errors: `NotFinite` where a picture is not.
pub(super) fn loss(parts: &[Twins], floor: f32, weight: f32) -> Result<(f32, Vec<Tensor>)> {
    let small = |of: fn(&Twins) -> Result<Tensor>| -> Result<Tensor> {
        Ok(Tensor::cat(&parts.par_iter().map(of).collect::<Result<Vec<_>>>()?, 0)?)
    };
    let direction = |greys: &Tensor| unit_rows(&greys.broadcast_sub(&greys.mean_keepdim(0)?)?, LEAST);
    let after = Var::from_tensor(&small(|p| Ok(grey16(&p.after.detach())?))?)?;
    let cosines = (direction(after.as_tensor())? * direction(&small(|p| p.before.grey())?)?)?.sum(D::Minus1)?;
    // The hinge below would take NaN for nothing.
    if !cosines.to_vec1::<f32>()?.iter().all(|c| c.is_finite()) {
        return Err(Error::NotFinite("the structure loss: the pictures hold NaN or infinity".into()));
    }
    let loss = ((f64::from(floor) - cosines)?.relu()?.sqr()?.mean_all()? * f64::from(weight))?;
    let gradient = loss.backward()?.remove(after.as_tensor()).ok_or_else(|| Error::Internal("no gradient reached the pictures".into()))?;
    let mut from = 0;
    let gradient_of = |part: &Twins| -> Result<Tensor> {
        let n = part.after.dim(0)?;
        let rows = gradient.narrow(0, from, n)?;
        from += n;
        Ok(grey16_gradient(&rows, part.after.shape())?)
    };
    Ok((loss.to_scalar()?, parts.iter().map(gradient_of).collect::<Result<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::super::clip_pass::Before;
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
            cuts.windows(2).map(|c| Twins { before: Before::Pictures(part(&before, c)), after: part(after, c) }).collect()
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
            let gradient = &loss(&[Twins { before: Before::Pictures(before.clone()), after }], 0.9, 1.0).unwrap().1[0];
            gradient.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap()
        };
        // A tenth of the contrast has ten times the slope of an ordinary batch, and nothing has more than 300 times.
        let ordinary = steepest(1.0);
        assert!(ordinary > 1e-4 && steepest(1e-6) < 300.0 * ordinary && steepest(0.0) < 300.0 * ordinary, "{ordinary} {}", steepest(1e-6));
    }

    #[test]
    fn pictures_that_are_not_numbers_are_no_small_loss() {
        let before = crate::rng::Rng::new(4).normals(&[2, 3, 16, 16], &Device::Cpu).unwrap();
        for bad in [f64::NAN, f64::INFINITY] {
            let after = before.affine(1.0, bad).unwrap();
            let error = loss(&[Twins { before: Before::Pictures(before.clone()), after }], 0.9, 1.0).unwrap_err();
            assert!(matches!(error, Error::NotFinite(_)), "{error}");
        }
    }

    #[test]
    fn alike_pictures_cost_nothing() {
        let x = crate::rng::Rng::new(2).normals(&[4, 3, 16, 16], &Device::Cpu).unwrap();
        let (value, gradients) = loss(&[Twins { after: x.affine(0.5, 0.1).unwrap(), before: Before::Pictures(x) }], 0.9, 1.0).unwrap();
        assert_eq!(value, 0.0);
        assert_eq!(gradients[0].abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap(), 0.0);
    }
}
