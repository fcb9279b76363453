//! From pictures to what a CLIP takes.

use super::config::read_json;
use super::ClipResize;
use crate::error::{Error, Result};
use crate::kernels::{channel_affine, resize, resize_rgb8, Filter};
use candle_core::{Device, Tensor};
use serde::Deserialize;
use std::ops::Range;
use std::path::Path;

/// Resize of the short side, centre crop, colour normalisation.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocessing {
    /// Length of the short side after resizing, in pixels.
    pub short: usize,
    /// Side of the centred square that is kept, at most `short`.
    pub crop: usize,
    /// Of each colour in [0, 1].
    pub mean: [f32; 3],
    pub std: [f32; 3],
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Size {
    Side(usize),
    Short { shortest_edge: usize },
    Sides { height: usize, width: usize },
}

#[derive(Deserialize)]
struct File {
    size: Option<Size>,
    crop_size: Option<Size>,
    image_mean: Option<[f32; 3]>,
    image_std: Option<[f32; 3]>,
}

/// Height and width.
type Extent = (usize, usize);
/// Rows and columns.
type Window = (Range<usize>, Range<usize>);

impl Preprocessing {
    /// OpenAI's, for pictures of `resolution` pixels.
    pub fn openai(resolution: usize) -> Self {
        let (mean, std) = ([0.481_454_66, 0.457_827_5, 0.408_210_73], [0.268_629_54, 0.261_302_6, 0.275_777_1]);
        Self { short: resolution, crop: resolution, mean, std }
    }

    /// A preprocessor_config.json of a network that takes `resolution` pixels; what it leaves out is as OpenAI's.
    pub fn open(path: &Path, resolution: usize) -> Result<Self> {
        let file: File = read_json(path)?;
        let preset = Self::openai(resolution);
        let side = |size: Option<Size>, name: &str| match size {
            None => Ok(resolution),
            Some(Size::Side(side) | Size::Short { shortest_edge: side }) => Ok(side),
            Some(Size::Sides { height, width }) if height == width => Ok(height),
            Some(Size::Sides { height, width }) => Err(Error::format(path, format!("{name} is {height} x {width}; a square is needed"))),
        };
        let (short, crop) = (side(file.size, "size")?, side(file.crop_size, "crop_size")?);
        if crop != resolution || short < crop || short > 16 * crop {
            let message = format!("size {short} and crop_size {crop}: the network takes {resolution}, and size must be that or more");
            return Err(Error::format(path, message));
        }
        Self { short, crop, ..preset }.with_colours(path, file.image_mean, file.image_std)
    }

    /// With the mean and deviation that the file `path` says, where it does.
    pub(super) fn with_colours(self, path: &Path, mean: Option<[f32; 3]>, std: Option<[f32; 3]>) -> Result<Self> {
        let (mean, std) = (mean.unwrap_or(self.mean), std.unwrap_or(self.std));
        if mean.iter().any(|m| !m.is_finite()) || std.iter().any(|s| !(s.is_finite() && *s > 0.0)) {
            return Err(Error::format(path, format!("image_mean {mean:?} and image_std {std:?}: finite, and std above 0")));
        }
        Ok(Self { mean, std, ..self })
    }

    /// Size after resizing, height first, and the rows and columns that the crop keeps.
    fn geometry(&self, height: usize, width: usize) -> Result<(Extent, Window)> {
        let short = height.min(width);
        if short == 0 || height.max(width) / short > 1000 {
            return Err(Error::argument("image", format!("{width} x {height} pixels: no side may be 0 or 1000 times the other")));
        }
        let scaled = |side: usize| if side == short { self.short } else { self.short * side / short };
        let size = (scaled(height), scaled(width));
        // Half to even, as Python's round.
        let kept = |side: usize| {
            let start = ((side - self.crop) as f64 / 2.0).round_ties_even() as usize;
            start..start + self.crop
        };
        Ok((size, (kept(size.0), kept(size.1))))
    }

    /// Per-colour scale and shift that normalise `factor` * x + `offset`.
    fn colours(&self, factor: f32, offset: f32) -> ([f32; 3], [f32; 3]) {
        (self.std.map(|s| factor / s), [0, 1, 2].map(|c| (offset - self.mean[c]) / self.std[c]))
    }

    /// image [n, 3, h, w] -> [n, 3, crop, crop], values as they were. Differentiable.
    pub fn resize(&self, image: &Tensor, how: ClipResize) -> Result<Tensor> {
        let &[_, 3, height, width] = image.dims() else {
            return Err(Error::argument("image", format!("shape {:?} is not [n, 3, height, width]", image.dims())));
        };
        let (size, crop) = self.geometry(height, width)?;
        let filter = match how {
            ClipResize::Antialias => Filter::BicubicAntialias,
            ClipResize::Aliased => Filter::Bicubic,
            ClipResize::Area => Filter::Area,
        };
        Ok(match size == (height, width) && crop == (0..height, 0..width) {
            true => image.clone(),
            false => resize(image, size, crop, filter)?,
        })
    }

    /// ((x + 1) / 2 - mean) / std of x [n, 3, h, w]. Differentiable.
    pub fn normalise(&self, image: &Tensor) -> Result<Tensor> {
        let (scale, shift) = self.colours(0.5, 0.5);
        Ok(channel_affine(image, &scale, &shift)?)
    }

    /// image [n, 3, h, w] nominally in [-1, 1] -> [n, 3, crop, crop]. Differentiable.
    pub fn tensor(&self, image: &Tensor, how: ClipResize) -> Result<Tensor> {
        // Weights sum to 1, so colours may come after, where there are fewer pixels.
        self.normalise(&self.resize(image, how)?)
    }

    /// A picture of 8-bit RGB, rows without padding -> [1, 3, crop, crop], as the published preprocessing does it: PIL's bicubic, rounded to
    /// 8 bits after each direction.
    pub fn rgb8(&self, pixels: &[u8], width: usize, height: usize) -> Result<Tensor> {
        if width.checked_mul(height).and_then(|n| n.checked_mul(3)) != Some(pixels.len()) {
            let message = format!("{} bytes are not {width} x {height} RGB pixels", pixels.len());
            return Err(Error::argument("pixels", message));
        }
        let ((h, w), (rows, columns)) = self.geometry(height, width)?;
        let resized = resize_rgb8(pixels, (height, width), (h, w));
        let mut planes = Vec::with_capacity(3 * self.crop * self.crop);
        for c in 0..3 {
            for y in rows.clone() {
                planes.extend(columns.clone().map(|x| f32::from(resized[(y * w + x) * 3 + c]) / 255.0));
            }
        }
        let picture = Tensor::from_vec(planes, (1, 3, self.crop, self.crop), &Device::Cpu)?;
        let (scale, shift) = self.colours(1.0, 0.0);
        Ok(channel_affine(&picture, &scale, &shift)?)
    }
}
