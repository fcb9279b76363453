//! A scale and a shift for each channel.

use super::cpu::simd::vectorised;
use super::cpu::View;
#[cfg(feature = "cuda")]
use super::cuda::{self, At, Gpu};
use super::op::{apply, f32s, run1, Backward, Differentiable, Op};
use candle_core::{bail, Result, Shape, Tensor};

/// x [n, c, h, w] * scale [c] + shift [c].
struct ChannelAffine {
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl Op<1> for ChannelAffine {
    const NAME: &'static str = "channel_affine";
    fn shapes(&self, [x]: [&Shape; 1]) -> Result<[Shape; 1]> {
        match x.dims() {
            &[_, c, _, _] if self.scale.len() == c && self.shift.len() == c => Ok([x.clone()]),
            other => bail!("channel_affine of {other:?} with {} scales and {} shifts", self.scale.len(), self.shift.len()),
        }
    }
    fn cpu(&self, [x]: [View; 1]) -> Result<[Vec<f32>; 1]> {
        let (_, c, h, w) = x.shape.dims4()?;
        let area = (h * w).max(1);
        let mut out = vec![0.0; x.values.len()];
        for (plane, (out, x)) in out.chunks_exact_mut(area).zip(x.values.chunks_exact(area)).enumerate() {
            let (scale, shift) = (self.scale[plane % c], self.shift[plane % c]);
            vectorised(|| out.iter_mut().zip(x).for_each(|(out, x)| *out = x * scale + shift));
        }
        Ok([out])
    }
    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, [x]: [cuda::View; 1]) -> Result<[cuda::Numbers; 1]> {
        let (n, c, h, w) = x.shape.dims4()?;
        let (scale, shift, out) = (gpu.upload(&self.scale)?, gpu.upload(&self.shift)?, gpu.alloc(x.values.len())?);
        let arguments = cuda::arguments![x.at(), scale.at(), shift.at(), out.at(), n * c, c, h * w];
        // SAFETY: the kernel's arguments.
        unsafe { gpu.each(("picture", "channel_affine"), x.values.len(), arguments)? };
        Ok([out])
    }
}

impl Differentiable<1> for ChannelAffine {
    fn gradient(&self, given: &Backward<1>) -> Result<[Option<Tensor>; 1]> {
        let scaled = ChannelAffine { scale: self.scale.clone(), shift: vec![0.0; self.shift.len()] };
        Ok([Some(run1(&scaled, [&given.gradient])?)])
    }
}

/// x [n, c, h, w] * scale [c] + shift [c]. Differentiable in x.
pub fn channel_affine(x: &Tensor, scale: &[f32], shift: &[f32]) -> Result<Tensor> {
    apply(ChannelAffine { scale: scale.to_vec(), shift: shift.to_vec() }, [&f32s(x)?])
}
