//! A batch in parts that run side by side: what candle does serially then leaves no processor idle, and each part's graph is small.

use super::augment::Augmentation;
use super::losses::{normalise, Guide};
use super::settings::Settings;
use crate::error::{Error, Result};
use crate::kernels::with_gradient;
use crate::nn::clip::Clip;
use crate::progress::Cancel;
use crate::rng::Rng;
use candle_core::{Tensor, Var};
use rayon::prelude::*;
use std::ops::Range;

/// Pictures [n, 3, h, w] of the frozen twin, and of the trained one with its graph.
pub(super) struct Twins {
    pub before: Tensor,
    pub after: Tensor,
}

/// How a batch is divided, where it may be. It depends on nothing else, so that a seed gives the same domain however many threads there
/// are.
pub(crate) fn ranges(divided: bool, batch: usize) -> Vec<Range<usize>> {
    let parts = match (divided, batch) {
        (false, _) | (_, ..4) => 1,
        (_, ..8) => 2,
        _ => 4,
    };
    (0..parts).map(|i| batch * i / parts..batch * (i + 1) / parts).collect()
}

/// One CLIP's embeddings of one part, those of the trained twin with their graph down to `leaf`, the picture it saw.
struct Seen {
    e0: Tensor,
    e1: Tensor,
    leaf: Var,
}

/// Whether two CLIPs are shown the same pixels of a picture; their colours are their own.
fn frame_alike(a: &Clip, b: &Clip) -> bool {
    let frame = |clip: &Clip| {
        let p = clip.preprocessing();
        (p.shape, p.interpolation, p.short, p.crop)
    };
    frame(a) == frame(b)
}

/// The losses in CLIP's space over all parts, and for each part a scalar whose backward pass carries their gradient into its `after`.
/// The CLIPs' graphs are gone when this returns, before the generator's backward pass begins. `cancel` is looked at between CLIPs and parts.
pub(super) fn clip_seeds(guides: &[Guide], s: &Settings, parts: &[Twins], rng: &mut Rng, cancel: &Cancel) -> Result<(f32, Vec<Tensor>)> {
    let rules = s.rules();
    let mut spans = vec![];
    let mut batch = 0;
    for part in parts {
        let n = part.after.dim(0)?;
        spans.push(batch..batch + n);
        batch += n;
    }
    // CLIPs that frame a picture in the same way see the same pictures; the first of each, by resolution.
    let mut eyes: Vec<&Clip> = vec![];
    for guide in guides {
        if !eyes.iter().any(|e| frame_alike(e, &guide.clip)) {
            eyes.push(&guide.clip);
        }
    }
    eyes.sort_by_key(|e| e.resolution());
    // For each of them, each part's pictures as it sees them.
    let mut views: Vec<Vec<(Tensor, Tensor)>> = vec![];
    for &clip in &eyes {
        cancel.check()?;
        let augmentation = s.augment.then(|| Augmentation::draw(rng, batch, clip.resolution(), clip.device())).transpose()?;
        let of_part = |(part, span): (&Twins, &Range<usize>)| -> Result<(Tensor, Tensor)> {
            let augmentation = augmentation.as_ref().map(|a| a.narrow(span)).transpose()?;
            let view = |x: &Tensor| -> Result<Tensor> {
                let small = clip.resize(x, s.clip_resize)?;
                augmentation.as_ref().map_or(Ok(small.clone()), |a| a.apply(&small))
            };
            Ok((view(&part.before)?, view(&part.after)?))
        };
        views.push(parts.par_iter().zip(&spans).map(of_part).collect::<Result<_>>()?);
    }
    // Every CLIP with every part, a CLIP's parts in a row.
    let eye_of = |guide: &Guide| eyes.iter().position(|e| frame_alike(e, &guide.clip)).unwrap_or(0);
    let tasks: Vec<(&Guide, &(Tensor, Tensor))> = guides.iter().flat_map(|g| views[eye_of(g)].iter().map(move |v| (g, v))).collect();
    let see = |(guide, (x0, x1)): &(&Guide, &(Tensor, Tensor))| -> Result<Seen> {
        let leaf = Var::from_tensor(&x1.detach())?;
        let embed = |x: &Tensor| -> Result<Tensor> {
            cancel.check()?;
            normalise(&guide.clip.encode_image(&guide.clip.normalise(x)?)?)
        };
        let e0 = embed(x0)?;
        let mut e1 = embed(leaf.as_tensor())?;
        // Of a batch that is not divided.
        if rules.nudged && (&e1 - &e0)?.sum_all()?.to_scalar::<f32>()? == 0.0 {
            e1 = embed(&(leaf.as_tensor() + 1e-6)?)?;
        }
        Ok(Seen { e0, e1, leaf })
    };
    let seen = tasks.par_iter().map(see).collect::<Result<Vec<_>>>()?;
    // The losses are of the whole batch, and small: from the embeddings their gradients go back through each part's graph.
    let mut loss = 0.0;
    let mut of_embeddings = vec![];
    for (guide, seen) in guides.iter().zip(seen.chunks(parts.len())) {
        let all = |of: fn(&Seen) -> &Tensor| Tensor::cat(&seen.iter().map(|s| of(s).detach()).collect::<Vec<_>>(), 0);
        let e1 = Var::from_tensor(&all(|s| &s.e1)?)?;
        let of_guide = guide.loss(s, &all(|s| &s.e0)?, e1.as_tensor())?;
        loss += of_guide.to_scalar::<f32>()?;
        let gradient = of_guide.backward()?.remove(e1.as_tensor());
        for span in &spans {
            of_embeddings.push(match &gradient {
                Some(g) => Some(g.narrow(0, span.start, span.len())?),
                None => None,
            });
        }
    }
    let back = |(seen, gradient): (Seen, Option<Tensor>)| -> Result<Tensor> {
        cancel.check()?;
        let Some(gradient) = gradient else { return Ok(seen.leaf.zeros_like()?) };
        let mut grads = with_gradient(&seen.e1, &gradient)?.backward()?;
        grads.remove(seen.leaf.as_tensor()).ok_or_else(|| Error::Internal("no gradient reached the picture".into()))
    };
    let of_views = seen.into_par_iter().zip(of_embeddings).map(back).collect::<Result<Vec<_>>>()?;
    let mut seeds: Vec<Option<Tensor>> = vec![None; parts.len()];
    for (i, gradient) in of_views.iter().enumerate() {
        let (guide, part) = (&guides[i / parts.len()], i % parts.len());
        let seed = with_gradient(&views[eye_of(guide)][part].1, gradient)?;
        seeds[part] = Some(match seeds[part].take() {
            None => seed,
            Some(sum) => (sum + seed)?,
        });
    }
    let seeds = seeds.into_iter().map(|s| s.ok_or_else(|| Error::Internal("no CLIP".into()))).collect::<Result<_>>()?;
    Ok((loss, seeds))
}
