//! Whether adapted pictures still show what the unadapted ones of the same latents show.

use crate::error::{Error, Result};
use candle_core::{DType, Tensor};

/// Side of the grey pictures that are compared.
pub(crate) const SIDE: usize = 16;

/// Small grey versions: of each picture of [n, 3, height, width] the mean of R, G, B, area-averaged to 16 x 16, row by row.
///
/// Errors: `InvalidArgument` for another shape; `NotFinite`.
pub fn grey16(pictures: &Tensor) -> Result<Vec<Vec<f32>>> {
    Ok(Batch::new("pictures", pictures)?.grey16())
}

/// The share of `adapted` whose nearest in `plain` is their own: each set's mean removed, cosine. As many of one as of the other, made by
/// [`grey16`]. 0 for none.
pub fn share(adapted: &[Vec<f32>], plain: &[Vec<f32>]) -> f32 {
    let (adapted, plain) = (directions(adapted), directions(plain));
    let own = adapted.iter().enumerate().filter(|(i, a)| nearest(a, &plain) == *i).count();
    own as f32 / adapted.len().max(1) as f32
}

/// Mean cosine of each in `adapted` with its own in `plain`, each set's mean removed. 0 for none.
pub fn mean_cosine(adapted: &[Vec<f32>], plain: &[Vec<f32>]) -> f32 {
    let (adapted, plain) = (directions(adapted), directions(plain));
    let total: f64 = adapted.iter().zip(&plain).flat_map(|(a, b)| a.iter().zip(b)).map(|(a, b)| a * b).sum();
    (total / adapted.len().max(1) as f64) as f32
}

/// Each vector less the mean of all, of length 1.
fn directions(vectors: &[Vec<f32>]) -> Vec<Vec<f64>> {
    let mut out: Vec<Vec<f64>> = vectors.iter().map(|v| v.iter().map(|&x| f64::from(x)).collect()).collect();
    let length = out.first().map_or(0, Vec::len);
    for i in 0..length {
        let mean = out.iter().map(|v| v[i]).sum::<f64>() / out.len() as f64;
        out.iter_mut().for_each(|v| v[i] -= mean);
    }
    for v in &mut out {
        // A picture that is the mean itself has no direction; it stays near zero instead of becoming NaN.
        let norm = v.iter().map(|x| x * x).sum::<f64>().sqrt().max(1e-12);
        v.iter_mut().for_each(|x| *x /= norm);
    }
    out
}

/// Index of the vector with the largest dot product; the first of equals.
fn nearest(v: &[f64], of: &[Vec<f64>]) -> usize {
    let mut best = (f64::NEG_INFINITY, 0);
    for (i, other) in of.iter().enumerate() {
        let dot = v.iter().zip(other).map(|(a, b)| a * b).sum();
        if dot > best.0 {
            best = (dot, i);
        }
    }
    best.1
}

/// Pictures' numbers, checked.
pub(crate) struct Batch {
    n: usize,
    height: usize,
    width: usize,
    pub(crate) values: Vec<f32>,
}

impl Batch {
    pub(crate) fn new(name: &str, t: &Tensor) -> Result<Self> {
        let (n, height, width) = match t.dims() {
            &[n, 3, height, width] if n * height * width > 0 => (n, height, width),
            other => return Err(Error::argument(name, format!("shape {other:?}; want [n, 3, height, width], none of them 0"))),
        };
        let values = t.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        if !values.iter().all(|v| v.is_finite()) {
            return Err(Error::NotFinite(format!("{name}: the pictures hold NaN or infinity")));
        }
        Ok(Self { n, height, width, values })
    }

    pub(crate) fn like(self, name: &str, other: &Self) -> Result<Self> {
        let shape = |b: &Self| [b.n, 3, b.height, b.width];
        if shape(&self) != shape(other) {
            return Err(Error::argument(name, format!("shape {:?}, but the adapted pictures have {:?}", shape(&self), shape(other))));
        }
        Ok(self)
    }

    pub(crate) fn grey16(&self) -> Vec<Vec<f32>> {
        let plane = self.height * self.width;
        let small = |picture: &[f32]| {
            let grey = |at: usize| f64::from(picture[at] + picture[plane + at] + picture[2 * plane + at]) / 3.0;
            let mut cells = Vec::with_capacity(SIDE * SIDE);
            for rows in (0..SIDE).map(|i| cell(i, self.height)) {
                for columns in (0..SIDE).map(|j| cell(j, self.width)) {
                    let sum: f64 = rows.clone().map(|y| columns.clone().map(|x| grey(y * self.width + x)).sum::<f64>()).sum();
                    cells.push((sum / (rows.len() * columns.len()) as f64) as f32);
                }
            }
            cells
        };
        self.values.chunks_exact(3 * plane).map(small).collect()
    }
}

/// The input positions that output cell `i` of an adaptive average pool covers; neighbours overlap where the sizes do not divide.
fn cell(i: usize, length: usize) -> std::ops::Range<usize> {
    i * length / SIDE..((i + 1) * length).div_ceil(SIDE)
}
