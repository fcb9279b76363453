//! 8-bit pictures at other sizes, to the bit as PIL makes them.

use super::filters::{weights, Filter};

/// An 8-bit RGB picture, rows without padding, resized as PIL's bicubic does: antialiased with a = -0.5, across first, then down, each in
/// 22-bit fixed point and rounded to 8 bits. Sizes are (height, width), not 0.
pub fn resize_rgb8(pixels: &[u8], size: (usize, usize), new_size: (usize, usize)) -> Vec<u8> {
    resize_rgb8_by(pixels, size, new_size, Filter::BicubicAntialias)
}

/// As [`resize_rgb8`], as PIL's bilinear does.
pub fn resize_rgb8_bilinear(pixels: &[u8], size: (usize, usize), new_size: (usize, usize)) -> Vec<u8> {
    resize_rgb8_by(pixels, size, new_size, Filter::BilinearAntialias)
}

fn resize_rgb8_by(pixels: &[u8], (height, width): (usize, usize), (new_height, new_width): (usize, usize), filter: Filter) -> Vec<u8> {
    let across = match new_width == width {
        true => pixels.to_vec(),
        false => {
            let taps = fixed_point(weights(filter, width, new_width));
            pixels.chunks_exact(width * 3).flat_map(|row| weighted(&taps, row, 3, 3)).collect()
        }
    };
    match new_height == height {
        true => across,
        false => weighted(&fixed_point(weights(filter, height, new_height)), &across, new_width * 3, new_width * 3),
    }
}

const FIXED_POINT: u32 = 22;

fn fixed_point(weights: Vec<(usize, Vec<f64>)>) -> Vec<(usize, Vec<i32>)> {
    let fixed = |w: f64| (w * f64::from(1 << FIXED_POINT)).round() as i32;
    weights.into_iter().map(|(start, weights)| (start, weights.into_iter().map(fixed).collect())).collect()
}

/// For each of `taps`, the weighted sum of runs of `run` bytes that lie `step` apart.
fn weighted(taps: &[(usize, Vec<i32>)], x: &[u8], step: usize, run: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(taps.len() * run);
    let mut sums = vec![0i32; run];
    for (start, weights) in taps {
        sums.fill(1 << (FIXED_POINT - 1));
        for (k, weight) in weights.iter().enumerate() {
            let from = &x[(start + k) * step..][..run];
            sums.iter_mut().zip(from).for_each(|(sum, x)| *sum += i32::from(*x) * weight);
        }
        out.extend(sums.iter().map(|sum| (sum >> FIXED_POINT).clamp(0, 255) as u8));
    }
    out
}
