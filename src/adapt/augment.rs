//! Random changes of the pictures before CLIP, the same draw for both twins, so that a change must hold for more than one view.

use crate::device::Device;
use crate::error::Result;
use crate::kernels::affine_sample;
use crate::rng::Rng;
use candle_core::Tensor;
use std::ops::Range;

/// One draw for a batch.
pub(super) struct Augmentation {
    /// A 2 x 3 matrix for each sample.
    theta: Vec<f32>,
    /// [n, 1, 1, 1]
    gain: Tensor,
    shift: Tensor,
    /// [n, 3, h, w]
    noise: Tensor,
}

impl Augmentation {
    /// Flip with probability 1/2, scale 0.75 to 1.05 (of the view), turn within 0.15 rad, shift within 1/16 of the side; gain 0.9 to
    /// 1.1, brightness within 0.04, noise of a standard deviation up to 0.05, for pictures of `side` pixels.
    pub(super) fn draw(rng: &mut Rng, n: usize, side: usize, device: &Device) -> Result<Self> {
        let mut theta = Vec::with_capacity(n * 6);
        let (mut gain, mut shift, mut sigma) = (vec![], vec![], vec![]);
        for _ in 0..n {
            let mut within = |from: f32, to: f32| from + (to - from) * rng.uniform();
            let (scale, turn) = (within(0.75, 1.05), within(-0.15, 0.15));
            let flip = if within(0.0, 1.0) < 0.5 { -1.0 } else { 1.0 };
            let (sin, cos) = (scale * turn.sin(), scale * turn.cos());
            theta.extend([cos * flip, -sin, within(-0.125, 0.125), sin * flip, cos, within(-0.125, 0.125)]);
            gain.push(within(0.9, 1.1));
            shift.push(within(-0.04, 0.04));
            sigma.push(within(0.0, 0.05));
        }
        let column = |v: Vec<f32>| Tensor::from_vec(v, (n, 1, 1, 1), device);
        let noise = rng.normals(&[n, 3, side, side], device)?.broadcast_mul(&column(sigma)?)?;
        Ok(Self { theta, gain: column(gain)?, shift: column(shift)?, noise })
    }

    /// The draw of some pictures of the batch.
    pub(super) fn narrow(&self, range: &Range<usize>) -> Result<Self> {
        let some = |t: &Tensor| t.narrow(0, range.start, range.len());
        Ok(Self {
            theta: self.theta[range.start * 6..range.end * 6].to_vec(),
            gain: some(&self.gain)?,
            shift: some(&self.shift)?,
            noise: some(&self.noise)?,
        })
    }

    /// `x` [n, 3, side, side] in [-1, 1] -> the same. Differentiable.
    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let x = affine_sample(x, &self.theta)?.affine(0.5, 0.5)?;
        let x = (x.broadcast_mul(&self.gain)?.broadcast_add(&self.shift)? + &self.noise)?;
        Ok(x.clamp(0f32, 1f32)?.affine(2.0, -1.0)?)
    }
}
