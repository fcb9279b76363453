//! The square of a face, as the pictures of FFHQ were made (Karras et al. 2019, appendix A), and as encoders of faces were trained: number by number.

use super::photo::Photo;
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::kernels::resize_rgb8_lanczos;
use crate::picture::frame::Frame;
use crate::picture::MAX_SIDE;
use rayon::prelude::*;

/// A square around a face, turned as the face is. See the module for the coordinates.
#[derive(Clone, Debug, PartialEq)]
pub struct Quad {
    /// Top left, bottom left, bottom right, top right, as the face has them.
    pub corners: [[f64; 2]; 4],
    pub centre: [f64; 2],
    /// From the centre to the middle of the right and of the bottom edge.
    pub x: [f64; 2],
    pub y: [f64; 2],
    /// Length of a side in pixels.
    pub size: f64,
}

fn add(a: [f64; 2], b: [f64; 2]) -> [f64; 2] {
    [a[0] + b[0], a[1] + b[1]]
}

fn scaled(a: [f64; 2], by: f64) -> [f64; 2] {
    [a[0] * by, a[1] * by]
}

fn minus(a: [f64; 2], b: [f64; 2]) -> [f64; 2] {
    [a[0] - b[0], a[1] - b[1]]
}

impl Quad {
    /// By the rule of FFHQ, from the eyes' centres and the corners of the mouth (points 0, 1, 3, 4 of [`super::Face::points`]; the nose has no say).
    ///
    /// Errors: `InvalidArgument` where the points are not finite, or no face's: all in one place.
    pub fn of_points(points: &[[f64; 2]; 5]) -> Result<Self> {
        let [left_eye, right_eye, _, left_mouth, right_mouth] = *points;
        let eyes = minus(right_eye, left_eye);
        let between = scaled(add(left_eye, right_eye), 0.5);
        let to_mouth = minus(scaled(add(left_mouth, right_mouth), 0.5), between);
        let along = [eyes[0] + to_mouth[1], eyes[1] - to_mouth[0]];
        let length = f64::hypot(along[0], along[1]);
        let half = (2.0 * f64::hypot(eyes[0], eyes[1])).max(1.8 * f64::hypot(to_mouth[0], to_mouth[1]));
        let x = scaled(along, half / length);
        let centre = add(between, scaled(to_mouth, 0.1));
        let quad = Self::around(centre, x);
        match quad.corners.iter().flatten().all(|v| v.is_finite()) && quad.size > 0.0 {
            true => Ok(quad),
            false => Err(Error::argument("points", format!("{points:?} are no face's eyes, nose and corners of the mouth"))),
        }
    }

    pub(super) fn around(centre: [f64; 2], x: [f64; 2]) -> Self {
        let y = [-x[1], x[0]];
        let (left, right) = (minus(centre, x), add(centre, x));
        let corners = [minus(left, y), add(left, y), add(right, y), minus(right, y)];
        Self { corners, centre, x, y, size: 2.0 * f64::hypot(x[0], x[1]) }
    }

    /// The same square as a frame.
    pub fn frame(&self) -> Frame {
        Frame { centre: self.centre.map(|v| v + 0.5), side: self.size, angle: self.roll() }
    }

    /// The frame as a quad.
    pub fn of_frame(frame: &Frame) -> Self {
        let (sin, cos) = frame.angle.to_radians().sin_cos();
        Self::around(frame.centre.map(|v| v - 0.5), scaled([cos, sin], frame.side / 2.0))
    }

    /// By how much the face leans to the right as one sees it, in degrees.
    pub fn roll(&self) -> f64 {
        self.x[1].atan2(self.x[0]).to_degrees()
    }

