//! Separable bicubic resampling (Keys 1981, "Cubic Convolution Interpolation for Digital Image Processing", a = -0.5).

use super::Picture;
use crate::kernels::{weights, Filter};

/// For each output position the first input position and the weights of it and its followers, which sum to 1.
pub(super) fn taps(from: usize, to: usize) -> Vec<(usize, Vec<f32>)> {
    let narrow = |(first, weights): (usize, Vec<f64>)| (first, weights.into_iter().map(|w| w as f32).collect());
    weights(Filter::BicubicAntialias, from, to).into_iter().map(narrow).collect()
}

/// `picture` and both sizes are already checked.
pub(super) fn resize(picture: &Picture, width: usize, height: usize) -> Picture {
    if (width, height) == (picture.width, picture.height) {
        return picture.clone();
    }
    // Else the invisible colour of clear pixels would bleed into their neighbours.
    let mut rows = picture.data.clone();
    premultiply(&mut rows);
    let across = taps(picture.width, width);
    let mut narrow = vec![0f32; width * picture.height * 4];
    for (row, out) in rows.chunks_exact(picture.width * 4).zip(narrow.chunks_exact_mut(width * 4)) {
        add_across(row, &across, out);
    }
    let down = taps(picture.height, height);
    let mut data = vec![0f32; width * height * 4];
    for ((first, weights), out) in down.iter().zip(data.chunks_exact_mut(width * 4)) {
        for (row, &w) in narrow[first * width * 4..].chunks_exact(width * 4).zip(weights) {
            out.iter_mut().zip(row).for_each(|(o, v)| *o += w * v);
        }
    }
    straighten(&mut data);
    Picture { width, height, data }
}

/// Colours (R, G, B, A of each pixel) times their alpha.
pub(super) fn premultiply(pixels: &mut [f32]) {
    for p in pixels.chunks_exact_mut(4) {
        let a = p[3];
        p[..3].iter_mut().for_each(|v| *v *= a);
    }
}

/// The inverse of [`premultiply`] after resampling: clamped, clear pixels black.
pub(super) fn straighten(pixels: &mut [f32]) {
    for p in pixels.chunks_exact_mut(4) {
        let a = p[3];
        if a > 0.0 {
            p[..3].iter_mut().for_each(|v| *v = (*v / a).clamp(0.0, 1.0));
            p[3] = a.min(1.0);
        } else {
            p.fill(0.0);
        }
    }
}

/// Adds a row of 4 channels, resampled by `taps`, to `out`.
pub(super) fn add_across(row: &[f32], taps: &[(usize, Vec<f32>)], out: &mut [f32]) {
    for ((first, weights), pixel) in taps.iter().zip(out.chunks_exact_mut(4)) {
        for (input, &w) in row[first * 4..].chunks_exact(4).zip(weights) {
            pixel.iter_mut().zip(input).for_each(|(o, v)| *o += w * v);
        }
    }
}
