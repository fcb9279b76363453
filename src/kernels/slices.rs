//! What the CPU kernels share: tensors as slices, matrix products on slices, vector loops for the instruction set at hand.

use candle_core::{bail, CpuStorage, DType, Device, Layout, Result, Storage, Tensor};
use std::ops::Deref;

/// A contiguous CPU f32 tensor, readable as a slice in C order.
pub(crate) struct Values<'a> {
    storage: candle_core::StorageRef<'a>,
    start: usize,
    len: usize,
}

impl<'a> Values<'a> {
    pub(crate) fn of(tensor: &'a Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        let Some((start, end)) = layout.contiguous_offsets() else { bail!("tensor is not contiguous") };
        match &*storage {
            Storage::Cpu(CpuStorage::F32(values)) if values.len() >= end => {}
            _ => bail!("{:?} tensor on {:?}: these kernels take f32 on the CPU", tensor.dtype(), tensor.device()),
        }
        Ok(Self { storage, start, len: end - start })
    }
}

impl Deref for Values<'_> {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.start..self.start + self.len],
            _ => &[],
        }
    }
}

/// The values of a custom operation's argument.
pub(crate) fn argument<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&values[start..end]),
        (CpuStorage::F32(_), None) => bail!("argument is not contiguous"),
        _ => bail!("argument is not f32"),
    }
}

/// f32 and contiguous, which is what the kernels take.
pub(crate) fn prepared(tensor: &Tensor) -> Result<Tensor> {
    tensor.to_dtype(DType::F32)?.contiguous()
}

pub(crate) fn tensor(values: Vec<f32>, shape: impl Into<candle_core::Shape>) -> Result<Tensor> {
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// A matrix inside a slice: element (i, j) is at `rows * i + columns * j`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub values: &'a [f32],
    pub rows: usize,
    pub columns: usize,
}

impl<'a> Matrix<'a> {
    /// Rows one after another, each `row` apart.
    pub(crate) fn rows(values: &'a [f32], row: usize) -> Self {
        Self { values, rows: row, columns: 1 }
    }
    pub(crate) fn transposed(self) -> Self {
        Self { values: self.values, rows: self.columns, columns: self.rows }
    }
    fn reaches(&self, m: usize, n: usize) -> bool {
        m == 0 || n == 0 || (m - 1) * self.rows + (n - 1) * self.columns < self.values.len()
    }
}

/// out [m, n], rows `out_row` apart, = (out if `add`) + scale * a [m, k] b [k, n]; `parallel` lets it use rayon's threads.
#[allow(clippy::too_many_arguments)]
pub(crate) fn matmul(
    (m, n, k): (usize, usize, usize),
    out: &mut [f32],
    out_row: usize,
    add: bool,
    scale: f32,
    a: Matrix,
    b: Matrix,
    parallel: bool,
) {
    assert!(a.reaches(m, k) && b.reaches(k, n) && Matrix::rows(out, out_row).reaches(m, n), "matmul reaches outside its arguments");
    if m == 0 || n == 0 {
        return;
    }
    let parallelism = if parallel { gemm::Parallelism::Rayon(0) } else { gemm::Parallelism::None };
    // Safety: the assertion above keeps every access of the three matrices inside its slice, and `out` is borrowed exclusively.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            out_row as isize,
            add,
            a.values.as_ptr(),
            a.columns as isize,
            a.rows as isize,
            b.values.as_ptr(),
            b.columns as isize,
            b.rows as isize,
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// Runs `f` compiled for the widest vector unit this processor has (x86-64 with AVX2 or AVX-512; elsewhere the target's own). What `f`
/// calls must be `#[inline(always)]` to take part.
#[inline(always)]
pub(crate) fn vectorised<R>(f: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(f)
}

/// Partial sums kept side by side: one 512-bit register.
const LANES: usize = 16;

/// Folds `x` and `y` pairwise in [`LANES`] independent chains, which the compiler turns into vector code.
#[inline(always)]
fn fold(x: &[f32], y: &[f32], start: f32, step: impl Fn(f32, f32, f32) -> f32, join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; LANES];
    let (xs, ys) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    let (xr, yr) = (xs.remainder(), ys.remainder());
    for (x, y) in xs.zip(ys) {
        for i in 0..LANES {
            lanes[i] = step(lanes[i], x[i], y[i]);
        }
    }
    for (lane, (x, y)) in lanes.iter_mut().zip(xr.iter().zip(yr)) {
        *lane = step(*lane, *x, *y);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = join(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}

#[inline(always)]
pub(crate) fn sum(x: &[f32]) -> f32 {
    fold(x, x, 0.0, |s, x, _| s + x, |a, b| a + b)
}

#[inline(always)]
pub(crate) fn dot(x: &[f32], y: &[f32]) -> f32 {
    fold(x, y, 0.0, |s, x, y| s + x * y, |a, b| a + b)
}

#[inline(always)]
pub(crate) fn maximum(x: &[f32]) -> f32 {
    fold(x, x, f32::NEG_INFINITY, |s, x, _| if x > s { x } else { s }, |a, b| if a > b { a } else { b })
}

#[inline(always)]
pub(crate) fn add_to(out: &mut [f32], x: &[f32]) {
    for (out, x) in out.iter_mut().zip(x) {
        *out += x;
    }
}

/// e^x, within 1.5e-7 of it relatively for x in [-87.3, 88.3]; clamped to that range (so never 0 or infinite); NaN stays NaN. Branch-free.
/// Cody and Waite's reduction by ln 2 in two parts, then Cephes' polynomial.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    /// Adding 1.5 * 2^23 leaves the nearest integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let x = if x < -87.3 { -87.3 } else { x };
    let x = if x > 88.3 { 88.3 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * 0.693_359_4) - n * -2.121_944_4e-4;
    let mut p = 1.987_569_2e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 0.166_666_65;
    p = p * r + 0.5;
    let power = f32::from_bits(shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23);
    (p * r * r + r + 1.0) * power
}

/// A row of `bias` (zeros without) for each of `rows`: what a product is added to.
pub(crate) fn repeated(bias: Option<&[f32]>, rows: usize, columns: usize) -> Vec<f32> {
    match bias {
        Some(bias) => {
            let mut out = Vec::with_capacity(rows * columns);
            for _ in 0..rows {
                out.extend_from_slice(bias);
            }
            out
        }
        None => vec![0.0; rows * columns],
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn exp_is_within_its_bound() {
        let mut worst = 0f64;
        let mut x = -87.29f32;
        while x < 88.29 {
            let want = (x as f64).exp();
            worst = worst.max((super::exp(x) as f64 - want).abs() / want);
            x += 0.000_37;
        }
        assert!(worst < 1.5e-7, "{worst:e}");
        assert!(super::exp(f32::NAN).is_nan());
        assert!(super::exp(-1e30) > 0.0 && super::exp(1e30).is_finite());
    }

    #[test]
    fn folds_take_every_element() {
        for n in [0, 1, 15, 16, 17, 65, 131] {
            let x: Vec<f32> = (0..n).map(|i| i as f32 - 3.0).collect();
            assert_eq!(super::sum(&x), x.iter().sum::<f32>());
            assert_eq!(super::dot(&x, &x), x.iter().map(|x| x * x).sum::<f32>());
            assert_eq!(super::maximum(&x), x.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b)));
        }
    }
}
