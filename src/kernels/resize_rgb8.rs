//! 8-bit pictures at other sizes, to the bit as PIL makes them.

use super::filters::{weights, Filter};
use std::ops::Range;

/// Rows and columns of a resized picture.
pub type Part = (Range<usize>, Range<usize>);

/// An 8-bit RGB picture, rows without padding, resized as PIL's bicubic does: antialiased with a = -0.5, across first, then down, each in
/// 22-bit fixed point and rounded to 8 bits. Sizes are (height, width), not 0.
pub fn resize_rgb8(pixels: &[u8], size: (usize, usize), new_size: (usize, usize)) -> Vec<u8> {
    resize_rgb8_by(pixels, size, new_size, Filter::BicubicAntialias)
}

/// As [`resize_rgb8`], as PIL's bilinear does.
pub fn resize_rgb8_bilinear(pixels: &[u8], size: (usize, usize), new_size: (usize, usize)) -> Vec<u8> {
    resize_rgb8_by(pixels, size, new_size, Filter::BilinearAntialias)
}

/// As [`resize_rgb8`], as PIL's Lanczos does, and only `part` of the result: the numbers that it has in the whole.
pub fn resize_rgb8_lanczos(pixels: &[u8], size: (usize, usize), new_size: (usize, usize), part: Part) -> Vec<u8> {
    resize_part(pixels, size, new_size, part, Filter::LanczosAntialias)
}

fn resize_rgb8_by(pixels: &[u8], size: (usize, usize), new_size: (usize, usize), filter: Filter) -> Vec<u8> {
    resize_part(pixels, size, new_size, (0..new_size.0, 0..new_size.1), filter)
}

fn resize_part(pixels: &[u8], (height, width): (usize, usize), new_size: (usize, usize), (rows, columns): Part, filter: Filter) -> Vec<u8> {
    // A side that keeps its length is left alone, as by PIL.
    let taps = |from: usize, to: usize, part: &Range<usize>| match from == to {
        true => part.clone().map(|i| (i, vec![1 << FIXED_POINT])).collect(),
        false => fixed_point(weights(filter, from, to).drain(part.clone()).collect()),
    };
    let (mut down, across) = (taps(height, new_size.0, &rows), taps(width, new_size.1, &columns));
    let first = down.iter().map(|(start, _)| *start).min().unwrap_or(0);
    let end = down.iter().map(|(start, weights)| start + weights.len()).max().unwrap_or(0);
    let lines = pixels.chunks_exact(width * 3).take(end).skip(first);
    let narrow: Vec<u8> = lines.flat_map(|row| weighted(&across, row, 3, 3)).collect();
    down.iter_mut().for_each(|(start, _)| *start -= first);
    let run = columns.len() * 3;
    weighted(&down, &narrow, run, run)
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
