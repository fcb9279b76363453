//! Features of a frozen network, and what encoders do with them between their first layer and their last. Nothing here has a gradient.
//!
//! On the CPU features lie channels-last, as its convolutions like them; elsewhere as torch has them. Nobody outside knows.

use super::conv2d::conv2d;
use super::cpu::features::{self as arithmetic, Packed};
use super::cpu::View;
use super::linear::linear;
use super::op::{alike, run1, Op};
use candle_core::{bail, Result, Shape, Tensor};
use std::sync::Arc;

/// A batch of feature maps.
#[derive(Clone, Debug)]
pub(crate) struct Features {
    /// On the CPU [n, h, w, c], elsewhere [n, c, h, w].
    tensor: Tensor,
    layout: Layout,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    ChannelsLast,
    Planes,
}

impl Layout {
    /// Of a device.
    fn of(x: &Tensor) -> Self {
        if x.device().is_cpu() {
            Layout::ChannelsLast
        } else {
            Layout::Planes
        }
    }

    /// A number for each channel, so that it can be broadcast over features.
    fn broadcast(self, numbers: &Tensor) -> Result<Tensor> {
        let c = numbers.elem_count();
        match self {
            Layout::ChannelsLast => numbers.reshape((1, 1, 1, c)),
            Layout::Planes => numbers.reshape((1, c, 1, 1)),
        }
    }
}

impl Features {
    /// Of x [n, c, h, w].
    pub(crate) fn new(x: &Tensor) -> Result<Self> {
        Self::laid(x, Layout::of(x))
    }

    fn laid(x: &Tensor, layout: Layout) -> Result<Self> {
        let tensor = match layout {
            Layout::ChannelsLast => x.permute((0, 2, 3, 1))?.contiguous()?,
            Layout::Planes => x.contiguous()?,
        };
        Ok(Self { tensor, layout })
    }

    /// [n, c, h, w]
    pub(crate) fn to_tensor(&self) -> Result<Tensor> {
        match self.layout {
            Layout::ChannelsLast => self.tensor.permute((0, 3, 1, 2))?.contiguous(),
            Layout::Planes => Ok(self.tensor.clone()),
        }
    }

    /// (n, c, h, w)
    pub(crate) fn dims(&self) -> Result<(usize, usize, usize, usize)> {
        let (n, a, b, c) = self.tensor.dims4()?;
        Ok(match self.layout {
            Layout::ChannelsLast => (n, c, a, b),
            Layout::Planes => (n, a, b, c),
        })
    }

    /// The same layout with other numbers.
    fn with(&self, tensor: Tensor) -> Self {
        Self { tensor, layout: self.layout }
    }

    /// Each channel times its `scale` [c] plus its `shift` [c]: a batch norm that stands before a convolution, whose border is no part of it.
    pub(crate) fn scaled(&self, scale: &Tensor, shift: &Tensor) -> Result<Self> {
        if self.layout == Layout::ChannelsLast {
            return Ok(self.with(run1(&Scaled, [&self.tensor, scale, shift])?));
        }
        let (scale, shift) = (self.layout.broadcast(scale)?, self.layout.broadcast(shift)?);
        Ok(self.with(self.tensor.broadcast_mul(&scale)?.broadcast_add(&shift)?))
    }

    /// Over all places: [n, c].
    pub(crate) fn mean(&self) -> Result<Tensor> {
        match self.layout {
            Layout::ChannelsLast => run1(&Mean, [&self.tensor]),
            Layout::Planes => self.tensor.flatten_from(2)?.mean(2),
        }
    }

    /// Every second row and column, from the first: max pooling over one pixel with stride 2.
    pub(crate) fn every_second(&self) -> Result<Self> {
        let (_, _, h, w) = self.dims()?;
        let [down, across] = if self.layout == Layout::ChannelsLast { [1, 2] } else { [2, 3] };
        let at = |n: usize| Tensor::arange_step(0u32, n as u32, 2, self.tensor.device());
        Ok(self.with(self.tensor.index_select(&at(h)?, down)?.index_select(&at(w)?, across)?))
    }

