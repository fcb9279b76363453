//! Upsample, filter with a FIR kernel, downsample (Karras et al. 2020, appendix B).

use super::cpu::View;
#[cfg(feature = "cuda")]
use super::cuda::{self, At, Gpu};
use super::op::{apply, run1, Backward, Differentiable, Op};
use candle_core::{bail, Result, Shape, Tensor};
use rayon::prelude::*;

/// How to resample: zeros are put between samples (`up`), the plane is padded (negative: cropped), convolved with `kernel`, and every
/// `down`-th sample kept.
#[derive(Clone, Debug)]
pub struct UpFirDn {
    /// [kh][kw], row-major; turned round, as a convolution does.
    pub kernel: Vec<f32>,
    /// (kh, kw)
    pub kernel_size: (usize, usize),
    pub up: usize,
    pub down: usize,
    /// Left, right, top, bottom.
    pub pad: [isize; 4],
}

/// `x` [n, c, h, w] -> [n, c, h', w'] with h' = (h * up + top + bottom - kh) / down + 1, and w' likewise. Differentiable.
pub fn upfirdn2d(x: &Tensor, how: &UpFirDn) -> Result<Tensor> {
    apply(how.clone(), [x])
}

impl UpFirDn {
    /// Output size of one axis; None when nothing is left.
    fn length(&self, n: usize, k: usize, before: isize, after: isize) -> Option<usize> {
        let span = (n * self.up) as isize + before + after - k as isize;
        (span >= 0).then(|| span as usize / self.down + 1)
    }

    fn output(&self, h: usize, w: usize) -> Result<(usize, usize)> {
        let (kh, kw) = self.kernel_size;
        let size = self.length(h, kh, self.pad[2], self.pad[3]).zip(self.length(w, kw, self.pad[0], self.pad[1]));
        match size {
            Some(size) if self.kernel.len() == kh * kw && kh * kw > 0 && self.up > 0 && self.down > 0 => Ok(size),
            _ => bail!("upfirdn2d: {self:?} does not fit a plane of {h} x {w}"),
        }
    }

    /// For output position `i` of an axis: (first input index, first kernel tap, taps), where kernel tap steps by `up` as the input
    /// index steps by one, and taps index the kernel as it is laid over the padded input (already turned round).
    fn reach(&self, i: usize, n: usize, k: usize, before: isize) -> (usize, usize, usize) {
        let start = (i * self.down) as isize - before; // position in the up-sampled input under tap 0
        let up = self.up as isize;
        let first = (start + up - 1).div_euclid(up).max(0);
        let tap = first * up - start;
        let by_kernel = if tap >= k as isize { 0 } else { (k as isize - tap + up - 1) / up };
        let count = by_kernel.min(n as isize - first).max(0);
        (first as usize, tap as usize, count as usize)
    }

    fn plane(&self, src: &[f32], h: usize, w: usize, dst: &mut [f32], ow: usize) {
        let (kh, kw) = self.kernel_size;
        let columns: Vec<_> = (0..ow).map(|i| self.reach(i, w, kw, self.pad[0])).collect();
        for (oy, row) in dst.chunks_mut(ow).enumerate() {
            let (y0, ky, ny) = self.reach(oy, h, kh, self.pad[2]);
            row.fill(0.0);
            for j in 0..ny {
                let src = &src[(y0 + j) * w..][..w];
                let k = &self.kernel[(kh - 1 - ky - j * self.up) * kw..][..kw];
                for (out, &(x0, kx, nx)) in row.iter_mut().zip(&columns) {
                    for (i, v) in src[x0.min(w)..].iter().take(nx).enumerate() {
                        *out += v * k[kw - 1 - kx - i * self.up];
                    }
                }
            }
        }
    }

    /// The operation whose matrix is this one's transpose, for an input of h x w.
    fn transposed(&self, h: usize, w: usize) -> Result<Self> {
        let (kh, kw) = self.kernel_size;
        let (oh, ow) = self.output(h, w)?;
        let after = |n: usize, o: usize, k: usize, before: isize| {
            let new_before = k as isize - 1 - before;
            // So much that exactly n positions come out.
            let new_after = (n * self.up) as isize - (o * self.down) as isize + before - self.up as isize + 1;
            (new_before, new_after)
        };
        let (left, right) = after(w, ow, kw, self.pad[0]);
        let (top, bottom) = after(h, oh, kh, self.pad[2]);
        Ok(Self {
            kernel: self.kernel.iter().rev().copied().collect(),
            kernel_size: self.kernel_size,
            up: self.down,
            down: self.up,
            pad: [left, right, top, bottom],
        })
    }
}

impl Op<1> for UpFirDn {
    const NAME: &'static str = "upfirdn2d";
    fn shapes(&self, [x]: [&Shape; 1]) -> Result<[Shape; 1]> {
        let (n, c, h, w) = x.dims4()?;
        let (oh, ow) = self.output(h, w)?;
        Ok([(n, c, oh, ow).into()])
    }
    fn cpu(&self, [x]: [View; 1]) -> Result<[Vec<f32>; 1]> {
        let (n, c, h, w) = x.shape.dims4()?;
        let (oh, ow) = self.output(h, w)?;
        let mut out = vec![0.0; n * c * oh * ow];
        out.par_chunks_mut(oh * ow).zip(x.values.par_chunks(h * w)).for_each(|(dst, src)| self.plane(src, h, w, dst, ow));
        Ok([out])
    }
    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, [x]: [cuda::View; 1]) -> Result<[cuda::Numbers; 1]> {
        let (n, c, h, w) = x.shape.dims4()?;
        let (oh, ow) = self.output(h, w)?;
        let (kh, kw) = self.kernel_size;
        let (taps, out) = (gpu.upload(&self.kernel)?, gpu.alloc(n * c * oh * ow)?);
        let (left, top) = (self.pad[0] as i32, self.pad[2] as i32);
        let arguments = cuda::arguments![x.at(), taps.at(), out.at(), n * c, h, w, oh, ow, kh, kw, self.up, self.down, left, top];
        // SAFETY: the kernel's arguments.
        unsafe { gpu.each(("picture", "upfirdn"), n * c * oh * ow, arguments)? };
        Ok([out])
    }
}

impl Differentiable<1> for UpFirDn {
    fn gradient(&self, given: &Backward<1>) -> Result<[Option<Tensor>; 1]> {
        let [x] = &given.inputs;
        let (_, _, h, w) = x.dims4()?;
        let gradient = run1(&self.transposed(h, w)?, [&given.gradient])?;
        if gradient.dims() != x.dims() {
            bail!("upfirdn2d: gradient of shape {:?} for {:?}", gradient.dims(), x.dims())
        }
        Ok([Some(gradient)])
    }
}
