//! Arithmetic on the CPU, on slices: no graph, no shapes to check, f32 in row-major order.

pub(crate) mod activation;
pub(crate) mod attention;
pub(crate) mod conv;
pub(crate) mod conv2d;
pub(crate) mod dense;
pub(crate) mod features;
pub(crate) mod gemm;
#[allow(clippy::needless_range_loop)] // arrays of registers: loops that the compiler unrolls, over several at once
pub(crate) mod micro;
pub(crate) mod norm;
pub(crate) mod patches;
pub(crate) mod resample;
pub(crate) mod scratch;
pub(crate) mod simd;
pub(crate) mod synthesis;
pub(crate) mod transformer;
pub(crate) mod vector;

use crate::device::HOST;
use candle_core::backend::BackendStorage;
use candle_core::{bail, CpuStorage, Layout, Result, Shape, Storage, Tensor};
use std::borrow::Cow;

/// An argument: its numbers in row-major order.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub values: &'a [f32],
    pub shape: &'a Shape,
}

impl View<'_> {
    pub(crate) fn dims(&self) -> &[usize] {
        self.shape.dims()
    }
}

/// The numbers of an f32 tensor in row-major order; copies only where the layout is strided.
pub(crate) fn numbers<'a>(storage: &'a CpuStorage, layout: &Layout, name: &str) -> Result<Cow<'a, [f32]>> {
    let CpuStorage::F32(values) = storage else { bail!("{name} takes f32, not {:?}", storage.dtype()) };
    if let Some((from, to)) = layout.contiguous_offsets() {
        return Ok(Cow::Borrowed(&values[from..to]));
    }
    let mut copy = CpuStorage::F32(vec![0.0; layout.shape().elem_count()]);
    storage.copy_strided_src(&mut copy, 0, layout)?;
    match copy {
        CpuStorage::F32(values) => Ok(Cow::Owned(values)),
        _ => bail!("{name}: a copy changed its type"),
    }
}

/// The numbers of a contiguous f32 tensor, where they lie.
pub(crate) fn on_host<'a>(storage: &'a Storage, layout: &Layout, name: &str) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(values)), Some((from, to))) => Ok(&values[from..to]),
        _ => bail!("{name} takes contiguous f32 on the CPU"),
    }
}

/// A tensor of f32 on the CPU.
pub(crate) fn tensor(values: Vec<f32>, shape: Shape) -> Result<Tensor> {
    Tensor::from_vec(values, shape, HOST)
}

/// Normally distributed numbers, for tests.
#[cfg(test)]
pub(crate) fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut rng = crate::rng::Rng::new(seed);
    (0..n).map(|_| rng.normal()).collect()
}
