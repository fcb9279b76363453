//! Pictures to tokens of a vision transformer (Dosovitskiy et al. 2021, section 3.1), as one operation: patches, class token, positions and the
//! norm that CLIP has after them.

use super::cpu::dense::Dense;
use super::cpu::patches::{Embedding, Grid};
use super::cpu::scratch::Scratch;
use super::cpu::transformer::Scale;
use super::cpu::{self, View};
#[cfg(feature = "cuda")]
use super::cuda::{self, At, Gpu};
use super::op::{alike, apply, f32s, run1, Backward, Differentiable, Op};
use candle_core::{bail, Error, Result, Shape, Tensor};
use std::sync::{Arc, Mutex, PoisonError};

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
    arithmetic: Arithmetic,
    channels: usize,
    patch: usize,
    /// Of a token.
    width: usize,
    /// Of a picture, with the class token.
    tokens: usize,
}

/// The embedding as the device of its weights takes it.
enum Arithmetic {
    Host(Embedding),
    #[cfg(feature = "cuda")]
    Gpu(OnGpu),
}

/// All f32, contiguous.
#[cfg(feature = "cuda")]
struct OnGpu {
    /// [d, channels, patch, patch]
    convolution: Tensor,
    class: Tensor,
    position: Tensor,
    norm: Option<(Tensor, Tensor, f32)>,
}

impl PatchEmbedding {
    /// It computes where the weights lie. On the CPU they are copied, as f32 and without their gradients, and nothing holds on to the tensors; on
    /// a GPU they are kept as they are.
    pub fn new(weights: &EmbedWeights) -> Result<Self> {
        let &EmbedWeights { convolution, class, position, norm } = weights;
        let (d, channels, patch, other) = convolution.dims4()?;
        let (tokens, width) = position.dims2()?;
        let of_width = |t: &Tensor| t.dims() == [d];
        let fits = patch == other && patch * channels * d > 0 && width == d && tokens > 0 && of_width(class);
        if !fits || !norm.is_none_or(|(gamma, beta, _)| of_width(gamma) && of_width(beta)) {
            bail!("patch embedding: convolution {:?}, class {:?} and position {:?} do not fit", convolution, class, position);
        }
        let here = |t: &Tensor| f32s(&t.detach())?.contiguous();
        #[cfg(feature = "cuda")]
        if convolution.device().is_cuda() {
            let norm = norm.map(|(gamma, beta, epsilon)| Result::Ok((here(gamma)?, here(beta)?, epsilon))).transpose()?;
            let weights = OnGpu { convolution: here(convolution)?, class: here(class)?, position: here(position)?, norm };
            return Ok(Self(Arc::new(Frozen { arithmetic: Arithmetic::Gpu(weights), channels, patch, width, tokens })));
        }
        let numbers = |t: &Tensor| here(t)?.flatten_all()?.to_vec1::<f32>();
        let w = here(convolution)?;
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
        Ok(Self(Arc::new(Frozen { arithmetic: Arithmetic::Host(arithmetic), channels, patch, width, tokens })))
    }

    /// x [n, channels, h, w], cut into squares row by row, with the class token before them and positions added, normalised -> [n, 1 + patches, d].
    /// What is beside the last whole square is left out. Differentiable in x.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = f32s(x)?;
        let pass = Pass {
            frozen: self.0.clone(),
            keep: x.track_op(),
            before: Mutex::new(None),
            #[cfg(feature = "cuda")]
            before_on_gpu: Mutex::new(None),
        };
        apply(Embed(Arc::new(pass)), [&x])
    }

    /// The convolution alone, [n, d, h / patch, w / patch]. Not tracked.
    pub fn convolution(&self, x: &Tensor) -> Result<Tensor> {
        let (n, _, height, width) = x.dims4()?;
        let (rows, columns) = (height / self.0.patch, width / self.0.patch);
        let patches = run1(&Convolution(self.0.clone()), [&f32s(&x.detach())?])?;
        patches.transpose(1, 2)?.reshape((n, self.0.width, rows, columns))
    }
}

