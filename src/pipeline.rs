//! Picture in, restyled picture out: the steps that the program and the C ABI have in common.

use crate::adapt::Domain;
use crate::error::{Error, Result};
use crate::invert::{self, Inversion, Tools};
use crate::nn::clip::Clip;
use crate::nn::encoders::{Encoder, SIDE};
use crate::nn::generator::{Generator, Latent, Noise};
use crate::picture::frame::{Blend, Canvas, Frame};
use crate::picture::Picture;
use crate::progress::{Cancel, OnProgress};
use crate::rng::Rng;
use candle_core::Tensor;

/// Where the noise of the synthesis layers comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoiseKind {
    /// The maps that came with the generator.
    Const,
    None,
    /// Drawn from a seed: the same for every generator that draws the same latents.
    Random {
        seed: u64,
    },
}

/// How latents become pictures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drawing {
    /// Moves every w towards the mean w: mean + truncation * (w - mean); 1 leaves it.
    pub truncation: f32,
    pub noise: NoiseKind,
    /// Whether noise maps that belong to a latent win over `noise`.
    pub own_noise: bool,
}

impl Default for Drawing {
    fn default() -> Self {
        Self { truncation: 1.0, noise: NoiseKind::Const, own_noise: true }
    }
}

impl Drawing {
    /// As the network gives them: [n, colours, height, width], nominally in [-1, 1], not clamped.
    pub fn images(&self, generator: &Generator, latent: &Latent) -> Result<Tensor> {
        self.images_unless(generator, latent, &Cancel::new())
    }

    /// As [`Drawing::images`]; `Cancelled` once the flag is raised, as [`Drawing::each`] looks at it.
    pub fn images_unless(&self, generator: &Generator, latent: &Latent, cancel: &Cancel) -> Result<Tensor> {
        let mut parts = vec![];
        self.each(generator, latent, cancel, &mut |part| {
            parts.push(part);
            Ok(())
        })?;
        Ok(if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(&parts, 0)? })
    }

    /// As [`Drawing::images`], with each few pictures given to `on_part` when they are drawn; `cancel` is looked at after each layer. Errors: those
    /// of [`Generator::render`] and of `on_part`; `Cancelled`.
    pub fn each(
        &self,
        generator: &Generator,
        latent: &Latent,
        cancel: &Cancel,
        on_part: &mut dyn FnMut(Tensor) -> Result<()>,
    ) -> Result<()> {
        let bare;
        let latent = if self.own_noise {
            latent
        } else {
            bare = Latent { noise: None, ..latent.clone() };
            &bare
        };
        let mut rng;
        let noise = match self.noise {
            NoiseKind::Const => Noise::Const,
            NoiseKind::None => Noise::None,
            // Apart from the stream that latents are drawn from.
            NoiseKind::Random { seed } => {
                rng = Rng::stream(seed, 1);
                Noise::Random(&mut rng)
            }
        };
        generator.render_each_unless(latent, self.truncation, noise, cancel, on_part)
    }

    /// One a point of `latent`; `Cancelled` as [`Drawing::each`].
    pub fn pictures(&self, generator: &Generator, latent: &Latent, cancel: &Cancel) -> Result<Vec<Picture>> {
        let images = self.images_unless(generator, latent, cancel)?;
        (0..images.dim(0)?).map(|i| Picture::from_tensor(&images, i)).collect()
    }

    /// The picture of a latent that is one point; `InvalidArgument` for others, `Cancelled` as [`Drawing::each`].
    pub fn picture(&self, generator: &Generator, latent: &Latent, cancel: &Cancel) -> Result<Picture> {
        match latent.tensor.dim(0)? {
            1 => Picture::from_tensor(&self.images_unless(generator, latent, cancel)?, 0),
            n => Err(Error::argument("latent", format!("holds {n} points; want the one of a picture"))),
        }
    }
}

/// What restyling a picture needs beside the picture.
pub struct Restyle<'a> {
    pub generator: &'a Generator,
    /// With strengths in [0, 1.5].
    pub domains: &'a [(&'a Domain, f32)],
    pub inversion: &'a invert::Settings,
    /// For the CLIP loss of the inversion, where it has a weight.
    pub clip: Option<&'a Clip>,
    /// For the methods of the inversion that take one.
    pub encoder: Option<&'a Encoder>,
    pub drawing: Drawing,
}

/// A restyled picture, and the inversion that it was drawn from.
#[derive(Clone, Debug)]
pub struct Restyled {
    pub picture: Picture,
    pub inversion: Inversion,
}

impl Restyle<'_> {
    /// Finds the latent of `picture` (any size: its centred square) and draws it with the domains added; the result is as transparent as the
    /// picture is.
    ///
    /// Wrong domains are told before the long part. Errors: those of [`Generator::with_domains`] and [`invert`]; on `Cancelled` nothing
    /// has changed anywhere.
    pub fn run(&self, picture: &Picture, cancel: &Cancel, on_progress: &mut OnProgress) -> Result<Restyled> {
        self.run_keeping(picture, cancel, on_progress, &mut None)
    }

    /// As [`Restyle::run`]; on an error, `Cancelled` too, `reached` gets the best inversion so far, where a step was done.
    pub fn run_keeping(
        &self,
        picture: &Picture,
        cancel: &Cancel,
        on_progress: &mut OnProgress,
        reached: &mut Option<Inversion>,
    ) -> Result<Restyled> {
        let adapted = self.generator.with_domains_unless(self.domains, cancel)?;
        let tools = Tools { encoder: self.encoder, clip: self.clip };
        let inversion = invert::find(self.generator, picture, tools, self.inversion, cancel, on_progress, reached)?;
        match self.drawing.picture(&adapted, &inversion.latent, cancel).and_then(|drawn| drawn.with_alpha_of(picture)) {
            Ok(picture) => Ok(Restyled { picture, inversion }),
            Err(e) => {
                *reached = Some(inversion);
                Err(e)
            }
        }
    }

    /// Restyles a frame of `source` and blends it into `target`, which may be `source`. Nothing is written before all is computed; a `cancel`
    /// that comes after the search still counts.
    ///
    /// Errors: those of [`Restyle::run`] and of [`Blend::draw`].
    pub fn run_frame(
        &self,
        source: Canvas,
        frame: Frame,
        blend: &Blend,
        target: Canvas,
        cancel: &Cancel,
        on_progress: &mut OnProgress,
    ) -> Result<Inversion> {
        blend.check(source, target)?;
        let side = self.generator.config().side("restyling a part of a picture")?;
        // An encoder sees more than a small generator draws.
        let side = if self.encoder.is_some() { side.max(SIDE) } else { side };
        let picture = source.shrunk_unless(frame, side, cancel)?;
        let restyled = self.run(&picture, cancel, on_progress)?;
        cancel.check()?;
        blend.draw(source, frame, &restyled.picture, target)?;
        Ok(restyled.inversion)
    }
}
