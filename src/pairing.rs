//! Whether adapted pictures still show what the unadapted ones of the same latents show.

use crate::error::{Error, Result};
use crate::kernels;
use candle_core::Tensor;

/// Small grey versions: of each picture of [n, 3, height, width] the mean of R, G, B, area-averaged to 16 x 16, row by row.
///
/// Errors: `InvalidArgument` for another shape; `NotFinite`.
pub fn grey16(pictures: &Tensor) -> Result<Vec<Vec<f32>>> {
    named_grey16("pictures", pictures)
}

/// As [`grey16`], of an argument of another name.
pub(crate) fn named_grey16(name: &str, pictures: &Tensor) -> Result<Vec<Vec<f32>>> {
    check(name, pictures)?;
    let small = kernels::grey16(pictures)?.to_vec2::<f32>()?;
    // A mean is finite where all that it is made of is.
    match small.iter().flatten().all(|v| v.is_finite()) {
        true => Ok(small),
        false => Err(Error::NotFinite(format!("{name}: the pictures hold NaN or infinity"))),
    }
}

/// Errors: `InvalidArgument` for another shape than [n, 3, height, width].
pub(crate) fn check(name: &str, pictures: &Tensor) -> Result<()> {
    match pictures.dims() {
        &[n, 3, height, width] if n * height * width > 0 => Ok(()),
        other => Err(Error::argument(name, format!("shape {other:?}; want [n, 3, height, width], none of them 0"))),
    }
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
