//! A square part of a large picture, turned by an angle: shrunk for a generator, and what it drew blended back.
//!
//! Both work on bands of rows or on tiles, so that the memory they take does not grow with the picture. An upright frame on whole pixels is
//! resampled row by row as pictures are; of others each pixel is sampled where it lies.

use super::pixels::{unit, Layout};
use super::resample::{add_across, premultiply, straighten, taps, taps_at};
use super::shrink::Shrink;
use super::{check_size, rows, Picture};
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use std::cell::Cell;

/// Bytes of the rows that are worked on at a time.
const BAND: usize = 1 << 20;

/// Pixels a side of the tiles that a turned frame is shrunk by, in the frame's picture and before it is shrunk.
const TILE: (usize, f64) = (64, 384.0);

/// A rectangle of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Region {
    pub x: usize,
    pub y: usize,
    pub width: usize,
    pub height: usize,
}

/// A square in a picture. Pixel (x, y) reaches from (x, y) to (x + 1, y + 1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frame {
    /// x, y in pixels.
    pub centre: [f64; 2],
    /// In pixels.
    pub side: f64,
    /// In degrees, clockwise as one sees it: what was upright in the frame's picture leans to the right.
    pub angle: f64,
}

impl Frame {
    /// The upright square of `side` pixels whose top left corner is (`x`, `y`).
    pub fn upright(x: usize, y: usize, side: usize) -> Self {
        let half = side as f64 / 2.0;
        Self { centre: [x as f64 + half, y as f64 + half], side: side as f64, angle: 0.0 }
    }

    /// The largest centred square of a picture.
    pub fn of_picture(width: usize, height: usize) -> Self {
        let side = width.min(height);
        Self::upright((width - side) / 2, (height - side) / 2, side)
    }

    /// Pixels of a picture of its own size, a side.
    fn pixels(&self) -> usize {
        (self.side.round() as usize).max(1)
    }

    /// The frame as whole pixels of a picture of that size, where it is that.
    fn whole(&self, width: usize, height: usize) -> Option<Region> {
        let [x, y] = self.centre.map(|c| c - self.side / 2.0);
        let whole = self.angle == 0.0 && [x, y, self.side].iter().all(|v| v.fract() == 0.0 && *v >= 0.0);
        let inside = x + self.side <= width as f64 && y + self.side <= height as f64;
        (whole && inside).then_some(Region { x: x as usize, y: y as usize, width: self.side as usize, height: self.side as usize })
    }

    /// Its axes in the picture: to the right and down.
    fn axes(&self) -> [[f64; 2]; 2] {
        let (sin, cos) = self.angle.to_radians().sin_cos();
        [[cos, sin], [-sin, cos]]
    }

    /// Where the point (u, v) from its top left corner lies in the picture.
    pub(crate) fn point(&self, u: f64, v: f64) -> [f64; 2] {
        let [right, down] = self.axes();
        let (u, v) = (u - self.side / 2.0, v - self.side / 2.0);
        [0, 1].map(|i| self.centre[i] + u * right[i] + v * down[i])
    }

    /// What in the frame, from its top left corner, a point of the picture is.
    fn within(&self, axes: [[f64; 2]; 2], point: [f64; 2]) -> [f64; 2] {
        let from = [0, 1].map(|i| point[i] - self.centre[i]);
        axes.map(|axis| from[0] * axis[0] + from[1] * axis[1] + self.side / 2.0)
    }

    /// The corners of the upright rectangle around the points (u, v) of `from` to `to`, and `margin` more.
    fn around(&self, from: [f64; 2], to: [f64; 2], margin: f64) -> [[f64; 2]; 2] {
        let corners = [[from[0], from[1]], [to[0], from[1]], [from[0], to[1]], [to[0], to[1]]].map(|[u, v]| self.point(u, v));
        let least = |i: usize| corners.iter().map(|c| c[i]).fold(f64::INFINITY, f64::min) - margin;
        let most = |i: usize| corners.iter().map(|c| c[i]).fold(f64::NEG_INFINITY, f64::max) + margin;
        [[least(0), least(1)], [most(0), most(1)]]
    }
}

/// Pixels of another program, of any size, read and written part by part. Two of them may be the same memory.
#[derive(Clone, Copy)]
pub struct Canvas<'a> {
    bytes: &'a [Cell<u8>],
    layout: Layout,
}

