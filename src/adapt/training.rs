//! The training loop.

use super::clip_pass::{self, Before, Seen, Twins};
use super::domain::{carried, Description, Domain, Origin};
use super::draws::{draw_noise, some_maps, Draws};
use super::judge::{self, Judge, Judgement, Looks, Verdict};
use super::losses::Guide;
use super::pool::Pool;
use super::settings::{Memory, Parameters, Settings};
use super::structure;
use super::trainable::Trainable;
use crate::error::{Error, Result};
use crate::kernels::{with_gradient, Warm};
use crate::nn::clip::{tidy, Clip};
use crate::nn::generator::{as_rgb, Config, Generator, Latent, Layer, Noise, Space};
use crate::optim::{self, Gradient, Optimiser, Rule};
use crate::picture::Picture;
use crate::progress::{Cancel, Flow, OnProgress, Progress};
use crate::rng::Rng;
use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// A CLIP and the weight of its losses.
#[derive(Clone)]
pub struct WeightedClip {
    pub clip: Arc<Clip>,
    pub weight: f32,
}

/// What the source or the target is.
#[derive(Clone, Debug)]
pub enum Concept {
    /// In natural language; [`tidy`] is applied.
    Text(String),
    /// At least one picture, any size. As a target with words as the source, the generator's own pictures stand for the source.
    Pictures(Vec<Picture>),
}

impl Concept {
    fn describe(&self) -> String {
        match self {
            Concept::Text(t) => t.clone(),
            Concept::Pictures(p) => format!("({} pictures)", p.len()),
        }
    }

    /// Words as [`tidy`] leaves them.
    fn tidy(self) -> Self {
        match self {
            Concept::Text(words) => Concept::Text(tidy(&words)),
            pictures => pictures,
        }
    }

    fn check(&self, name: &str) -> Result<()> {
        match self {
            Concept::Text(t) if t.trim().is_empty() => Err(Error::argument(name, "is an empty text")),
            Concept::Pictures(p) if p.is_empty() => Err(Error::argument(name, "has no pictures")),
            Concept::Pictures(p) => p.iter().enumerate().try_for_each(|(i, picture)| match picture.check_visible() {
                Err(Error::InvalidArgument { message, .. }) => Err(Error::argument(format!("{name}, picture {}", i + 1), message)),
                other => other,
            }),
            Concept::Text(_) => Ok(()),
        }
    }
}

/// Prompt templates, each with one `{}`.
#[derive(Clone, Debug)]
pub struct Templates(pub Vec<String>);

impl Default for Templates {
    /// The 79 of the published code (of CLIP's ImageNet prompts).
    fn default() -> Self {
        Self(include_str!("../../assets/templates.txt").lines().map(str::to_string).collect())
    }
}

impl Templates {
    /// Errors: `InvalidArgument` that quotes the template without exactly one `{}`, or says that there is none.
    pub fn check(&self) -> Result<()> {
        match self.0.iter().find(|t| t.matches("{}").count() != 1) {
            Some(t) => Err(Error::argument("templates", format!("\"{t}\" must have exactly one {{}}, which stands for the words"))),
            None if self.0.is_empty() => Err(Error::argument("templates", "there are none")),
            None => Ok(()),
        }
    }

    /// `words` inside each.
    pub fn of(&self, words: &str) -> Vec<String> {
        self.0.iter().map(|t| t.replace("{}", words)).collect()
    }
}

#[derive(Clone, Debug)]
pub struct StepReport {
    /// From 1.
    pub step: usize,
    pub loss: f32,
    /// With adaptive selection: the rows of W+ that scored highest, best first.
    pub rows: Vec<usize>,
}

/// A state that can become a domain.
#[derive(Clone)]
pub struct Snapshot {
    pub step: usize,
    pub loss: f32,
    /// With a stop rule, what it saw.
    pub judgement: Option<Judgement>,
    pub preview: Picture,
    pub domain: Arc<Domain>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All steps done.
    Steps,
    /// The stop rule ended it.
    Rule,
}

#[derive(Clone, Debug)]
pub struct Outcome {
    pub ended: Ended,
    /// Steps done.
    pub steps: usize,
    /// The step that [`Adaptation::result`] is of.
    pub chosen: usize,
}

/// The latents of a step.
enum Latents<'a> {
    Drawn(&'a Draws),
    /// Of the pool, by number; all of them are there.
    Pooled(&'a [usize]),
}

impl Latents<'_> {
    fn count(&self) -> Result<usize> {
        match self {
            Latents::Drawn(draws) => Ok(draws.z.dim(0)?),
            Latents::Pooled(indices) => Ok(indices.len()),
        }
    }
}

/// The rate of layer selection's steps.
const SELECTION_RATE: f64 = 0.01;

/// What a step trains.
struct Selected {
    /// Of W+, where they were selected.
    rows: Vec<usize>,
    /// Of variables.
    keys: BTreeSet<String>,
    /// The trained twin that they were selected with.
    now: Option<Generator>,
}

/// Gives noise maps for an iteration of layer selection, or none.
type NoiseOf<'a> = dyn FnMut(usize) -> Result<Option<Vec<Tensor>>> + 'a;

