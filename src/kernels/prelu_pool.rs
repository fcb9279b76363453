//! What follows the convolutions of small detectors: bias, PReLU (He et al. 2015, arXiv 1502.01852) and a max-pool, in one pass.

use super::cpu::View;
use super::op::{f32s, run1, Op};
use candle_core::{bail, Result, Shape, Tensor};
use rayon::prelude::*;

/// x [n, c, h, w], bias [c], slope [c]; windows of `size` pixels a side, 2 apart, 0 for no pool.
struct PreluPool {
    size: usize,
}

impl PreluPool {
    /// Rounded up: the last window may hang over the edge, and takes what is there.
    fn pooled(&self, length: usize) -> usize {
        match self.size {
            0 => length,
            size => length.saturating_sub(size).div_ceil(2) + 1,
        }
    }

    fn plane(&self, x: &[f32], width: usize, [bias, slope]: [f32; 2], out: &mut [f32]) {
        let prelu = |v: &f32| {
            let v = v + bias;
            if v >= 0.0 {
                v
            } else {
                v * slope
            }
        };
        if self.size == 0 {
            return out.iter_mut().zip(x).for_each(|(o, v)| *o = prelu(v));
        }
        let mut high = vec![f32::NEG_INFINITY; width];
        for (row, out) in out.chunks_exact_mut(self.pooled(width)).enumerate() {
            high.fill(f32::NEG_INFINITY);
            for line in x.chunks_exact(width).skip(2 * row).take(self.size) {
                high.iter_mut().zip(line).for_each(|(h, v)| *h = h.max(prelu(v)));
            }
            for (column, o) in out.iter_mut().enumerate() {
                *o = high[2 * column..].iter().take(self.size).fold(f32::NEG_INFINITY, |a, b| a.max(*b));
            }
        }
    }
}

impl Op<3> for PreluPool {
    const NAME: &'static str = "PReLU and max-pool";
    fn shapes(&self, [x, bias, slope]: [&Shape; 3]) -> Result<[Shape; 1]> {
        match x.dims() {
            &[n, c, h, w] if n * c * h * w > 0 && h.min(w) + 1 >= self.size && bias.dims() == [c] && slope.dims() == [c] => {
                Ok([(n, c, self.pooled(h), self.pooled(w)).into()])
            }
            other => bail!("{} of {other:?} by {bias:?} and {slope:?}, windows of {}", Self::NAME, self.size),
        }
    }
    fn cpu(&self, [x, bias, slope]: [View; 3]) -> Result<[Vec<f32>; 1]> {
        let (n, c, h, w) = x.shape.dims4()?;
        let plane = self.pooled(h) * self.pooled(w);
        let mut out = vec![0.0; n * c * plane];
        out.par_chunks_mut(plane).zip(x.values.par_chunks(h * w)).enumerate().for_each(|(i, (out, x))| {
            self.plane(x, w, [bias.values[i % c], slope.values[i % c]], out);
        });
        Ok([out])
    }
}

/// x [n, c, h, w] + bias [c], then v or slope [c] * v where v is negative, then the largest of windows of `size` x `size` pixels that lie 2 apart
/// (`size` 0: of none) -> [n, c, ceil((h - size) / 2) + 1, ...]: the last window may hang over the edge. On the CPU only; not differentiable.
pub(crate) fn prelu_pool(x: &Tensor, bias: &Tensor, slope: &Tensor, size: usize) -> Result<Tensor> {
    run1(&PreluPool { size }, [&f32s(x)?, &f32s(bias)?, &f32s(slope)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn numbers(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn windows_hang_over_the_edge() {
        let device = Device::Cpu;
        let values: Vec<f32> = (0..2 * 3 * 4).map(|i| i as f32 - 14.0).collect();
        let x = Tensor::from_vec(values, (1, 2, 3, 4), &device).unwrap();
        let bias = Tensor::new(&[1f32, 0.0], &device).unwrap();
        let slope = Tensor::new(&[0.5f32, -1.0], &device).unwrap();
        // The first channel is -13 to -2, halved; the second -2, -1, 0 to 9, its negative numbers turned over.
        let plain = prelu_pool(&x, &bias, &slope, 0).unwrap();
        assert_eq!(numbers(&plain)[..4], [-6.5, -6.0, -5.5, -5.0]);
        assert_eq!(numbers(&plain)[12..16], [2.0, 1.0, 0.0, 1.0]);
        let two = prelu_pool(&x, &bias, &slope, 2).unwrap();
        assert_eq!(two.dims(), [1, 2, 2, 2]);
        assert_eq!(numbers(&two), [-4.0, -3.0, -2.0, -1.0, 3.0, 5.0, 7.0, 9.0]);
        let three = prelu_pool(&x, &bias, &slope, 3).unwrap();
        assert_eq!(three.dims(), [1, 2, 1, 2]);
        assert_eq!(numbers(&three), [-1.5, -1.0, 8.0, 9.0]);
        assert!(prelu_pool(&x, &slope, &Tensor::new(&[1f32], &device).unwrap(), 2).is_err());
    }
}
