//! The optimisation loop.

use super::{Inversion, Settings, Space};
use crate::device::HOST;
use crate::error::{Error, Result};
use crate::kernels::{mean_square_error, pyramid_distance, Warm};
use crate::nn::clip::{Clip, ClipResize};
use crate::nn::generator::{as_rgb, Generator, Latent, Noise, Space as LatentSpace};
use crate::optim::{Config, Gradient, Optimiser, Rule, Schedule};
use crate::picture::Picture;
use crate::progress::{Cancel, Flow, OnProgress, Progress};
use crate::rng::Rng;
use candle_core::{Tensor, Var};

/// The share of the steps that searches W before W+ is let go, and the rate of the rest as a share of the settings'. A layer's style reads
/// fewer directions of its row than the row has, so a search of W+ from the mean finds the picture and leaves the rows where they were in
/// all other directions: at 50 dB they were as far from the true ones as the mean is. W has one row for all layers, which see it whole.
const W_FIRST: f64 = 0.75;
const WPLUS_RATE: f64 = 0.1;

/// Of each of the two searches.
const RATE: Schedule = Schedule::RiseAndFall { start: 0.1, up: 0.05, down: 0.5 };

/// Progress carries a preview every so many steps.
const PREVIEW_EVERY: usize = 50;

/// The least width and height of a picture to invert, in pixels: in a smaller one there is nothing to find.
const LEAST_SIDE: usize = 8;

/// Finds the latent whose picture is `target` (any size: its centred square, resized to the generator's), starting at the mean latent.
///
/// Errors: `InvalidArgument` for a picture that is too small or has nothing to see in its square ([`Picture::check_visible`]).
///
/// Without `optimise_noise` the picture is drawn without noise. `cancel` is looked at after each layer of each step, on the way back too; on
/// `Cancelled` nothing has changed anywhere. The best latent seen is returned.
pub fn invert(
    generator: &Generator,
    target: &Picture,
    clip: Option<&Clip>,
    settings: &Settings,
    cancel: &Cancel,
    on_progress: &mut OnProgress,
) -> Result<Inversion> {
    invert_keeping(generator, target, clip, settings, cancel, on_progress, &mut None)
}

/// As [`invert`]; on an error, `Cancelled` too, `reached` gets the best latent so far, where a step was done.
pub fn invert_keeping(
    generator: &Generator,
    target: &Picture,
    clip: Option<&Clip>,
    settings: &Settings,
    cancel: &Cancel,
    on_progress: &mut OnProgress,
    reached: &mut Option<Inversion>,
) -> Result<Inversion> {
    search(generator, target, clip, settings, None, cancel, on_progress, reached)
}