impl<'a> Canvas<'a> {
    /// Errors: `InvalidArgument` where the layout does not fit the buffer.
    pub fn new(bytes: &'a [Cell<u8>], layout: Layout) -> Result<Self> {
        let (have, want) = (bytes.len(), layout.span()?);
        if have < want {
            return Err(Error::argument("pixels", format!("{have} bytes, but {layout:?} takes {want}")));
        }
        Ok(Self { bytes, layout })
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// `frame`, or the largest centred square for None. It may reach beyond the picture: where it does, the nearest pixels at the edge stand
    /// for what is not there.
    ///
    /// Errors: `InvalidArgument` where a number is not finite, the centre lies outside of the picture, or the side is below 1 pixel or more
    /// than twice the picture's longer one.
    pub fn frame(&self, frame: Option<Frame>) -> Result<Frame> {
        let Layout { width, height, .. } = self.layout;
        let Some(frame) = frame else { return Ok(Frame::of_picture(width, height)) };
        let Frame { centre: [x, y], side, angle } = frame;
        if ![x, y, side, angle].iter().all(|v| v.is_finite()) {
            let message = format!("centre ({x}, {y}), side {side} and angle {angle} must be finite numbers");
            return Err(Error::argument("frame", message));
        }
        if !(0.0..=width as f64).contains(&x) || !(0.0..=height as f64).contains(&y) {
            let message = format!("its centre ({x}, {y}) lies outside of the picture of {width} x {height} pixels");
            return Err(Error::argument("frame", message));
        }
        let most = 2 * width.max(height);
        if !(1.0..=most as f64).contains(&side) {
            let message =
                format!("its side of {side} pixels must be in [1, {most}], twice the picture's longer side of {width} x {height}");
            return Err(Error::argument("frame", message));
        }
        Ok(frame)
    }

    /// `width` pixels of row `y` from `x` on.
    fn row(&self, x: usize, y: usize, width: usize) -> &'a [Cell<u8>] {
        let size = self.layout.format.bytes_per_pixel();
        &self.bytes[y * self.layout.stride + x * size..][..width * size]
    }

    /// Bands of the rows of `region`, one after the other: the first row's number in the region, and the rows' bytes without padding.
    fn bands(&self, region: Region, mut each: impl FnMut(usize, &[u8]) -> Result<()>) -> Result<()> {
        let row = region.width * self.layout.format.bytes_per_pixel();
        let rows = (BAND / row).clamp(1, region.height);
        let mut bytes = vec![0; row * rows];
        for first in (0..region.height).step_by(rows) {
            let band = &mut bytes[..row * rows.min(region.height - first)];
            for (i, out) in band.chunks_exact_mut(row).enumerate() {
                let from = self.row(region.x, region.y + first + i, region.width);
                out.iter_mut().zip(from).for_each(|(o, b)| *o = b.get());
            }
            each(first, band)?;
        }
        Ok(())
    }

    /// The pixels of a row of bytes as a [`Picture`] has them; `at` is where it stands, for the error that a pixel is not finite.
    fn read(&self, bytes: &[u8], at: (usize, usize), out: &mut Vec<f32>) -> Result<()> {
        let Layout { format, transfer, .. } = self.layout;
        out.clear();
        for (x, pixel) in bytes.chunks_exact(format.bytes_per_pixel()).enumerate() {
            let rgba = format.load(pixel);
            if !rgba.iter().all(|v| v.is_finite()) {
                return Err(Error::argument("pixels", format!("the pixel at ({}, {}) is not finite", at.0 + x, at.1)));
            }
            out.extend(unit(rgba, transfer));
        }
        Ok(())
    }

    /// A frame's picture, of at most `most` pixels a side; of whole pixels the same numbers as [`Picture::resized`] gives.
    ///
    /// Errors: `InvalidArgument` for a pixel that is not finite, a result over [`super::MAX_PIXELS`], and as [`Canvas::frame`].
    pub fn shrunk(&self, frame: Frame, most: usize) -> Result<Picture> {
        self.shrunk_unless(frame, most, &Cancel::new())
    }

