//! Pictures under affine maps.

use super::cpu::resample::{neighbours, Neighbours};
use super::cpu::View;
#[cfg(feature = "cuda")]
use super::cuda::{self, At, Gpu};
use super::op::{alike, apply, f32s, run1, Backward, Differentiable, Op};
use candle_core::{bail, Result, Shape, Tensor};
use rayon::prelude::*;
use std::sync::{Arc, OnceLock};

/// x [n, c, h, w], sampled under n matrices of 2 x 3.
#[derive(Clone)]
struct AffineSample {
    theta: Arc<Vec<f32>>,
    /// What the CPU makes of `theta`, once for both directions.
    neighbours: Arc<OnceLock<Neighbours>>,
}

impl AffineSample {
    fn neighbours(&self, h: usize, w: usize) -> &Neighbours {
        self.neighbours.get_or_init(|| neighbours(&self.theta, h, w))
    }

    #[cfg(feature = "cuda")]
    fn on_gpu(&self, gpu: &Gpu, x: &cuda::View, kernel: &'static str) -> Result<cuda::Numbers> {
        let (n, c, h, w) = x.shape.dims4()?;
        let (theta, out) = (gpu.upload(&self.theta)?, gpu.alloc(x.values.len())?);
        // SAFETY: the kernels' arguments, which are the same for both.
        unsafe { gpu.each(("picture", kernel), x.values.len(), cuda::arguments![x.at(), theta.at(), out.at(), n * c, c, h, w])? };
        Ok(out)
    }
}

impl Op<1> for AffineSample {
    const NAME: &'static str = "affine_sample";
    fn shapes(&self, [x]: [&Shape; 1]) -> Result<[Shape; 1]> {
        match x.dims() {
            &[n, c, h, w] if c * h * w > 0 && u32::try_from(h * w).is_ok() && self.theta.len() == n * 6 => Ok([x.clone()]),
            other => bail!("affine_sample of {other:?} by {} numbers", self.theta.len()),
        }
    }
    fn cpu(&self, [x]: [View; 1]) -> Result<[Vec<f32>; 1]> {
        let (_, c, h, w) = x.shape.dims4()?;
        let neighbours = self.neighbours(h, w);
        let mut out = vec![0.0; x.values.len()];
        out.par_chunks_mut(h * w).zip(x.values.par_chunks(h * w)).enumerate().for_each(|(plane, (out, x))| {
            for (out, neighbours) in out.iter_mut().zip(&neighbours[plane / c * h * w..]) {
                *out = neighbours.iter().map(|&(at, weight)| x[at as usize] * weight).sum();
            }
        });
        Ok([out])
    }
    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, [x]: [cuda::View; 1]) -> Result<[cuda::Numbers; 1]> {
        Ok([self.on_gpu(gpu, &x, "affine_forward")?])
    }
}

impl Differentiable<1> for AffineSample {
    fn gradient(&self, given: &Backward<1>) -> Result<[Option<Tensor>; 1]> {
        let [x] = &given.inputs;
        alike(Self::NAME, x.shape(), given.gradient.shape())?;
        Ok([Some(run1(&AffineSampleGradient(self.clone()), [&given.gradient])?)])
    }
}

/// Gradient of the result -> gradient of x.
struct AffineSampleGradient(AffineSample);

impl Op<1> for AffineSampleGradient {
    const NAME: &'static str = "affine_sample's gradient";
    fn shapes(&self, [gradient]: [&Shape; 1]) -> Result<[Shape; 1]> {
        self.0.shapes([gradient])
    }
    fn cpu(&self, [gradient]: [View; 1]) -> Result<[Vec<f32>; 1]> {
        let (_, c, h, w) = gradient.shape.dims4()?;
        let neighbours = self.0.neighbours(h, w);
        let mut out = vec![0.0; gradient.values.len()];
        out.par_chunks_mut(h * w).zip(gradient.values.par_chunks(h * w)).enumerate().for_each(|(plane, (out, g))| {
            for (g, neighbours) in g.iter().zip(&neighbours[plane / c * h * w..]) {
                for &(at, weight) in neighbours {
                    out[at as usize] += g * weight;
                }
            }
        });
        Ok([out])
    }
    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, [gradient]: [cuda::View; 1]) -> Result<[cuda::Numbers; 1]> {
        Ok([self.0.on_gpu(gpu, &gradient, "affine_backward")?])
    }
}

/// x [n, c, h, w] where each output pixel at (x, y), in [-1, 1] over the picture, is taken at theta * (x, y, 1): bilinear, mirrored at the
/// borders; torch's `grid_sample(affine_grid(theta), padding_mode="reflection", align_corners=False)`. `theta` holds a 2 x 3 matrix for each
/// sample, row by row. Differentiable in x.
pub fn affine_sample(x: &Tensor, theta: &[f32]) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    if c * h * w == 0 || u32::try_from(h * w).is_err() || theta.len() != n * 6 || theta.iter().any(|t| !t.is_finite()) {
        bail!("affine_sample of {:?} by {} numbers: {} finite ones are needed", x.shape(), theta.len(), n * 6);
    }
    apply(AffineSample { theta: Arc::new(theta.to_vec()), neighbours: Default::default() }, [&f32s(x)?])
}