/// Is given each snapshot when it is taken, and the run in that state.
pub type Keep<'a> = dyn FnMut(&Adaptation, &Snapshot) -> Result<()> + 'a;

/// Where a run's snapshots go.
enum Snapshots<'a, 'b> {
    /// To [`Adaptation::snapshots`].
    Kept,
    Given(&'a mut Keep<'b>),
    /// None is taken.
    None,
}

/// Truncation of the preview's latents.
const PREVIEW_TRUNCATION: f32 = 0.7;
/// How many pictures a preview has at the most.
const PREVIEW_PICTURES: usize = 8;
/// How many a snapshot's has.
pub(crate) const SNAPSHOT_PICTURES: usize = 4;

/// Streams of a run's random numbers; the judge has 3.
const TRAINING: u64 = 1;
const PREVIEW: u64 = 2;
const OWN_PICTURES: u64 = 4;

/// One adaptation, step by step. May be used from one thread at a time.
pub struct Adaptation {
    pub(super) frozen: Arc<Generator>,
    /// The frozen generator as far as training goes through it.
    twin: Generator,
    pub(super) trainable: Trainable,
    pub(super) guides: Vec<Guide>,
    pub(super) settings: Settings,
    pub(super) optimiser: Optimiser,
    pub(super) rng: Rng,
    pub(super) source: String,
    pub(super) target: String,
    pub(super) step: usize,
    pub(super) loss: f32,
    snapshots: Vec<Snapshot>,
    pub(super) judge: Option<Judge>,
    /// Of the run that this one goes on from, for a judge that is yet to be made.
    pub(super) looks: Option<Looks>,
    /// The last step after which the stop rule has looked and a snapshot was taken, where they were due.
    pub(super) attended: usize,
    /// The last look, and the step that it was of.
    pub(super) looked: Option<(usize, Judgement)>,
    /// The stop rule has spoken, and the run has not ended yet.
    pub(super) stopping: bool,
    /// The step that the stop rule prefers, and its domain.
    pub(super) chosen: Option<(usize, Arc<Domain>)>,
    /// z of the preview's pictures.
    preview: Tensor,
    /// The preview's pictures by the frozen twin, as far as they were asked for: they stay the same.
    plain: Mutex<Vec<Picture>>,
    /// Where latents are used again.
    pool: Option<Pool>,
    /// Each step needs the memory that the one before has used.
    _warm: Warm,
}

impl Adaptation {
    /// Prepares the twins and embeds source and target; nothing is trained yet. Errors name the argument.
    pub fn new(
        generator: Arc<Generator>,
        clips: &[WeightedClip],
        source: Concept,
        target: Concept,
        templates: &Templates,
        settings: Settings,
    ) -> Result<Self> {
        Self::new_unless(generator, clips, source, target, templates, settings, &Cancel::new())
    }

    /// As [`Adaptation::new`]; `Cancelled` once the flag is raised, which is looked at between a few texts and pictures.
    pub fn new_unless(
        generator: Arc<Generator>,
        clips: &[WeightedClip],
        source: Concept,
        target: Concept,
        templates: &Templates,
        settings: Settings,
        cancel: &Cancel,
    ) -> Result<Self> {
        Self::prepare(generator.clone(), &generator, clips, (source, target), templates, settings, cancel)
    }

    /// As [`Adaptation::new`], with a trained twin that starts as `start`, such as a domain applied to `generator`.
    pub fn from_start(
        generator: Arc<Generator>,
        start: &Generator,
        clips: &[WeightedClip],
        source: Concept,
        target: Concept,
        templates: &Templates,
        settings: Settings,
    ) -> Result<Self> {
        Self::prepare(generator, start, clips, (source, target), templates, settings, &Cancel::new())
    }

