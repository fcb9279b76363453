//! What becomes of a convolution's sums before they are stored.

use super::Shared;
use crate::kernels::cpu::simd::{load, store};
use pulp::Simd;

/// Which sums they are: of sample `n`, of the pixel of that number in it, from `channel` on. `part` counts the pieces that a picture is cut
/// into; those of one part come one after another.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub n: usize,
    pub part: usize,
    pub pixel: usize,
    pub channel: usize,
}

pub(crate) trait Epilogue: Sync {
    /// What is stored for `v`.
    ///
    /// # Safety
    /// `place` must be one of the output, with all of a vector's channels inside of whole panels.
    unsafe fn finish<S: Simd>(&self, simd: S, place: Place, v: S::f32s) -> S::f32s;
}

/// The sums themselves.
#[cfg(test)]
pub(crate) struct Unchanged;

#[cfg(test)]
impl Epilogue for Unchanged {
    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, _: S, _: Place, v: S::f32s) -> S::f32s {
        v
    }
}

/// A bias, and where there are slopes a leaky ReLU with one for each channel (He et al. 2015, PReLU).
pub(crate) struct Activated<'a> {
    /// [whole panels]
    pub bias: &'a [f32],
    /// [whole panels], or empty.
    pub slopes: &'a [f32],
}

impl Epilogue for Activated<'_> {
    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, simd: S, place: Place, v: S::f32s) -> S::f32s {
        let v = simd.add_f32s(v, load::<S>(self.bias.as_ptr().add(place.channel)));
        if self.slopes.is_empty() {
            return v;
        }
        let zero = simd.splat_f32s(0.0);
        let slopes = load::<S>(self.slopes.as_ptr().add(place.channel));
        simd.mul_add_e_f32s(slopes, simd.min_f32s(v, zero), simd.max_f32s(v, zero))
    }
}

pub(crate) const SLOPE: f32 = 0.2;
pub(crate) const GAIN: f32 = std::f32::consts::SQRT_2;

/// A synthesis layer's way out: demodulation, noise, bias, leaky ReLU with gain, clamp.
pub(crate) struct Styled<'a> {
    /// [n][whole panels]: demodulation and the weights' scale.
    pub factor: &'a [f32],
    /// [whole panels]
    pub bias: &'a [f32],
    /// [n or 1][pixels], or empty.
    pub noise: &'a [f32],
    pub strength: f32,
    /// Pixels of a picture.
    pub area: usize,
    /// Channels of whole panels.
    pub channels: usize,
    /// False: demodulation alone.
    pub activate: bool,
    pub clamp: Option<f32>,
}

impl Styled<'_> {
    #[inline(always)]
    fn noise(&self, n: usize, pixel: usize) -> f32 {
        match self.noise.len() {
            0 => 0.0,
            one if one == self.area => self.noise[pixel],
            _ => self.noise[n * self.area + pixel],
        }
    }
}

impl Epilogue for Styled<'_> {
    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, simd: S, place: Place, v: S::f32s) -> S::f32s {
        let factor = load::<S>(self.factor.as_ptr().add(place.n * self.channels + place.channel));
        if !self.activate {
            return simd.mul_f32s(v, factor);
        }
        let bias = load::<S>(self.bias.as_ptr().add(place.channel));
        let rest = simd.add_f32s(bias, simd.splat_f32s(self.strength * self.noise(place.n, place.pixel)));
        let v = simd.mul_add_e_f32s(v, factor, rest);
        let v = simd.max_f32s(simd.mul_f32s(v, simd.splat_f32s(GAIN)), simd.mul_f32s(v, simd.splat_f32s(SLOPE * GAIN)));
        match self.clamp {
            Some(most) => simd.min_f32s(simd.max_f32s(v, simd.splat_f32s(-most)), simd.splat_f32s(most)),
            None => v,
        }
    }
}

/// Sums over the pixels of each part, [n][parts][whole panels].
pub(crate) struct Sums {
    data: Vec<f32>,
    parts: usize,
    channels: usize,
}

impl Sums {
    pub(crate) fn new(n: usize, parts: usize, channels: usize) -> Self {
        Self { data: vec![0.0; n * parts * channels], parts, channels }
    }

    fn shared(&mut self) -> Shared {
        Shared(self.data.as_mut_ptr())
    }

    /// [n][c], added up in the order of the parts.
    pub(crate) fn totals(&self, c: usize) -> Vec<f32> {
        let mut totals = vec![];
        for parts in self.data.chunks(self.parts * self.channels) {
            let mut sums = vec![0.0f64; c];
            for part in parts.chunks(self.channels) {
                sums.iter_mut().zip(part).for_each(|(sum, v)| *sum += f64::from(*v));
            }
            totals.extend(sums.into_iter().map(|sum| sum as f32));
        }
        totals
    }
}

/// An input gradient's way out: times the style; the products with the input are summed, which the style's gradient is made of.
pub(crate) struct Scaled<'a> {
    /// [n][whole panels]
    factor: &'a [f32],
    /// The input, [n][pixels][c].
    x: &'a [f32],
    area: usize,
    c: usize,
    parts: usize,
    channels: usize,
    sums: Shared,
}

impl<'a> Scaled<'a> {
    pub(crate) fn new(factor: &'a [f32], x: super::Map<'a>, sums: &'a mut Sums) -> Self {
        let (parts, channels) = (sums.parts, sums.channels);
        assert!(factor.len() == x.n * channels && sums.data.len() == x.n * parts * channels && channels >= x.c);
        Self { factor, x: x.data, area: x.area(), c: x.c, parts, channels, sums: sums.shared() }
    }
}

impl Epilogue for Scaled<'_> {
    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, simd: S, place: Place, v: S::f32s) -> S::f32s {
        let x = load::<S>(self.x.as_ptr().add((place.n * self.area + place.pixel) * self.c + place.channel));
        let sum = self.sums.at((place.n * self.parts + place.part) * self.channels + place.channel);
        store::<S>(sum, simd.mul_add_e_f32s(x, v, load::<S>(sum)));
        simd.mul_f32s(v, load::<S>(self.factor.as_ptr().add(place.n * self.channels + place.channel)))
    }
}
