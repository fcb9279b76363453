//! From pictures to what a CLIP takes.

use super::fields::{self, Fields};
use super::ClipResize;
use crate::device::HOST;
use crate::error::{Error, Result};
use crate::kernels::{channel_affine, resize, resize_rgb8, resize_rgb8_bilinear, Filter};
use candle_core::Tensor;
use serde::Deserialize;
use std::ops::Range;
use std::path::Path;

/// How pictures that are not square become square.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// The short side becomes [`Preprocessing::short`], and the middle square is kept.
    Shortest,
    /// Both sides become [`Preprocessing::crop`].
    Squash,
    /// The long side becomes [`Preprocessing::crop`], and the rest of the square is filled with a colour in [0, 255].
    Longest { fill: [f32; 3] },
}

/// How pixels between pixels are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interpolation {
    Bicubic,
    Bilinear,
}

/// Resize, crop or fill, colour normalisation.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocessing {
    pub shape: Shape,
    pub interpolation: Interpolation,
    /// Length of the short side after resizing, in pixels.
    pub short: usize,
    /// Side of the centred square that is kept, at most `short`.
    pub crop: usize,
    /// Of each colour in [0, 1].
    pub mean: [f32; 3],
    pub std: [f32; 3],
}

/// What a configuration says.
pub(super) struct Described {
    pub shape: Shape,
    pub interpolation: Interpolation,
    pub size: Option<usize>,
    pub crop: Option<usize>,
    pub mean: Option<[f32; 3]>,
    pub std: Option<[f32; 3]>,
}

/// `size` and `crop_size` of preprocessor_config.json.
#[derive(Deserialize)]
#[serde(untagged)]
enum Size {
    Side(usize),
    Short { shortest_edge: usize },
    Sides { height: usize, width: usize },
}

/// Height and width.
type Extent = (usize, usize);
/// Rows and columns.
type Window = (Range<usize>, Range<usize>);

impl Preprocessing {
    /// OpenAI's, for pictures of `resolution` pixels.
    pub fn openai(resolution: usize) -> Self {
        let (mean, std) = ([0.481_454_66, 0.457_827_5, 0.408_210_73], [0.268_629_54, 0.261_302_6, 0.275_777_1]);
        Self { shape: Shape::Shortest, interpolation: Interpolation::Bicubic, short: resolution, crop: resolution, mean, std }
    }

    /// A preprocessor_config.json of a network that takes `resolution` pixels, or a processor_config.json, which has the same under
    /// `image_processor`; what it leaves out is as OpenAI's. `Format` and `Unsupported` name the field.
    pub fn open(path: &Path, resolution: usize) -> Result<Self> {
        Ok(Self::read(path, resolution)?.0)
    }