    fn prepare(
        generator: Arc<Generator>,
        start: &Generator,
        clips: &[WeightedClip],
        (source, target): (Concept, Concept),
        templates: &Templates,
        settings: Settings,
        cancel: &Cancel,
    ) -> Result<Self> {
        settings.check()?;
        let (source, target) = (source.tidy(), target.tidy());
        source.check("source")?;
        target.check("target")?;
        if clips.is_empty() {
            return Err(Error::argument("clips", "at least one CLIP is needed"));
        }
        if let Some(c) = clips.iter().find(|c| !c.weight.is_finite() || c.weight <= 0.0) {
            return Err(Error::argument("clips", format!("the weight of {} is {}, it must be above 0", c.clip.name, c.weight)));
        }
        templates.check()?;
        settings.warnings().iter().for_each(|w| log::warn!("{w}"));
        let rules = settings.rules();
        Guide::check_length(clips, &rules, &source, &target, templates)?;
        let (generator, start) = match settings.memory {
            Memory::Fast => (generator, start.clone()),
            Memory::Low => (Arc::new(generator.lean()), start.lean()),
        };
        let twin = match settings.train_resolution {
            0 => Generator::clone(&generator),
            size => generator.cut(size, "train_resolution")?,
        };
        let rows = twin.config().n_latent();
        if let Some(a) = settings.auto_layers.filter(|a| a.k > rows) {
            return Err(Error::argument("auto_layers", format!("k is {}, the generator has {rows} rows", a.k)));
        }
        let own = match (&source, &target) {
            (Concept::Text(_), Concept::Pictures(_)) => {
                let tensor = Rng::stream(settings.seed, OWN_PICTURES).normals(&[16, twin.config().z_dim], twin.device())?;
                let mut parts = vec![];
                let latent = Latent { space: Space::Z, tensor, noise: None };
                twin.render_each_unless(&latent, settings.truncation, Noise::None, cancel, &mut |part| {
                    parts.push(as_rgb(&part)?);
                    Ok(())
                })?;
                Some(Tensor::cat(&parts, 0)?)
            }
            _ => None,
        };
        let guides = clips
            .par_iter()
            .map(|c| {
                let guide = Guide::new(c, &rules, &source, &target, templates, own.as_ref(), cancel);
                // Nothing of the training reads another text.
                c.clip.release_texts();
                guide
            })
            .collect::<Result<Vec<_>>>()?;
        let preview = Rng::stream(settings.seed, PREVIEW).normals(&[PREVIEW_PICTURES, generator.config().z_dim], generator.device())?;
        let trainable = Trainable::new(&generator, &start, &settings)?;
        let adam = optim::Config::new(Rule::adam(0.0, settings.beta2), settings.learning_rate);
        let variables = trainable.variables.iter().map(|(key, var)| (key.clone(), var.clone()));
        Ok(Self {
            optimiser: Optimiser::named(variables, adam),
            trainable,
            rng: Rng::stream(settings.seed, TRAINING),
            source: source.describe(),
            target: target.describe(),
            step: 0,
            loss: f32::NAN,
            snapshots: vec![],
            judge: None,
            looks: None,
            attended: 0,
            looked: None,
            stopping: false,
            chosen: None,
            preview,
            plain: Mutex::default(),
            pool: Pool::new(&settings),
            _warm: Warm::new(),
            frozen: generator,
            twin,
            guides,
            settings,
        })
    }

    /// One training step. On an error the state is that of the last complete step.
    pub fn step(&mut self) -> Result<StepReport> {
        self.step_unless(&Cancel::new())
    }

    /// As [`Adaptation::step`]; `Cancelled` once the flag is raised, which is looked at within the step.
    pub fn step_unless(&mut self, cancel: &Cancel) -> Result<StepReport> {
        cancel.check()?;
        let report = self.train_one(cancel)?;
        self.attended = self.step;
        Ok(report)
    }

    /// A step, after which what is due may be.
    fn train_one(&mut self, cancel: &Cancel) -> Result<StepReport> {
        // A copy draws, so that a failed step can be tried again with the same numbers.
        let mut rng = self.rng.clone();
        let selected = self.select(&mut rng, cancel)?;
        let pooled = self.pool.as_ref().map(|pool| pool.of_step(self.step, self.settings.batch));
        let report = match pooled {
            Some(indices) => {
                self.fill_pool(&indices, cancel)?;
                self.advance(selected, &Latents::Pooled(&indices), &mut rng, cancel)?
            }
            None => {
                let draws = Draws::random(&mut rng, &self.twin, &self.settings, self.settings.batch)?;
                self.advance(selected, &Latents::Drawn(&draws), &mut rng, cancel)?
            }
        };
        self.rng = rng;
        Ok(report)
    }

    /// What the step trains, with random numbers of its own.
    fn select(&self, rng: &mut Rng, cancel: &Cancel) -> Result<Selected> {
        let Some(a) = self.settings.auto_layers else { return Ok(self.select_all()) };
        let z = rng.normals(&[a.batch, self.twin.config().z_dim], self.twin.device())?;
        // Maps of one iteration at a time: those of all are gigabytes at 1024 px.
        let mut noise = |_| if self.settings.noise { Ok(Some(draw_noise(rng, &self.twin, a.batch)?)) } else { Ok(None) };
        let now = self.trained()?;
        let change = self.scores(&now, &z, a.iterations, &mut noise, cancel)?;
        Ok(self.select_by(&change, Some(now)))
    }

    fn select_all(&self) -> Selected {
        Selected { rows: vec![], keys: self.trainable.all(), now: None }
    }

    /// The layers of the rows that changed most.
    fn select_by(&self, change: &[f32], now: Option<Generator>) -> Selected {
        let mut rows: Vec<usize> = (0..change.len()).filter(|&r| self.selectable(r).is_some()).collect();
        rows.sort_by(|&a, &b| change[b].total_cmp(&change[a]));
        rows.truncate(self.settings.auto_layers.map_or(change.len(), |a| a.k));
        let layers: Vec<&Layer> = rows.iter().filter_map(|&r| self.selectable(r)).collect();
        Selected { keys: self.trainable.of_layers(&layers), rows, now }
    }

    /// The trained twin as it is now, as far as training goes through it.
    fn trained(&self) -> Result<Generator> {
        let whole = self.trainable.generator()?;
        match self.settings.train_resolution {
            0 => Ok(whole),
            size => whole.cut(size, "train_resolution"),
        }
    }

    /// One training step with given random numbers; `rng` serves the augmentation.
    pub fn step_with(&mut self, draws: &Draws, rng: &mut Rng) -> Result<StepReport> {
        let selected = match &draws.selection {
            Some((z, noise)) => self.select_by(&self.layer_changes(z, noise)?, None),
            None => self.select_all(),
        };
        let report = self.advance(selected, &Latents::Drawn(draws), rng, &Cancel::new())?;
        self.attended = self.step;
        Ok(report)
    }

