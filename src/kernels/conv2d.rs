//! Plain convolution, for CLIP's networks and encoders.

use super::cpu::View;
#[cfg(feature = "cuda")]
use super::cuda::{self, At, Gpu};
use super::op::{alike, apply, run1, Backward, Differentiable, Op};
use candle_core::{Result, Shape, Tensor};

/// x [n, c, h, w], w [o, c, kh, kw]
#[derive(Clone, Copy)]
pub(crate) struct Conv2d {
    pub stride: usize,
    pub padding: usize,
}

/// `x` [n, c, h, w], `w` [o, c, kh, kw] -> [n, o, h', w']. Gradients of both, each only when candle tracks it.
pub fn conv2d(x: &Tensor, w: &Tensor, stride: usize, padding: usize) -> Result<Tensor> {
    apply(Conv2d { stride, padding }, [x, w])
}

#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub n: usize,
    pub c: usize,
    pub h: usize,
    pub w: usize,
    pub o: usize,
    pub kh: usize,
    pub kw: usize,
    pub oh: usize,
    pub ow: usize,
}

impl Sizes {
    pub(crate) fn columns(&self) -> usize {
        self.c * self.kh * self.kw
    }
    pub(crate) fn out_area(&self) -> usize {
        self.oh * self.ow
    }
}

impl Conv2d {
    fn sizes(&self, x: &[usize], w: &[usize]) -> Result<Sizes> {
        match (x, w) {
            (&[n, c, h, wd], &[o, c2, kh, kw])
                if c == c2
                    && self.stride > 0
                    && h + 2 * self.padding >= kh
                    && wd + 2 * self.padding >= kw
                    && n * c * h * wd * o * kh * kw > 0 =>
            {
                let oh = (h + 2 * self.padding - kh) / self.stride + 1;
                let ow = (wd + 2 * self.padding - kw) / self.stride + 1;
                Ok(Sizes { n, c, h, w: wd, o, kh, kw, oh, ow })
            }
            _ => candle_core::bail!("conv2d: shapes {x:?} and {w:?} do not fit"),
        }
    }
}

impl Op<2> for Conv2d {
    const NAME: &'static str = "conv2d";
    fn shapes(&self, [x, w]: [&Shape; 2]) -> Result<[Shape; 1]> {
        let z = self.sizes(x.dims(), w.dims())?;
        Ok([(z.n, z.o, z.oh, z.ow).into()])
    }
    fn cpu(&self, [x, w]: [View; 2]) -> Result<[Vec<f32>; 1]> {
        Ok([self.forward(&self.sizes(x.dims(), w.dims())?, x.values, w.values)])
    }
    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, [x, w]: [cuda::View; 2]) -> Result<[cuda::Numbers; 1]> {
        Ok([self.on_gpu(gpu, &self.sizes(x.dims(), w.dims())?, x.at(), w.at())?])
    }
}

impl Differentiable<2> for Conv2d {
    fn gradient(&self, given: &Backward<2>) -> Result<[Option<Tensor>; 2]> {
        let ([x, w], dy) = (&given.inputs, &given.gradient);
        let dx = given.need[0].then(|| run1(&InputGradient { of: *self, x: x.shape().clone() }, [w, dy]));
        let dw = given.need[1].then(|| run1(&WeightGradient { of: *self, w: w.shape().clone() }, [x, dy]));
        Ok([dx.transpose()?, dw.transpose()?])
    }
}

/// w, dy -> dx of shape `x`.
struct InputGradient {
    of: Conv2d,
    x: Shape,
}

impl Op<2> for InputGradient {
    const NAME: &'static str = "conv2d's gradient of x";
    fn shapes(&self, [w, dy]: [&Shape; 2]) -> Result<[Shape; 1]> {
        let [y] = self.of.shapes([&self.x, w])?;
        alike(Self::NAME, &y, dy)?;
        Ok([self.x.clone()])
    }
    fn cpu(&self, [w, dy]: [View; 2]) -> Result<[Vec<f32>; 1]> {
        Ok([self.of.input_gradient(&self.of.sizes(self.x.dims(), w.dims())?, w.values, dy.values)])
    }
    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, [w, dy]: [cuda::View; 2]) -> Result<[cuda::Numbers; 1]> {
        Ok([self.of.input_on_gpu(gpu, &self.of.sizes(self.x.dims(), w.dims())?, w.at(), dy.at())?])
    }
}

/// x, dy -> dw of shape `w`.
struct WeightGradient {
    of: Conv2d,
    w: Shape,
}

impl Op<2> for WeightGradient {
    const NAME: &'static str = "conv2d's gradient of w";
    fn shapes(&self, [x, dy]: [&Shape; 2]) -> Result<[Shape; 1]> {
        let [y] = self.of.shapes([x, &self.w])?;
        alike(Self::NAME, &y, dy)?;
        Ok([self.w.clone()])
    }
    fn cpu(&self, [x, dy]: [View; 2]) -> Result<[Vec<f32>; 1]> {
        Ok([self.of.weight_gradient(&self.of.sizes(x.dims(), self.w.dims())?, x.values, dy.values)])
    }
    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, [x, dy]: [cuda::View; 2]) -> Result<[cuda::Numbers; 1]> {
        Ok([self.of.weight_on_gpu(gpu, &self.of.sizes(x.dims(), self.w.dims())?, x.at(), dy.at())?])
    }
}
