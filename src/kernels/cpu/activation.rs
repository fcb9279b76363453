//! Activations and their slopes, element by element.

use super::simd::vectorised;
use super::vector::exp;
use crate::kernels::Activation;

/// The logistic function, within 3e-7 relatively for x > -87.
#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// erf(x) within 5e-7 absolutely: the rational minimax approximation of degree 13 by 8 on [-4, 4] that Eigen uses; beyond, it is 1 in f32.
#[inline(always)]
fn erf(x: f32) -> f32 {
    let x = if x > 4.0 { 4.0 } else { x };
    let x = if x < -4.0 { -4.0 } else { x };
    let s = x * x;
    let mut p = -2.726_142_3e-10;
    p = p * s + 2.770_681_4e-8;
    p = p * s + -2.101_024e-6;
    p = p * s + -5.692_506_4e-5;
    p = p * s + -7.349_906e-4;
    p = p * s + -2.954_6e-3;
    p = p * s + -1.609_603_3e-2;
    let mut q = -1.456_607_2e-5;
    q = q * s + -2.133_740_6e-4;
    q = q * s + -1.682_827e-3;
    q = q * s + -7.373_329_2e-3;
    q = q * s + -1.426_474e-2;
    x * p / q
}

/// Twice sqrt(2 / pi), since (1 + tanh(y)) / 2 is sigmoid(2 y).
const TANH: f32 = std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::SQRT_2;
const CUBE: f32 = 0.044_715;

impl Activation {
    #[inline(always)]
    pub(crate) fn value(self, x: f32) -> f32 {
        match self {
            Activation::QuickGelu => x * sigmoid(1.702 * x),
            Activation::Gelu => 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)),
            Activation::GeluTanh => x * sigmoid(TANH * x * (1.0 + CUBE * x * x)),
        }
    }

    #[inline(always)]
    pub(crate) fn slope(self, x: f32) -> f32 {
        match self {
            Activation::QuickGelu => {
                let s = sigmoid(1.702 * x);
                s * (1.0 + 1.702 * x * (1.0 - s))
            }
            Activation::Gelu => {
                let density = exp(-0.5 * x * x) * (0.5 * std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::FRAC_1_SQRT_2);
                0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)) + x * density
            }
            Activation::GeluTanh => {
                let s = sigmoid(TANH * x * (1.0 + CUBE * x * x));
                s * (1.0 + x * (1.0 - s) * TANH * (1.0 + 3.0 * CUBE * x * x))
            }
        }
    }

    /// out = f(x)
    pub(crate) fn forward(self, x: &[f32], out: &mut [f32]) {
        // Matched outside the loops, so that each is one vector loop.
        match self {
            Activation::QuickGelu => vectorised(|| each(x, out, |x, _| Activation::QuickGelu.value(x))),
            Activation::Gelu => vectorised(|| each(x, out, |x, _| Activation::Gelu.value(x))),
            Activation::GeluTanh => vectorised(|| each(x, out, |x, _| Activation::GeluTanh.value(x))),
        }
    }

    /// gradient *= f'(x)
    pub(crate) fn backward(self, x: &[f32], gradient: &mut [f32]) {
        match self {
            Activation::QuickGelu => vectorised(|| each(x, gradient, |x, g| g * Activation::QuickGelu.slope(x))),
            Activation::Gelu => vectorised(|| each(x, gradient, |x, g| g * Activation::Gelu.slope(x))),
            Activation::GeluTanh => vectorised(|| each(x, gradient, |x, g| g * Activation::GeluTanh.slope(x))),
        }
    }
}

#[inline(always)]
fn each(x: &[f32], out: &mut [f32], f: impl Fn(f32, f32) -> f32) {
    for (x, out) in x.iter().zip(out) {
        *out = f(*x, *out);
    }
}
