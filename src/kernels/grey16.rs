//! Small grey pictures, which keep what a picture shows and lose most of its style.

use super::cpu::View;
#[cfg(feature = "cuda")]
use super::cuda::{self, At, Gpu};
use super::op::{apply, f32s, run1, Backward, Differentiable, Op};
use candle_core::{bail, Result, Shape, Tensor};
use rayon::prelude::*;
use std::ops::Range;

/// Side of the small pictures.
pub(crate) const GREY_SIDE: usize = 16;
const CELLS: usize = GREY_SIDE * GREY_SIDE;

/// [n, 3, h, w] -> [n, 256]: the mean of the colours, area-averaged to 16 x 16, row by row. Differentiable.
pub(crate) fn grey16(pictures: &Tensor) -> Result<Tensor> {
    apply(Grey16, [&f32s(pictures)?])
}

/// The gradient of pictures of shape `pictures`, given that of their small ones [n, 256].
pub(crate) fn grey16_gradient(gradient: &Tensor, pictures: &Shape) -> Result<Tensor> {
    run1(&Grey16Gradient { pictures: pictures.clone() }, [gradient])
}

fn sizes(pictures: &Shape) -> Result<(usize, usize, usize)> {
    match pictures.dims() {
        &[n, 3, h, w] if n * h * w > 0 => Ok((n, h, w)),
        other => bail!("grey16 of {other:?} instead of [n, 3, height, width], none of them 0"),
    }
}

/// The input positions that output cell `i` of an adaptive average pool covers; neighbours overlap where the sizes do not divide.
fn cell(i: usize, length: usize) -> Range<usize> {
    i * length / GREY_SIDE..((i + 1) * length).div_ceil(GREY_SIDE)
}

/// Rows and columns of each cell of a picture.
fn cells(h: usize, w: usize) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    (0..CELLS).map(move |i| (cell(i / GREY_SIDE, h), cell(i % GREY_SIDE, w)))
}

struct Grey16;

impl Op<1> for Grey16 {
    const NAME: &'static str = "grey16";
    fn shapes(&self, [pictures]: [&Shape; 1]) -> Result<[Shape; 1]> {
        Ok([(sizes(pictures)?.0, CELLS).into()])
    }
    fn cpu(&self, [pictures]: [View; 1]) -> Result<[Vec<f32>; 1]> {
        let (n, h, w) = sizes(pictures.shape)?;
        let plane = h * w;
        let mut out = vec![0.0; n * CELLS];
        out.par_chunks_mut(CELLS).zip(pictures.values.par_chunks(3 * plane)).for_each(|(out, picture)| {
            let grey = |at: usize| f64::from(picture[at] + picture[plane + at] + picture[2 * plane + at]) / 3.0;
            for (out, (rows, columns)) in out.iter_mut().zip(cells(h, w)) {
                let sum: f64 = rows.clone().map(|y| columns.clone().map(|x| grey(y * w + x)).sum::<f64>()).sum();
                *out = (sum / (rows.len() * columns.len()) as f64) as f32;
            }
        });
        Ok([out])
    }
    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, [pictures]: [cuda::View; 1]) -> Result<[cuda::Numbers; 1]> {
        let (n, h, w) = sizes(pictures.shape)?;
        let out = gpu.alloc(n * CELLS)?;
        // SAFETY: the kernel's arguments.
        unsafe { gpu.launch(("picture", "grey16_forward"), [CELLS, n, 1], 128, 0, cuda::arguments![pictures.at(), out.at(), h, w])? };
        Ok([out])
    }
}

impl Differentiable<1> for Grey16 {
    fn gradient(&self, given: &Backward<1>) -> Result<[Option<Tensor>; 1]> {
        let [pictures] = &given.inputs;
        Ok([Some(grey16_gradient(&given.gradient, pictures.shape())?)])
    }
}

/// Gradient of the small pictures -> gradient of those of shape `pictures`.
struct Grey16Gradient {
    pictures: Shape,
}

impl Op<1> for Grey16Gradient {
    const NAME: &'static str = "grey16's gradient";
    fn shapes(&self, [gradient]: [&Shape; 1]) -> Result<[Shape; 1]> {
        let (n, _, _) = sizes(&self.pictures)?;
        match gradient.dims() == [n, CELLS] {
            true => Ok([self.pictures.clone()]),
            false => bail!("{} of shape {gradient:?} for pictures {:?}", Self::NAME, self.pictures),
        }
    }
    fn cpu(&self, [gradient]: [View; 1]) -> Result<[Vec<f32>; 1]> {
        let (_, h, w) = sizes(&self.pictures)?;
        let mut out = vec![0.0; self.pictures.elem_count()];
        out.par_chunks_mut(3 * h * w).zip(gradient.values.par_chunks(CELLS)).for_each(|(out, gradient)| {
            let (first, others) = out.split_at_mut(h * w);
            for (g, (rows, columns)) in gradient.iter().zip(cells(h, w)) {
                let g = g * (1.0 / (3 * rows.len() * columns.len()) as f32);
                for y in rows {
                    first[y * w..][columns.clone()].iter_mut().for_each(|v| *v += g);
                }
            }
            others.chunks_exact_mut(h * w).for_each(|other| other.copy_from_slice(first));
        });
        Ok([out])
    }
    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, [gradient]: [cuda::View; 1]) -> Result<[cuda::Numbers; 1]> {
        let (n, h, w) = sizes(&self.pictures)?;
        let count = self.pictures.elem_count();
        let out = gpu.alloc(count)?;
        // SAFETY: the kernel's arguments.
        unsafe { gpu.each(("picture", "grey16_backward"), count, cuda::arguments![gradient.at(), out.at(), n, h, w])? };
        Ok([out])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    /// <grey16(x), g> is linear in x, so its gradient times x is the value itself, also where cells overlap (sides that 16 does not divide).
    #[test]
    fn the_gradient_is_the_transpose() {
        for (h, w) in [(32, 48), (40, 23)] {
            let mut rng = crate::rng::Rng::new(7);
            let x = Var::from_tensor(&rng.normals(&[2, 3, h, w], &Device::Cpu).unwrap()).unwrap();
            let g = rng.normals(&[2, CELLS], &Device::Cpu).unwrap();
            let value = (grey16(x.as_tensor()).unwrap() * g).unwrap().sum_all().unwrap();
            let gradients = value.backward().unwrap();
            let along = (gradients.get(x.as_tensor()).unwrap() * x.as_detached_tensor()).unwrap().sum_all().unwrap();
            let (value, along) = (value.to_scalar::<f32>().unwrap(), along.to_scalar::<f32>().unwrap());
            assert!(value.abs() > 0.1 && (value - along).abs() < 1e-4, "{h} x {w}: {value} {along}");
        }
    }
}