impl Frozen {
    fn grid(&self, x: &Shape) -> Result<Grid> {
        let Self { patch, tokens, .. } = *self;
        if let &[n, channels, height, width] = x.dims() {
            let grid = Grid { n, channels, height, width, patch };
            if channels == self.channels && height >= patch && width >= patch && 1 + grid.patches() == tokens {
                return Ok(grid);
            }
        }
        bail!("patch embedding of {x:?}, where {} squares of {patch} pixels in {} channels are wanted", tokens - 1, self.channels)
    }

    fn on_host(&self) -> Result<&Embedding> {
        match &self.arithmetic {
            Arithmetic::Host(embedding) => Ok(embedding),
            #[cfg(feature = "cuda")]
            Arithmetic::Gpu(_) => bail!("patch embedding: its weights lie on a GPU, the pictures do not"),
        }
    }

    #[cfg(feature = "cuda")]
    fn on_gpu(&self) -> Result<&OnGpu> {
        match &self.arithmetic {
            Arithmetic::Gpu(weights) => Ok(weights),
            Arithmetic::Host(_) => bail!("patch embedding: the pictures lie on a GPU, its weights do not"),
        }
    }
}

#[cfg(feature = "cuda")]
impl OnGpu {
    fn dense(&self, grid: Grid) -> Result<cuda::transformer::Dense> {
        let (inputs, outputs) = (grid.numbers(), self.class.elem_count());
        Ok(cuda::transformer::Dense { weight: cuda::with(&self.convolution, Embed::NAME, Ok)?, bias: None, inputs, outputs })
    }

    fn norm(&self) -> Result<Option<cuda::transformer::Norm>> {
        let at = |t: &Tensor| cuda::with(t, Embed::NAME, Ok);
        let norm = |(gamma, beta, epsilon): &(Tensor, Tensor, f32)| {
            Ok(cuda::transformer::Norm { gamma: at(gamma)?, beta: at(beta)?, width: gamma.elem_count(), epsilon: *epsilon })
        };
        self.norm.as_ref().map(norm).transpose()
    }

    /// Pictures to patches, or `back`.
    fn patches(gpu: &Gpu, from: cuda::Argument, Grid { n, channels, height, width, patch }: Grid, back: bool) -> Result<cuda::Numbers> {
        let grid = Grid { n, channels, height, width, patch };
        let count = if back { n * channels * height * width } else { n * grid.patches() * grid.numbers() };
        let out = gpu.alloc(count)?;
        let arguments = cuda::arguments![from, out.at(), n, channels, height, width, patch, back as i32];
        // SAFETY: the kernel's arguments.
        unsafe { gpu.each(("transformer", "patches"), count, arguments)? };
        Ok(out)
    }

    /// The patches' products with the weights alone, [n, patches, d].
    fn convolution(&self, gpu: &Gpu, x: cuda::Argument, grid: Grid) -> Result<cuda::Numbers> {
        let patches = Self::patches(gpu, x, grid, false)?;
        self.dense(grid)?.forward(gpu, patches.at(), grid.n * grid.patches(), None)
    }

    /// Tokens [n, 1 + patches, d] before the norm.
    fn embedded(&self, gpu: &Gpu, x: cuda::Argument, grid: Grid) -> Result<cuda::Numbers> {
        let at = |t: &Tensor| cuda::with(t, Embed::NAME, Ok);
        let (products, d) = (self.convolution(gpu, x, grid)?, self.class.elem_count());
        let count = grid.n * (1 + grid.patches()) * d;
        let out = gpu.alloc(count)?;
        let arguments = cuda::arguments![products.at(), at(&self.class)?, at(&self.position)?, out.at(), grid.n, grid.patches(), d];
        // SAFETY: the kernel's arguments.
        unsafe { gpu.each(("transformer", "embedded"), count, arguments)? };
        Ok(out)
    }

    /// The gradient of the pictures from that of the tokens; `before`: the tokens before the norm, where there is one.
    fn backward(&self, gpu: &Gpu, before: Option<cuda::Numbers>, gradient: cuda::Argument, grid: Grid) -> Result<cuda::Numbers> {
        let (patches, d) = (grid.patches(), self.class.elem_count());
        let rows = grid.n * (1 + patches);
        let tokens = match (self.norm()?, before) {
            (Some(norm), Some(before)) => {
                let tokens = gpu.alloc(rows * d)?;
                norm.backward(gpu, before.at(), gradient, rows, &tokens, false)?;
                Some(tokens)
            }
            _ => None,
        };
        let tokens = tokens.as_ref().map_or(gradient, At::at);
        // Those behind the class tokens.
        let products = gpu.alloc(grid.n * patches * d)?;
        let arguments = cuda::arguments![cuda::Argument::NULL, tokens.plus(d), products.at(), grid.n * patches, d, patches, 1 + patches];
        // SAFETY: the kernel's arguments; the last row read is the last of the tokens.
        unsafe { gpu.each(("transformer", "rows_of"), grid.n * patches * d, arguments)? };
        let patches = self.dense(grid)?.backward(gpu, products.at(), grid.n * patches)?;
        Self::patches(gpu, patches.at(), grid, true)
    }
}