    /// Looks at `cancel` inside a step too, after each layer and each CLIP: a large step takes longer than a user waits. Nothing is written
    /// before its end.
    fn advance(
        &mut self,
        Selected { rows, keys: selected, now }: Selected,
        latents: &Latents,
        rng: &mut Rng,
        cancel: &Cancel,
    ) -> Result<StepReport> {
        let now = now.map_or_else(|| self.trained(), Ok)?;
        let trained = self.trainable.tracking(&now, &selected)?;
        // Otherwise it is not needed any more, nor what its device made of its weights.
        let untracked = (self.settings.memory == Memory::Low).then_some(now);
        let batch = latents.count()?;
        let ranges = self.settings.parts(batch);
        let low = untracked.is_some();
        if ranges.len() > 1 && !low {
            trained.prepare(ranges[0].len(), true)?;
            if let Latents::Drawn(_) = latents {
                self.twin.prepare(ranges[0].len(), false)?;
            }
        }
        let parts = match untracked {
            None => ranges.par_iter().map(|range| self.twins(&trained, latents, range, cancel)).collect::<Result<Vec<_>>>()?,
            Some(now) => {
                // Their way back begins here, and goes on through pictures that are drawn anew.
                let leaf = |mut twins: Twins| -> Result<Twins> {
                    twins.after = Var::from_tensor(&twins.after)?.into_inner();
                    Ok(twins)
                };
                ranges.iter().map(|range| leaf(self.twins(&now, latents, range, cancel)?)).collect::<Result<Vec<_>>>()?
            }
        };
        cancel.check()?;
        let (mut loss, mut seeds) = clip_pass::clip_seeds(&self.guides, &self.settings, &parts, rng, cancel)?;
        cancel.check()?;
        // Of a single picture there is nothing: it is the batch's mean.
        if self.settings.losses.structure > 0.0 && batch > 1 {
            let (apart, gradients) = structure::loss(&parts, self.settings.structure_floor, self.settings.losses.structure)?;
            loss += apart;
            for ((seed, gradient), part) in seeds.iter_mut().zip(&gradients).zip(&parts) {
                *seed = (&*seed + with_gradient(&part.after, gradient)?)?;
            }
        }
        let leaves: Vec<Tensor> = parts.into_iter().filter(|_| low).map(|twins| twins.after).collect();
        if !loss.is_finite() {
            return Err(Error::NotFinite(format!("the loss of step {} is {loss}: a smaller learning_rate may help", self.step + 1)));
        }
        let back = |seed: Tensor| {
            cancel.check()?;
            Ok(seed.backward()?)
        };
        let grads = match low {
            false => seeds.into_par_iter().map(back).collect::<Result<Vec<_>>>()?,
            true => {
                let mut sum: Option<GradStore> = None;
                for ((seed, leaf), range) in seeds.into_iter().zip(leaves).zip(&ranges) {
                    let Some(gradient) = back(seed)?.remove(&leaf) else { continue };
                    drop(leaf);
                    let after = self.after(&trained, latents, range, cancel)?;
                    let mut one = back(with_gradient(&after, &gradient)?)?;
                    match &mut sum {
                        None => sum = Some(one),
                        Some(sum) => self.trainable.add(sum, &mut one)?,
                    }
                }
                sum.into_iter().collect()
            }
        };
        cancel.check()?;
        let left_out = self.settings.rules().left_out;
        let rate = self.settings.schedule().share(self.step, self.settings.steps);
        self.optimiser.step_of(&grads, rate, |key| if selected.contains(key) { Gradient::Own } else { left_out })?;
        self.step += 1;
        self.loss = loss;
        Ok(StepReport { step: self.step, loss, rows })
    }

    fn selectable(&self, row: usize) -> Option<&Layer> {
        self.settings.selectable(self.twin.config(), row)
    }

    /// W+ of one of the twins (0: the frozen one).
    fn wplus(&self, trained: &Generator, draws: &Draws, twin: usize) -> Result<Tensor> {
        // The twins share the frozen mapping network, unless the trained one's is trained.
        let own_mapping = self.settings.rules().own_mapping && self.trainable.trains_mapping();
        let mapper = if twin == 1 && own_mapping { trained } else { &self.twin };
        let map = |z: &Tensor| mapper.broadcast(&mapper.truncate(&mapper.map(z)?, self.settings.truncation)?);
        match &draws.mixing {
            None => map(&draws.z),
            Some(mixing) => mapper.mix(&map(&draws.z)?, &map(&mixing[twin].0)?, mixing[twin].1),
        }
    }

