//! A part of a large picture: shrunk for a generator, and what it drew blended back.
//!
//! Both work on bands of rows, so that the memory they take does not grow with the picture.

use super::pixels::{unit, Layout};
use super::resample::{add_across, taps};
use super::shrink::Shrink;
use super::{check_size, Picture};
use crate::error::{Error, Result};
use rayon::prelude::*;
use std::cell::Cell;

/// Bytes of the rows that are worked on at a time.
const BAND: usize = 1 << 20;

/// A rectangle of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    pub x: usize,
    pub y: usize,
    pub width: usize,
    pub height: usize,
}

impl Region {
    /// The largest centred square.
    pub fn square(self) -> Self {
        let side = self.width.min(self.height);
        Self { x: self.x + (self.width - side) / 2, y: self.y + (self.height - side) / 2, width: side, height: side }
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

    /// `region`, or the whole for None.
    ///
    /// Errors: `InvalidArgument` where it is empty or does not lie in the picture.
    pub fn region(&self, region: Option<Region>) -> Result<Region> {
        let Layout { width, height, .. } = self.layout;
        let Some(r) = region else { return Ok(Region { x: 0, y: 0, width, height }) };
        let inside = |start: usize, length: usize, whole: usize| length > 0 && start.checked_add(length).is_some_and(|end| end <= whole);
        if !inside(r.x, r.width, width) || !inside(r.y, r.height, height) {
            let message = format!("{} x {} pixels at ({}, {}) are no part of {width} x {height}", r.width, r.height, r.x, r.y);
            return Err(Error::argument("region", message));
        }
        Ok(r)
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

    /// A square part as a picture of at most `most` pixels a side; the same numbers as [`Picture::resized`] gives.
    ///
    /// Errors: `InvalidArgument` for a pixel that is not finite, or a result over [`super::MAX_PIXELS`].
    pub fn shrunk(&self, square: Region, most: usize) -> Result<Picture> {
        let size = self.layout.format.bytes_per_pixel();
        let (from, to) = (square.width, square.width.min(most));
        check_size("region", to, to)?;
        let mut shrink = Shrink::new(from, to);
        let layout = self.layout;
        self.bands(square, |first, band| {
            let narrow = band.par_chunks_exact(from * size).enumerate().map(|(i, bytes)| {
                let mut row = Vec::with_capacity(from * 4);
                Canvas { bytes: &[], layout }.read(bytes, (square.x, square.y + first + i), &mut row)?;
                Ok(shrink.narrow(row))
            });
            for (i, narrow) in narrow.collect::<Result<Vec<_>>>()?.iter().enumerate() {
                shrink.add(first + i, narrow);
            }
            Ok(())
        })?;
        Ok(shrink.finish())
    }
}

/// Edges of a square.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hard {
    pub left: bool,
    pub top: bool,
    pub right: bool,
    pub bottom: bool,
}

/// How a drawn picture is put into a region.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Blend {
    /// Pixels over which it fades in from the square's edges; at most half the side counts.
    pub feather: f32,
    /// Edges that do not fade: those at the picture's own border, where a fade would leave a rim.
    pub hard: Hard,
    /// In [0, 1].
    pub opacity: f32,
    /// The target gets the drawn picture alone, with the blending in its alpha, instead of the source blended with it.
    pub replace: bool,
}

impl Blend {
    /// How much of the drawn picture is seen at each position of a side, without the opacity: a smooth step from its edges, but for the hard
    /// ones.
    fn fade(&self, side: usize, hard_start: bool, hard_end: bool) -> Vec<f32> {
        let feather = self.feather.min(side as f32 / 2.0);
        let step = |from_edge: usize, hard: bool| {
            let t = if hard || feather <= 0.0 { 1.0 } else { ((from_edge as f32 + 0.5) / feather).min(1.0) };
            t * t * (3.0 - 2.0 * t)
        };
        (0..side).map(|i| step(i, hard_start).min(step(side - 1 - i, hard_end))).collect()
    }

