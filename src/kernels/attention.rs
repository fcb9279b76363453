//! Multi-head self-attention (Vaswani et al. 2017, section 3.2) with the softmax fused in.

use super::cpu::View;
#[cfg(feature = "cuda")]
use super::cuda::{self, At, Gpu};
use super::op::{apply, f32s, run1, Backward, Differentiable, Op};
use candle_core::{bail, Result, Shape, Tensor};

/// Self-attention over packed queries, keys and values. `queries` is how many tokens of each sample ask: all of them, or just the first ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attention {
    pub heads: usize,
    /// Width of all heads together.
    pub width: usize,
    /// Token i sees tokens 0..=i.
    pub causal: bool,
}

impl Attention {
    /// (n, tokens) of qkv.
    fn sizes(&self, qkv: &Shape) -> Result<(usize, usize)> {
        match qkv.dims() {
            &[n, tokens, packed] if packed == 3 * self.width => Ok((n, tokens)),
            other => bail!("attention of width {}: qkv {other:?}", self.width),
        }
    }
}

impl Op<1> for Attention {
    const NAME: &'static str = "attention";
    fn shapes(&self, [qkv]: [&Shape; 1]) -> Result<[Shape; 1]> {
        let (n, tokens) = self.sizes(qkv)?;
        Ok([(n, tokens, self.width).into()])
    }
    fn cpu(&self, [qkv]: [View; 1]) -> Result<[Vec<f32>; 1]> {
        let (n, tokens) = self.sizes(qkv.shape)?;
        let mut out = vec![0.0; n * tokens * self.width];
        self.forward(qkv.values, (n, tokens, tokens), &mut out, self.width);
        Ok([out])
    }
    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, [qkv]: [cuda::View; 1]) -> Result<[cuda::Numbers; 1]> {
        let (n, tokens) = self.sizes(qkv.shape)?;
        Ok([self.on_gpu(gpu, qkv.at(), (n, tokens, tokens))?])
    }
}

impl Differentiable<1> for Attention {
    fn gradient(&self, given: &Backward<1>) -> Result<[Option<Tensor>; 1]> {
        let [qkv] = &given.inputs;
        Ok([Some(run1(&AttentionGradient(*self), [qkv, &given.gradient])?)])
    }
}

/// qkv, gradient of the result -> gradient of qkv.
struct AttentionGradient(Attention);

impl Op<2> for AttentionGradient {
    const NAME: &'static str = "attention's gradient";
    fn shapes(&self, [qkv, gradient]: [&Shape; 2]) -> Result<[Shape; 1]> {
        let (n, tokens) = self.0.sizes(qkv)?;
        if gradient.dims() != [n, tokens, self.0.width] {
            bail!("attention of qkv {qkv:?}: gradient {gradient:?}");
        }
        Ok([qkv.clone()])
    }
    fn cpu(&self, [qkv, gradient]: [View; 2]) -> Result<[Vec<f32>; 1]> {
        let (n, tokens) = self.0.sizes(qkv.shape)?;
        let mut out = vec![0.0; qkv.values.len()];
        self.0.backward(qkv.values, gradient.values, (n, tokens, tokens), &mut out, 3 * self.0.width);
        Ok([out])
    }
    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, [qkv, gradient]: [cuda::View; 2]) -> Result<[cuda::Numbers; 1]> {
        let (n, tokens) = self.0.sizes(qkv.shape)?;
        Ok([self.0.back_on_gpu(gpu, qkv.at(), gradient.at(), (n, tokens, tokens))?])
    }
}

/// Multi-head self-attention: qkv [n, t, 3 * d], queries then keys then values, each heads * (d / heads) -> [n, t, d]; with `causal` token i
/// sees tokens 0..=i. Differentiable; the probabilities are computed again backward instead of kept.
pub fn attention(qkv: &Tensor, heads: usize, causal: bool) -> Result<Tensor> {
    let (_, _, packed) = qkv.dims3()?;
    if heads == 0 || packed == 0 || packed % (3 * heads) != 0 {
        bail!("attention: the last dimension of qkv {:?} is not 3 * {heads} heads", qkv.shape());
    }
    apply(Attention { heads, width: packed / 3, causal }, [&f32s(qkv)?])
}
