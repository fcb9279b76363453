//! The losses in CLIP space (Gal et al. 2021, section 4.1), and what they compare with.

use super::settings::{ClipResize, LossWeights, Rules, Settings};
use super::{Concept, Templates, WeightedClip};
use crate::error::{Error, Result};
use crate::kernels::{unit_rows, LEAST_LENGTH};
use crate::nn::clip::Clip;
use crate::picture::Picture;
use crate::progress::Cancel;
use candle_core::{Tensor, D};
use std::sync::Arc;

/// x / |x| along the last dimension; vectors of zero stay.
pub(super) fn normalise(x: &Tensor) -> Result<Tensor> {
    Ok(unit_rows(x, LEAST_LENGTH)?)
}

/// What the published code's global loss compares with.
const REFERENCE_TARGET: &str = "a {}";

/// What one CLIP says of source and target.
pub(super) struct Guide {
    pub clip: Arc<Clip>,
    pub weight: f32,
    /// From source to target, unit length: [d].
    pub direction: Tensor,
    /// Of the global loss: [d].
    target: Tensor,
    /// Of layer selection: [d].
    selection: Tensor,
    /// cos(target, source).
    cosine: f32,
}

/// Normalised embeddings [n, d] of pictures, one by one, as they may be of different sizes.
fn embed_each(clip: &Clip, pictures: &[Picture], cancel: &Cancel) -> Result<Tensor> {
    let one = |p: &Picture| clip.embed_pictures(&p.to_tensor()?, ClipResize::Antialias, cancel);
    Ok(Tensor::cat(&pictures.iter().map(one).collect::<Result<Vec<_>>>()?, 0)?)
}

impl Guide {
    /// Whether words fit into all that [`Guide::new`] makes of them, for every CLIP. An `InvalidArgument` says by how much they do not.
    pub(super) fn check_length(
        clips: &[WeightedClip],
        rules: &Rules,
        source: &Concept,
        target: &Concept,
        templates: &Templates,
    ) -> Result<()> {
        let (Concept::Text(source), Concept::Text(target)) = (source, target) else { return Ok(()) };
        let mut of_target = templates.0.clone();
        if rules.bare_targets {
            of_target.extend([REFERENCE_TARGET.to_string(), "{}".to_string()]);
        }
        for WeightedClip { clip, .. } in clips {
            clip.reader().check("source", source, &templates.0)?;
            clip.reader().check("target", target, &of_target)?;
        }
        Ok(())
    }

    /// `own` are 16 pictures of the unadapted generator, there where pictures as a target are compared with them as the source is words.
    pub(super) fn new(
        WeightedClip { clip, weight }: &WeightedClip,
        rules: &Rules,
        source: &Concept,
        target: &Concept,
        templates: &Templates,
        own: Option<&Tensor>,
        cancel: &Cancel,
    ) -> Result<Self> {
        let mean = |e: Tensor| Result::Ok(e.mean(0)?);
        let (from, to, target, selection) = match (source, target) {
            (Concept::Text(source), Concept::Text(target)) => {
                // All at once, as batches of texts of one length are the fastest.
                let count = templates.0.len();
                let mut texts = [templates.of(source), templates.of(target)].concat();
                if rules.bare_targets {
                    texts.extend([REFERENCE_TARGET.replace("{}", target), target.clone()]);
                }
                let embedded = clip.embed_texts_unless(&texts, cancel)?;
                let (from, to) = (mean(embedded.narrow(0, 0, count)?)?, mean(embedded.narrow(0, count, count)?)?);
                let (global, selection) = match rules.bare_targets {
                    true => (embedded.get(2 * count)?, embedded.get(2 * count + 1)?),
                    false => (normalise(&to)?, normalise(&to)?),
                };
                (from, to, global, selection)
            }
            (source, Concept::Pictures(pictures)) => {
                let from = match source {
                    Concept::Pictures(p) => mean(embed_each(clip, p, cancel)?)?,
                    Concept::Text(_) => {
                        let own = own.ok_or_else(|| Error::Internal("the generator's own pictures were not drawn".into()))?;
                        let own = clip.preprocess(own, ClipResize::Antialias)?;
                        mean(normalise(&clip.encode_image(&own)?)?)?
                    }
                };
                let to = mean(embed_each(clip, pictures, cancel)?)?;
                (from, to.clone(), normalise(&to)?, normalise(&to)?)
            }
            (Concept::Pictures(_), Concept::Text(_)) => {
                return Err(Error::argument("source", "pictures need a target of pictures: in CLIP's space pictures and texts lie apart, so the way from one to the other is no direction of change"));
            }
        };
        let direction = normalise(&(&to - &from)?)?;
        if direction.sqr()?.sum_all()?.to_scalar::<f32>()? < 0.5 {
            return Err(Error::argument(
                "target",
                format!("is the same as the source for {}: there is no direction between them", clip.name),
            ));
        }
        let cosine = (normalise(&from)? * normalise(&to)?)?.sum_all()?.to_scalar::<f32>()?;
        Ok(Self { clip: clip.clone(), weight: *weight, direction, target, selection, cosine })
    }

