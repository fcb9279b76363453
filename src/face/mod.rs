//! Faces in photos: found, turned upright and cut out as generators of faces were trained on them, and put back.
//!
//! ```no_run
//! # use nada::{cancel::Cancel, face::{align, Detector, Paste, Photo, Quad}, picture::Picture};
//! # fn main() -> nada::Result<()> {
//! let photo = Photo::of(&Picture::open("photo.jpg".as_ref())?)?;
//! let faces = Detector::shipped()?.faces(&photo, None, &Cancel::new())?;
//! let quad = Quad::of_points(&faces[0].points)?;
//! let square = align(&photo, &quad, 1024, 4096)?;
//! # Ok(())
//! # }
//! ```
//!
//! Coordinates of points and quads count pixels from the middle of the first one, as the published code does: pixel (x, y) has its middle at
//! (x, y). A [`Frame`] counts from its corner.

mod align;
mod area;
#[doc(hidden)]
pub mod detect;
mod framing;
mod paste;
mod photo;

pub use align::{align, align_unless, Quad};
pub use framing::Framing;
pub use paste::{Paste, FEATHER};
pub use photo::Photo;

use crate::cancel::Cancel;
use crate::checkpoint;
use crate::error::{Error, Result};
use crate::nn::face::Networks;
use crate::picture::frame::{Canvas, Frame};
use detect::Candidate;
use photo::Turn;
use std::cell::Cell;
use std::path::Path;

/// The weights that ship with the library.
static WEIGHTS: &[u8] = include_bytes!("../../assets/mtcnn.safetensors");

/// Faces that lean by more than this, in degrees, are looked for again in the photo turned upright: the networks place the points of upright ones
/// better.
const LEANS: f64 = 15.0;

/// The part of a photo that is looked at again: a side in sizes of the face's quad, and pixels a side at the most.
const AGAIN: (f64, usize) = (2.0, 480);

/// The least `min_face`, and by default: the larger of the first and a share of the photo's shorter side.
const LEAST_FACE: f64 = 12.0;
const MIN_FACE: (f64, f64) = (20.0, 1.0 / 25.0);

/// A face that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Face {
    /// Left, top, right, bottom, in pixels; it may reach beyond the photo.
    pub bounds: [f64; 4],
    /// In (0, 1]: how sure the last network is.
    pub score: f32,
    /// Left and right eye as one sees them, nose, left and right corner of the mouth; x, y in pixels.
    pub points: [[f64; 2]; 5],
}

impl Face {
    /// Numbers count from the middle of the first pixel.
    fn of(found: &Candidate) -> Result<Self> {
        let wide = |p: &[f32; 2]| p.map(f64::from);
        let points: Vec<[f64; 2]> = found.points.iter().map(wide).collect();
        let points = points.try_into().map_err(|_| Error::Internal("a face without its five points".into()))?;
        Ok(Self { bounds: found.sides.map(f64::from), score: found.score, points })
    }

    /// The square that generators trained as on FFHQ see of it.
    ///
    /// Errors: as [`Quad::of_points`].
    pub fn quad(&self) -> Result<Quad> {
        Quad::of_points(&self.points)
    }

    /// Area of its bounds, in pixels.
    pub fn area(&self) -> f64 {
        let [x1, y1, x2, y2] = self.bounds;
        (x2 - x1).max(0.0) * (y2 - y1).max(0.0)
    }

    /// Found in a photo that was turned: where it is in the photo as it was.
    fn turned_back(self, turn: &Turn) -> Self {
        let [x1, y1, x2, y2] = self.bounds;
        let ([a, b], [c, d]) = (turn.back([x1, y1]), turn.back([x2, y2]));
        let bounds = [a.min(c), b.min(d), a.max(c), b.max(d)];
        Self { bounds, points: self.points.map(|p| turn.back(p)), ..self }
    }
}

/// Finds faces. May be used from several threads at once.
pub struct Detector {
    networks: Networks,
}

impl Detector {
    /// With the weights that ship with the library.
    pub fn shipped() -> Result<Self> {
        Self::from_bytes(Path::new("mtcnn.safetensors"), WEIGHTS.to_vec())
    }

    /// With weights of the same layout as a safetensors file has them; `name` is the file that errors name.
    ///
    /// Errors: `Format` that names a key which is missing, of another shape or not finite.
    pub fn from_bytes(name: &Path, weights: Vec<u8>) -> Result<Self> {
        Ok(Self { networks: Networks::read(&checkpoint::open_bytes(name, weights)?)? })
    }

    /// The networks, for the project's own tests.
    #[doc(hidden)]
    pub fn networks(&self) -> &Networks {
        &self.networks
    }

