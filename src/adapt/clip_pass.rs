//! A batch in parts that run side by side: what candle does serially then leaves no processor idle, and each part's graph is small.

use super::augment::Augmentation;
use super::losses::{normalise, Guide};
use super::settings::Settings;
use crate::error::{Error, Result};
use crate::kernels::{grey16, with_gradient};
use crate::nn::clip::Clip;
use crate::progress::Cancel;
use crate::rng::Rng;
use candle_core::{Tensor, Var};
use rayon::prelude::*;
use std::ops::Range;

/// What there is of the frozen twin, and pictures [n, 3, h, w] of the trained one with their graph.
pub(super) struct Twins {
    pub before: Before,
    pub after: Tensor,
}

pub(super) enum Before {
    /// [n, 3, h, w]
    Pictures(Tensor),
    /// What was kept of pictures that are gone.
    Seen(Seen),
}

impl Before {
    /// Small grey pictures, [n, 256].
    pub(super) fn grey(&self) -> Result<Tensor> {
        match self {
            Before::Pictures(pictures) => Ok(grey16(&pictures.detach())?),
            Before::Seen(Seen { grey: Some(grey), .. }) => Ok(grey.clone()),
            Before::Seen(_) => Err(Error::Internal("small grey pictures were not kept".into())),
        }
    }
}

/// What a step needs of pictures of the frozen twin.
#[derive(Clone)]
pub(super) struct Seen {
    /// As each pair of [`eyes`] sees them, [n, 3, r, r]; where they are changed at random before CLIP.
    views: Vec<Tensor>,
    /// By guide, [n, d], of length 1; where they are not.
    embeddings: Vec<Tensor>,
    /// [n, 256], for the structure loss.
    grey: Option<Tensor>,
}

impl Seen {
    /// Of pictures [n, 3, h, w]. `cancel` is looked at between CLIPs.
    pub(super) fn new(guides: &[Guide], s: &Settings, pictures: &Tensor, cancel: &Cancel) -> Result<Self> {
        let eyes = eyes(guides);
        let views = eyes.iter().map(|clip| clip.resize(pictures, s.clip_resize)).collect::<Result<Vec<_>>>()?;
        let embed = |guide: &Guide| {
            cancel.check()?;
            normalise(&guide.clip.encode_image(&guide.clip.normalise(&views[eye_of(&eyes, guide)])?)?)
        };
        let embeddings = if s.augment { vec![] } else { guides.iter().map(embed).collect::<Result<_>>()? };
        let grey = (s.losses.structure > 0.0).then(|| grey16(pictures)).transpose()?;
        Ok(Self { views: if s.augment { views } else { vec![] }, embeddings, grey })
    }

    /// One behind the other.
    pub(super) fn cat(some: &[&Seen]) -> Result<Self> {
        let all = |of: &dyn Fn(&Seen) -> &[Tensor]| -> Result<Vec<Tensor>> {
            let count = some.first().map_or(0, |first| of(first).len());
            let one = |i: usize| Ok(Tensor::cat(&some.iter().filter_map(|s| of(s).get(i)).collect::<Vec<_>>(), 0)?);
            (0..count).map(one).collect()
        };
        let grey = all(&|s| s.grey.as_slice())?.pop();
        Ok(Self { views: all(&|s| &s.views)?, embeddings: all(&|s| &s.embeddings)?, grey })
    }
}