    /// Mean over the batch of 1 - cos(embedding, target) of layer selection. `e` [n, d] normalised.
    pub(super) fn selection_loss(&self, e: &Tensor) -> Result<Tensor> {
        one_minus_cosine(e, &self.selection)
    }

    /// cos(embedding, target) of each picture: [n].
    pub(super) fn cosines(&self, e: &Tensor) -> Result<Vec<f32>> {
        Ok(e.broadcast_mul(&self.target)?.sum(D::Minus1)?.to_vec1()?)
    }

    /// The weighted sum of the losses of this CLIP. `e0`, `e1` [n, d]: normalised embeddings of the frozen and the trained twin's
    /// pictures; a gradient flows to `e1`.
    pub(super) fn loss(&self, s: &Settings, e0: &Tensor, e1: &Tensor) -> Result<Tensor> {
        let w: &LossWeights = &s.losses;
        let mut terms = vec![];
        if w.direction != 0.0 {
            let edit = (e1 - e0)?;
            let square = edit.sqr()?.sum(D::Minus1)?;
            // The least is under the square: a root's gradient at 0 is infinite.
            let length = square.maximum(f64::from(s.rules().least_square))?.sqrt()?;
            let along = edit.broadcast_mul(&self.direction)?.sum(D::Minus1)?;
            // With `enough` 1 this is the published 1 - cos: a cosine is never more.
            terms.push(((s.enough as f64 - (along / length)?.mean_all()?)?.relu()?, w.direction));
        }
        if w.global != 0.0 {
            terms.push((one_minus_cosine(e1, &self.target)?, w.global));
        }
        if w.manifold != 0.0 {
            let cosine = (e1 * e0)?.sum(D::Minus1)?;
            terms.push(((cosine - self.cosine as f64)?.abs()?.mean_all()?, w.manifold));
        }
        if w.in_domain != 0.0 {
            let between = |e: &Tensor| e.matmul(&e.t()?);
            terms.push(((between(e1)? - between(e0)?)?.sqr()?.mean_all()?, w.in_domain));
        }
        let mut total = Tensor::zeros((), candle_core::DType::F32, e1.device())?;
        for (term, weight) in terms {
            total = (total + (term * weight as f64)?)?;
        }
        Ok((total * self.weight as f64)?)
    }
}

fn one_minus_cosine(e: &Tensor, target: &Tensor) -> Result<Tensor> {
    Ok((1.0 - e.broadcast_mul(target)?.sum(D::Minus1)?)?.mean_all()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// With the template "{}" the direction is the difference of the two texts' embeddings.
    #[test]
    fn the_bare_template_is_the_words_as_they_are() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/starter/clip-a");
        let clip = Arc::new(Clip::open(&folder).unwrap());
        let text = |words: &str| Concept::Text(words.into());
        let guide = |templates: &[&str]| {
            let templates = Templates(templates.iter().map(|t| t.to_string()).collect());
            let clip = WeightedClip { clip: clip.clone(), weight: 1.0 };
            Guide::new(&clip, &Settings::default().rules(), &text("a photo"), &text("a zombie"), &templates, None, &Cancel::new()).unwrap()
        };
        let rows = clip.embed_texts(&["a photo".into(), "a zombie".into()]).unwrap();
        let want = normalise(&(rows.get(1).unwrap() - rows.get(0).unwrap()).unwrap()).unwrap();
        let apart = |guide: &Guide| (&guide.direction - &want).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(apart(&guide(&["{}"])) < 1e-6);
        assert!(apart(&guide(&["an image of {}"])) > 1e-2);
    }
}
