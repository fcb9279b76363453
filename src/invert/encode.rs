//! A picture's latent from an encoder: what the network sees, its rounds, and what came of it.

use super::optimise::psnr;
use super::{Inversion, Settings};
use crate::device::HOST;
use crate::error::{Error, Result};
use crate::kernels::{pyramid_distance, resize, resize_rgb8_bilinear, Filter};
use crate::nn::encoders::{Encoder, Input, SIDE};
use crate::nn::generator::{as_rgb, Generator, Latent, Noise, Space};
use crate::picture::Picture;
use crate::progress::{Cancel, Flow, OnProgress, Progress};
use candle_core::{DType, Tensor};

/// The latent of `target` (any size: its centred square) by `encoder`, for `generator`: one pass, or with ReStyle's encoders `rounds` of them,
/// each of which sees what the one before drew. Between rounds the encoder's own generator draws where its file has one, as it was trained.
///
/// `psnr` and `loss` are of what `generator` draws without noise, as the search by optimisation measures.
///
/// Errors: `Mismatch` where rows do not fit the generator's; `InvalidArgument` (picture) for an encoder of labels or sketches, and as
/// [`super::invert`]; `Cancelled`, which is looked at before each block of the network and each layer that is drawn.
pub fn encode(
    generator: &Generator,
    encoder: &Encoder,
    target: &Picture,
    settings: &Settings,
    cancel: &Cancel,
    on_progress: &mut OnProgress,
) -> Result<Inversion> {
    settings.check()?;
    check_fits(encoder, generator)?;
    target.check_visible()?;
    let input = match encoder.input() {
        Input::Picture | Input::Rounds => picture_input(&middle(target)?)?,
        other => {
            let message = format!("the encoder {} takes {}, not a picture", encoder.path().display(), other.describe());
            return Err(Error::argument("picture", message));
        }
    };
    let rounds = if encoder.input() == Input::Rounds { settings.rounds } else { 1 };
    let mut tell = |step: usize, image: &Tensor, wanted: &Tensor, preview: Option<&Picture>| -> Result<f32> {
        let loss = pyramid_distance(image, wanted, settings.pyramid_weight)?.to_scalar::<f32>()?;
        match on_progress(&Progress { step, total: rounds, loss, preview }) {
            Flow::Stop => Err(Error::Cancelled),
            Flow::Continue => Ok(loss),
        }
    };
    let codes = match encoder.input() {
        Input::Rounds => {
            let seen = input.to_device(encoder.device())?;
            let drawer = encoder.decoder().unwrap_or(generator);
            restyle(encoder, drawer, &input, rounds, cancel, &mut |round| match round.image {
                Some(image) => tell(round.number + 1, image, &seen, None).map(drop),
                None => Ok(()),
            })?
        }
        _ => encoder.codes(&input, cancel)?,
    };
    let side = generator.config().side("inverting")?;
    let wanted = target.square(side)?.to_tensor()?.to_device(generator.device())?;
    let image = as_rgb(&generator.synthesize_unless(&codes.to_device(generator.device())?, Noise::None, cancel)?)?;
    let psnr = psnr(&image, &wanted)?;
    let preview = Picture::from_tensor(&image, 0)?;
    let loss = tell(rounds, &image, &wanted, Some(&preview))?;
    Ok(Inversion { latent: latent(&codes)?, psnr, loss, steps: rounds })
}

/// The latent that an encoder of labels or sketches makes of the whole `drawing`, for `generator`.
///
/// Errors: `Mismatch` as [`encode`]; `InvalidArgument` for an encoder of pictures, and as [`labels_input`] says; `Cancelled`.
pub fn encode_drawing(generator: &Generator, encoder: &Encoder, drawing: &Picture, cancel: &Cancel) -> Result<Latent> {
    check_fits(encoder, generator)?;
    let input = match encoder.input() {
        Input::Labels(count) => labels_input(drawing, count)?,
        Input::Sketch => sketch_input(drawing)?,
        Input::Picture | Input::Rounds => {
            let message = format!("the encoder {} takes a picture, not labels or a sketch", encoder.path().display());
            return Err(Error::argument("encoder", message));
        }
    };
    latent(&encoder.codes(&input, cancel)?)
}

fn latent(codes: &Tensor) -> Result<Latent> {
    let tensor = codes.to_device(HOST)?;
    if !tensor.flatten_all()?.to_vec1::<f32>()?.iter().all(|x| x.is_finite()) {
        return Err(Error::NotFinite("what the encoder gives holds NaN or infinity".into()));
    }
    Ok(Latent { space: Space::WPlus, tensor, noise: None })
}

fn check_fits(encoder: &Encoder, generator: &Generator) -> Result<()> {
    encoder.check_rows((generator.config().n_latent(), generator.config().style_dim))
}

/// One of ReStyle's rounds.
pub struct Round<'a> {
    /// From 0.
    pub number: usize,
    /// What the network gave: [n, rows, style_dim].
    pub change: &'a Tensor,
    /// With what was before.
    pub codes: &'a Tensor,
    /// What is drawn of them for the next round, [n, 3, 256, 256]; None after the last.
    pub image: Option<&'a Tensor>,
}

