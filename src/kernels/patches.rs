//! Pictures to tokens of a vision transformer (Dosovitskiy et al. 2021, section 3.1).

use super::cpu::View;
#[cfg(feature = "cuda")]
use super::cuda::{self, At, Gpu};
use super::op::{alike, apply, f32s, run1, Backward, Differentiable, Op};
use candle_core::{bail, Result, Shape, Tensor};

/// Where patches lie in a picture [c, h, w]; rows and columns beyond the last whole patch belong to none.
#[derive(Clone, Copy)]
struct Grid {
    channels: usize,
    height: usize,
    width: usize,
    patch: usize,
}

impl Grid {
    fn of(shape: &Shape, patch: usize) -> Result<Self> {
        match shape.dims() {
            &[_, channels, height, width] if patch > 0 && height >= patch && width >= patch => Ok(Self { channels, height, width, patch }),
            other => bail!("patches of {patch} pixels in {other:?}"),
        }
    }
    fn rows(&self) -> usize {
        self.height / self.patch
    }
    fn columns(&self) -> usize {
        self.width / self.patch
    }
    fn tokens(&self) -> usize {
        self.rows() * self.columns()
    }
    fn token(&self) -> usize {
        self.channels * self.patch * self.patch
    }
    /// Calls `copy(start in the picture, start in the tokens)` for each run of `patch` numbers of `n` pictures.
    fn runs(&self, n: usize, mut copy: impl FnMut(usize, usize)) {
        for i in 0..n {
            for c in 0..self.channels {
                for y in 0..self.rows() * self.patch {
                    let picture = ((i * self.channels + c) * self.height + y) * self.width;
                    let first = i * self.tokens() + y / self.patch * self.columns();
                    let within = (c * self.patch + y % self.patch) * self.patch;
                    for column in 0..self.columns() {
                        copy(picture + column * self.patch, (first + column) * self.token() + within);
                    }
                }
            }
        }
    }
}

/// Of so many pixels a side.
struct Patches(usize);

impl Op<1> for Patches {
    const NAME: &'static str = "patches";
    fn shapes(&self, [x]: [&Shape; 1]) -> Result<[Shape; 1]> {
        let grid = Grid::of(x, self.0)?;
        Ok([(x.dims()[0], grid.tokens(), grid.token()).into()])
    }
    fn cpu(&self, [x]: [View; 1]) -> Result<[Vec<f32>; 1]> {
        let (grid, n) = (Grid::of(x.shape, self.0)?, x.dims()[0]);
        let mut out = vec![0.0; n * grid.tokens() * grid.token()];
        grid.runs(n, |from, to| out[to..to + self.0].copy_from_slice(&x.values[from..from + self.0]));
        Ok([out])
    }
    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, [x]: [cuda::View; 1]) -> Result<[cuda::Numbers; 1]> {
        let (n, c, h, w) = x.shape.dims4()?;
        let [shape] = self.shapes([x.shape])?;
        let out = gpu.alloc(shape.elem_count())?;
        // SAFETY: the kernel's arguments.
        unsafe { gpu.each(("transformer", "patches"), shape.elem_count(), cuda::arguments![x.at(), out.at(), n, c, h, w, self.0, 0])? };
        Ok([out])
    }
}

impl Differentiable<1> for Patches {
    fn gradient(&self, given: &Backward<1>) -> Result<[Option<Tensor>; 1]> {
        let [x] = &given.inputs;
        Ok([Some(run1(&PatchesGradient { patch: self.0, x: x.shape().clone() }, [&given.gradient])?)])
    }
}

/// Gradient of the tokens -> gradient of the pictures, of shape `x`.
struct PatchesGradient {
    patch: usize,
    x: Shape,
}