/// One CLIP's embeddings of one part, those of the trained twin with their graph down to `leaf`, the picture it saw.
struct Embedded {
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

/// CLIPs that frame a picture in the same way see the same pictures; the first of each, by resolution.
fn eyes(guides: &[Guide]) -> Vec<&Clip> {
    let mut eyes: Vec<&Clip> = vec![];
    for guide in guides {
        if !eyes.iter().any(|e| frame_alike(e, &guide.clip)) {
            eyes.push(&guide.clip);
        }
    }
    eyes.sort_by_key(|e| e.resolution());
    eyes
}

/// Which of [`eyes`] a guide looks with.
fn eye_of(eyes: &[&Clip], guide: &Guide) -> usize {
    eyes.iter().position(|e| frame_alike(e, &guide.clip)).unwrap_or(0)
}

/// The weighted sum of the CLIPs' losses of layer selection, of pictures [n, 3, h, w].
pub(super) fn selection_loss(guides: &[Guide], s: &Settings, pictures: &Tensor, cancel: &Cancel) -> Result<Tensor> {
    let eyes = eyes(guides);
    let views = eyes.iter().map(|clip| clip.resize(pictures, s.clip_resize)).collect::<Result<Vec<_>>>()?;
    let mut total: Option<Tensor> = None;
    for guide in guides {
        cancel.check()?;
        let e = normalise(&guide.clip.encode_image(&guide.clip.normalise(&views[eye_of(&eyes, guide)])?)?)?;
        let loss = (guide.selection_loss(&e)? * guide.weight as f64)?;
        total = Some(match total {
            None => loss,
            Some(sum) => (sum + loss)?,
        });
    }
    total.ok_or_else(|| Error::Internal("no CLIP".into()))
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
    let eyes = eyes(guides);
    // For each of them, each part's pictures as it sees them; those of the frozen twin where their embeddings were not kept.
    let mut views: Vec<Vec<(Option<Tensor>, Tensor)>> = vec![];
    for (eye, &clip) in eyes.iter().enumerate() {
        cancel.check()?;
        let augmentation = s.augment.then(|| Augmentation::draw(rng, batch, clip.resolution(), clip.device())).transpose()?;
        let of_part = |(part, span): (&Twins, &Range<usize>)| -> Result<(Option<Tensor>, Tensor)> {
            let augmentation = augmentation.as_ref().map(|a| a.narrow(span)).transpose()?;
            let changed = |small: Tensor| augmentation.as_ref().map_or(Ok(small.clone()), |a| a.apply(&small));
            let before = match &part.before {
                Before::Pictures(pictures) => Some(clip.resize(pictures, s.clip_resize)?),
                Before::Seen(seen) => seen.views.get(eye).cloned(),
            };
            Ok((before.map(changed).transpose()?, changed(clip.resize(&part.after, s.clip_resize)?)?))
        };
        views.push(parts.par_iter().zip(&spans).map(of_part).collect::<Result<_>>()?);
    }
    // Every CLIP with every part, a CLIP's parts in a row.
    let tasks: Vec<(usize, usize)> = (0..guides.len()).flat_map(|g| (0..parts.len()).map(move |part| (g, part))).collect();
    let see = |&(g, part): &(usize, usize)| -> Result<Embedded> {
        let guide = &guides[g];
        let (x0, x1) = &views[eye_of(&eyes, guide)][part];
        let leaf = Var::from_tensor(&x1.detach())?;
        let embed = |x: &Tensor| -> Result<Tensor> {
            cancel.check()?;
            normalise(&guide.clip.encode_image(&guide.clip.normalise(x)?)?)
        };
        let e0 = match (x0, &parts[part].before) {
            (Some(x0), _) => embed(x0)?,
            (None, Before::Seen(seen)) => seen.embeddings.get(g).cloned().ok_or_else(|| Error::Internal("nothing was kept".into()))?,
            (None, Before::Pictures(_)) => return Err(Error::Internal("pictures without a view of them".into())),
        };
        let mut e1 = embed(leaf.as_tensor())?;
        // Of a batch that is not divided.
        if rules.nudged && (&e1 - &e0)?.sum_all()?.to_scalar::<f32>()? == 0.0 {
            e1 = embed(&(leaf.as_tensor() + 1e-6)?)?;
        }
        Ok(Embedded { e0, e1, leaf })
    };
    let seen = tasks.par_iter().map(see).collect::<Result<Vec<_>>>()?;
    // The losses are of the whole batch, and small: from the embeddings their gradients go back through each part's graph.
    let mut loss = 0.0;
    let mut of_embeddings = vec![];
    for (guide, seen) in guides.iter().zip(seen.chunks(parts.len())) {
        let all = |of: fn(&Embedded) -> &Tensor| Tensor::cat(&seen.iter().map(|s| of(s).detach()).collect::<Vec<_>>(), 0);
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
    let back = |(seen, gradient): (Embedded, Option<Tensor>)| -> Result<Tensor> {
        cancel.check()?;
        let Some(gradient) = gradient else { return Ok(seen.leaf.zeros_like()?) };
        let mut grads = with_gradient(&seen.e1, &gradient)?.backward()?;
        grads.remove(seen.leaf.as_tensor()).ok_or_else(|| Error::Internal("no gradient reached the picture".into()))
    };
    let of_views = seen.into_par_iter().zip(of_embeddings).map(back).collect::<Result<Vec<_>>>()?;
    let mut seeds: Vec<Option<Tensor>> = vec![None; parts.len()];
    for (i, gradient) in of_views.iter().enumerate() {
        let (guide, part) = (&guides[i / parts.len()], i % parts.len());
        let seed = with_gradient(&views[eye_of(&eyes, guide)][part].1, gradient)?;
        seeds[part] = Some(match seeds[part].take() {
            None => seed,
            Some(sum) => (sum + seed)?,
        });
    }
    let seeds = seeds.into_iter().map(|s| s.ok_or_else(|| Error::Internal("no CLIP".into()))).collect::<Result<_>>()?;
    Ok((loss, seeds))
}
