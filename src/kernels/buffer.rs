//! Access to candle's CPU storage, and scratch memory that is used again.

use candle_core::{CpuStorage, Layout, Result, Shape, Tensor};
use std::borrow::Cow;
use std::cell::RefCell;

/// The numbers of an f32 tensor in row-major order; copies only where the layout is strided.
pub(crate) fn numbers<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<Cow<'a, [f32]>> {
    let data = storage.as_slice::<f32>()?;
    Ok(match layout.contiguous_offsets() {
        Some((from, to)) => Cow::Borrowed(&data[from..to]),
        None => Cow::Owned(strided(data, layout)),
    })
}

fn strided(data: &[f32], layout: &Layout) -> Vec<f32> {
    let (dims, strides) = (layout.dims(), layout.stride());
    let mut out = Vec::with_capacity(layout.shape().elem_count());
    let mut index = vec![0usize; dims.len()];
    let mut at = layout.start_offset();
    for _ in 0..layout.shape().elem_count() {
        out.push(data[at]);
        for d in (0..dims.len()).rev() {
            index[d] += 1;
            at += strides[d];
            if index[d] < dims[d] {
                break;
            }
            at -= strides[d] * dims[d];
            index[d] = 0;
        }
    }
    out
}

/// Calls `f` with the numbers of an f32 CPU tensor.
pub(crate) fn with_numbers<R>(t: &Tensor, f: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let (storage, layout) = t.storage_and_layout();
    match &*storage {
        candle_core::Storage::Cpu(s) => f(&numbers(s, layout)?),
        _ => candle_core::bail!("this kernel has no implementation for {:?}", t.device().location()),
    }
}

/// A tensor of f32 on the CPU.
pub(crate) fn tensor(data: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(data, shape.into(), &candle_core::Device::Cpu)
}

/// Scratch that goes back to its thread's pool when dropped. Its contents are whatever was there before.
pub(crate) struct Scratch(Vec<f32>);

/// A pool keeps no more numbers than this, so that one large picture does not hold on to memory for ever.
pub(crate) const KEPT: usize = 8 << 20;

thread_local! {
    static POOL: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

impl Scratch {
    pub(crate) fn new(len: usize) -> Self {
        let mut v = POOL.with(|p| {
            let mut p = p.borrow_mut();
            // The smallest that is large enough, else the largest.
            let fits = (0..p.len()).filter(|&i| p[i].capacity() >= len).min_by_key(|&i| p[i].capacity());
            let i = fits.or_else(|| (0..p.len()).max_by_key(|&i| p[i].capacity()));
            i.map(|i| p.swap_remove(i)).unwrap_or_default()
        });
        v.resize(len, 0.0);
        Self(v)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let v = std::mem::take(&mut self.0);
        // A pool that is gone (its thread is ending) just lets the memory go.
        let _ = POOL.try_with(|p| {
            let mut p = p.borrow_mut();
            if p.iter().map(Vec::capacity).sum::<usize>() + v.capacity() <= KEPT {
                p.push(v);
            }
        });
    }
}

impl std::ops::Deref for Scratch {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl std::ops::DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}
