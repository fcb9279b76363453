//! Pictures to tokens of a vision transformer (Dosovitskiy et al. 2021, section 3.1), as one operation: patches, class token, positions and the
//! norm that CLIP has after them.

use super::cpu::dense::Dense;
use super::cpu::patches::{Embedding, Grid};
use super::cpu::scratch::Scratch;
use super::cpu::transformer::Scale;
use super::cpu::{self, View};
use super::op::{alike, apply, f32s, run1, Backward, Differentiable, Op};
use candle_core::{bail, Error, Result, Shape, Tensor};
use std::sync::{Arc, Mutex};

/// What an embedding is made of; d is the tokens' width.
pub struct EmbedWeights<'a> {
    /// [d, channels, patch, patch]
    pub convolution: &'a Tensor,
    /// [d]
    pub class: &'a Tensor,
    /// [1 + patches of a picture, d]
    pub position: &'a Tensor,
    /// Scale [d] and shift [d] of the norm, and its epsilon.
    pub norm: Option<(&'a Tensor, &'a Tensor, f32)>,
}

/// A frozen embedding of patches. Cheap to clone; threads may share it.
#[derive(Clone)]
pub struct PatchEmbedding(Arc<Frozen>);

struct Frozen {
    arithmetic: Embedding,
    channels: usize,
    patch: usize,
}

impl PatchEmbedding {
    /// The weights are copied, as f32 and without their gradients: nothing holds on to the tensors.
    pub fn new(weights: &EmbedWeights) -> Result<Self> {
        let &EmbedWeights { convolution, class, position, norm } = weights;
        let (d, channels, patch, other) = convolution.dims4()?;
        let (tokens, width) = position.dims2()?;
        let of_width = |t: &Tensor| t.dims() == [d];
        let fits = patch == other && patch * channels * d > 0 && width == d && tokens > 0 && of_width(class);
        if !fits || !norm.is_none_or(|(gamma, beta, _)| of_width(gamma) && of_width(beta)) {
            bail!("patch embedding: convolution {:?}, class {:?} and position {:?} do not fit", convolution, class, position);
        }
        let numbers = |t: &Tensor| f32s(&t.detach())?.flatten_all()?.to_vec1::<f32>();
        let w = f32s(&convolution.detach())?.contiguous()?;
        let (storage, layout) = w.storage_and_layout();
        let weights = Dense::new(cpu::on_host(&storage, layout, Embed::NAME)?, d, channels * patch * patch);
        let scale = |(gamma, beta, _)| -> Result<Scale> { Ok(Scale { gamma: numbers(gamma)?, beta: numbers(beta)? }) };
        let arithmetic = Embedding {
            weights,
            class: numbers(class)?,
            position: numbers(position)?,
            norm: norm.map(scale).transpose()?,
            epsilon: norm.map_or(0.0, |(_, _, epsilon)| epsilon),
        };
        Ok(Self(Arc::new(Frozen { arithmetic, channels, patch })))
    }

    /// x [n, channels, h, w], cut into squares row by row, with the class token before them and positions added, normalised -> [n, 1 + patches, d].
    /// What is beside the last whole square is left out. Differentiable in x.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = f32s(x)?;
        apply(Embed(Arc::new(Pass { frozen: self.0.clone(), keep: x.track_op(), before: Mutex::new(None) })), [&x])
    }

    /// The convolution alone, [n, d, h / patch, w / patch]. Not tracked.
    pub fn convolution(&self, x: &Tensor) -> Result<Tensor> {
        let (n, _, height, width) = x.dims4()?;
        let (rows, columns) = (height / self.0.patch, width / self.0.patch);
        let patches = run1(&Convolution(self.0.clone()), [&f32s(&x.detach())?])?;
        patches.transpose(1, 2)?.reshape((n, self.0.arithmetic.class.len(), rows, columns))
    }
}

impl Frozen {
    fn grid(&self, x: &Shape) -> Result<Grid> {
        let (d, patch) = (self.arithmetic.class.len(), self.patch);
        let tokens = self.arithmetic.position.len() / d;
        if let &[n, channels, height, width] = x.dims() {
            let grid = Grid { n, channels, height, width, patch };
            if channels == self.channels && height >= patch && width >= patch && 1 + grid.patches() == tokens {
                return Ok(grid);
            }
        }
        bail!("patch embedding of {x:?}, where {} squares of {patch} pixels in {} channels are wanted", tokens - 1, self.channels)
    }
}

/// x [n, channels, h, w] -> [n, patches, d]
struct Convolution(Arc<Frozen>);

impl Op<1> for Convolution {
    const NAME: &'static str = "patches";
    fn shapes(&self, [x]: [&Shape; 1]) -> Result<[Shape; 1]> {
        let grid = self.0.grid(x)?;
        Ok([(grid.n, grid.patches(), self.0.arithmetic.class.len()).into()])
    }
    fn cpu(&self, [x]: [View; 1]) -> Result<[Vec<f32>; 1]> {
        Ok([self.0.arithmetic.convolution(x.values, self.0.grid(x.shape)?)])
    }
}

/// One call.
struct Pass {
    frozen: Arc<Frozen>,
    keep: bool,
    /// The tokens before the norm, for the way back.
    before: Mutex<Option<Scratch>>,
}

impl Pass {
    fn before(&self) -> Result<std::sync::MutexGuard<'_, Option<Scratch>>> {
        self.before.lock().map_err(|_| Error::Msg("patch embedding: another thread failed".into()))
    }
}

/// x [n, channels, h, w] -> [n, 1 + patches, d]
struct Embed(Arc<Pass>);

impl Op<1> for Embed {
    const NAME: &'static str = "patch embedding";
    fn shapes(&self, [x]: [&Shape; 1]) -> Result<[Shape; 1]> {
        let grid = self.0.frozen.grid(x)?;
        Ok([(grid.n, 1 + grid.patches(), self.0.frozen.arithmetic.class.len()).into()])
    }
    fn cpu(&self, [x]: [View; 1]) -> Result<[Vec<f32>; 1]> {
        let (tokens, before) = self.0.frozen.arithmetic.forward(x.values, self.0.frozen.grid(x.shape)?, self.0.keep);
        *self.0.before()? = before;
        Ok([tokens])
    }
}

impl Differentiable<1> for Embed {
    fn gradient(&self, given: &Backward<1>) -> Result<[Option<Tensor>; 1]> {
        let [x] = &given.inputs;
        Ok([Some(run1(&EmbedGradient(self.0.clone()), [x, &given.gradient])?)])
    }
}

/// x, gradient of the tokens -> gradient of x.
struct EmbedGradient(Arc<Pass>);

impl Op<2> for EmbedGradient {
    const NAME: &'static str = "patch embedding's gradient";
    fn shapes(&self, [x, gradient]: [&Shape; 2]) -> Result<[Shape; 1]> {
        let [tokens] = Embed(self.0.clone()).shapes([x])?;
        alike(Self::NAME, &tokens, gradient)?;
        Ok([x.clone()])
    }
    fn cpu(&self, [x, gradient]: [View; 2]) -> Result<[Vec<f32>; 1]> {
        let (embedding, grid) = (&self.0.frozen.arithmetic, self.0.frozen.grid(x.shape)?);
        // The way back uses up what the way there kept; who goes back again pays for it.
        let before = self.0.before()?.take().or_else(|| embedding.forward(x.values, grid, true).1);
        Ok([embedding.backward(before.as_deref(), gradient.values, grid)])
    }
}