impl Op<1> for PatchesGradient {
    const NAME: &'static str = "patches' gradient";
    fn shapes(&self, [gradient]: [&Shape; 1]) -> Result<[Shape; 1]> {
        let [tokens] = Patches(self.patch).shapes([&self.x])?;
        alike(Self::NAME, &tokens, gradient)?;
        Ok([self.x.clone()])
    }
    fn cpu(&self, [gradient]: [View; 1]) -> Result<[Vec<f32>; 1]> {
        let mut out = vec![0.0; self.x.elem_count()];
        let run = self.patch;
        Grid::of(&self.x, run)?.runs(self.x.dims()[0], |to, from| out[to..to + run].copy_from_slice(&gradient.values[from..from + run]));
        Ok([out])
    }
    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, [gradient]: [cuda::View; 1]) -> Result<[cuda::Numbers; 1]> {
        let (n, c, h, w) = self.x.dims4()?;
        let count = self.x.elem_count();
        let out = gpu.alloc(count)?;
        let arguments = cuda::arguments![gradient.at(), out.at(), n, c, h, w, self.patch, 1];
        // SAFETY: the kernel's arguments.
        unsafe { gpu.each(("transformer", "patches"), count, arguments)? };
        Ok([out])
    }
}

/// x [n, c, h, w] cut into squares of `patch` pixels -> [n, (h / patch) * (w / patch), c * patch * patch], row by row, each square as c, y, x:
/// with [`crate::kernels::linear`] a convolution of that size and stride. Differentiable.
pub fn patches(x: &Tensor, patch: usize) -> Result<Tensor> {
    apply(Patches(patch), [&f32s(x)?])
}

/// x [n, t, d], class [d], position [t + 1, d].
struct Embed;

impl Op<3> for Embed {
    const NAME: &'static str = "embed_tokens";
    fn shapes(&self, [x, class, position]: [&Shape; 3]) -> Result<[Shape; 1]> {
        match x.dims() {
            &[n, tokens, width] if class.dims() == [width] && position.dims() == [tokens + 1, width] => Ok([(n, tokens + 1, width).into()]),
            _ => bail!("embed_tokens: class {class:?} and position {position:?} do not fit x {x:?}"),
        }
    }
    fn cpu(&self, [x, class, position]: [View; 3]) -> Result<[Vec<f32>; 1]> {
        let (n, tokens, width) = x.shape.dims3()?;
        let mut out = Vec::with_capacity(n * (tokens + 1) * width);
        for i in 0..n {
            let rows = class.values.iter().chain(&x.values[i * tokens * width..(i + 1) * tokens * width]);
            out.extend(rows.zip(position.values).map(|(x, p)| x + p));
        }
        Ok([out])
    }
    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, [x, class, position]: [cuda::View; 3]) -> Result<[cuda::Numbers; 1]> {
        let (n, tokens, width) = x.shape.dims3()?;
        let count = n * (tokens + 1) * width;
        let out = gpu.alloc(count)?;
        let arguments = cuda::arguments![x.at(), class.at(), position.at(), out.at(), n, tokens, width];
        // SAFETY: the kernel's arguments.
        unsafe { gpu.each(("transformer", "embedded"), count, arguments)? };
        Ok([out])
    }
}

impl Differentiable<3> for Embed {
    fn gradient(&self, given: &Backward<3>) -> Result<[Option<Tensor>; 3]> {
        let [x, _, _] = &given.inputs;
        Ok([Some(given.gradient.narrow(1, 1, x.dim(1)?)?.contiguous()?), None, None])
    }
}

/// x [n, t, d] with `class` [d] before each sample's tokens and `position` [t + 1, d] added -> [n, t + 1, d]. Differentiable in `x`; `class`
/// and `position` are frozen: tracked ones are an error.
pub fn embed_tokens(x: &Tensor, class: &Tensor, position: &Tensor) -> Result<Tensor> {
    if class.track_op() || position.track_op() {
        bail!("embed_tokens has no gradient for class and position: detach them");
    }
    apply(Embed, [&f32s(x)?, &f32s(class)?, &f32s(position)?])
}
