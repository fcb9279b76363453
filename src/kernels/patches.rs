//! Pictures to tokens of a vision transformer (Dosovitskiy et al. 2021, section 3.1).

use super::slices::{argument, prepared, tensor, Values};
use candle_core::{bail, CpuStorage, CustomOp1, CustomOp3, Layout, Result, Shape, Tensor};

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
        let (_, channels, height, width) = shape.dims4()?;
        Ok(Self { channels, height, width, patch })
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

struct Patches(usize);

impl CustomOp1 for Patches {
    fn name(&self) -> &'static str {
        "patches"
    }
    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = argument(storage, layout)?;
        let n = layout.dims()[0];
        let grid = Grid::of(layout.shape(), self.0)?;
        let mut out = vec![0.0; n * grid.tokens() * grid.token()];
        grid.runs(n, |from, to| out[to..to + self.0].copy_from_slice(&x[from..from + self.0]));
        Ok((CpuStorage::F32(out), (n, grid.tokens(), grid.token()).into()))
    }
    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let gradient = prepared(gradient)?;
        let gradient = Values::of(&gradient)?;
        let mut out = vec![0.0; x.elem_count()];
        let grid = Grid::of(x.shape(), self.0)?;
        grid.runs(x.dim(0)?, |to, from| out[to..to + self.0].copy_from_slice(&gradient[from..from + self.0]));
        Ok(Some(tensor(out, x.shape())?))
    }
}

/// x [n, c, h, w] cut into squares of `patch` pixels -> [n, (h / patch) * (w / patch), c * patch * patch], row by row, each square as c, y, x:
/// with [`crate::kernels::linear`] a convolution of that size and stride. Differentiable.
pub fn patches(x: &Tensor, patch: usize) -> Result<Tensor> {
    let (_, _, h, w) = x.dims4()?;
    if patch == 0 || h < patch || w < patch {
        bail!("patches of {patch} pixels in {:?}", x.shape());
    }
    prepared(x)?.apply_op1(Patches(patch))
}

struct Embed;

impl CustomOp3 for Embed {
    fn name(&self) -> &'static str {
        "embed tokens"
    }
    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        class: &CpuStorage,
        cl: &Layout,
        position: &CpuStorage,
        pl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (n, tokens, width) = xl.shape().dims3()?;
        let (x, class, position) = (argument(x, xl)?, argument(class, cl)?, argument(position, pl)?);
        let mut out = Vec::with_capacity(n * (tokens + 1) * width);
        for i in 0..n {
            let rows = class.iter().chain(&x[i * tokens * width..(i + 1) * tokens * width]);
            out.extend(rows.zip(position).map(|(x, p)| x + p));
        }
        Ok((CpuStorage::F32(out), (n, tokens + 1, width).into()))
    }
    fn bwd(
        &self,
        x: &Tensor,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        Ok((Some(gradient.narrow(1, 1, x.dim(1)?)?.contiguous()?), None, None))
    }
}

/// x [n, t, d] with `class` [d] before each sample's tokens and `position` [t + 1, d] added -> [n, t + 1, d]. Differentiable in `x`; `class`
/// and `position` are frozen: tracked ones are an error.
pub fn embed_tokens(x: &Tensor, class: &Tensor, position: &Tensor) -> Result<Tensor> {
    let (_, tokens, width) = x.dims3()?;
    if class.dims() != [width] || position.dims() != [tokens + 1, width] {
        bail!("embed_tokens: class {:?} and position {:?} do not fit x {:?}", class.shape(), position.shape(), x.shape());
    }
    if class.track_op() || position.track_op() {
        bail!("embed_tokens has no gradient for class and position: detach them");
    }
    prepared(x)?.apply_op3(&prepared(class)?, &prepared(position)?, Embed)
}