    /// The faces of a photo, the surest first. `min_face`: the least width of a face in pixels, from 12 on, which decides how long it takes; by
    /// default 20, or a 25th of the photo's shorter side where that is more.
    ///
    /// Where none is found the photo is tried turned by quarters. Faces that lean are looked at again, upright, for their points.
    ///
    /// Errors: `InvalidArgument` for another `min_face`; `Cancelled`.
    pub fn faces(&self, photo: &Photo, min_face: Option<f64>, cancel: &Cancel) -> Result<Vec<Face>> {
        let shorter = photo.width.min(photo.height) as f64;
        let min_face = min_face.unwrap_or(MIN_FACE.0.max(shorter * MIN_FACE.1));
        let mut found = self.upright(photo, min_face, cancel)?;
        if found.is_empty() {
            // A face that lies is seen in more than one of them: best where it stands.
            let mut best = 0.0;
            for quarters in 1..4 {
                let turned = photo.turned(quarters);
                let turn = Turn { quarters, width: turned.width, height: turned.height };
                let faces = self.upright(&turned, min_face, cancel)?;
                let roll = |f: &Face| f.quad().map_or(180.0, |quad| quad.roll().abs());
                let worth = faces.iter().map(|f| f64::from(f.score) * roll(f).to_radians().cos()).fold(0.0, f64::max);
                if worth > best {
                    best = worth;
                    found = faces.into_iter().map(|f| f.turned_back(&turn)).collect();
                }
            }
        }
        for face in &mut found {
            if let Some(points) = self.points_upright(photo, face, cancel)? {
                face.points = points;
            }
        }
        Ok(found)
    }

    /// As [`Detector::faces`], of faces that stand more or less upright (they may lean by some 50 degrees), with the points that the networks gave.
    pub fn upright(&self, photo: &Photo, min_face: f64, cancel: &Cancel) -> Result<Vec<Face>> {
        if !(min_face.is_finite() && min_face >= LEAST_FACE) {
            return Err(Error::argument("min_face", format!("{min_face}; want {LEAST_FACE} pixels or more")));
        }
        detect::upright(&self.networks, photo, min_face, cancel)?.iter().map(Face::of).collect()
    }

    /// The points of a face that leans, found in its surroundings turned upright; None where it does not lean, or is not found there.
    fn points_upright(&self, photo: &Photo, face: &Face, cancel: &Cancel) -> Result<Option<[[f64; 2]; 5]>> {
        let Ok(quad) = face.quad() else { return Ok(None) };
        if quad.roll().abs() <= LEANS {
            return Ok(None);
        }
        let Some((mut part, frame, [left, top])) = surroundings(photo, &quad) else { return Ok(None) };
        let layout = part.layout();
        let canvas = Canvas::new(Cell::from_mut(&mut part.rgb[..]).as_slice_of_cells(), layout)?;
        let upright = Photo::of(&canvas.shrunk_unless(frame, AGAIN.1, cancel)?)?;
        let scale = frame.side / upright.width as f64;
        let back = |[x, y]: [f64; 2]| {
            let [x, y] = frame.point((x + 0.5) * scale, (y + 0.5) * scale);
            [x - 0.5 + left as f64, y - 0.5 + top as f64]
        };
        let least = (quad.size / scale / 4.0).max(MIN_FACE.0);
        let again = self.upright(&upright, least, cancel)?.into_iter().map(|f| f.points.map(back));
        let away =
            |points: &[[f64; 2]; 5]| middle(points).iter().zip(middle(&face.points)).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
        let nearest = again.min_by(|a, b| away(a).total_cmp(&away(b)));
        // Farther away it is another one.
        Ok(nearest.filter(|points| away(points) < quad.size / 4.0))
    }
}

/// The part of a photo around a quad; a frame in that part which has the face upright; and where the part's top left corner is.
fn surroundings(photo: &Photo, quad: &Quad) -> Option<(Photo, Frame, [usize; 2])> {
    let frame = quad.frame();
    let longer = photo.width.max(photo.height) as f64;
    let side = (AGAIN.0 * quad.size).min(2.0 * longer);
    // Half the diagonal of a square that is turned by any angle, and some pixels for the kernel.
    let reach = side * std::f64::consts::FRAC_1_SQRT_2 + 8.0;
    let range = |centre: f64, length: usize| {
        let (from, to) = ((centre - reach).floor().max(0.0), (centre + reach).ceil().min(length as f64));
        (from < to).then_some((from as usize, to as usize))
    };
    let ((left, right), (top, bottom)) = (range(frame.centre[0], photo.width)?, range(frame.centre[1], photo.height)?);
    let part = photo.part(left, top, right - left, bottom - top);
    let centre =
        [(frame.centre[0] - left as f64).clamp(0.0, part.width as f64), (frame.centre[1] - top as f64).clamp(0.0, part.height as f64)];
    let side = side.min(2.0 * part.width.max(part.height) as f64);
    (side >= 1.0).then_some((part, Frame { centre, side, angle: frame.angle }, [left, top]))
}

fn middle(points: &[[f64; 2]; 5]) -> [f64; 2] {
    [0, 1].map(|i| points.iter().map(|p| p[i]).sum::<f64>() / 5.0)
}