    /// The sum with `other`, where a `gate` [n, c] is given of these times it.
    pub(crate) fn joined(&self, gate: Option<&Tensor>, other: &Self) -> Result<Self> {
        let Some(gate) = gate else { return Ok(self.with((&self.tensor + &other.tensor)?)) };
        if self.layout == Layout::ChannelsLast {
            return Ok(self.with(run1(&Gated, [&self.tensor, gate, &other.tensor])?));
        }
        let (n, c) = gate.dims2()?;
        Ok(self.with((self.tensor.broadcast_mul(&gate.reshape((n, c, 1, 1))?)? + &other.tensor)?))
    }

    pub(crate) fn relu(&self) -> Result<Self> {
        Ok(self.with(self.tensor.relu()?))
    }

    /// These at the size of `other`, bilinearly between corners that coincide (torch's align_corners), plus `other`.
    pub(crate) fn enlarged_onto(&self, other: &Self) -> Result<Self> {
        if self.layout == Layout::ChannelsLast {
            return Ok(self.with(run1(&EnlargedOnto, [&self.tensor, &other.tensor])?));
        }
        let (_, _, h, w) = self.dims()?;
        let (_, _, oh, ow) = other.dims()?;
        let along = |x: &Tensor, dim: usize, from: usize, to: usize| -> Result<Tensor> {
            let places = arithmetic::between_corners(from, to);
            let device = x.device();
            let at = |f: &dyn Fn(&(usize, usize, f32)) -> u32| Tensor::from_vec(places.iter().map(f).collect::<Vec<u32>>(), to, device);
            let (first, second) = (at(&|p| p.0 as u32)?, at(&|p| p.1 as u32)?);
            let mut shape = [1; 4];
            shape[dim] = to;
            let share = Tensor::from_vec(places.iter().map(|p| p.2).collect::<Vec<f32>>(), &shape, device)?;
            let (a, b) = (x.index_select(&first, dim)?, x.index_select(&second, dim)?);
            a.broadcast_mul(&share.affine(-1.0, 1.0)?)? + b.broadcast_mul(&share)?
        };
        let enlarged = along(&along(&self.tensor, 2, h, oh)?, 3, w, ow)?;
        Ok(self.with((enlarged + &other.tensor)?))
    }
}

/// x [n, h, w, c], scale [c], shift [c]
struct Scaled;

impl Op<3> for Scaled {
    const NAME: &'static str = "scaled features";
    fn shapes(&self, [x, scale, shift]: [&Shape; 3]) -> Result<[Shape; 1]> {
        let (_, _, _, c) = x.dims4()?;
        if scale.dims() != [c] || shift.dims() != [c] {
            bail!("{}: {x:?} with {scale:?} and {shift:?}", Self::NAME);
        }
        Ok([x.clone()])
    }
    fn cpu(&self, [x, scale, shift]: [View; 3]) -> Result<[Vec<f32>; 1]> {
        Ok([arithmetic::scaled(x.values, scale.values, shift.values)])
    }
}

/// x [n, h, w, c] -> [n, c]
struct Mean;

impl Op<1> for Mean {
    const NAME: &'static str = "mean of features";
    fn shapes(&self, [x]: [&Shape; 1]) -> Result<[Shape; 1]> {
        let (n, _, _, c) = x.dims4()?;
        Ok([(n, c).into()])
    }
    fn cpu(&self, [x]: [View; 1]) -> Result<[Vec<f32>; 1]> {
        let (n, h, w, c) = x.shape.dims4()?;
        Ok([arithmetic::mean(x.values, n, h * w, c)])
    }
}

/// x [n, h, w, c], gate [n, c], y as x -> x * gate + y
struct Gated;

impl Op<3> for Gated {
    const NAME: &'static str = "gated features";
    fn shapes(&self, [x, gate, y]: [&Shape; 3]) -> Result<[Shape; 1]> {
        let (n, _, _, c) = x.dims4()?;
        if gate.dims() != [n, c] {
            bail!("{}: {x:?} with {gate:?}", Self::NAME);
        }
        Ok([alike(Self::NAME, x, y)?])
    }
    fn cpu(&self, [x, gate, y]: [View; 3]) -> Result<[Vec<f32>; 1]> {
        let (n, h, w, c) = x.shape.dims4()?;
        Ok([arithmetic::gated(x.values, gate.values, y.values, (n, h * w, c))])
    }
}

