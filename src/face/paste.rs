//! Putting a drawn face back where it was.

use super::align::Quad;
use crate::error::{Error, Result};
use crate::picture::frame::{Canvas, Hard, Overlay};
use crate::picture::Picture;

/// The default of [`Paste::feather`].
pub const FEATHER: f64 = 0.1;

/// What is put into a photo's quad.
#[derive(Clone, Copy, Debug)]
pub struct Paste<'a> {
    /// A square: the drawn face.
    pub edit: &'a Picture,
    /// Of the same size: the face as the same generator draws it unchanged. With it only what the edit changed is added, and the photo keeps its
    /// own detail; without it the edit covers what was there.
    pub reconstruction: Option<&'a Picture>,
    /// The share of the square's side over which it fades in from the edges, in (0, 0.5].
    pub feather: f64,
    /// Edges that do not fade: those at the photo's own border, where a fade would leave a rim.
    pub hard: Hard,
}

impl Paste<'_> {
    fn check(&self) -> Result<()> {
        let Picture { width, height, .. } = *self.edit;
        if width != height || self.edit.data.len() != width * height * 4 || width == 0 {
            return Err(Error::argument("edit", format!("{width} x {height} pixels; want a square")));
        }
        if let Some(other) = self.reconstruction.filter(|r| (r.width, r.height, r.data.len()) != (width, height, self.edit.data.len())) {
            let message = format!("{} x {} pixels, but the edit has {width} x {height}", other.width, other.height);
            return Err(Error::argument("reconstruction", message));
        }
        if !(self.feather > 0.0 && self.feather <= 0.5) {
            return Err(Error::argument("feather", format!("{}; want a share of the side above 0 and at most 0.5", self.feather)));
        }
        Ok(())
    }

    /// Puts it into `quad` of `source` and writes the pixels around the quad, and no other, of `target`, which has the same size and may be the same
    /// pixels. Each pixel is the mean of as many points in it as keep a face that is smaller in the photo from aliasing. Colours blend as sRGB
    /// numbers; alpha is the source's; pixels that are not drawn over are the source's bit for bit where the formats are the same.
    ///
    /// Errors, before anything is written: `InvalidArgument` for pictures that do not fit together, another feather, a quad that is no square, or
    /// that lies outside of the photo, and a pixel of its part that is not finite.
    pub fn draw(&self, source: Canvas, quad: &Quad, target: Canvas) -> Result<()> {
        self.check()?;
        let side = self.edit.width as f64;
        let corners = quad.corners.map(|c| c.map(|v| v + 0.5));
        let axis = |to: [f64; 2]| [0, 1].map(|i| (to[i] - corners[0][i]) / side);
        let ([a, c], [b, d]) = (axis(corners[3]), axis(corners[1]));
        let determinant = a * d - b * c;
        if !determinant.is_finite() || determinant.abs() < 1e-12 {
            return Err(Error::argument("quad", format!("{:?} is no square", quad.corners)));
        }
        let inverse = [[d / determinant, -b / determinant], [-c / determinant, a / determinant]];
        let steps = (1.0 / f64::hypot(a, c)).ceil().clamp(1.0, MOST_STEPS) as usize;
        let warp = Warp { origin: corners[0], inverse, side, feather: self.feather * side, hard: self.hard, steps };
        let overlay = if self.reconstruction.is_some() { Overlay::Added } else { Overlay::Over };
        source.overlaid(quad.extent(0.5), target, overlay, |x, y| {
            let points = (steps * steps) as f64;
            let mut sum = [0f64; 4];
            for [u, v] in warp.points(x, y) {
                let alpha = warp.alpha(u, v);
                if alpha == 0.0 {
                    continue;
                }
                let mut colour = bilinear(self.edit, u - 0.5, v - 0.5);
                if let Some(reconstruction) = self.reconstruction {
                    let without = bilinear(reconstruction, u - 0.5, v - 0.5);
                    colour.iter_mut().zip(without).for_each(|(c, w)| *c -= w);
                }
                sum[..3].iter_mut().zip(colour).for_each(|(s, c)| *s += alpha * c);
                sum[3] += alpha;
            }
            let colour = |by: f64| [sum[0] / by, sum[1] / by, sum[2] / by];
            let ([r, g, b], seen) = match sum[3] {
                0.0 => ([0.0; 3], 0.0),
                _ if self.reconstruction.is_some() => (colour(points), 1.0),
                // The colour alone, and how much of it is seen.
                all => (colour(all), all / points),
            };
            [r, g, b, seen].map(|v| v as f32)
        })
    }
}

/// Points of a pixel along a side, at the most: a face of one pixel is no face.
const MOST_STEPS: f64 = 64.0;

/// From a photo's pixels, counted from the edge of the first, to those of the square.
struct Warp {
    origin: [f64; 2],
    inverse: [[f64; 2]; 2],
    side: f64,
    /// In pixels of the square.
    feather: f64,
    hard: Hard,
    steps: usize,
}

impl Warp {
    /// Points of the pixel (x, y), evenly spread.
    fn points(&self, x: usize, y: usize) -> impl Iterator<Item = [f64; 2]> + '_ {
        let at = move |start: usize, i: usize, origin: f64| start as f64 + (i as f64 + 0.5) / self.steps as f64 - origin;
        (0..self.steps * self.steps).map(move |i| {
            let (dx, dy) = (at(x, i % self.steps, self.origin[0]), at(y, i / self.steps, self.origin[1]));
            self.inverse.map(|row| row[0] * dx + row[1] * dy)
        })
    }

    /// A smooth step in from the nearest edge that fades.
    fn alpha(&self, u: f64, v: f64) -> f64 {
        let Hard { left, top, right, bottom } = self.hard;
        let edges = [(u, left), (v, top), (self.side - u, right), (self.side - v, bottom)];
        if edges.iter().any(|(from_edge, _)| *from_edge < 0.0) {
            return 0.0;
        }
        let from_edge = edges.iter().filter(|(_, hard)| !hard).map(|(from_edge, _)| *from_edge).fold(f64::INFINITY, f64::min);
        let t = (from_edge / self.feather).min(1.0);
        t * t * (3.0 - 2.0 * t)
    }
}

/// R, G, B at a position counted from the middle of the first pixel; beyond the edges their pixels.
fn bilinear(picture: &Picture, x: f64, y: f64) -> [f64; 3] {
    let sides = |at: f64, length: usize| {
        let floor = at.floor();
        let inside = |i: f64| i.clamp(0.0, length as f64 - 1.0) as usize;
        (inside(floor), inside(floor + 1.0), at - floor)
    };
    let ((x0, x1, fx), (y0, y1, fy)) = (sides(x, picture.width), sides(y, picture.height));
    let at = |x: usize, y: usize, c: usize| f64::from(picture.data[(y * picture.width + x) * 4 + c]);
    [0, 1, 2].map(|c| {
        let along = |y: usize| at(x0, y, c) + (at(x1, y, c) - at(x0, y, c)) * fx;
        along(y0) + (along(y1) - along(y0)) * fy
    })
}
