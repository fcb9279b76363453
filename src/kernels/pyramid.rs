//! Squared distance of pictures and of their averages.

use super::cpu::vector::long_dot;
use super::cpu::View;
#[cfg(feature = "cuda")]
use super::cuda::{self, At, Gpu};
use super::op::{alike, apply, run1, Backward, Differentiable, Op};
use super::with_gradient::times;
use candle_core::{bail, Result, Shape, Tensor};

/// Averages over 1, 2, 4, 8 and 16 pixels.
const LEVELS: usize = 5;

/// The mean squared difference of `x` and `target` [n, c, h, w], plus `weight` times the sum of those of the averages over 2, 4, 8 and 16
/// pixels: a scalar. Differentiable in `x`; a tracked `target` is an error. With a weight, 16 must divide h and w.
pub(crate) fn pyramid_distance(x: &Tensor, target: &Tensor, weight: f32) -> Result<Tensor> {
    if target.track_op() {
        bail!("pyramid_distance has no gradient for its target: detach it");
    }
    apply(Pyramid { weight }, [x, target])
}

/// The mean of (a - b)^2: a scalar, not differentiable.
pub(crate) fn mean_square_error(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    run1(&MeanSquareError, [a, b])
}

/// x, target -> distance, its gradient with respect to x: it costs little more to compute both than one.
struct Pyramid {
    weight: f32,
}

impl Op<2, 2> for Pyramid {
    const NAME: &'static str = "pyramid_distance";
    fn shapes(&self, [x, target]: [&Shape; 2]) -> Result<[Shape; 2]> {
        let coarsest = if self.weight > 0.0 { 1 << (LEVELS - 1) } else { 1 };
        match alike(Self::NAME, x, target)?.dims() {
            &[n, c, h, w] if n * c * h * w > 0 && h % coarsest == 0 && w % coarsest == 0 => Ok([Shape::from(()), x.clone()]),
            other => bail!("{}: {other:?} instead of [n, c, h, w] with sides that {coarsest} divides", Self::NAME),
        }
    }
    fn cpu(&self, [x, target]: [View; 2]) -> Result<[Vec<f32>; 2]> {
        let (_, _, _, side) = x.shape.dims4()?;
        let (distance, gradient) = distance(x.values, target.values, side, self.weight);
        Ok([vec![distance], gradient])
    }
    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, [x, target]: [cuda::View; 2]) -> Result<[cuda::Numbers; 2]> {
        let (n, c, h, w) = x.shape.dims4()?;
        let levels = if self.weight > 0.0 { LEVELS } else { 1 };
        cuda::picture::pyramid(gpu, x.at(), target.at(), (n * c, h, w), levels, self.weight)
    }
}

impl Differentiable<2, 2> for Pyramid {
    fn gradient(&self, given: &Backward<2, 2>) -> Result<[Option<Tensor>; 2]> {
        let [_, gradient] = &given.outputs;
        Ok([Some(times(gradient, &given.gradient)?), None])
    }
}

/// Of rows of `side`.
fn distance(x: &[f32], target: &[f32], side: usize, weight: f32) -> (f32, Vec<f32>) {
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
        total += f64::from(w) * long_dot(d, d) / d.len() as f64;
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

struct MeanSquareError;

impl Op<2> for MeanSquareError {
    const NAME: &'static str = "mean_square_error";
    fn shapes(&self, [a, b]: [&Shape; 2]) -> Result<[Shape; 1]> {
        match alike(Self::NAME, a, b)?.elem_count() {
            0 => bail!("{} of {a:?}, which is nothing", Self::NAME),
            _ => Ok([Shape::from(())]),
        }
    }
    fn cpu(&self, [a, b]: [View; 2]) -> Result<[Vec<f32>; 1]> {
        let square: f64 = a.values.iter().zip(b.values).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        Ok([vec![(square / a.values.len() as f64) as f32]])
    }
    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, [a, b]: [cuda::View; 2]) -> Result<[cuda::Numbers; 1]> {
        Ok([cuda::picture::mean_square_error(gpu, a.at(), b.at(), a.values.len())?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Var};

    fn value(x: &Tensor, target: &Tensor, weight: f32) -> f64 {
        f64::from(pyramid_distance(x, target, weight).unwrap().to_scalar::<f32>().unwrap())
    }

    #[test]
    fn the_gradient_is_that_of_the_differences() {
        let mut rng = crate::rng::Rng::new(5);
        // Not square, as no picture need be.
        let shape = [1, 3, 32, 48];
        let mut noise = || rng.normals(&shape, &Device::Cpu).unwrap();
        let (x, t) = (noise(), noise());
        let var = Var::from_tensor(&x).unwrap();
        // A factor behind the distance reaches the gradient.
        let gradients = (pyramid_distance(var.as_tensor(), &t, 0.7).unwrap() * 3.0).unwrap().backward().unwrap();
        let grad = gradients.get(var.as_tensor()).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let start = x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for i in [0, 5, 1000, 2047, 3071, 4607] {
            let at = |d: f32| {
                let mut x = start.clone();
                x[i] += d;
                value(&Tensor::from_vec(x, &shape, &Device::Cpu).unwrap(), &t, 0.7)
            };
            // A quadratic: central differences are exact but for rounding, about 1e-7 of the loss over the step.
            let want = 3.0 * (at(0.5) - at(-0.5));
            assert!((grad[i] as f64 - want).abs() < 1.5e-5, "{i}: {} {want}", grad[i]);
        }
    }

    #[test]
    fn a_constant_difference_counts_once_a_level() {
        let t = Tensor::zeros((1, 3, 32, 32), DType::F32, &Device::Cpu).unwrap();
        let x = (&t + 0.5).unwrap();
        assert!((value(&x, &t, 1.0) - 5.0 * 0.25).abs() < 1e-6);
        assert!((value(&x, &t, 0.0) - 0.25).abs() < 1e-6);
        assert_eq!(mean_square_error(&x, &t).unwrap().to_scalar::<f32>().unwrap(), 0.25);
        let odd = Tensor::zeros((1, 3, 32, 40), DType::F32, &Device::Cpu).unwrap();
        let error = pyramid_distance(&odd, &odd, 1.0).unwrap_err().to_string();
        assert!(error.contains("sides that 16 divides"), "{error}");
    }

    /// At 1024 px the sum has 3 million terms.
    #[test]
    fn a_large_picture_is_summed_as_exactly_as_a_small_one() {
        let t = Tensor::zeros((1, 3, 1024, 1024), DType::F32, &Device::Cpu).unwrap();
        let x = (&t + f64::from(0.1f32)).unwrap();
        let apart = (value(&x, &t, 0.0) / f64::from(0.1f32).powi(2) - 1.0).abs();
        assert!(apart < 1e-6, "{apart:e}");
    }
}