/// x [n, h, w, c], y [n, h', w', c] -> x at the size of y, plus y
struct EnlargedOnto;

impl Op<2> for EnlargedOnto {
    const NAME: &'static str = "enlarged features";
    fn shapes(&self, [x, y]: [&Shape; 2]) -> Result<[Shape; 1]> {
        let ((n, h, w, c), (n2, oh, ow, c2)) = (x.dims4()?, y.dims4()?);
        if n != n2 || c != c2 || h * w * oh * ow == 0 {
            bail!("{}: {x:?} onto {y:?}", Self::NAME);
        }
        Ok([y.clone()])
    }
    fn cpu(&self, [x, y]: [View; 2]) -> Result<[Vec<f32>; 1]> {
        let ((_, h, w, c), (_, oh, ow, _)) = (x.shape.dims4()?, y.shape.dims4()?);
        Ok([arithmetic::enlarged_onto(x.values, y.values, (h, w), (oh, ow), c)])
    }
}

/// A convolution with what follows it: a bias, and where there are slopes a leaky ReLU with one for each channel. Its batch norm is folded in.
pub(crate) struct Convolution {
    way: Way,
    /// [outputs]
    bias: Tensor,
    /// [outputs]
    slopes: Option<Tensor>,
    stride: usize,
    padding: usize,
}

/// How it is computed.
enum Way {
    /// By the kernels for 3x3, of weights that they read in their own order.
    Packed(Arc<Packed>),
    /// By conv2d and operations on tensors: any sizes, any device.
    Plain(Tensor),
}

impl Convolution {
    /// weight [outputs, inputs, k, k], bias [outputs], slopes [outputs]; the padding is that which keeps the size with stride 1.
    pub(crate) fn new(weight: &Tensor, bias: &Tensor, slopes: Option<&Tensor>, stride: usize) -> Result<Self> {
        let (_, _, k, _) = weight.dims4()?;
        let way = match k == 3 && stride <= 2 && weight.device().is_cpu() {
            true => Way::Packed(Arc::new(Packed::new(weight, bias, slopes, stride)?)),
            false => Way::Plain(weight.clone()),
        };
        Ok(Self { way, bias: bias.clone(), slopes: slopes.cloned(), stride, padding: k / 2 })
    }

    pub(crate) fn forward(&self, x: &Features) -> Result<Features> {
        let weight = match &self.way {
            Way::Packed(packed) => return Ok(x.with(run1(&Convolve(packed.clone()), [&x.tensor])?)),
            Way::Plain(weight) => weight,
        };
        // One pixel's channels are a row, of every second pixel where the stride is two.
        let (outputs, inputs, k, _) = weight.dims4()?;
        if x.layout == Layout::ChannelsLast && k == 1 && self.stride <= 2 && self.slopes.is_none() {
            let x = if self.stride == 2 { x.every_second()? } else { x.clone() };
            return Ok(x.with(linear(&x.tensor, &weight.reshape((outputs, inputs))?, Some(&self.bias))?));
        }
        let y = conv2d(&x.to_tensor()?, weight, self.stride, self.padding)?;
        let y = y.broadcast_add(&Layout::Planes.broadcast(&self.bias)?)?;
        let y = match &self.slopes {
            None => y,
            Some(slopes) => (y.relu()? + y.minimum(0f64)?.broadcast_mul(&Layout::Planes.broadcast(slopes)?)?)?,
        };
        Features::laid(&y, x.layout)
    }
}

/// x [n, h, w, inputs] -> [n, h', w', outputs]
struct Convolve(Arc<Packed>);

