//! Windows of a photo as the networks take them: averages over the pixels that each new one covers at least in part.

use super::photo::Photo;
use crate::kernels::{weights, Filter};

/// A rectangle of pixels, which may reach beyond the photo, where all is black.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub x: i64,
    pub y: i64,
    pub width: usize,
    pub height: usize,
}

impl Window {
    pub fn whole(photo: &Photo) -> Self {
        Self { x: 0, y: 0, width: photo.width, height: photo.height }
    }

    /// Whether it has a pixel of the photo.
    pub fn sees(&self, photo: &Photo) -> bool {
        let (right, bottom) = (self.x.saturating_add(self.width as i64), self.y.saturating_add(self.height as i64));
        self.width > 0 && self.height > 0 && self.x < photo.width as i64 && self.y < photo.height as i64 && right > 0 && bottom > 0
    }
}

/// A window at a new size.
pub(super) struct Shrunk<'a> {
    photo: &'a Photo,
    window: Window,
    /// First pixel and how many, of each row and column.
    rows: Vec<(usize, usize)>,
    columns: Vec<(usize, usize)>,
}

impl<'a> Shrunk<'a> {
    /// To `height` x `width` pixels; no size may be 0.
    pub fn new(photo: &'a Photo, window: Window, (height, width): (usize, usize)) -> Self {
        let runs = |from: usize, to: usize| weights(Filter::Area, from, to).into_iter().map(|(start, w)| (start, w.len())).collect();
        Self { photo, window, rows: runs(window.height, height), columns: runs(window.width, width) }
    }

    pub fn width(&self) -> usize {
        self.columns.len()
    }

    pub fn height(&self) -> usize {
        self.rows.len()
    }

    /// Row `y`: R, then G, then B of all columns, as (v - 127.5) / 128. The sums are of whole numbers, so they are exact.
    pub fn row(&self, y: usize, out: &mut [f32]) {
        let Window { x: left, y: top, width, .. } = self.window;
        let (first, count) = self.rows[y];
        // What of the window lies in the photo.
        let from = (-left).clamp(0, width as i64) as usize;
        let to = (self.photo.width as i64 - left).clamp(from as i64, width as i64) as usize;
        let mut sums = vec![0u32; width * 3];
        for line in first..first + count {
            let at = top + line as i64;
            if (0..self.photo.height as i64).contains(&at) && from < to {
                let row = &self.photo.row(at as usize)[(left + from as i64) as usize * 3..];
                sums[from * 3..to * 3].iter_mut().zip(row).for_each(|(sum, v)| *sum += u32::from(*v));
            }
        }
        let columns = self.columns.len();
        for (x, &(start, length)) in self.columns.iter().enumerate() {
            let mut total = [0u32; 3];
            for pixel in sums[start * 3..(start + length) * 3].chunks_exact(3) {
                total.iter_mut().zip(pixel).for_each(|(t, v)| *t += v);
            }
            for (c, total) in total.into_iter().enumerate() {
                let mean = f64::from(total) / (count * length) as f64;
                out[c * columns + x] = ((mean - 127.5) / 128.0) as f32;
            }
        }
    }
}