    /// As [`Canvas::shrunk`]; `Cancelled` once the flag is raised, which is looked at with each band of rows or tile.
    pub fn shrunk_unless(&self, frame: Frame, most: usize, cancel: &Cancel) -> Result<Picture> {
        let frame = self.frame(Some(frame))?;
        let Some(square) = frame.whole(self.layout.width, self.layout.height) else { return self.sampled(frame, most, cancel) };
        let size = self.layout.format.bytes_per_pixel();
        let (from, to) = (square.width, square.width.min(most));
        check_size("frame", to, to)?;
        let mut shrink = Shrink::new(from, to);
        let layout = self.layout;
        self.bands(square, |first, band| {
            cancel.check()?;
            let narrow = rows::map(band, from * size, |i, bytes| {
                let mut row = Vec::with_capacity(from * 4);
                Canvas { bytes: &[], layout }.read(bytes, (square.x, square.y + first + i), &mut row)?;
                Ok(shrink.narrow(row))
            })?;
            for (i, narrow) in narrow.iter().enumerate() {
                shrink.add(first + i, narrow);
            }
            Ok(())
        })?;
        Ok(shrink.finish())
    }

    /// As [`Canvas::shrunk`], of a frame that was checked, by Keys' kernel around each point: along the picture's axes, so that a frame on whole
    /// pixels gives them, and as wide as the frame is shrunk.
    fn sampled(&self, frame: Frame, most: usize, cancel: &Cancel) -> Result<Picture> {
        let side = frame.pixels().min(most);
        check_size("frame", side, side)?;
        let ratio = frame.side / side as f64;
        let widen = ratio.max(1.0);
        let tile = ((TILE.1 / widen) as usize).clamp(1, TILE.0);
        let mut data = vec![0f32; side * side * 4];
        for top in (0..side).step_by(tile) {
            for left in (0..side).step_by(tile) {
                cancel.check()?;
                let (right, bottom) = ((left + tile).min(side), (top + tile).min(side));
                let at = |i: usize| i as f64 * ratio;
                let [least, most] = frame.around([at(left), at(top)], [at(right), at(bottom)], 2.0 * widen + 1.0);
                let patch = Patch::read(self, least.map(|v| v.floor() as i64), most.map(|v| v.ceil() as i64))?;
                rows::fill(&mut data[top * side * 4..bottom * side * 4], side * 4, |j, row| {
                    for (i, out) in row[left * 4..right * 4].chunks_exact_mut(4).enumerate() {
                        let [x, y] = frame.point(((left + i) as f64 + 0.5) * ratio, ((top + j) as f64 + 0.5) * ratio);
                        out.copy_from_slice(&patch.sample(&taps_at(x, widen), &taps_at(y, widen)));
                    }
                    Ok(())
                })?;
            }
        }
        straighten(&mut data);
        // The sum of the weights is rounded: what is opaque stays so.
        data.chunks_exact_mut(4).filter(|p| p[3] > 1.0 - 1e-5).for_each(|p| p[3] = 1.0);
        Ok(Picture { width: side, height: side, data })
    }
}

impl Canvas<'_> {
    /// Draws over the part inside of `extent` (left, top, right, bottom; what lies beyond the picture is left out) and writes it, and nothing else,
    /// to `target`. `drawn` gives R, G, B of pixel (x, y) and how much of it is seen, 0 where the source stays.
    ///
    /// Errors, before anything is written: `InvalidArgument` where `target` has another size, nothing of the extent lies inside, or a pixel of the
    /// part is not finite.
    pub(crate) fn overlaid(
        self,
        extent: [f64; 4],
        target: Canvas,
        overlay: Overlay,
        drawn: impl Fn(usize, usize) -> [f32; 4] + Sync,
    ) -> Result<()> {
        check_same_size(self, target)?;
        let (width, height) = (self.layout.width, self.layout.height);
        let range = |from: f64, to: f64, length: usize| from.clamp(0.0, length as f64) as usize..to.clamp(0.0, length as f64) as usize;
        let (columns, rows) = (range(extent[0], extent[2], width), range(extent[1], extent[3], height));
        if columns.is_empty() || rows.is_empty() {
            let message = format!(
                "({}, {}) to ({}, {}) lies outside of the picture of {width} x {height} pixels",
                extent[0], extent[1], extent[2], extent[3]
            );
            return Err(Error::argument("frame", message));
        }
        let part = Region { x: columns.start, y: rows.start, width: columns.len(), height: rows.len() };
        blend(self, part, target, overlay, |row| columns.clone().flat_map(|x| drawn(x, part.y + row)).collect())
    }
}

