//! Finding faces: the cascade of MTCNN. Networks propose windows on a pyramid of the photo, and judge and shift them twice.
//!
//! As the authors ran it: windows that reach beyond the photo see black there. (A popular port cuts them off instead, and gives points that are
//! shifted near the border.) Boxes are f32 throughout, as they were there: at a scale of 0.6 a cell's place is often a whole number exactly, and
//! doubles round it to another one.

use super::area::{Shrunk, Window};
use super::photo::Photo;
use crate::cancel::Cancel;
use crate::device::HOST;
use crate::error::Result;
use crate::nn::face::{Judge, Networks, Proposal, Verdict};
use candle_core::Tensor;
use rayon::prelude::*;

/// Pixels a side that the first network sees, and by how much the pyramid shrinks from one scale to the next.
const CELL: f64 = 12.0;
const FACTOR: f64 = 0.709;

/// The least scores of the three networks.
const LEAST: [f32; 3] = [0.6, 0.7, 0.7];

/// Pixels of a picture of the pyramid that are worked on at a time, and windows.
const BAND: usize = 1 << 16;
const WINDOWS: usize = 64;

/// Beyond any picture's pixels.
const FAR: f32 = 1e6;

/// A box that may be a face: left, top, right, bottom.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    pub sides: [f32; 4],
    pub score: f32,
    /// See [`Verdict::offsets`].
    pub offsets: [f32; 4],
    /// Left and right eye, nose, left and right corner of the mouth, where they are known.
    pub points: Vec<[f32; 2]>,
}

impl Candidate {
    /// Its sides moved by the offsets; `extra` is what a side's length has beyond the difference of its ends.
    fn shifted(self, extra: f32) -> Self {
        let [x1, y1, x2, y2] = self.sides;
        let (width, height) = (x2 - x1 + extra, y2 - y1 + extra);
        let [left, top, right, bottom] = self.offsets;
        Self { sides: [x1 + left * width, y1 + top * height, x2 + right * width, y2 + bottom * height], ..self }
    }

    /// A square about the same centre.
    fn squared(self) -> Self {
        let [x1, y1, x2, y2] = self.sides;
        let (width, height) = (x2 - x1, y2 - y1);
        let side = width.max(height);
        let (x, y) = (x1 + width * 0.5 - side * 0.5, y1 + height * 0.5 - side * 0.5);
        Self { sides: [x, y, x + side, y + side], ..self }
    }

    /// The pixels that it covers; its numbers count them from 1, both ends included.
    fn window(&self) -> Window {
        // Weights of a user's own may give any numbers.
        let [x1, y1, x2, y2] = self.sides.map(|v| v.clamp(-FAR, FAR) as i64);
        Window { x: x1 - 1, y: y1 - 1, width: (x2 - x1 + 1).max(0) as usize, height: (y2 - y1 + 1).max(0) as usize }
    }
}

/// How much two boxes have in common.
#[derive(Clone, Copy)]
enum Overlap {
    /// In shares of what they cover together.
    OfUnion,
    /// In shares of the smaller one, sides being a pixel longer than the difference of their ends.
    OfSmaller,
}

impl Overlap {
    fn of(self, a: &[f32; 4], b: &[f32; 4]) -> f32 {
        let extra = if matches!(self, Overlap::OfSmaller) { 1.0 } else { 0.0 };
        let area = |s: &[f32; 4]| (s[2] - s[0] + extra) * (s[3] - s[1] + extra);
        let side = |i: usize| (a[i + 2].min(b[i + 2]) - a[i].max(b[i]) + extra).max(0.0);
        let (common, a, b) = (side(0) * side(1), area(a), area(b));
        match self {
            Overlap::OfUnion => common / (a + b - common),
            Overlap::OfSmaller => common / a.min(b),
        }
    }
}

/// The best first, without those that overlap a better one by more than `most`.
fn suppressed(mut found: Vec<Candidate>, overlap: Overlap, most: f32) -> Vec<Candidate> {
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut kept: Vec<Candidate> = Vec::new();
    for candidate in found {
        if !kept.iter().any(|better| overlap.of(&better.sides, &candidate.sides) > most) {
            kept.push(candidate);
        }
    }
    kept
}

/// The pyramid's scales, for faces of at least `min_face` pixels.
pub fn scales(photo: &Photo, min_face: f64) -> Vec<f64> {
    let mut scale = CELL / min_face;
    let mut side = photo.width.min(photo.height) as f64 * scale;
    let mut scales = Vec::new();
    while side >= CELL {
        scales.push(scale);
        scale *= FACTOR;
        side *= FACTOR;
    }
    scales
}