    /// What there is of the frozen twin, and pictures of `trained`, with their graph where it is tracked.
    fn twins(&self, trained: &Generator, latents: &Latents, range: &Range<usize>, cancel: &Cancel) -> Result<Twins> {
        // One after the other: side by side they would need the memory of both.
        let before = match latents {
            Latents::Drawn(draws) => {
                let draws = draws.narrow(range)?;
                let noise = draws.noise.as_ref().map_or(Noise::None, |[before, _]| Noise::Given(before));
                let pictures = self.twin.synthesize_unless(&self.wplus(trained, &draws, 0)?, noise, cancel)?;
                Before::Pictures(as_rgb(&pictures)?)
            }
            Latents::Pooled(indices) => {
                let pool = self.pool.as_ref().ok_or_else(|| Error::Internal("there is no pool".into()))?;
                Before::Seen(pool.seen(&indices[range.clone()])?)
            }
        };
        Ok(Twins { before, after: self.after(trained, latents, range, cancel)? })
    }

    /// Pictures of `trained`.
    fn after(&self, trained: &Generator, latents: &Latents, range: &Range<usize>, cancel: &Cancel) -> Result<Tensor> {
        let pictures = match latents {
            Latents::Drawn(draws) => {
                let draws = draws.narrow(range)?;
                let noise = draws.noise.as_ref().map_or(Noise::None, |[_, after]| Noise::Given(after));
                trained.synthesize_unless(&self.wplus(trained, &draws, 1)?, noise, cancel)?
            }
            Latents::Pooled(indices) => {
                let pool = self.pool.as_ref().ok_or_else(|| Error::Internal("there is no pool".into()))?;
                let draws = indices[range.clone()].iter().map(|&i| pool.draws(i, &self.twin, &self.settings));
                let draws = draws.collect::<Result<Vec<_>>>()?;
                let wplus = Tensor::cat(&draws.iter().map(|d| self.wplus(trained, d, 1)).collect::<Result<Vec<_>>>()?, 0)?;
                let maps: Vec<&Vec<Tensor>> = draws.iter().filter_map(|d| d.noise.as_ref().map(|[_, after]| after)).collect();
                let layers = maps.first().map_or(0, |first| first.len());
                let layer = |i: usize| Ok(Tensor::cat(&maps.iter().map(|maps| &maps[i]).collect::<Vec<_>>(), 0)?);
                let maps = (0..layers).map(layer).collect::<Result<Vec<_>>>()?;
                trained.synthesize_unless(&wplus, if layers > 0 { Noise::Given(&maps) } else { Noise::None }, cancel)?
            }
        };
        as_rgb(&pictures)
    }

    /// Draws the unadapted pictures of what is missing in the pool.
    fn fill_pool(&mut self, indices: &[usize], cancel: &Cancel) -> Result<()> {
        let Some(pool) = &self.pool else { return Ok(()) };
        let missing = pool.missing(indices);
        if missing.is_empty() {
            return Ok(());
        }
        // What the kernels make of its weights is four times as large, is not needed in the rest of the step, and soon not at all. Where only
        // styles are trained, the trained twin has the same.
        let twin = match self.settings.parameters {
            Parameters::Full => self.twin.afresh(),
            Parameters::Stylespace => self.twin.clone(),
        };
        let see = |&i: &usize| -> Result<(usize, Seen)> {
            let draws = pool.draws(i, &twin, &self.settings)?;
            let noise = draws.noise.as_ref().map_or(Noise::None, |n| Noise::Given(&n[0]));
            let picture = twin.synthesize_unless(&self.wplus(&twin, &draws, 0)?, noise, cancel)?;
            Ok((i, Seen::new(&self.guides, &self.settings, &as_rgb(&picture)?, cancel)?))
        };
        let made = match self.settings.memory {
            Memory::Low => missing.iter().map(see).collect::<Result<Vec<_>>>()?,
            Memory::Fast => {
                if missing.len() > 1 {
                    twin.prepare(1, false)?;
                }
                missing.par_iter().map(see).collect::<Result<Vec<_>>>()?
            }
        };
        if let Some(pool) = &mut self.pool {
            made.into_iter().for_each(|(i, seen)| pool.keep(i, seen));
        }
        Ok(())
    }

    /// The losses in CLIP's space, and a scalar whose backward pass carries their gradient into `after`.
    pub fn clip_gradients(&self, before: &Tensor, after: &Tensor, rng: &mut Rng) -> Result<(f32, Tensor)> {
        let twins = [Twins { before: Before::Pictures(before.clone()), after: after.clone() }];
        let (loss, mut seeds) = clip_pass::clip_seeds(&self.guides, &self.settings, &twins, rng, &Cancel::new())?;
        Ok((loss, seeds.remove(0)))
    }

    /// Adaptive layer selection (Gal et al. 2021, section 4.2): mean |change| of each row of W+ after SGD with rate 0.01 on W+ alone
    /// towards the target, one step for each set of noise maps (or `iterations` without noise).
    pub fn layer_changes(&self, z: &Tensor, noise: &[Vec<Tensor>]) -> Result<Vec<f32>> {
        let iterations = if noise.is_empty() { self.settings.auto_layers.map_or(1, |a| a.iterations) } else { noise.len() };
        self.scores(&self.trained()?, z, iterations, &mut |i| Ok(noise.get(i).cloned()), &Cancel::new())
    }