    /// The rectangle of whole pixels around it: left, top, right, bottom; `from_edge` 0.5 counts from the edge of the first pixel, 0 from its
    /// middle.
    pub(super) fn extent(&self, from_edge: f64) -> [f64; 4] {
        let least = |i: usize| self.corners.iter().map(|c| c[i] + from_edge).fold(f64::INFINITY, f64::min).floor();
        let most = |i: usize| self.corners.iter().map(|c| c[i] + from_edge).fold(f64::NEG_INFINITY, f64::max).ceil();
        [least(0), least(1), most(0), most(1)]
    }

    fn moved(&self, by: [f64; 2]) -> Self {
        Self { corners: self.corners.map(|c| add(c, by)), centre: add(self.centre, by), ..self.clone() }
    }

    fn shrunk(&self, times: f64) -> Self {
        let small = |v: [f64; 2]| v.map(|v| v / times);
        Self { corners: self.corners.map(small), centre: small(self.centre), x: small(self.x), y: small(self.y), size: self.size / times }
    }
}

/// Half to even.
fn rint(v: f64) -> f64 {
    v.round_ties_even()
}

/// The face in `quad` as a square of `size` pixels, sampled at `sampled` pixels a side, `size` at least: FFHQ took 4 times as many, which does not
/// alias; encoders' scripts take as many. What lies outside of the photo is its mirror, blurred and faded to the photo's median colour.
///
/// Errors: `InvalidArgument` where a size is out of range, or too large for a face as large as this beyond the photo's edge, or where the quad lies
/// outside of the photo.
pub fn align(photo: &Photo, quad: &Quad, size: usize, sampled: usize) -> Result<Photo> {
    align_unless(photo, quad, size, sampled, &Cancel::new())
}

/// As [`align`]; `Cancelled` once the flag is raised, which is looked at between its steps.
pub fn align_unless(photo: &Photo, quad: &Quad, size: usize, sampled: usize, cancel: &Cancel) -> Result<Photo> {
    if size == 0 || sampled < size || sampled > MAX_SIDE / 2 {
        let message = format!("{size} pixels a side, sampled at {sampled}; want 1 to as many as are sampled, and at most {}", MAX_SIDE / 2);
        return Err(Error::argument("size", message));
    }
    cancel.check()?;
    let (part, quad) = surroundings(photo, quad, size)?;
    cancel.check()?;
    let (part, quad) = padded(part, quad)?;
    cancel.check()?;
    let large = transformed(&part, &quad, sampled);
    if sampled == size {
        return Ok(large);
    }
    let rgb = resize_rgb8_lanczos(&large.rgb, (sampled, sampled), (size, size), (0..size, 0..size));
    Photo::new(size, size, rgb)
}

/// The border that is kept around a quad, in pixels.
fn border(quad: &Quad) -> f64 {
    rint(quad.size * 0.1).max(3.0)
}

/// What of the photo, shrunk where the face is more than twice `size`, lies around the quad, and the quad in it.
fn surroundings(photo: &Photo, quad: &Quad, size: usize) -> Result<(Photo, Quad)> {
    let times = (quad.size / size as f64 * 0.5).floor();
    let (quad, width, height) = match times > 1.0 {
        true => {
            let length = |side: usize| rint(side as f64 / times).max(1.0) as usize;
            (quad.shrunk(times), length(photo.width), length(photo.height))
        }
        false => (quad.clone(), photo.width, photo.height),
    };
    let b = border(&quad);
    let [left, top, right, bottom] = quad.extent(0.0);
    let range = |from: f64, to: f64, length: usize| (from - b).max(0.0) as usize..(to + b).clamp(0.0, length as f64) as usize;
    let (columns, rows) = (range(left, right, width), range(top, bottom, height));
    if columns.is_empty() || rows.is_empty() {
        let [x, y] = quad.centre;
        return Err(Error::argument(
            "quad",
            format!("its centre ({x:.1}, {y:.1}) is far outside of the photo of {width} x {height} pixels"),
        ));
    }
    let quad = quad.moved([-(columns.start as f64), -(rows.start as f64)]);
    let (w, h) = (columns.len(), rows.len());
    if times > 1.0 {
        let rgb = resize_rgb8_lanczos(&photo.rgb, (photo.height, photo.width), (height, width), (rows, columns));
        return Ok((Photo { width: w, height: h, rgb }, quad));
    }
    Ok((photo.part(columns.start, rows.start, w, h), quad))
}