/// What the first network finds at a scale, unsuppressed, row by row.
pub fn proposals(network: &Proposal, photo: &Photo, scale: f64, cancel: &Cancel) -> Result<Vec<Candidate>> {
    cancel.check()?;
    let length = |side: usize| (side as f64 * scale + 1.0) as usize;
    let shrunk = Shrunk::new(photo, Window::whole(photo), (length(photo.height), length(photo.width)));
    let (height, width) = (shrunk.height(), shrunk.width());
    let (rows, columns) = (Proposal::cells(height), Proposal::cells(width));
    let step = (BAND / (2 * width)).clamp(8, rows.max(8));
    let bands: Vec<usize> = (0..rows).step_by(step).collect();
    let found = bands.into_par_iter().map(|first| {
        cancel.check()?;
        // What the band's cells see; at the bottom the pool rounds up, as it does of the whole.
        let cells = step.min(rows - first);
        let lines = if first + cells == rows { height - 2 * first } else { 2 * cells + 10 };
        let mut planes = vec![0f32; 3 * lines * width];
        let mut row = vec![0f32; 3 * width];
        for y in 0..lines {
            shrunk.row(2 * first + y, &mut row);
            for (c, row) in row.chunks_exact(width).enumerate() {
                planes[(c * lines + y) * width..][..width].copy_from_slice(row);
            }
        }
        let verdicts = network.forward(&Tensor::from_vec(planes, (1, 3, lines, width), HOST)?)?;
        let place = |i: usize, v: Verdict| {
            let (row, column) = (first + i / columns, i % columns);
            let at = |cell: usize, more: usize| ((2 * cell + more) as f32 / scale as f32).floor();
            let sides = [at(column, 1), at(row, 1), at(column, 12), at(row, 12)];
            (v.score >= LEAST[0]).then_some(Candidate { sides, score: v.score, offsets: v.offsets, points: Vec::new() })
        };
        Ok(verdicts.into_iter().enumerate().filter_map(|(i, v)| place(i, v)).collect::<Vec<_>>())
    });
    Ok(found.collect::<Result<Vec<_>>>()?.concat())
}

/// The windows of the first network, squares, the best first.
pub fn first_stage(network: &Proposal, photo: &Photo, min_face: f64, cancel: &Cancel) -> Result<Vec<Candidate>> {
    let mut found = Vec::new();
    for scale in scales(photo, min_face) {
        found.extend(suppressed(proposals(network, photo, scale, cancel)?, Overlap::OfUnion, 0.5));
    }
    Ok(suppressed(found, Overlap::OfUnion, 0.7).into_iter().map(|c| c.shifted(0.0).squared()).collect())
}

/// Those of `squares` that a network takes for faces, with its score, offsets and points.
fn judged(network: &Judge, photo: &Photo, squares: Vec<Candidate>, least: f32, cancel: &Cancel) -> Result<Vec<Candidate>> {
    let side = network.side();
    let most = 4 * photo.width.max(photo.height);
    let shows = |window: Window| window.sees(photo) && window.width.max(window.height) <= most;
    let seen: Vec<Candidate> = squares.into_iter().filter(|c| shows(c.window())).collect();
    let mut found = Vec::new();
    for some in seen.chunks(WINDOWS) {
        cancel.check()?;
        let mut pictures = vec![0f32; some.len() * 3 * side * side];
        pictures.par_chunks_mut(3 * side * side).zip(some).for_each(|(out, candidate)| {
            let shrunk = Shrunk::new(photo, candidate.window(), (side, side));
            let mut row = vec![0f32; 3 * side];
            for y in 0..side {
                shrunk.row(y, &mut row);
                for (c, row) in row.chunks_exact(side).enumerate() {
                    out[(c * side + y) * side..][..side].copy_from_slice(row);
                }
            }
        });
        let verdicts = network.forward(&Tensor::from_vec(pictures, (some.len(), 3, side, side), HOST)?)?;
        for (candidate, verdict) in some.iter().zip(verdicts).filter(|(_, v)| v.score > least) {
            let [x1, y1, x2, y2] = candidate.sides;
            let (xs, ys) = verdict.points.split_at(verdict.points.len() / 2);
            // The boxes count pixels from 1, points from 0.
            let point = |(x, y): (&f32, &f32)| [x1 + (x2 - x1 + 1.0) * x - 1.0, y1 + (y2 - y1 + 1.0) * y - 1.0];
            let points = xs.iter().zip(ys).map(point).collect();
            found.push(Candidate { sides: candidate.sides, score: verdict.score, offsets: verdict.offsets, points });
        }
    }
    Ok(found)
}

/// The faces of a photo that stand more or less upright, the surest first. `Cancelled` once the flag is raised, which is looked at with each band of
/// a picture and each few windows.
pub fn upright(networks: &Networks, photo: &Photo, min_face: f64, cancel: &Cancel) -> Result<Vec<Candidate>> {
    let squares = first_stage(&networks.proposal, photo, min_face, cancel)?;
    let refined = suppressed(judged(&networks.refine, photo, squares, LEAST[1], cancel)?, Overlap::OfUnion, 0.7);
    let squares = refined.into_iter().map(|c| c.shifted(1.0).squared()).collect();
    let faces = judged(&networks.output, photo, squares, LEAST[2], cancel)?.into_iter().map(|c| c.shifted(1.0)).collect();
    Ok(suppressed(faces, Overlap::OfSmaller, 0.7))
}