/// Pixels around a part of a canvas, colours times alpha; beyond the canvas those at its edge.
struct Patch {
    x: i64,
    y: i64,
    width: usize,
    data: Vec<f32>,
}

impl Patch {
    /// From `least` up to `most`, x and y, which is left out.
    fn read(canvas: &Canvas, least: [i64; 2], most: [i64; 2]) -> Result<Self> {
        let layout = canvas.layout;
        let size = layout.format.bytes_per_pixel();
        let inside = |v: i64, length: usize| v.clamp(0, length as i64 - 1) as usize;
        let (left, right) = (inside(least[0], layout.width), inside(most[0] - 1, layout.width));
        let lines: Vec<usize> = (least[1]..most[1]).map(|y| inside(y, layout.height)).collect();
        let stored = right - left + 1;
        let mut bytes = Vec::with_capacity(lines.len() * stored * size);
        for &y in &lines {
            bytes.extend(canvas.row(left, y, stored).iter().map(Cell::get));
        }
        let width = (most[0] - least[0]) as usize;
        let mut data = vec![0f32; lines.len() * width * 4];
        rows::fill(&mut data, width * 4, |i, out| {
            let mut row = Vec::with_capacity(stored * 4);
            let bytes = &bytes[i * stored * size..][..stored * size];
            Canvas { bytes: &[], layout }.read(bytes, (left, lines[i]), &mut row)?;
            premultiply(&mut row);
            for (i, pixel) in out.chunks_exact_mut(4).enumerate() {
                let x = inside(least[0] + i as i64, layout.width) - left;
                pixel.copy_from_slice(&row[x * 4..][..4]);
            }
            Ok(())
        })?;
        Ok(Self { x: least[0], y: least[1], width, data })
    }

    /// The weighted sum of the pixels at the positions of the taps, in the canvas's coordinates.
    fn sample(&self, across: &(i64, Vec<f32>), down: &(i64, Vec<f32>)) -> [f32; 4] {
        let mut sum = [0f32; 4];
        for (y, wy) in (down.0 - self.y..).zip(&down.1) {
            let start = (y as usize * self.width + (across.0 - self.x) as usize) * 4;
            let mut line = [0f32; 4];
            for (pixel, wx) in self.data[start..].chunks_exact(4).zip(&across.1) {
                line.iter_mut().zip(pixel).for_each(|(o, v)| *o += wx * v);
            }
            sum.iter_mut().zip(line).for_each(|(o, v)| *o += wy * v);
        }
        sum
    }
}

/// What becomes of a source's pixel under a drawn one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overlay {
    /// The drawn colour covers it, as much as it is seen.
    Over,
    /// It makes way for the drawn one, which is as opaque as it is seen.
    Instead,
    /// The drawn numbers are added to it.
    Added,
}

/// Edges of a frame, as its picture has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hard {
    pub left: bool,
    pub top: bool,
    pub right: bool,
    pub bottom: bool,
}

/// How a drawn picture is put into a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Blend {
    /// Pixels over which it fades in from the frame's edges; at most half the side counts.
    pub feather: f32,
    /// Edges that do not fade: those at the picture's own border, where a fade would leave a rim.
    pub hard: Hard,
    /// In [0, 1].
    pub opacity: f32,
    /// The target gets the drawn picture alone, with the blending in its alpha, instead of the source blended with it.
    pub replace: bool,
}

impl Blend {
    /// How much of the drawn picture is seen `from_edge` pixels from an edge, without the opacity: a smooth step, but for hard edges.
    fn step(feather: f32, from_edge: f32, hard: bool) -> f32 {
        let t = if hard || feather <= 0.0 { 1.0 } else { (from_edge / feather).clamp(0.0, 1.0) };
        t * t * (3.0 - 2.0 * t)
    }

    /// The same at each position of a side.
    fn fade(&self, side: usize, hard_start: bool, hard_end: bool) -> Vec<f32> {
        let feather = self.feather.min(side as f32 / 2.0);
        let step = |from_edge: usize, hard: bool| Self::step(feather, from_edge as f32 + 0.5, hard);
        (0..side).map(|i| step(i, hard_start).min(step(side - 1 - i, hard_end))).collect()
    }

