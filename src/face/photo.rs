//! Photos as detector and alignment see them: 8-bit, RGB.

use crate::error::{Error, Result};
use crate::picture::pixels::{self, Format, Layout, Transfer};
use crate::picture::{check_size, Picture};

/// An 8-bit sRGB picture without alpha.
#[derive(Clone, PartialEq)]
pub struct Photo {
    /// In pixels, at least 1.
    pub width: usize,
    /// In pixels, at least 1.
    pub height: usize,
    /// R, G, B of each pixel, rows from the top without padding.
    pub rgb: Vec<u8>,
}

/// Without the pixels.
impl std::fmt::Debug for Photo {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "Photo {} x {}", self.width, self.height)
    }
}

impl Photo {
    /// `rgb` as [`Photo::rgb`] says.
    ///
    /// Errors: `InvalidArgument` where it has another length, or the size is none or too large.
    pub fn new(width: usize, height: usize, rgb: Vec<u8>) -> Result<Self> {
        let wanted = check_size("photo", width, height)? * 3;
        match rgb.len() == wanted {
            true => Ok(Self { width, height, rgb }),
            false => Err(Error::argument("photo", format!("{} bytes, where {width} x {height} pixels take {wanted}", rgb.len()))),
        }
    }

    /// The layout of its bytes.
    pub(crate) fn layout(&self) -> Layout {
        Layout::packed(self.width, self.height, Format::Rgb8, Transfer::Srgb)
    }

    /// Over white, rounded to 8 bits: the bytes of an 8-bit file as they are.
    pub fn of(picture: &Picture) -> Result<Self> {
        let mut rgb = vec![0; check_size("photo", picture.width, picture.height)? * 3];
        pixels::write(picture, &mut rgb, &Layout::packed(picture.width, picture.height, Format::Rgb8, Transfer::Srgb))?;
        Self::new(picture.width, picture.height, rgb)
    }

    pub fn to_picture(&self) -> Result<Picture> {
        pixels::read(&self.rgb, &self.layout())
    }

    pub(super) fn row(&self, y: usize) -> &[u8] {
        &self.rgb[y * self.width * 3..][..self.width * 3]
    }

    /// The rectangle of `width` x `height` pixels, which lies inside, from (`left`, `top`) on.
    pub(super) fn part(&self, left: usize, top: usize, width: usize, height: usize) -> Photo {
        let rgb = (top..top + height).flat_map(|y| &self.row(y)[left * 3..(left + width) * 3]).copied().collect();
        Photo { width, height, rgb }
    }

    /// Turned clockwise by so many quarters of a turn.
    pub(super) fn turned(&self, quarters: usize) -> Photo {
        let (width, height) = if quarters % 2 == 1 { (self.height, self.width) } else { (self.width, self.height) };
        let turn = Turn { quarters, width, height };
        let mut rgb = Vec::with_capacity(self.rgb.len());
        for y in 0..height {
            for x in 0..width {
                let [x, y] = turn.back([x as f64, y as f64]);
                rgb.extend_from_slice(&self.row(y as usize)[x as usize * 3..][..3]);
            }
        }
        Photo { width, height, rgb }
    }
}

/// A picture that was turned clockwise by quarters, and its size as it is now.
pub(super) struct Turn {
    pub quarters: usize,
    pub width: usize,
    pub height: usize,
}

impl Turn {
    /// Where a point (x, y), counted in pixels from the middle of the first, was before.
    pub fn back(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        let (right, bottom) = (self.width as f64 - 1.0, self.height as f64 - 1.0);
        match self.quarters % 4 {
            0 => [x, y],
            1 => [y, right - x],
            2 => [right - x, bottom - y],
            _ => [bottom - y, x],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quarters_turn_clockwise() {
        let photo = Photo::new(3, 2, (0..18).collect()).unwrap();
        let red = |p: &Photo| p.rgb.iter().step_by(3).map(|v| v / 3).collect::<Vec<u8>>();
        let turned: Vec<_> = (0..4).map(|q| photo.turned(q)).collect();
        assert_eq!((turned[1].width, turned[1].height), (2, 3));
        assert_eq!(red(&turned[0]), [0, 1, 2, 3, 4, 5]);
        assert_eq!(red(&turned[1]), [3, 0, 4, 1, 5, 2]);
        assert_eq!(red(&turned[2]), [5, 4, 3, 2, 1, 0]);
        assert_eq!(red(&turned[3]), [2, 5, 1, 4, 0, 3]);
        assert!(Photo::new(3, 2, vec![0; 17]).is_err());
    }
}