/// Where a position beyond the ends lies in a mirror that does not repeat the last pixel.
fn mirrored(at: i64, length: usize) -> usize {
    let period = (2 * (length as i64 - 1)).max(1);
    let at = at.rem_euclid(period);
    at.min(period - at).min(length as i64 - 1) as usize
}

/// Pixels of a padded part, at the most: 4.5 GiB while it is blurred.
const MOST_PADDED: usize = 1 << 27;

/// The part with what the quad needs beyond its edges, where it needs any.
fn padded(part: Photo, quad: Quad) -> Result<(Photo, Quad)> {
    let b = border(&quad);
    let (w, h) = (part.width as f64, part.height as f64);
    let [left, top, right, bottom] = quad.extent(0.0);
    let need = [-left + b, -top + b, right - w + b, bottom - h + b].map(|v| v.max(0.0));
    if need.iter().all(|v| *v <= b - 4.0) {
        return Ok((part, quad));
    }
    let pads = need.map(|v| v.max(rint(quad.size * 0.3)) as usize);
    let [left, top, right, bottom] = pads;
    let (width, height) = (part.width + left + right, part.height + top + bottom);
    if width.saturating_mul(height) > MOST_PADDED {
        let message = format!("the face and what is mirrored around it take {width} x {height} pixels; a smaller size shrinks it first");
        return Err(Error::argument("size", message));
    }
    let mut values: Vec<f32> = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        let row = part.row(mirrored(y as i64 - top as i64, part.height));
        for x in 0..width {
            let at = mirrored(x as i64 - left as i64, part.width) * 3;
            values.extend(row[at..at + 3].iter().map(|v| f32::from(*v)));
        }
    }
    // How far beyond the photo's edge a pixel is, in pads, from 1 at the rim; negative inside.
    let far =
        |i: usize, before: usize, after: usize, length: usize| 1.0 - (i as f32 / before as f32).min((length - 1 - i) as f32 / after as f32);
    let across: Vec<f32> = (0..width).map(|x| far(x, left, right, width)).collect();
    let down: Vec<f32> = (0..height).map(|y| far(y, top, bottom, height)).collect();
    let fade = |values: &mut [f32], share: &(dyn Fn(f32) -> f32 + Sync), towards: &(dyn Fn(usize) -> f32 + Sync)| {
        values.par_chunks_exact_mut(width * 3).zip(&down).enumerate().for_each(|(y, (row, down))| {
            for (x, (pixel, across)) in row.chunks_exact_mut(3).zip(&across).enumerate() {
                let share = share(across.max(*down));
                for (c, v) in pixel.iter_mut().enumerate() {
                    *v += (towards((y * width + x) * 3 + c) - *v) * share;
                }
            }
        });
    };
    let blurred = blurred(&values, width, 0.02 * quad.size);
    fade(&mut values, &|far| (far * 3.0 + 1.0).clamp(0.0, 1.0), &|i| blurred[i]);
    let median = [0, 1, 2].map(|c| median(values.iter().skip(c).step_by(3).copied().collect()));
    fade(&mut values, &|far| far.clamp(0.0, 1.0), &|i| median[i % 3]);
    let rgb = values.into_iter().map(|v| v.round_ties_even().clamp(0.0, 255.0) as u8).collect();
    Ok((Photo { width, height, rgb }, quad.moved([left as f64, top as f64])))
}