    /// As [`Preprocessing::open`], and a warning that names fields that are not known.
    pub(super) fn read(path: &Path, resolution: usize) -> Result<(Self, Option<String>)> {
        let mut file = Fields::open(path)?;
        let mut fields = match file.peek("image_processor") {
            Some(_) => file.part("image_processor")?,
            None => file,
        };
        let square = |size: Option<Size>, name: &str| match size {
            None => Ok(None),
            Some(Size::Side(side) | Size::Short { shortest_edge: side }) => Ok(Some(side)),
            Some(Size::Sides { height, width }) if height == width => Ok(Some(height)),
            Some(Size::Sides { height, width }) => Err(Error::format(path, format!("{name} is {height} x {width}; a square is needed"))),
        };
        let size: Option<Size> = fields.take("size")?;
        let crops = fields.take("do_center_crop")?.unwrap_or(true);
        // Two sides are both made so long, whatever the picture's shape.
        let squashes = matches!(size, Some(Size::Sides { .. }));
        if !crops && !squashes {
            let message = "do_center_crop false is not supported where size has only one side: the network takes squares";
            return Err(Error::unsupported(path.display().to_string(), message));
        }
        let (size, crop) = (square(size, "size")?, square(fields.take("crop_size")?, "crop_size")?.filter(|_| crops));
        if squashes && size != Some(crop.unwrap_or(resolution)) {
            let message = format!("size {size:?} of two sides, and crop_size {crop:?}: only the same are supported");
            return Err(Error::unsupported(path.display().to_string(), message));
        }
        let interpolation = match fields.take::<u32>("resample")? {
            None | Some(3) => Interpolation::Bicubic,
            Some(2) => Interpolation::Bilinear,
            Some(other) => return Err(fields.refuse("resample", other, "3 (bicubic) or 2 (bilinear)")),
        };
        fields.only("do_resize", &[true.into()])?;
        fields.only("do_rescale", &[true.into()])?;
        if let Some(factor) = fields.take::<f64>("rescale_factor")?.filter(|f| (f * 255.0 - 1.0).abs() > 1e-6) {
            return Err(fields.refuse("rescale_factor", factor, "1 / 255"));
        }
        fields.off(&["do_pad"])?;
        let (mean, std) = (fields.take("image_mean")?, fields.take("image_std")?);
        let (mean, std) = match fields.take("do_normalize")?.unwrap_or(true) {
            true => (mean, std),
            false => (Some([0.0; 3]), Some([1.0; 3])),
        };
        // Which class reads the file, and what happens to pictures that are no RGB, or are so in another order: here they are RGB already.
        fields.harmless(&["image_processor_type", "feature_extractor_type", "processor_class", "do_convert_rgb", "_valid_processor_keys"]);
        fields.harmless(&["data_format", "input_data_format", "default_to_square", "device", "return_tensors", "disable_grouping"]);
        let shape = if squashes { Shape::Squash } else { Shape::Shortest };
        let preprocessing = Self::described(path, resolution, Described { shape, interpolation, size, crop, mean, std })?;
        Ok((preprocessing, fields::warning(path, &fields.unknown())))
    }

    /// As the file `path` says, of a network that takes `resolution` pixels.
    pub(super) fn described(path: &Path, resolution: usize, said: Described) -> Result<Self> {
        let preset = Self::openai(resolution);
        let (short, crop) = (said.size.unwrap_or(resolution), said.crop.unwrap_or(resolution));
        if crop != resolution || short < crop || short > 16 * crop {
            let message = format!("size {short} and crop_size {crop}: the network takes {resolution}, and size must be that or more");
            return Err(Error::format(path, message));
        }
        let (mean, std) = (said.mean.unwrap_or(preset.mean), said.std.unwrap_or(preset.std));
        if mean.iter().any(|m| !m.is_finite()) || std.iter().any(|s| !(s.is_finite() && *s > 0.0)) {
            return Err(Error::format(path, format!("image_mean {mean:?} and image_std {std:?}: finite, and std above 0")));
        }
        Ok(Self { shape: said.shape, interpolation: said.interpolation, short, crop, mean, std })
    }

    /// Size after resizing, height first, and the rows and columns of it that are kept: `crop` of each, or fewer where the rest is filled.
    fn geometry(&self, height: usize, width: usize) -> Result<(Extent, Window)> {
        let (short, long) = (height.min(width), height.max(width));
        if short == 0 || long / short > 1000 {
            return Err(Error::argument("image", format!("{width} x {height} pixels: no side may be 0 or 1000 times the other")));
        }
        let scaled = |side: usize| match self.shape {
            Shape::Shortest if side == short => self.short,
            Shape::Shortest => self.short * side / short,
            Shape::Squash => self.crop,
            // Half to even, as Python's round.
            Shape::Longest { .. } => (side as f64 / (long as f64 / self.crop as f64)).round_ties_even().max(1.0) as usize,
        };
        let size = (scaled(height), scaled(width));
        let kept = |side: usize| {
            let start = (side.saturating_sub(self.crop) as f64 / 2.0).round_ties_even() as usize;
            start..start + self.crop.min(side)
        };
        Ok((size, (kept(size.0), kept(size.1))))
    }