    /// As [`Adaptation::layer_changes`], with the trained twin as it is now; `noise` gives the maps of each iteration when it begins.
    fn scores(&self, now: &Generator, z: &Tensor, iterations: usize, noise: &mut NoiseOf, cancel: &Cancel) -> Result<Vec<f32>> {
        let twin = &self.twin;
        let start = twin.broadcast(&twin.truncate(&twin.map(z)?, self.settings.truncation)?)?;
        let wplus = Var::from_tensor(&start)?;
        let mut sgd = Optimiser::named([("W+".into(), wplus.clone())], optim::Config::new(Rule::Sgd, SELECTION_RATE));
        let batch = start.dim(0)?;
        let ranges = self.settings.parts(batch);
        let side_by_side = judge::side_by_side(twin.config(), rayon::current_num_threads()) > 1;
        if side_by_side && ranges.len() > 1 {
            now.prepare(ranges[0].len(), true)?;
        }
        for i in 0..iterations {
            let maps = noise(i)?;
            // No picture's loss depends on another picture: each part's graph goes before the next, or runs beside it where pictures are small.
            let of_part = |range: &Range<usize>| -> Result<GradStore> {
                let maps = maps.as_ref().map(|maps| some_maps(maps, range)).transpose()?;
                let noise = maps.as_ref().map_or(Noise::None, |m| Noise::Given(m));
                let points = wplus.narrow(0, range.start, range.len())?;
                let image = as_rgb(&now.synthesize_unless(&points, noise, cancel)?)?;
                let share = range.len() as f64 / batch as f64;
                let loss = (clip_pass::selection_loss(&self.guides, &self.settings, &image, cancel)? * share)?;
                cancel.check()?;
                Ok(loss.backward()?)
            };
            let grads = match side_by_side {
                false => ranges.iter().map(of_part).collect::<Result<Vec<_>>>()?,
                true => ranges.par_iter().map(of_part).collect::<Result<Vec<_>>>()?,
            };
            sgd.step_of(&grads, 1.0, |_| Gradient::Own)?;
        }
        Ok((wplus.as_detached_tensor() - start)?.abs()?.mean(2)?.mean(0)?.to_vec1()?)
    }

    /// Trains until `settings.steps` or the stop rule, taking snapshots, which [`Adaptation::snapshots`] keeps. With `Cancelled` the state is
    /// the last complete step, and its snapshots can be taken; calling again goes on.
    pub fn run(&mut self, cancel: &Cancel, on_progress: &mut OnProgress) -> Result<Outcome> {
        self.run_until(cancel, on_progress, Snapshots::Kept)
    }

    /// As [`Adaptation::run`], without snapshots and their previews, whatever `settings.snapshot_every` says.
    pub fn run_without_snapshots(&mut self, cancel: &Cancel, on_progress: &mut OnProgress) -> Result<Outcome> {
        self.run_until(cancel, on_progress, Snapshots::None)
    }

    /// As [`Adaptation::run`], with every snapshot given to `keep` when it is taken instead of being kept. An error of `keep` ends the run,
    /// whose state is then that of the snapshot's step.
    pub fn run_keeping(&mut self, cancel: &Cancel, on_progress: &mut OnProgress, keep: &mut Keep) -> Result<Outcome> {
        self.run_until(cancel, on_progress, Snapshots::Given(keep))
    }

    fn run_until(&mut self, cancel: &Cancel, on_progress: &mut OnProgress, mut snapshots: Snapshots) -> Result<Outcome> {
        let total = self.settings.steps;
        if self.attended == self.step && std::mem::take(&mut self.stopping) {
            return Ok(self.outcome(Ended::Rule));
        }
        // A run that was cancelled between a step and what is due after it begins with that.
        while self.attended < self.step || self.step < total {
            cancel.check()?;
            if self.attended == self.step {
                self.train_one(cancel)?;
            }
            let due = |every: usize| every > 0 && (self.step.is_multiple_of(every) || self.step == total);
            let (judge_due, snapshot_due) = (self.settings.stop.is_some_and(|r| due(r.every)), due(self.settings.snapshot_every));
            let snapshot_due = snapshot_due && !matches!(snapshots, Snapshots::None);
            // A look that was taken before a cancel is not taken again.
            let mut judgement = self.looked.filter(|(step, _)| *step == self.step).map(|(_, judgement)| judgement);
            if let Some(rule) = self.settings.stop.filter(|_| judge_due && judgement.is_none()) {
                // Unadapted pictures are looked at when the first look is due, not before the first step.
                let mut judge = match self.judge.take() {
                    Some(judge) => judge,
                    None => {
                        let looks = self.looks.clone().unwrap_or_default();
                        Judge::new(&self.twin, &self.guides, &self.settings, rule, looks, cancel)?
                    }
                };
                let verdict = self.judged(&mut judge, cancel);
                self.judge = Some(judge);
                let verdict = verdict?;
                if verdict.good {
                    self.chosen = Some((self.step, Arc::new(self.domain()?)));
                }
                judgement = Some(verdict.judgement);
                self.looked = Some((self.step, verdict.judgement));
                self.stopping = verdict.stop;
            }
            let snapshot = if snapshot_due { Some(self.snapshot_unless(judgement, cancel)?) } else { None };
            self.attended = self.step;
            if let (Some(snapshot), Snapshots::Given(keep)) = (&snapshot, &mut snapshots) {
                keep(self, snapshot)?;
            }
            let preview = snapshot.as_ref().map(|s| &s.preview);
            let flow = on_progress(&Progress { step: self.step, total, loss: self.loss, preview });
            if matches!(snapshots, Snapshots::Kept) {
                self.snapshots.extend(snapshot);
            }
            if std::mem::take(&mut self.stopping) {
                return Ok(self.outcome(Ended::Rule));
            }
            if flow == Flow::Stop {
                return Err(Error::Cancelled);
            }
        }
        Ok(self.outcome(Ended::Steps))
    }