/// By a Gaussian, cut off at 4 sigma, in both directions; beyond the edges the picture is mirrored, its last pixel repeated.
fn blurred(values: &[f32], width: usize, sigma: f64) -> Vec<f32> {
    let radius = (4.0 * sigma + 0.5) as i64;
    let weights: Vec<f64> = (-radius..=radius).map(|i| (-0.5 * (i as f64 / sigma).powi(2)).exp()).collect();
    let sum: f64 = weights.iter().sum();
    let weights: Vec<f64> = weights.iter().map(|w| w / sum).collect();
    let height = values.len() / (width * 3);
    let at = |i: i64, length: usize| {
        let i = i.rem_euclid(2 * length as i64);
        i.min(2 * length as i64 - 1 - i) as usize
    };
    let mut down = vec![0f32; values.len()];
    down.par_chunks_exact_mut(width * 3).enumerate().for_each(|(y, out)| {
        let mut sums = vec![0f64; width * 3];
        for (k, w) in (-radius..).zip(&weights) {
            let row = &values[at(y as i64 + k, height) * width * 3..][..width * 3];
            sums.iter_mut().zip(row).for_each(|(s, v)| *s += w * f64::from(*v));
        }
        out.iter_mut().zip(sums).for_each(|(o, s)| *o = s as f32);
    });
    let mut out = vec![0f32; values.len()];
    out.par_chunks_exact_mut(width * 3).zip(down.par_chunks_exact(width * 3)).for_each(|(out, row)| {
        for (x, out) in out.chunks_exact_mut(3).enumerate() {
            let mut sums = [0f64; 3];
            for (k, w) in (-radius..).zip(&weights) {
                let pixel = &row[at(x as i64 + k, width) * 3..][..3];
                sums.iter_mut().zip(pixel).for_each(|(s, v)| *s += w * f64::from(*v));
            }
            out.iter_mut().zip(sums).for_each(|(o, s)| *o = s as f32);
        }
    });
    out
}

/// Of an even number of values the mean of the middle two.
fn median(mut values: Vec<f32>) -> f32 {
    let half = values.len() / 2;
    let (below, &mut middle, _) = values.select_nth_unstable_by(half, f32::total_cmp);
    match below.iter().copied().max_by(f32::total_cmp) {
        Some(low) if values.len().is_multiple_of(2) => (low + middle) / 2.0,
        _ => middle,
    }
}

/// The quad as a square of `size` pixels: bilinear, cut off to whole levels, black outside of the part.
fn transformed(part: &Photo, quad: &Quad, size: usize) -> Photo {
    let [top_left, bottom_left, bottom_right, top_right] = quad.corners.map(|c| add(c, [0.5; 2]));
    let mut rgb = vec![0u8; size * size * 3];
    rgb.par_chunks_exact_mut(size * 3).enumerate().for_each(|(j, row)| {
        let v = (j as f64 + 0.5) / size as f64;
        for (i, out) in row.chunks_exact_mut(3).enumerate() {
            let u = (i as f64 + 0.5) / size as f64;
            let top = add(scaled(top_left, 1.0 - u), scaled(top_right, u));
            let bottom = add(scaled(bottom_left, 1.0 - u), scaled(bottom_right, u));
            let [x, y] = add(scaled(top, 1.0 - v), scaled(bottom, v));
            if !(0.0..part.width as f64).contains(&x) || !(0.0..part.height as f64).contains(&y) {
                continue;
            }
            let sides = |at: f64, length: usize| {
                let floor = (at - 0.5).floor();
                let inside = |i: f64| i.clamp(0.0, length as f64 - 1.0) as usize;
                (inside(floor), inside(floor + 1.0), at - 0.5 - floor)
            };
            let ((x0, x1, fx), (y0, y1, fy)) = (sides(x, part.width), sides(y, part.height));
            let (above, below) = (part.row(y0), part.row(y1));
            for (c, o) in out.iter_mut().enumerate() {
                let along = |row: &[u8]| {
                    let (a, b) = (f64::from(row[x0 * 3 + c]), f64::from(row[x1 * 3 + c]));
                    a + (b - a) * fx
                };
                let (a, b) = (along(above), along(below));
                *o = (a + (b - a) * fy) as u8;
            }
        }
    });
    Photo { width: size, height: size, rgb }
}