    /// Draws `picture`, resampled to the frame, over `source`, and writes the pixels that the frame covers, and nothing else, of `target`,
    /// which may be `source`. Pixels that it covers in part are blended by that part. Colours blend as sRGB numbers: linear light would make a
    /// bright picture reach farther than a dark one, and leave a visible rim. Alpha is the source's; pixels that are not drawn over are the
    /// source's bit for bit where the formats are the same.
    ///
    /// Errors, before anything is written: `InvalidArgument` where `target` has another size, lacks the alpha that `replace` needs, or a
    /// pixel of the source's part is not finite, and as [`Canvas::frame`].
    pub fn draw(&self, source: Canvas, frame: Frame, picture: &Picture, target: Canvas) -> Result<()> {
        picture.check()?;
        self.check(source, target)?;
        let frame = source.frame(Some(frame))?;
        let (width, height) = (source.layout.width, source.layout.height);
        match frame.whole(width, height) {
            Some(square) => {
                let side = square.width;
                let (across, down) = (taps(picture.width, side), taps(picture.height, side));
                let (fade_x, fade_y) = (self.fade(side, self.hard.left, self.hard.right), self.fade(side, self.hard.top, self.hard.bottom));
                blend(source, square, target, self.overlay(), |y| {
                    let (first, weights) = &down[y];
                    let mut thin = vec![0.0; picture.width * 4];
                    for (row, w) in picture.data[first * picture.width * 4..].chunks_exact(picture.width * 4).zip(weights) {
                        thin.iter_mut().zip(row).for_each(|(o, v)| *o += w * v);
                    }
                    let mut row = vec![0.0; side * 4];
                    add_across(&thin, &across, &mut row);
                    // The picture's own alpha makes way for how much is seen.
                    row.chunks_exact_mut(4).zip(&fade_x).for_each(|(p, fade)| p[3] = fade_y[y] * self.opacity * fade);
                    row
                })
            }
            None => {
                let [least, most] = frame.around([0.0; 2], [frame.side; 2], 0.5);
                let range = |i: usize, length: usize| {
                    let from = least[i].floor().clamp(0.0, length as f64 - 1.0) as usize;
                    (from, (most[i].ceil().clamp(1.0, length as f64) as usize).max(from + 1) - from)
                };
                let ((x, columns), (y, rows)) = (range(0, width), range(1, height));
                let part = Region { x, y, width: columns, height: rows };
                blend(source, part, target, self.overlay(), |row| self.turned_row(frame, picture, part, row))
            }
        }
    }

    /// The row of a part as a turned frame's picture has it; in place of alpha how much of it is seen, negative where the frame does not reach.
    fn turned_row(&self, frame: Frame, picture: &Picture, part: Region, row: usize) -> Vec<f32> {
        let axes = frame.axes();
        let scale = [picture.width as f64 / frame.side, picture.height as f64 / frame.side];
        let widen = scale.map(|s| s.max(1.0));
        let feather = self.feather.min(frame.side as f32 / 2.0);
        let mut out = vec![0.0; part.width * 4];
        for (column, pixel) in out.chunks_exact_mut(4).enumerate() {
            let centre = [(part.x + column) as f64 + 0.5, (part.y + row) as f64 + 0.5];
            let [u, v] = frame.within(axes, centre);
            let edges = [u, frame.side - u, v, frame.side - v].map(|d| d as f32);
            // The part of the pixel inside, as if each edge ran along it.
            let covered = edges.iter().map(|d| (d + 0.5).clamp(0.0, 1.0)).product::<f32>();
            if covered == 0.0 {
                pixel[3] = -1.0;
                continue;
            }
            let hard = [self.hard.left, self.hard.right, self.hard.top, self.hard.bottom];
            let [left, right, top, bottom] = [0, 1, 2, 3].map(|i| Self::step(feather, edges[i], hard[i]));
            let (first_x, across) = taps_at(u * scale[0], widen[0]);
            let (first_y, down) = taps_at(v * scale[1], widen[1]);
            let at = |first: i64, i: usize, length: usize| (first + i as i64).clamp(0, length as i64 - 1) as usize;
            for (j, wy) in down.iter().enumerate() {
                let line = &picture.data[at(first_y, j, picture.height) * picture.width * 4..][..picture.width * 4];
                for (i, wx) in across.iter().enumerate() {
                    let x = at(first_x, i, picture.width) * 4;
                    pixel[..3].iter_mut().zip(&line[x..]).for_each(|(o, v)| *o += wy * wx * v);
                }
            }
            pixel[3] = covered * left.min(right) * top.min(bottom) * self.opacity;
        }
        out
    }