/// As [`invert_keeping`], from `start` [1, n_latent, style_dim] in the place of the mean latent; in W from the mean of its rows. In W+ there is
/// no search of W before, and the rate is that of its search of W+.
#[allow(clippy::too_many_arguments)] // what a search needs, and where it starts
pub(super) fn search(
    generator: &Generator,
    target: &Picture,
    clip: Option<&Clip>,
    settings: &Settings,
    start: Option<&Tensor>,
    cancel: &Cancel,
    on_progress: &mut OnProgress,
    reached: &mut Option<Inversion>,
) -> Result<Inversion> {
    settings.check()?;
    let clip = match (clip, settings.clip_weight > 0.0) {
        (_, false) => None,
        (Some(clip), true) => Some(clip),
        (None, true) => return Err(Error::argument("clip_weight", "a CLIP weight above 0 needs a CLIP")),
    };
    if target.width.min(target.height) < LEAST_SIDE {
        let message =
            format!("{} x {} pixels is too small to invert; at least {LEAST_SIDE} a side are needed", target.width, target.height);
        return Err(Error::argument("picture", message));
    }
    target.check_visible()?;
    let side = generator.config().side("inverting")?;
    // Averages over 16 pixels are compared.
    if !side.is_multiple_of(16) {
        let message = format!("needs a side that 16 divides, and this generator draws {side} x {side} pixels");
        return Err(Error::unsupported("inverting", message));
    }
    let target = target.square(side)?.to_tensor()?.to_device(generator.device())?;
    let embed = |clip: &Clip, image: &Tensor| clip.embed_pictures(image, ClipResize::Antialias, cancel);
    let embedded = clip.map(|c| embed(c, &target)).transpose()?;

    let begin = match (start, settings.space) {
        (None, _) => generator.mean_w()?.unsqueeze(0)?,
        (Some(start), Space::W) => start.to_device(generator.device())?.mean(1)?,
        (Some(start), Space::WPlus) => start.to_device(generator.device())?.copy()?,
    };
    let mut latent = Var::from_tensor(&begin)?;
    let mut rng = Rng::new(settings.seed);
    let maps: Vec<Var> = match settings.optimise_noise {
        true => generator.noise_maps().iter().map(|m| Ok(Var::from_tensor(&rng.normals(m.dims(), m.device())?)?)).collect::<Result<_>>()?,
        false => vec![],
    };
    let spread = if settings.optimise_noise { w_spread(generator)? } else { 0.0 };
    let optimiser = |latent: &Var| {
        let maps = maps.iter().enumerate().map(|(i, map)| (format!("noise map {i}"), map.clone()));
        let all = std::iter::once(("the latent".to_string(), latent.clone())).chain(maps);
        Optimiser::named(all, Config::new(Rule::adam(0.9, 0.999), settings.learning_rate))
    };
    let mut adam = optimiser(&latent);

    let wplus_of = |t: &Tensor| if t.rank() == 2 { generator.broadcast(t) } else { Ok(t.clone()) };
    let first = match settings.space {
        Space::W => settings.steps,
        Space::WPlus if start.is_some() => 0,
        Space::WPlus => (settings.steps as f64 * W_FIRST).round() as usize,
    };
    let copy = |maps: &[Var]| maps.iter().map(|m| Ok(m.as_detached_tensor().copy()?)).collect::<Result<Vec<_>>>();
    let mut best: Option<(f32, f32, Tensor, Vec<Tensor>)> = None;
    let mut done = 0;
    let _warm = Warm::new();
    let mut search = || -> Result<()> {
        for step in 0..settings.steps {
            cancel.check()?;
            if step == first && start.is_none() {
                latent = Var::from_tensor(&generator.broadcast(&latent.as_detached_tensor())?.contiguous()?)?;
                adam = optimiser(&latent);
            }
            let share = match step.checked_sub(first) {
                None => RATE.share(step, first),
                Some(more) => WPLUS_RATE * RATE.share(more, settings.steps - first),
            };
            let shaken = if spread > 0.0 {
                // As in appendix D: noise that is gone after three quarters of the steps.
                let left = (1.0 - step as f64 / settings.steps as f64 / 0.75).max(0.0);
                (latent.as_tensor() + rng.normals(latent.dims(), latent.device())?.affine(0.05 * spread * left * left, 0.0)?)?
            } else {
                latent.as_tensor().clone()
            };
            let noise: Vec<Tensor> = maps.iter().map(|m| m.as_tensor().clone()).collect();
            let noise = if maps.is_empty() { Noise::None } else { Noise::Given(&noise) };
            let image = as_rgb(&generator.synthesize_unless(&wplus_of(&shaken)?, noise, cancel)?)?;
            let mut total = pyramid_distance(&image, &target, settings.pyramid_weight)?;
            let mut loss = total.to_scalar::<f32>()?;
            if let (Some(clip), Some(wanted)) = (clip, &embedded) {
                cancel.check()?;
                let away = (1.0 - (embed(clip, &image)? * wanted)?.sum_all()?)?;
                loss += settings.clip_weight * away.to_scalar::<f32>()?;
                total = (total + (away * settings.clip_weight as f64)?)?;
            }
            if let Some(regulariser) = whiteness(&maps)? {
                total = (total + (regulariser * settings.noise_regularisation as f64)?)?;
            }
            if !loss.is_finite() {
                return Err(Error::NotFinite(format!("the loss of step {} is {loss}: a smaller learning_rate may help", step + 1)));
            }
            let psnr = psnr(&image.detach(), &target)?;
            if best.as_ref().is_none_or(|b| loss < b.0) {
                best = Some((loss, psnr, wplus_of(&shaken.detach())?.copy()?, copy(&maps)?));
            }
            done = step + 1;
            let preview =
                if done % PREVIEW_EVERY == 0 || done == settings.steps { Some(Picture::from_tensor(&image.detach(), 0)?) } else { None };
            let flow = on_progress(&Progress { step: done, total: settings.steps, loss, preview: preview.as_ref() });
            if flow == Flow::Stop {
                return Err(Error::Cancelled);
            }
            if settings.enough_psnr > 0.0 && psnr >= settings.enough_psnr {
                return Ok(());
            }
            cancel.check()?;
            adam.step_of(&[total.backward()?], share, |_| Gradient::Own)?;
            normalise(&maps)?;
        }
        Ok(())
    };
    let ended = search();
    let home = |maps: Vec<Tensor>| maps.iter().map(|m| m.to_device(HOST)).collect::<candle_core::Result<Vec<_>>>();
    let taken = |(loss, psnr, tensor, maps): (f32, f32, Tensor, Vec<Tensor>)| -> Result<Inversion> {
        let noise = if maps.is_empty() { None } else { Some(home(maps)?) };
        let tensor = tensor.to_device(HOST)?;
        Ok(Inversion { latent: Latent { space: LatentSpace::WPlus, tensor, noise }, psnr, loss, steps: done })
    };
    let found = best.map(taken).transpose()?;
    if let Err(e) = ended {
        *reached = found;
        return Err(e);
    }
    found.ok_or_else(|| Error::Internal("no step was done".into()))
}