/// ReStyle's loop (Alaluf et al. 2021, section 3): `pictures` [n, 3, 256, 256] as [`picture_input`] makes them -> codes [n, rows, style_dim].
/// `drawer` draws with its own noise maps; `on_round` is told each round.
///
/// Errors: `InvalidArgument` for an encoder that takes no rounds; those of `on_round`; `Cancelled`.
pub fn restyle(
    encoder: &Encoder,
    drawer: &Generator,
    pictures: &Tensor,
    rounds: usize,
    cancel: &Cancel,
    on_round: &mut dyn FnMut(&Round) -> Result<()>,
) -> Result<Tensor> {
    let average = encoder.average().filter(|_| encoder.input() == Input::Rounds);
    let Some(average) = average else {
        return Err(Error::argument("encoder", format!("{} works in one pass: it is none of ReStyle's", encoder.path().display())));
    };
    let n = pictures.dim(0)?;
    let pictures = pictures.to_device(encoder.device())?;
    let seen = |image: &Tensor| -> Result<Tensor> {
        let pooled = resize(&as_rgb(image)?, (SIDE, SIDE), (0..SIDE, 0..SIDE), Filter::Area)?;
        Ok(pooled.to_device(encoder.device())?)
    };
    let mut codes = average.repeat((n, 1, 1))?;
    let mut image = seen(&average_image(encoder, drawer, cancel)?)?.repeat((n, 1, 1, 1))?;
    for number in 0..rounds {
        let change = encoder.encode_unless(&Tensor::cat(&[&pictures, &image], 1)?, cancel)?;
        codes = (codes + &change)?;
        let drawn = match number + 1 < rounds {
            true => Some(seen(&drawer.synthesize_unless(&codes.to_device(drawer.device())?, Noise::Const, cancel)?)?),
            false => None,
        };
        on_round(&Round { number, change: &change, codes: &codes, image: drawn.as_ref() })?;
        if let Some(drawn) = drawn {
            image = drawn;
        }
    }
    Ok(codes)
}

/// What `drawer` draws of the encoder's average, with its own noise maps: what ReStyle's first round compares with. [1, colours, h, w]
pub fn average_image(encoder: &Encoder, drawer: &Generator, cancel: &Cancel) -> Result<Tensor> {
    let average = encoder.average().ok_or_else(|| Error::argument("encoder", format!("{} has no latent_avg", encoder.path().display())))?;
    drawer.synthesize_unless(&average.to_device(drawer.device())?, Noise::Const, cancel)
}

/// The largest centred square, of all its pixels.
fn middle(picture: &Picture) -> Result<Picture> {
    let side = picture.width.min(picture.height);
    picture.cropped((picture.width - side) / 2, (picture.height - side) / 2, side, side)
}

/// 8-bit RGB [256 * 256 * 3] as PIL's bilinear makes it of the whole picture, whatever its sides.
fn shrunk(rgb: &[u8], picture: &Picture) -> Vec<u8> {
    resize_rgb8_bilinear(rgb, (picture.height, picture.width), (SIDE, SIDE))
}

/// [1, 3, 256, 256] in [-1, 1], of the whole picture, over white.
pub fn picture_input(picture: &Picture) -> Result<Tensor> {
    let rgb = shrunk(&picture.to_rgb8()?, picture);
    let x = Tensor::from_vec(rgb, (1, SIDE, SIDE, 3), HOST)?.to_dtype(DType::F32)?.permute((0, 3, 1, 2))?.contiguous()?;
    Ok(((x / 255.0)? - 0.5)?.affine(2.0, 0.0)?)
}

/// Grey values of the whole picture, [256 * 256].
fn grey(values: Vec<u8>, picture: &Picture) -> Vec<u8> {
    let rgb: Vec<u8> = values.into_iter().flat_map(|v| [v; 3]).collect();
    shrunk(&rgb, picture).into_iter().step_by(3).collect()
}

/// [1, count, 256, 256] of 0 and 1 from a picture whose grey values are labels 0 to `count` - 1. As published the labels are resized as if they
/// were shades, so that a border between 3 and 9 gets some of 6.
///
/// Errors: `InvalidArgument` (labels) for the first pixel that is no label.
pub fn labels_input(labels: &Picture, count: usize) -> Result<Tensor> {
    let rgb = labels.to_rgb8()?;
    let most = count.saturating_sub(1);
    let mut values = Vec::with_capacity(rgb.len() / 3);
    for (i, pixel) in rgb.chunks_exact(3).enumerate() {
        let &[r, g, b] = pixel else { continue };
        let is = match r == g && g == b {
            true if usize::from(r) < count => {
                values.push(r);
                continue;
            }
            true => r.to_string(),
            false => format!("a colour ({r}, {g}, {b})"),
        };
        let (x, y) = (i % labels.width, i / labels.width);
        return Err(Error::argument("labels", format!("the pixel at ({x}, {y}) is {is}; want grey values of 0 to {most}, one a part")));
    }
    let mut planes = vec![0f32; count * SIDE * SIDE];
    for (i, label) in grey(values, labels).into_iter().enumerate() {
        // Between two labels lies no larger one.
        planes[usize::from(label).min(most) * SIDE * SIDE + i] = 1.0;
    }
    Ok(Tensor::from_vec(planes, (1, count, SIDE, SIDE), HOST)?)
}

/// [1, 1, 256, 256] in [0, 1]: the whole picture in grey, as PIL makes it (BT.601 in 16-bit fixed point).
pub fn sketch_input(sketch: &Picture) -> Result<Tensor> {
    let luma = |p: &[u8]| ((u32::from(p[0]) * 19595 + u32::from(p[1]) * 38470 + u32::from(p[2]) * 7471 + 0x8000) >> 16) as u8;
    let values = sketch.to_rgb8()?.chunks_exact(3).map(luma).collect();
    let grey = grey(values, sketch).into_iter().map(|v| f32::from(v) / 255.0).collect::<Vec<f32>>();
    Ok(Tensor::from_vec(grey, (1, 1, SIDE, SIDE), HOST)?)
}