    /// The state as it is, with a preview of 4 pictures.
    pub fn snapshot(&self, judgement: Option<Judgement>) -> Result<Snapshot> {
        self.snapshot_unless(judgement, &Cancel::new())
    }

    fn snapshot_unless(&self, judgement: Option<Judgement>, cancel: &Cancel) -> Result<Snapshot> {
        let preview = self.preview_unless(SNAPSHOT_PICTURES, cancel)?;
        Ok(Snapshot { step: self.step, loss: self.loss, judgement, preview, domain: Arc::new(self.domain()?) })
    }

    fn judged(&self, judge: &mut Judge, cancel: &Cancel) -> Result<Verdict> {
        judge.look(&self.trained()?, &self.guides, &self.settings, self.step, cancel)
    }

    fn outcome(&self, ended: Ended) -> Outcome {
        Outcome { ended, steps: self.step, chosen: self.chosen_step() }
    }

    pub fn steps_done(&self) -> usize {
        self.step
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The generator's sizes.
    pub fn config(&self) -> &Config {
        self.frozen.config()
    }

    pub fn snapshots(&self) -> &[Snapshot] {
        &self.snapshots
    }

    /// The current state as a domain.
    pub fn domain(&self) -> Result<Domain> {
        Ok(Domain::new(self.description()?, self.trainable.deltas()?))
    }

    pub(super) fn description(&self) -> Result<Description> {
        let parameters = self.settings.parameters;
        Ok(Description {
            clips: self.guides.iter().map(|g| g.clip.name.clone()).collect(),
            step: self.step,
            settings: carried(&self.settings)?,
            ..Description::new(Origin::Adapted, &self.source, &self.target, parameters, &self.frozen)?
        })
    }

    /// The step that [`Adaptation::result`] is of.
    pub fn chosen_step(&self) -> usize {
        self.chosen.as_ref().map_or(self.step, |chosen| chosen.0)
    }

    /// What the stop rule chose, else the current state.
    pub fn result(&self) -> Result<Domain> {
        match &self.chosen {
            Some((_, domain)) => Ok((**domain).clone()),
            None => self.domain(),
        }
    }

    /// The trained generator as it is now; later steps do not change it.
    pub fn generator(&self) -> Result<Generator> {
        self.frozen.with_domains(&[(&self.domain()?, 1.0)])
    }

    /// Fixed latents of the run, `count` of at most 8: the first row by the frozen twin, the second by the trained one.
    pub fn preview(&self, count: usize) -> Result<Picture> {
        self.preview_unless(count, &Cancel::new())
    }

    /// As [`Adaptation::preview`]; `Cancelled` once the flag is raised, which is looked at after each layer.
    pub fn preview_unless(&self, count: usize, cancel: &Cancel) -> Result<Picture> {
        let count = count.clamp(1, PREVIEW_PICTURES);
        let noise = || if self.settings.noise { Noise::Const } else { Noise::None };
        let draw = |g: &Generator, from: usize| -> Result<Vec<Picture>> {
            let z = Latent { space: Space::Z, tensor: self.preview.narrow(0, from, count - from)?, noise: None };
            // The twins share the frozen mapping network and its mean.
            let latent = Latent { space: Space::WPlus, tensor: self.frozen.wplus(&z, PREVIEW_TRUNCATION)?, noise: None };
            let mut pictures = vec![];
            g.render_each_unless(&latent, 1.0, noise(), cancel, &mut |part| {
                for i in 0..part.dim(0)? {
                    pictures.push(Picture::from_tensor(&part, i)?);
                }
                Ok(())
            })?;
            Ok(pictures)
        };
        let mut plain = self.plain.lock().map_err(|_| Error::Internal("another preview failed".into()))?;
        if plain.len() < count {
            let more = draw(&self.frozen, plain.len())?;
            plain.extend(more);
        }
        let mut pictures = plain[..count].to_vec();
        drop(plain);
        pictures.extend(draw(&self.trainable.generator()?, 0)?);
        Picture::contact_sheet(&pictures, count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapt::StopRule;
    use crate::pack::ModelPack;
    use crate::progress::silent;
    use std::path::Path;

    /// A cancel may come between a step and what is due after it: the run that goes on looks first, and ends where an uninterrupted one does.
    #[test]
    fn what_was_due_when_a_run_was_cancelled_is_made_up_for() {
        let pack = ModelPack::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c/models/starter")).unwrap();
        let rule =
            StopRule { latents: 4, every: 2, pairing: 0.0, structure: 0.0, earliest: 4, plateau: 10.0, plateau_steps: 2, patience: 2 };
        let settings = Settings { steps: 8, batch: 2, noise: false, snapshot_every: 2, stop: Some(rule), ..Settings::default() };
        let run = || {
            let text = |t: &str| Concept::Text(t.into());
            let (generator, clips) = (Arc::new(pack.load_generator().unwrap()), pack.load_clips().unwrap());
            Adaptation::new(generator, &clips, text("a photo"), text("a zombie"), &Templates(vec!["{}".into()]), settings.clone()).unwrap()
        };
        let (mut whole, mut halted) = (run(), run());
        let outcome = whole.run(&Cancel::new(), &mut silent).unwrap();
        assert_eq!((outcome.ended, outcome.steps), (Ended::Rule, 4));
        halted.train_one(&Cancel::new()).unwrap();
        halted.attended = 1;
        halted.train_one(&Cancel::new()).unwrap();
        let again = halted.run(&Cancel::new(), &mut silent).unwrap();
        assert_eq!((again.ended, again.steps, again.chosen), (outcome.ended, outcome.steps, outcome.chosen));
        assert_eq!(halted.snapshots().iter().map(|s| s.step).collect::<Vec<_>>(), [2, 4]);
    }

    fn run(settings: Settings) -> Adaptation {
        let pack = ModelPack::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c/models/starter")).unwrap();
        let text = |t: &str| Concept::Text(t.into());
        let (generator, clips) = (Arc::new(pack.load_generator().unwrap()), pack.load_clips().unwrap());
        Adaptation::new(generator, &clips, text("a photo"), text("a zombie"), &Templates(vec!["{}".into()]), settings).unwrap()
    }

    /// A step with latents of the pool is the step with them given, but for the rounding of pictures that are drawn alone; and each unadapted
    /// picture is drawn once.
    #[test]
    fn a_pool_changes_no_loss() {
        for (augment, structure) in [(false, 0.0), (false, 50.0), (true, 0.0)] {
            let losses = crate::adapt::LossWeights { structure, ..Default::default() };
            let settings =
                Settings { batch: 2, pool: 4, noise: true, mixing: 0.0, augment, losses, learning_rate: 0.02, ..Settings::default() };
            let (mut pooled, mut given) = (run(settings.clone()), run(settings));
            for step in 0..4 {
                let indices = pooled.pool.as_ref().unwrap().of_step(step, 2);
                assert_eq!(pooled.pool.as_ref().unwrap().missing(&indices).len(), if step < 2 { 2 } else { 0 });
                let draws: Vec<Draws> =
                    indices.iter().map(|&i| pooled.pool.as_ref().unwrap().draws(i, &pooled.twin, &pooled.settings).unwrap()).collect();
                let both = |of: &dyn Fn(&Draws) -> Tensor| Tensor::cat(&draws.iter().map(of).collect::<Vec<_>>(), 0).unwrap();
                let maps = |twin: usize| {
                    let layers = draws[0].noise.as_ref().unwrap()[twin].len();
                    (0..layers).map(|l| both(&|d| d.noise.as_ref().unwrap()[twin][l].clone())).collect::<Vec<_>>()
                };
                let batch = Draws { z: both(&|d| d.z.clone()), mixing: None, noise: Some([maps(0), maps(1)]), selection: None };
                // From the same weights, as training makes much of a rounding.
                given.trainable.variables.iter().for_each(|(key, var)| var.set(&pooled.trainable.variables[key]).unwrap());
                let want = given.step_with(&batch, &mut pooled.rng.clone()).unwrap().loss;
                let have = pooled.step().unwrap().loss;
                assert!((have - want).abs() < 1e-4 * (1.0 + want.abs()), "step {step}: {have} instead of {want}");
            }
        }
    }

    /// What a step asks gradients of: offsets alone, or the weights of the layers that are trained.
    #[test]
    fn gradients_are_asked_of_what_is_trained_alone() {
        let tracked = |settings: Settings, keys: &dyn Fn(&Adaptation) -> BTreeSet<String>| {
            let a = run(settings);
            let g = a.trainable.tracking(&a.trained().unwrap(), &keys(&a)).unwrap();
            let of = |all: &std::collections::BTreeMap<String, Tensor>| {
                all.iter().filter(|(_, t)| t.track_op()).map(|(key, _)| key.clone()).collect::<Vec<_>>()
            };
            (of(g.weights()), of(g.offsets()))
        };
        let base = Settings { noise: false, ..Settings::default() };
        let all = |a: &Adaptation| a.trainable.all();
        let (weights, offsets) = tracked(Settings { parameters: Parameters::Stylespace, ..base.clone() }, &all);
        assert!(weights.is_empty() && !offsets.is_empty(), "{weights:?}");
        let (weights, _) = tracked(Settings { phase: crate::adapt::Phase::Shape, ..base.clone() }, &all);
        let of = |prefix: &str| weights.iter().any(|k| k.starts_with(prefix));
        assert!(of("conv1.") && of("convs.1.") && !of("convs.2.") && !of("to_rgb") && !of("style."), "{weights:?}");
        // Of selected layers those alone.
        let (weights, _) = tracked(base, &|a| {
            let layer = a.frozen.config().layer("convs.2").unwrap();
            a.trainable.of_layers(&[layer])
        });
        assert!(!weights.is_empty() && weights.iter().all(|k| k.starts_with("convs.2.")), "{weights:?}");
    }
}