/// x [n, channels, h, w] -> [n, patches, d]
struct Convolution(Arc<Frozen>);

impl Op<1> for Convolution {
    const NAME: &'static str = "patches";
    fn shapes(&self, [x]: [&Shape; 1]) -> Result<[Shape; 1]> {
        let grid = self.0.grid(x)?;
        Ok([(grid.n, grid.patches(), self.0.width).into()])
    }
    fn cpu(&self, [x]: [View; 1]) -> Result<[Vec<f32>; 1]> {
        Ok([self.0.on_host()?.convolution(x.values, self.0.grid(x.shape)?)])
    }
    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, [x]: [cuda::View; 1]) -> Result<[cuda::Numbers; 1]> {
        Ok([self.0.on_gpu()?.convolution(gpu, x.at(), self.0.grid(x.shape)?)?])
    }
}

/// One call.
struct Pass {
    frozen: Arc<Frozen>,
    keep: bool,
    /// The tokens before the norm, for the way back.
    before: Mutex<Option<Scratch>>,
    #[cfg(feature = "cuda")]
    before_on_gpu: Mutex<Option<cuda::Numbers>>,
}

/// What a lock is poisoned by.
fn lost<T>(_: PoisonError<T>) -> Error {
    Error::Msg("patch embedding: another thread failed".into())
}

/// x [n, channels, h, w] -> [n, 1 + patches, d]
struct Embed(Arc<Pass>);

impl Op<1> for Embed {
    const NAME: &'static str = "patch embedding";
    fn shapes(&self, [x]: [&Shape; 1]) -> Result<[Shape; 1]> {
        let grid = self.0.frozen.grid(x)?;
        Ok([(grid.n, 1 + grid.patches(), self.0.frozen.width).into()])
    }
    fn cpu(&self, [x]: [View; 1]) -> Result<[Vec<f32>; 1]> {
        let (tokens, before) = self.0.frozen.on_host()?.forward(x.values, self.0.frozen.grid(x.shape)?, self.0.keep);
        *self.0.before.lock().map_err(lost)? = before;
        Ok([tokens])
    }
    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, [x]: [cuda::View; 1]) -> Result<[cuda::Numbers; 1]> {
        let (weights, grid) = (self.0.frozen.on_gpu()?, self.0.frozen.grid(x.shape)?);
        let tokens = weights.embedded(gpu, x.at(), grid)?;
        let Some(norm) = weights.norm()? else { return Ok([tokens]) };
        let normed = norm.forward(gpu, tokens.at(), grid.n * (1 + grid.patches()))?;
        *self.0.before_on_gpu.lock().map_err(lost)? = self.0.keep.then_some(tokens);
        Ok([normed])
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
        let (embedding, grid) = (self.0.frozen.on_host()?, self.0.frozen.grid(x.shape)?);
        // The way back uses up what the way there kept; who goes back again pays for it.
        let before = self.0.before.lock().map_err(lost)?.take().or_else(|| embedding.forward(x.values, grid, true).1);
        Ok([embedding.backward(before.as_deref(), gradient.values, grid)])
    }
    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, [x, gradient]: [cuda::View; 2]) -> Result<[cuda::Numbers; 1]> {
        let (weights, grid) = (self.0.frozen.on_gpu()?, self.0.frozen.grid(x.shape)?);
        let before = match (&weights.norm, self.0.before_on_gpu.lock().map_err(lost)?.take()) {
            (Some(_), None) => Some(weights.embedded(gpu, x.at(), grid)?),
            (_, before) => before,
        };
        Ok([weights.backward(gpu, before, gradient.at(), grid)?])
    }
}