    fn overlay(&self) -> Overlay {
        match self.replace {
            true => Overlay::Instead,
            false => Overlay::Over,
        }
    }

    /// The errors of [`Blend::draw`] that need no pixels.
    pub fn check(&self, source: Canvas, target: Canvas) -> Result<()> {
        check_same_size(source, target)?;
        let to = target.layout;
        if self.replace && !to.format.has_alpha() {
            return Err(Error::argument(
                "target",
                format!("{:?} has no alpha, which replacing needs; want a format with alpha", to.format),
            ));
        }
        Ok(())
    }
}

/// Writes a part of `target`: what `drawn_row` gives over `source`. A drawn row has R, G, B of each pixel and how much of it is seen, a
/// negative number where the target stays as it is.
fn blend(source: Canvas, part: Region, target: Canvas, overlay: Overlay, drawn_row: impl Fn(usize) -> Vec<f32> + Sync) -> Result<()> {
    let (from, to) = (source.layout, target.layout);
    let (in_size, out_size) = (from.format.bytes_per_pixel(), to.format.bytes_per_pixel());
    if from.format.is_float() {
        source.bands(part, |first, band| {
            let mut row = Vec::new();
            let rows = band.chunks_exact(part.width * in_size).enumerate();
            rows.into_iter().try_for_each(|(i, bytes)| source.read(bytes, (part.x, part.y + first + i), &mut row))
        })?;
    }
    let (alike, replace) = ((from.format, from.transfer) == (to.format, to.transfer), overlay == Overlay::Instead);
    let mut out = Vec::new();
    source.bands(part, |first, band| {
        out.clear();
        for y in first..first + band.len() / (part.width * in_size) {
            out.extend(target.row(part.x, part.y + y, part.width).iter().map(Cell::get));
        }
        rows::fill(&mut out, part.width * out_size, |i, out| {
            let bytes = &band[i * part.width * in_size..][..part.width * in_size];
            let drawn = drawn_row(first + i);
            let pixels = bytes.chunks_exact(in_size).zip(out.chunks_exact_mut(out_size)).zip(drawn.chunks_exact(4));
            for ((input, output), drawn) in pixels {
                let w = drawn[3];
                if w < 0.0 {
                    continue;
                }
                if w == 0.0 && replace {
                    output.fill(0);
                    continue;
                }
                if w == 0.0 && alike {
                    output.copy_from_slice(input);
                    continue;
                }
                let [r, g, b, a] = from.format.load(input);
                let mut rgb = [r, g, b];
                if !replace && (w < 1.0 || overlay == Overlay::Added) {
                    rgb = rgb.map(|v| from.transfer.srgb(v));
                }
                if w > 0.0 {
                    let w = if replace { 1.0 } else { w };
                    for (v, d) in rgb.iter_mut().zip(drawn) {
                        let all = if overlay == Overlay::Added { *v + d } else { *d }.clamp(0.0, 1.0);
                        *v = if w == 1.0 { all } else { *v + w * (all - *v) };
                    }
                }
                let a = if replace { w * a.clamp(0.0, 1.0) } else { a };
                to.format.store([rgb[0], rgb[1], rgb[2], a], to.transfer, output);
            }
            Ok(())
        })?;
        for (i, bytes) in out.chunks_exact(part.width * out_size).enumerate() {
            let into = target.row(part.x, part.y + first + i, part.width);
            into.iter().zip(bytes).for_each(|(o, b)| o.set(*b));
        }
        Ok(())
    })
}

fn check_same_size(source: Canvas, target: Canvas) -> Result<()> {
    let (from, to) = (source.layout, target.layout);
    match (from.width, from.height) == (to.width, to.height) {
        true => Ok(()),
        false => {
            let message = format!("{} x {} pixels, but the source has {} x {}", to.width, to.height, from.width, from.height);
            Err(Error::argument("target", message))
        }
    }
}