    /// What is missing of a side before and after it.
    fn missing(&self, side: usize) -> (usize, usize) {
        let all = self.crop - side;
        (all / 2, all - all / 2)
    }

    /// Per-colour scale and shift that normalise `factor` * x + `offset`.
    fn colours(&self, factor: f32, offset: f32) -> ([f32; 3], [f32; 3]) {
        (self.std.map(|s| factor / s), [0, 1, 2].map(|c| (offset - self.mean[c]) / self.std[c]))
    }

    /// image [n, 3, h, w] nominally in [-1, 1] -> [n, 3, crop, crop], values as they were. Differentiable.
    pub fn resize(&self, image: &Tensor, how: ClipResize) -> Result<Tensor> {
        let &[_, 3, height, width] = image.dims() else {
            return Err(Error::argument("image", format!("shape {:?} is not [n, 3, height, width]", image.dims())));
        };
        let (size, crop) = self.geometry(height, width)?;
        let filter = match (how, self.interpolation) {
            (ClipResize::Antialias, Interpolation::Bicubic) => Filter::BicubicAntialias,
            (ClipResize::Antialias, Interpolation::Bilinear) => Filter::BilinearAntialias,
            (ClipResize::Aliased, Interpolation::Bicubic) => Filter::Bicubic,
            (ClipResize::Aliased, Interpolation::Bilinear) => Filter::Bilinear,
            (ClipResize::Area, _) => Filter::Area,
        };
        let (rows, columns) = (self.missing(crop.0.len()), self.missing(crop.1.len()));
        let resized = match size == (height, width) && crop == (0..height, 0..width) {
            true => image.clone(),
            false => resize(image, size, crop, filter)?,
        };
        match self.shape {
            Shape::Longest { fill } if rows != (0, 0) || columns != (0, 0) => {
                let fill = Tensor::new(&fill.map(|v| v / 127.5 - 1.0), image.device())?.reshape((1, 3, 1, 1))?;
                let above = resized.broadcast_sub(&fill)?;
                let padded = above.pad_with_zeros(2, rows.0, rows.1)?.pad_with_zeros(3, columns.0, columns.1)?;
                Ok(padded.broadcast_add(&fill)?)
            }
            _ => Ok(resized),
        }
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

    /// A picture of 8-bit RGB, rows without padding -> [1, 3, crop, crop], as the published preprocessing does it: PIL's bicubic (or
    /// bilinear), rounded to 8 bits after each direction.
    pub fn rgb8(&self, pixels: &[u8], width: usize, height: usize) -> Result<Tensor> {
        if width.checked_mul(height).and_then(|n| n.checked_mul(3)) != Some(pixels.len()) {
            let message = format!("{} bytes are not {width} x {height} RGB pixels", pixels.len());
            return Err(Error::argument("pixels", message));
        }
        let ((h, w), (rows, columns)) = self.geometry(height, width)?;
        let resized = match self.interpolation {
            Interpolation::Bicubic => resize_rgb8(pixels, (height, width), (h, w)),
            Interpolation::Bilinear => resize_rgb8_bilinear(pixels, (height, width), (h, w)),
        };
        let fill = if let Shape::Longest { fill } = self.shape { fill } else { [0.0; 3] };
        let (above, left) = (self.missing(rows.len()).0, self.missing(columns.len()).0);
        let mut planes = Vec::with_capacity(3 * self.crop * self.crop);
        for (c, fill) in fill.iter().enumerate() {
            let mut plane = vec![fill / 255.0; self.crop * self.crop];
            for (row, y) in plane.chunks_exact_mut(self.crop).skip(above).zip(rows.clone()) {
                for (value, x) in row[left..].iter_mut().zip(columns.clone()) {
                    *value = f32::from(resized[(y * w + x) * 3 + c]) / 255.0;
                }
            }
            planes.extend(plane);
        }
        let picture = Tensor::from_vec(planes, (1, 3, self.crop, self.crop), HOST)?;
        let (scale, shift) = self.colours(1.0, 0.0);
        Ok(channel_affine(&picture, &scale, &shift)?)
    }
}