impl Op<1> for Convolve {
    const NAME: &'static str = "convolution of features";
    fn shapes(&self, [x]: [&Shape; 1]) -> Result<[Shape; 1]> {
        let (n, h, w, c) = x.dims4()?;
        if c != self.0.inputs || n * h * w == 0 {
            bail!("{}: {x:?} where {} channels are needed", Self::NAME, self.0.inputs);
        }
        Ok([(n, h.div_ceil(self.0.stride), w.div_ceil(self.0.stride), self.0.outputs).into()])
    }
    fn cpu(&self, [x]: [View; 1]) -> Result<[Vec<f32>; 1]> {
        let (n, h, w, _) = x.shape.dims4()?;
        Ok([self.0.forward(x.values, (n, h, w))])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::HOST;
    use crate::rng::Rng;

    fn noise(shape: &[usize], seed: u64) -> Tensor {
        Rng::new(seed).normals(shape, HOST).unwrap()
    }

    /// Both layouts of one tensor.
    fn both(x: &Tensor) -> [Features; 2] {
        [Layout::ChannelsLast, Layout::Planes].map(|layout| Features::laid(x, layout).unwrap())
    }

    fn same(what: &str, [have, want]: [Tensor; 2], within: f32) {
        assert_eq!(have.dims(), want.dims(), "{what}");
        let worst = (have - want).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
        assert!(worst <= within, "{what}: {worst}");
    }

    /// Channels-last arithmetic against candle's own operations on planes; sums of at most a few numbers of size 1.
    #[test]
    fn both_layouts_compute_the_same() {
        for (n, c, h, w) in [(1, 3, 5, 7), (2, 20, 8, 8), (3, 16, 1, 2)] {
            let (x, y) = (both(&noise(&[n, c, h, w], 1)), both(&noise(&[n, c, h, w], 2)));
            let large = both(&noise(&[n, c, 2 * h + 1, 3 * w], 3));
            let (scale, shift, gate) = (noise(&[c], 4), noise(&[c], 5), noise(&[n, c], 6));
            let each = |f: &dyn Fn(usize) -> Features| [0, 1].map(|i| f(i).to_tensor().unwrap());
            same("scaled", each(&|i| x[i].scaled(&scale, &shift).unwrap()), 1e-6);
            same("mean", [0, 1].map(|i| x[i].mean().unwrap()), 1e-6);
            same("every second", each(&|i| x[i].every_second().unwrap()), 0.0);
            same("joined", each(&|i| x[i].joined(None, &y[i]).unwrap()), 0.0);
            same("gated", each(&|i| x[i].joined(Some(&gate), &y[i]).unwrap()), 2e-6);
            same("relu", each(&|i| x[i].relu().unwrap()), 0.0);
            same("enlarged", each(&|i| x[i].enlarged_onto(&large[i]).unwrap()), 2e-6);
        }
    }

    /// The kernels against conv2d: sums of up to 1000 products, in units of their standard deviation: each rounds to 2^-24 of what it has so far,
    /// 1e-5 in the worst of some thousand sums, twice for two. Winograd's error is eight times that of sums.
    #[test]
    fn convolutions_are_conv2d() {
        for (inputs, outputs, k, stride, h, w) in [
            (3, 20, 3, 1, 9, 7),
            (16, 18, 3, 2, 12, 11),
            (5, 32, 3, 2, 70, 35),
            (64, 32, 3, 1, 33, 40),
            (32, 48, 3, 2, 1, 1),
            (20, 9, 1, 1, 4, 4),
            (20, 9, 1, 2, 5, 4),
            (6, 8, 7, 2, 16, 16),
        ] {
            let weight = (noise(&[outputs, inputs, k, k], 1) / ((inputs * k * k) as f64).sqrt()).unwrap();
            let (bias, slopes, x) = (noise(&[outputs], 2), noise(&[outputs], 3), noise(&[2, inputs, h, w], 4));
            let within = if (inputs, k, stride) == (64, 3, 1) { 1e-4 } else { 2e-5 };
            for slopes in [None, Some(&slopes)] {
                let have = Convolution::new(&weight, &bias, slopes, stride).unwrap();
                let plain =
                    Convolution { way: Way::Plain(weight.clone()), bias: bias.clone(), slopes: slopes.cloned(), stride, padding: k / 2 };
                let [last, planes] = both(&x);
                let results = [have.forward(&last).unwrap(), plain.forward(&planes).unwrap()];
                same(&format!("{inputs} to {outputs}, {k}, stride {stride}"), results.map(|y| y.to_tensor().unwrap()), within);
            }
        }
    }
}