    /// Draws `picture`, resampled to the square of `region`, over `source`, and writes the region, and nothing else, of `target`, which may
    /// be `source`. Colours blend as sRGB numbers: linear light would make a bright picture reach farther than a dark one, and leave a
    /// visible rim. Alpha is the source's; pixels that are not drawn over are the source's bit for bit where the formats are the same.
    ///
    /// Errors, before anything is written: `InvalidArgument` where `target` has another size, lacks the alpha that `replace` needs, or a
    /// pixel of the source's region is not finite.
    pub fn draw(&self, source: Canvas, region: Region, picture: &Picture, target: Canvas) -> Result<()> {
        picture.check()?;
        self.check(source, target)?;
        let (from, to) = (source.layout, target.layout);
        let (in_size, out_size) = (from.format.bytes_per_pixel(), to.format.bytes_per_pixel());
        if from.format.is_float() {
            source.bands(region, |first, band| {
                let mut row = Vec::new();
                let rows = band.chunks_exact(region.width * in_size).enumerate();
                rows.into_iter().try_for_each(|(i, bytes)| source.read(bytes, (region.x, region.y + first + i), &mut row))
            })?;
        }
        let square = region.square();
        let (left, top, side) = (square.x - region.x, square.y - region.y, square.width);
        let (across, down) = (taps(picture.width, side), taps(picture.height, side));
        let (fade_x, fade_y) = (self.fade(side, self.hard.left, self.hard.right), self.fade(side, self.hard.top, self.hard.bottom));
        let (alike, how) = ((from.format, from.transfer) == (to.format, to.transfer), *self);
        let drawn_row = |y: usize| {
            let (first, weights) = &down[y];
            let mut thin = vec![0.0; picture.width * 4];
            for (row, w) in picture.data[first * picture.width * 4..].chunks_exact(picture.width * 4).zip(weights) {
                thin.iter_mut().zip(row).for_each(|(o, v)| *o += w * v);
            }
            let mut row = vec![0.0; side * 4];
            add_across(&thin, &across, &mut row);
            row
        };
        let mut out = Vec::new();
        source.bands(region, |first, band| {
            let row = region.width * in_size;
            out.resize(band.len() / row * region.width * out_size, 0);
            let rows = band.par_chunks_exact(row).zip(out.par_chunks_exact_mut(region.width * out_size)).enumerate();
            rows.for_each(|(i, (bytes, out))| {
                let line = (first + i).checked_sub(top).filter(|y| *y < side);
                let drawn = line.map(&drawn_row).unwrap_or_default();
                let strength = line.map_or(0.0, |y| fade_y[y] * how.opacity);
                if how.replace {
                    out.fill(0);
                } else if alike {
                    out.copy_from_slice(bytes);
                }
                for (x, (input, output)) in bytes.chunks_exact(in_size).zip(out.chunks_exact_mut(out_size)).enumerate() {
                    let column = x.checked_sub(left).filter(|x| *x < side);
                    let w = column.map_or(0.0, |x| strength * fade_x[x]);
                    if w == 0.0 && (alike || how.replace) {
                        continue;
                    }
                    let [r, g, b, a] = from.format.load(input);
                    let mut rgb = [r, g, b];
                    if w < 1.0 && !how.replace {
                        rgb = rgb.map(|v| from.transfer.srgb(v));
                    }
                    if let Some(x) = column.filter(|_| w > 0.0) {
                        let w = if how.replace { 1.0 } else { w };
                        for (v, d) in rgb.iter_mut().zip(&drawn[x * 4..]) {
                            let d = d.clamp(0.0, 1.0);
                            *v = if w == 1.0 { d } else { *v + w * (d - *v) };
                        }
                    }
                    let a = if how.replace { w * a.clamp(0.0, 1.0) } else { a };
                    to.format.store([rgb[0], rgb[1], rgb[2], a], to.transfer, output);
                }
            });
            for (i, bytes) in out.chunks_exact(region.width * out_size).enumerate() {
                let into = target.row(region.x, region.y + first + i, region.width);
                into.iter().zip(bytes).for_each(|(o, b)| o.set(*b));
            }
            Ok(())
        })
    }

    /// The errors of [`Blend::draw`] that need no pixels.
    pub fn check(&self, source: Canvas, target: Canvas) -> Result<()> {
        let (from, to) = (source.layout, target.layout);
        if (from.width, from.height) != (to.width, to.height) {
            let message = format!("{} x {} pixels, but the source has {} x {}", to.width, to.height, from.width, from.height);
            return Err(Error::argument("target", message));
        }
        if self.replace && !to.format.has_alpha() {
            return Err(Error::argument(
                "target",
                format!("{:?} has no alpha, which replacing needs; want a format with alpha", to.format),
            ));
        }
        Ok(())
    }
}
