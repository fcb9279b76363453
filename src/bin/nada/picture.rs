//! Opening pictures, with their warnings for the user.

use crate::ui::Ui;
use nada::picture::Picture;
use nada::Result;
use std::path::Path;

/// Pictures of more pixels take too much memory as floats.
const WHOLE: usize = 1 << 24;

/// The side of what CLIP gets of them, some times the largest input that a CLIP has.
const CLIP_SIDE: usize = 2048;

/// The middle square, of at most `most` pixels a side.
pub fn square(path: &Path, most: usize, ui: &mut Ui) -> Result<Picture> {
    tell(Picture::open_square(path, most)?, ui)
}

/// The side of what an encoder gets of a picture, in eight times the size that it sees.
const ENCODER_SIDE: usize = 8 * nada::nn::encoders::SIDE;

/// The middle square of a picture to invert, of `side` pixels a side, or more for an encoder.
pub fn to_invert(path: &Path, side: usize, encoder: bool, ui: &mut Ui) -> Result<Picture> {
    square(path, if encoder { side.max(ENCODER_SIDE) } else { side }, ui)
}

/// All of it.
pub fn whole(path: &Path, ui: &mut Ui) -> Result<Picture> {
    tell(Picture::open_with_warnings(path)?, ui)
}

/// A picture for CLIP, which sees its middle square: the whole, or of large ones that square, already shrunk.
pub fn for_clip(path: &Path, ui: &mut Ui) -> Result<Picture> {
    let (width, height) = Picture::size_of_file(path)?;
    if width * height <= WHOLE {
        return tell(Picture::open_with_warnings(path)?, ui);
    }
    square(path, CLIP_SIDE, ui)
}

fn tell((picture, warnings): (Picture, Vec<String>), ui: &mut Ui) -> Result<Picture> {
    warnings.into_iter().for_each(|w| ui.warn(w));
    Ok(picture)
}
