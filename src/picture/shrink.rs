//! A square that is shrunk as its rows come.

use super::resample::{add_across, premultiply, straighten, taps};
use super::Picture;

/// Gives the numbers that [`Picture::resized`] gives, and holds the result only.
pub(super) struct Shrink {
    to: usize,
    taps: Vec<(usize, Vec<f32>)>,
    data: Vec<f32>,
    /// Rows of the result before it have all they need.
    open: usize,
}

impl Shrink {
    /// From squares of `from` pixels a side to `to`, at least 1 and not more.
    pub fn new(from: usize, to: usize) -> Self {
        let taps = if from == to { Vec::new() } else { taps(from, to) };
        Self { to, taps, data: Vec::with_capacity(to * to * 4), open: 0 }
    }

    /// The part of the work on a row (R, G, B, A of each pixel) that needs no order: its share of the result's rows.
    pub fn narrow(&self, mut row: Vec<f32>) -> Vec<f32> {
        if self.taps.is_empty() {
            return row;
        }
        // Else the invisible colour of clear pixels would bleed into their neighbours.
        premultiply(&mut row);
        let mut narrow = vec![0.0; self.to * 4];
        add_across(&row, &self.taps, &mut narrow);
        narrow
    }

    /// Adds what [`Shrink::narrow`] made of row `y`; rows come from the top, each once.
    pub fn add(&mut self, y: usize, narrow: &[f32]) {
        if self.taps.is_empty() {
            return self.data.extend_from_slice(narrow);
        }
        self.data.resize(self.to * self.to * 4, 0.0);
        while self.taps[self.open].0 + self.taps[self.open].1.len() <= y {
            self.open += 1;
        }
        let rows = self.taps.iter().zip(self.data.chunks_exact_mut(self.to * 4)).skip(self.open);
        for ((start, weights), out) in rows.take_while(|((start, _), _)| *start <= y) {
            // Later rows may end earlier, by a rounding of their edges.
            if let Some(w) = weights.get(y - start) {
                out.iter_mut().zip(narrow).for_each(|(o, v)| *o += w * v);
            }
        }
    }

    /// After the last row.
    pub fn finish(mut self) -> Picture {
        if !self.taps.is_empty() {
            straighten(&mut self.data);
        }
        Picture { width: self.to, height: self.to, data: self.data }
    }
}
