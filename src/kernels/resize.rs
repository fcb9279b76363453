//! Pictures at other sizes.

use super::cpu::resample::{Grid, Taps};
use super::cpu::View;
#[cfg(feature = "cuda")]
use super::cuda::{self, At, Gpu};
use super::filters::Filter;
use super::op::{alike, apply, f32s, run1, Backward, Differentiable, Op};
use candle_core::{bail, Result, Shape, Tensor};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// x [n, c, h, w] -> [n, c, rows, columns] of the grid, which was made for planes of `size`.
#[derive(Clone)]
struct Resize {
    grid: Arc<Grid>,
    size: (usize, usize),
}

impl Resize {
    /// Numbers in a plane of the new size.
    fn plane(&self) -> usize {
        self.grid.rows.len() * self.grid.columns.len()
    }
}

impl Op<1> for Resize {
    const NAME: &'static str = "resize";
    fn shapes(&self, [x]: [&Shape; 1]) -> Result<[Shape; 1]> {
        match x.dims() {
            &[n, c, h, w] if (h, w) == self.size => Ok([(n, c, self.grid.rows.len(), self.grid.columns.len()).into()]),
            other => bail!("resize of {other:?} with weights for {:?}", self.size),
        }
    }
    fn cpu(&self, [x]: [View; 1]) -> Result<[Vec<f32>; 1]> {
        let (n, c, h, w) = x.shape.dims4()?;
        let plane = self.plane();
        let mut out = vec![0.0; n * c * plane];
        out.par_chunks_mut(plane).zip(x.values.par_chunks(h * w)).for_each(|(out, x)| self.grid.forward(x, w, out));
        Ok([out])
    }
    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, [x]: [cuda::View; 1]) -> Result<[cuda::Numbers; 1]> {
        let (n, c, h, w) = x.shape.dims4()?;
        let (rows, columns) = (self.grid.rows.len(), self.grid.columns.len());
        let narrowed = self.grid.rows.on_gpu(gpu, x.at(), (n * c, h, rows, w))?;
        Ok([self.grid.columns.on_gpu(gpu, narrowed.at(), (n * c * rows, w, columns, 1))?])
    }
}

impl Differentiable<1> for Resize {
    fn gradient(&self, given: &Backward<1>) -> Result<[Option<Tensor>; 1]> {
        let [x] = &given.inputs;
        Ok([Some(run1(&ResizeGradient { of: self.clone(), x: x.shape().clone() }, [&given.gradient])?)])
    }
}

/// Gradient of the result -> gradient of x.
struct ResizeGradient {
    of: Resize,
    x: Shape,
}

impl Op<1> for ResizeGradient {
    const NAME: &'static str = "resize's gradient";
    fn shapes(&self, [gradient]: [&Shape; 1]) -> Result<[Shape; 1]> {
        let [y] = self.of.shapes([&self.x])?;
        alike(Self::NAME, &y, gradient)?;
        Ok([self.x.clone()])
    }
    fn cpu(&self, [gradient]: [View; 1]) -> Result<[Vec<f32>; 1]> {
        let (_, _, h, w) = self.x.dims4()?;
        let mut out = vec![0.0; self.x.elem_count()];
        let planes = gradient.values.par_chunks(self.of.plane());
        out.par_chunks_mut(h * w).zip(planes).for_each(|(out, g)| self.of.grid.backward(g, w, out));
        Ok([out])
    }
    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, [gradient]: [cuda::View; 1]) -> Result<[cuda::Numbers; 1]> {
        let (n, c, h, w) = self.x.dims4()?;
        let (rows, columns) = (self.of.grid.rows.len(), self.of.grid.columns.len());
        let wide = self.of.grid.columns.transposed(w).on_gpu(gpu, gradient.at(), (n * c * rows, columns, w, 1))?;
        Ok([self.of.grid.rows.transposed(h).on_gpu(gpu, wide.at(), (n * c, rows, h, w))?])
    }
}

/// x [n, c, h, w] resized to (height, width), of which the rows and columns in `crop` are computed -> [n, c, crop.0.len(), crop.1.len()].
/// Differentiable.
pub fn resize(x: &Tensor, (height, width): (usize, usize), crop: (Range<usize>, Range<usize>), filter: Filter) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    if n * c * h * w == 0 || crop.0.is_empty() || crop.1.is_empty() || crop.0.end > height || crop.1.end > width {
        bail!("resize of {:?} to {height} x {width}, cropped to {crop:?}", x.shape());
    }
    let grid = Grid { rows: Taps::new(filter, h, height, crop.0), columns: Taps::new(filter, w, width, crop.1) };
    apply(Resize { grid: Arc::new(grid), size: (h, w) }, [&f32s(x)?])
}