/// Of values in [-1, 1], clamped, as a picture's in [0, 1].
pub(super) fn psnr(image: &Tensor, wanted: &Tensor) -> Result<f32> {
    let square = 0.25 * f64::from(mean_square_error(&image.clamp(-1f32, 1f32)?, wanted)?.to_scalar::<f32>()?);
    // 120 dB stands for equal, which has no finite figure.
    Ok((-10.0 * square.max(1e-12).log10()) as f32)
}

/// Standard deviation of w around its mean, over all components.
fn w_spread(generator: &Generator) -> Result<f64> {
    let w = generator.sample_w(1024, 0, 1.0)?;
    let centred = w.broadcast_sub(&w.mean_keepdim(0)?)?;
    Ok((f64::from(centred.sqr()?.sum_all()?.to_scalar::<f32>()?) / 1024.0).sqrt())
}

/// Sum over maps and their averages, down to 8 pixels, of the squared correlation with the neighbour to the right and below.
fn whiteness(maps: &[Var]) -> Result<Option<Tensor>> {
    let mut total: Option<Tensor> = None;
    for map in maps {
        let mut n = map.as_tensor().clone();
        loop {
            let side = n.dim(2)?;
            for dim in [2, 3] {
                let rolled = Tensor::cat(&[n.narrow(dim, side - 1, 1)?, n.narrow(dim, 0, side - 1)?], dim)?;
                let term = (&n * rolled)?.mean_all()?.sqr()?;
                total = Some(match total {
                    None => term,
                    Some(t) => (t + term)?,
                });
            }
            if side <= 8 {
                break;
            }
            // Averages of four have half the deviation.
            n = n.avg_pool2d(2)?.affine(2.0, 0.0)?;
        }
    }
    Ok(total)
}

/// Zero mean and unit variance for each map.
fn normalise(maps: &[Var]) -> Result<()> {
    for map in maps {
        let t = map.as_detached_tensor();
        let centred = t.broadcast_sub(&t.mean_all()?)?;
        let deviation = centred.sqr()?.mean_all()?.maximum(1e-12)?.sqrt()?;
        map.set(&centred.broadcast_div(&deviation)?)?;
    }
    Ok(())
}
