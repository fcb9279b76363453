//! Modulated convolution of StyleGAN2 (Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN", section 2.2).
//!
//! The paper scales the weights by the style and normalises them per output channel. Scaling the input by the style and the output
//! by the norm is the same function, needs one set of weights for the whole batch, and is what happens here:
//! `y[o] = d[o] * sum over i of w[o][i] * (s[i] * x[i])`, `d[o] = (sum over i, k of (s[i] * w[o][i][k])^2 + 1e-8)^(-1/2)`.

use super::cpu::modulated::Given;
use super::cpu::View;
use super::op::{alike, apply, run, Backward, Differentiable, Op};
use candle_core::{bail, Result, Shape, Tensor};

/// What a modulated convolution does beside convolving.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Modulated {
    /// Doubles the resolution: transposed convolution of stride 2, then a blur with the outer product of these taps with
    /// themselves (their sum is 2, to make up for the zeros between). Kernels of 3 only.
    pub up: Option<[f32; 4]>,
    /// Normalises each output channel.
    pub demodulate: bool,
    /// Run-time scale of the weights, 1 / sqrt(fan-in).
    pub scale: f32,
}

/// `x` [n, in, h, w], style `s` [n, in], weight `w` [out, in, k, k] with k 1 or 3 -> [n, out, h, w], or twice the size with `up`.
///
/// Gradients of all three arguments, each only when candle tracks it.
pub fn modulated_conv2d(x: &Tensor, s: &Tensor, w: &Tensor, how: Modulated) -> Result<Tensor> {
    apply(how, [x, s, w])
}

/// x [n, c, h, w], s [n, c], w [o, c, k, k]
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub n: usize,
    pub c: usize,
    pub h: usize,
    pub w: usize,
    pub o: usize,
    pub k: usize,
}

impl Modulated {
    fn sizes(&self, x: &Shape, s: &Shape, w: &Shape) -> Result<Sizes> {
        match (x.dims(), s.dims(), w.dims()) {
            (&[n, c, h, wd], &[n2, c2], &[o, c3, k, k2])
                if n == n2 && c == c2 && c == c3 && k == k2 && (k == 3 || k == 1 && self.up.is_none()) && n * c * h * wd * o > 0 =>
            {
                Ok(Sizes { n, c, h, w: wd, o, k })
            }
            _ => bail!("modulated_conv2d: shapes {x:?}, {s:?}, {w:?} do not fit"),
        }
    }
}

impl Op<3> for Modulated {
    const NAME: &'static str = "modulated_conv2d";
    fn shapes(&self, [x, s, w]: [&Shape; 3]) -> Result<[Shape; 1]> {
        let z = self.sizes(x, s, w)?;
        let up = if self.up.is_some() { 2 } else { 1 };
        Ok([(z.n, z.o, z.h * up, z.w * up).into()])
    }
    fn cpu(&self, [x, s, w]: [View; 3]) -> Result<[Vec<f32>; 1]> {
        Ok([self.forward(self.sizes(x.shape, s.shape, w.shape)?, x.values, s.values, w.values)])
    }
}

impl Differentiable<3> for Modulated {
    fn gradient(&self, given: &Backward<3>) -> Result<[Option<Tensor>; 3]> {
        let ([x, s, w], [y]) = (&given.inputs, &given.outputs);
        let op = ModulatedGradient { of: *self, need: given.need };
        Ok(run(&op, [x, s, w, y, &given.gradient])?.map(Some))
    }
}

/// x, s, w, the result, its gradient -> gradients of x, s and w, which share most of their work; [0] for those that are not needed.
struct ModulatedGradient {
    of: Modulated,
    need: [bool; 3],
}

impl Op<5, 3> for ModulatedGradient {
    const NAME: &'static str = "modulated_conv2d's gradient";
    fn shapes(&self, [x, s, w, y, dy]: [&Shape; 5]) -> Result<[Shape; 3]> {
        let [result] = self.of.shapes([x, s, w])?;
        alike(Self::NAME, &result, y)?;
        alike(Self::NAME, &result, dy)?;
        let of = |i: usize, like: &Shape| if self.need[i] { like.clone() } else { Shape::from(0) };
        Ok([of(0, x), of(1, s), of(2, w)])
    }
    fn cpu(&self, [x, s, w, y, dy]: [View; 5]) -> Result<[Vec<f32>; 3]> {
        let z = self.of.sizes(x.shape, s.shape, w.shape)?;
        let given = Given { z, x: x.values, s: s.values, w: w.values, dy: dy.values, need: self.need };
        Ok(self.of.backward(given, y.values))
    }
}
