//! What pixels of a new size see of the old one, along one dimension.

use std::ops::RangeInclusive;

/// What a pixel of the new size sees of the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Keys' cubic with a = -0.5, widened by the factor when shrinking (PIL's, and torchvision's default).
    BicubicAntialias,
    /// Keys' cubic with a = -0.75 over 4 pixels whatever the factor, borders repeated (torch's default).
    Bicubic,
    /// A triangle, widened by the factor when shrinking (PIL's bilinear, and torchvision's default).
    BilinearAntialias,
    /// A triangle over 2 pixels whatever the factor, borders repeated (torch's default).
    Bilinear,
    /// A sinc that a sinc of a third of its frequency ends after 3 pixels, widened by the factor when shrinking (PIL's Lanczos).
    LanczosAntialias,
    /// The mean of the pixels that the new one covers at least in part (torch's adaptive average).
    Area,
}

/// Keys' cubic convolution kernel (1981, equation 15 with free a).
pub(crate) fn cubic(x: f64, a: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * a
    } else {
        0.0
    }
}

fn triangle(x: f64) -> f64 {
    (1.0 - x.abs()).max(0.0)
}

/// sin(pi x) / (pi x)
fn sinc(x: f64) -> f64 {
    let x = x * std::f64::consts::PI;
    if x == 0.0 {
        1.0
    } else {
        x.sin() / x
    }
}

fn lanczos(x: f64) -> f64 {
    if (-3.0..3.0).contains(&x) {
        sinc(x) * sinc(x / 3.0)
    } else {
        0.0
    }
}

/// Weights by a `kernel` that is 0 beyond `radius`, widened when shrinking: the low-pass that keeps fine detail from folding back.
fn widened(inputs: usize, outputs: usize, radius: f64, kernel: impl Fn(f64) -> f64) -> Vec<(usize, Vec<f64>)> {
    let scale = inputs as f64 / outputs as f64;
    let stretch = scale.max(1.0);
    let support = radius * stretch;
    let weights = |i: usize| {
        let centre = scale * (i as f64 + 0.5);
        let start = (centre - support + 0.5).max(0.0) as usize;
        let end = ((centre + support + 0.5) as usize).min(inputs);
        let weights: Vec<f64> = (start..end).map(|j| kernel((j as f64 - centre + 0.5) / stretch)).collect();
        let sum: f64 = weights.iter().sum();
        (start, weights.into_iter().map(|w| w / sum).collect())
    };
    (0..outputs).map(weights).collect()
}

/// Weights of the pixels `taps` around each output's place, whatever the factor; beyond the border its pixel is repeated.
fn interpolated(inputs: usize, outputs: usize, taps: RangeInclusive<isize>, kernel: impl Fn(f64) -> f64) -> Vec<(usize, Vec<f64>)> {
    let weights = |i: usize| {
        let at = inputs as f64 / outputs as f64 * (i as f64 + 0.5) - 0.5;
        let floor = at.floor();
        let tap = |k: isize| (floor as isize + k).clamp(0, inputs as isize - 1) as usize;
        let start = tap(*taps.start());
        let mut weights = vec![0.0; tap(*taps.end()) - start + 1];
        for k in taps.clone() {
            weights[tap(k) - start] += kernel(at - floor - k as f64);
        }
        (start, weights)
    };
    (0..outputs).map(weights).collect()
}

/// For each of `outputs` the first of `inputs` and the weights of it and its followers, which sum to 1.
pub(crate) fn weights(filter: Filter, inputs: usize, outputs: usize) -> Vec<(usize, Vec<f64>)> {
    match filter {
        Filter::BicubicAntialias => widened(inputs, outputs, 2.0, |x| cubic(x, -0.5)),
        Filter::BilinearAntialias => widened(inputs, outputs, 1.0, triangle),
        Filter::LanczosAntialias => widened(inputs, outputs, 3.0, lanczos),
        Filter::Bicubic => interpolated(inputs, outputs, -1..=2, |x| cubic(x, -0.75)),
        Filter::Bilinear => interpolated(inputs, outputs, 0..=1, triangle),
        Filter::Area => (0..outputs)
            .map(|i| {
                let (start, end) = (i * inputs / outputs, ((i + 1) * inputs).div_ceil(outputs));
                (start, vec![1.0 / (end - start) as f64; end - start])
            })
            .collect(),
    }
}
