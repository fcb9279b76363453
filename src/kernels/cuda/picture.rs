//! Pictures on a GPU: sizes, distances, plain convolutions.

use super::{arguments, Argument, At, Gpu, Matrix, Numbers};
use crate::kernels::conv2d::{Conv2d, Sizes};
use crate::kernels::cpu::resample::Taps;
use candle_core::Result;

impl Taps {
    /// Lines of `inputs` numbers as lines of `outputs`, `inner` of them beside each other and `outer` times.
    pub(crate) fn on_gpu(&self, gpu: &Gpu, x: Argument, (outer, inputs, outputs, inner): (usize, usize, usize, usize)) -> Result<Numbers> {
        let (starts, weights, taps) = self.table();
        let (starts, weights) = (gpu.upload(&starts)?, gpu.upload(&weights)?);
        let count = outer * outputs * inner;
        let out = gpu.alloc(count)?;
        let arguments = arguments![x, out.at(), starts.at(), weights.at(), taps, outer, inputs, outputs, inner];
        // SAFETY: the kernel's arguments; the table is for `outputs` lines' places in `inputs`.
        unsafe { gpu.each(("picture", "resize_along"), count, arguments)? };
        Ok(out)
    }
}

/// Blocks that a sum is made in.
const PARTS: usize = 256;

/// `factor` times the sum of (a - b)^2, in parts into `part`; the differences into `d`, where it is one.
fn squares(gpu: &Gpu, (a, b, d): (Argument, Argument, Argument), length: usize, factor: f32, part: Argument) -> Result<()> {
    // SAFETY: the kernel's arguments, each of `length` numbers, and PARTS.
    unsafe { gpu.launch(("picture", "squares"), [PARTS, 1, 1], 256, 0, arguments![a, b, d, part, length, factor]) }
}

fn total(gpu: &Gpu, part: &Numbers, parts: usize) -> Result<Numbers> {
    let out = gpu.alloc(1)?;
    // SAFETY: as above.
    unsafe { gpu.launch(("picture", "total"), [1, 1, 1], 256, 0, arguments![part.at(), out.at(), parts])? };
    Ok(out)
}

pub(crate) fn mean_square_error(gpu: &Gpu, a: Argument, b: Argument, length: usize) -> Result<Numbers> {
    let part = gpu.alloc(PARTS)?;
    squares(gpu, (a, b, Argument::NULL), length, 1.0 / length as f32, part.at())?;
    total(gpu, &part, PARTS)
}

/// The distance of `planes` of h x w over `levels` of averages, and its gradient with respect to x.
pub(crate) fn pyramid(
    gpu: &Gpu,
    x: Argument,
    target: Argument,
    (planes, h, w): (usize, usize, usize),
    levels: usize,
    weight: f32,
) -> Result<[Numbers; 2]> {
    let part = gpu.alloc(levels * PARTS)?;
    let mut differences: Vec<Numbers> = vec![];
    let count = |level: usize| planes * (h >> level) * (w >> level);
    let own = |level: usize| if level == 0 { 1.0 } else { weight } / count(level) as f32;
    for level in 0..levels {
        let d = gpu.alloc(count(level))?;
        let parts = part.at().plus(level * PARTS);
        match differences.last() {
            None => squares(gpu, (x, target, d.at()), count(level), own(level), parts)?,
            Some(fine) => {
                let arguments = arguments![fine.at(), d.at(), planes, h >> (level - 1), w >> (level - 1)];
                // SAFETY: the kernel's arguments.
                unsafe { gpu.each(("picture", "halved"), count(level), arguments)? };
                squares(gpu, (d.at(), Argument::NULL, Argument::NULL), count(level), own(level), parts)?;
            }
        }
        differences.push(d);
    }
    let mut gradient: Option<Numbers> = None;
    for (level, d) in differences.iter().enumerate().rev() {
        let g = gpu.alloc(count(level))?;
        let arguments = arguments![d.at(), gradient.at(), g.at(), planes, h >> level, w >> level, 2.0 * own(level)];
        // SAFETY: as above.
        unsafe { gpu.each(("picture", "halved_back"), count(level), arguments)? };
        gradient = Some(g);
    }
    let gradient = match gradient {
        Some(gradient) => gradient,
        None => gpu.alloc(0)?,
    };
    Ok([total(gpu, &part, levels * PARTS)?, gradient])
}

/// Columns of one sample at a time: what CLIP and encoders need of it is small.
impl Conv2d {
    fn columns(&self, gpu: &Gpu, z: &Sizes, x: Argument, to: &Numbers) -> Result<()> {
        let arguments = arguments![x, to.at(), z.c, z.h, z.w, z.kh, z.kw, z.oh, z.ow, self.stride, self.padding];
        // SAFETY: the kernel's arguments.
        unsafe { gpu.each(("picture", "columns"), z.out_area() * z.columns(), arguments) }
    }

    pub(crate) fn on_gpu(&self, gpu: &Gpu, z: &Sizes, x: Argument, w: Argument) -> Result<Numbers> {
        let (area, depth) = (z.out_area(), z.columns());
        let (out, columns) = (gpu.alloc(z.n * z.o * area)?, gpu.alloc(area * depth)?);
        for n in 0..z.n {
            self.columns(gpu, z, x.plus(n * z.c * z.h * z.w), &columns)?;
            let columns = Matrix::rows(columns.at(), depth).transposed();
            // SAFETY: the matrices' sizes are those of `z`.
            unsafe { gpu.product((z.o, area, depth), Matrix::rows(w, depth), columns, 0.0, out.at().plus(n * z.o * area), area)? };
        }
        Ok(out)
    }

    pub(crate) fn input_on_gpu(&self, gpu: &Gpu, z: &Sizes, w: Argument, dy: Argument) -> Result<Numbers> {
        let (area, depth, picture) = (z.out_area(), z.columns(), z.c * z.h * z.w);
        let (out, columns) = (gpu.alloc(z.n * picture)?, gpu.alloc(area * depth)?);
        for n in 0..z.n {
            let dy = Matrix::rows(dy.plus(n * z.o * area), area).transposed();
            let to = out.at().plus(n * picture);
            let arguments = arguments![columns.at(), to, z.c, z.h, z.w, z.kh, z.kw, z.oh, z.ow, self.stride, self.padding];
            // SAFETY: as above.
            unsafe {
                gpu.product((area, depth, z.o), dy, Matrix::rows(w, depth), 0.0, columns.at(), depth)?;
                gpu.each(("picture", "columns_back"), picture, arguments)?;
            }
        }
        Ok(out)
    }

    pub(crate) fn weight_on_gpu(&self, gpu: &Gpu, z: &Sizes, x: Argument, dy: Argument) -> Result<Numbers> {
        let (area, depth) = (z.out_area(), z.columns());
        let (out, columns) = (gpu.alloc(z.o * depth)?, gpu.alloc(area * depth)?);
        for n in 0..z.n {
            self.columns(gpu, z, x.plus(n * z.c * z.h * z.w), &columns)?;
            let (dy, columns) = (Matrix::rows(dy.plus(n * z.o * area), area), Matrix::rows(columns.at(), depth));
            // SAFETY: as above.
            unsafe { gpu.product((z.o, depth, area), dy, columns, if n == 0 { 0.0 } else { 1.0 }, out.at(), depth)? };
        }
        Ok(out)
    }
}
