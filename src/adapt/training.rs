//! The training loop.

use super::clip_pass::{self, Twins};
use super::domain::{carried, Description, Domain, Origin};
use super::judge::{Judge, Judgement, Looks, Verdict};
use super::losses::{normalise, Guide};
use super::settings::Settings;
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
use candle_core::{Tensor, Var};
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

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

/// Everything random about one step; [`Adaptation::step`] draws it, a comparison with another implementation brings its own.
pub struct Draws {
    /// [batch, z_dim]
    pub z: Tensor,
    /// Style mixing, one for each twin: a second z and the row from which it is taken.
    pub mixing: Option<[(Tensor, usize); 2]>,
    /// Noise maps of the frozen and the trained twin; `None` for a generator without noise.
    pub noise: Option<[Vec<Tensor>; 2]>,
    /// For adaptive selection: z [batch, z_dim] and the noise maps of each iteration; without it everything is trained.
    pub selection: Option<(Tensor, Vec<Vec<Tensor>>)>,
}

impl Draws {
    /// The draws of some pictures of the batch; selection has its own and is left out.
    fn narrow(&self, range: &Range<usize>) -> Result<Self> {
        let some = |t: &Tensor| Result::Ok(t.narrow(0, range.start, range.len())?);
        let mixing = match &self.mixing {
            None => None,
            Some([a, b]) => Some([(some(&a.0)?, a.1), (some(&b.0)?, b.1)]),
        };
        // A map of one serves the whole batch.
        let maps = |maps: &[Tensor]| maps.iter().map(|m| if m.dim(0)? == 1 { Ok(m.clone()) } else { some(m) }).collect::<Result<Vec<_>>>();
        let noise = match &self.noise {
            None => None,
            Some([a, b]) => Some([maps(a)?, maps(b)?]),
        };
        Ok(Self { z: some(&self.z)?, mixing, noise, selection: None })
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
}

/// Gives noise maps for an iteration of layer selection, or none.
type NoiseOf<'a> = dyn FnMut(usize) -> Result<Option<Vec<Tensor>>> + 'a;

/// Is given each snapshot when it is taken, and the run in that state.
pub type Keep<'a> = dyn FnMut(&Adaptation, &Snapshot) -> Result<()> + 'a;

/// Streams of a run's random numbers; the judge has 3.
const TRAINING: u64 = 1;
const PREVIEW: u64 = 2;
const OWN_PICTURES: u64 = 4;

/// One adaptation, step by step. May be used from one thread at a time.
pub struct Adaptation {
    pub(super) frozen: Arc<Generator>,
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
    /// W+ of the preview's pictures.
    preview: Tensor,
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
        let rows = generator.config().n_latent();
        if let Some(a) = settings.auto_layers.filter(|a| a.k > rows) {
            return Err(Error::argument("auto_layers", format!("k is {}, the generator has {rows} rows", a.k)));
        }
        let own = match (&source, &target) {
            (Concept::Text(_), Concept::Pictures(_)) => {
                let tensor = Rng::stream(settings.seed, OWN_PICTURES).normals(&[16, generator.config().z_dim], generator.device())?;
                let mut parts = vec![];
                let latent = Latent { space: Space::Z, tensor, noise: None };
                generator.render_each_unless(&latent, settings.truncation, Noise::None, cancel, &mut |part| {
                    parts.push(as_rgb(&part)?);
                    Ok(())
                })?;
                Some(Tensor::cat(&parts, 0)?)
            }
            _ => None,
        };
        let guides = clips
            .par_iter()
            .map(|c| Guide::new(c, &rules, &source, &target, templates, own.as_ref(), cancel))
            .collect::<Result<Vec<_>>>()?;
        let z = Rng::stream(settings.seed, PREVIEW).normals(&[8, generator.config().z_dim], generator.device())?;
        let preview = generator.broadcast(&generator.truncate(&generator.map(&z)?, 0.7)?)?;
        let trainable = Trainable::new(&generator, start, &settings)?;
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
            _warm: Warm::new(),
            frozen: generator,
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
        let draws = self.draw(&mut rng)?;
        let report = self.advance(selected, &draws, &mut rng, cancel)?;
        self.rng = rng;
        Ok(report)
    }

    /// Noise maps for `batch` pictures.
    fn draw_noise(&self, rng: &mut Rng, batch: usize) -> Result<Vec<Tensor>> {
        self.frozen.noise_maps().iter().map(|m| rng.normals(&[batch, 1, m.dim(2)?, m.dim(3)?], self.frozen.device())).collect()
    }

    /// What the step trains, with random numbers of its own.
    fn select(&self, rng: &mut Rng, cancel: &Cancel) -> Result<Selected> {
        let Some(a) = self.settings.auto_layers else { return Ok(self.select_all()) };
        let z = rng.normals(&[a.batch, self.frozen.config().z_dim], self.frozen.device())?;
        // Maps of one iteration at a time: those of all are gigabytes at 1024 px.
        let mut noise = |_| if self.settings.noise { Ok(Some(self.draw_noise(rng, a.batch)?)) } else { Ok(None) };
        Ok(self.select_by(&self.scores(&z, a.iterations, &mut noise, cancel)?))
    }

    fn select_all(&self) -> Selected {
        Selected { rows: vec![], keys: self.trainable.all() }
    }

    /// The layers of the rows that changed most.
    fn select_by(&self, change: &[f32]) -> Selected {
        let mut rows: Vec<usize> = (0..change.len()).filter(|&r| self.selectable(r).is_some()).collect();
        rows.sort_by(|&a, &b| change[b].total_cmp(&change[a]));
        rows.truncate(self.settings.auto_layers.map_or(change.len(), |a| a.k));
        let layers: Vec<&Layer> = rows.iter().filter_map(|&r| self.selectable(r)).collect();
        Selected { keys: self.trainable.of_layers(&layers), rows }
    }

    /// Everything but the selection's.
    fn draw(&self, rng: &mut Rng) -> Result<Draws> {
        let (s, config, device) = (&self.settings, self.frozen.config(), self.frozen.device());
        let shared = s.rules().shared_draws;
        let shape = |batch: usize| [batch, config.z_dim];
        let maps = |rng: &mut Rng, batch: usize| self.draw_noise(rng, batch);
        let z = rng.normals(&shape(s.batch), device)?;
        let mixing = if s.mixing > 0.0 && rng.uniform() < s.mixing {
            let mut one = || -> Result<(Tensor, usize)> {
                let z = rng.normals(&shape(s.batch), device)?;
                Ok((z, 1 + rng.below(config.n_latent() - 1)))
            };
            let first = one()?;
            // The published twins share the second z and draw their own crossovers.
            let second = if shared { first.clone() } else { (first.0.clone(), one()?.1) };
            Some([first, second])
        } else {
            None
        };
        let noise = match (s.noise, shared) {
            (false, _) => None,
            (true, true) => {
                let shared = maps(rng, s.batch)?;
                Some([shared.clone(), shared])
            }
            (true, false) => Some([maps(rng, s.batch)?, maps(rng, s.batch)?]),
        };
        Ok(Draws { z, mixing, noise, selection: None })
    }

    /// One training step with given random numbers; `rng` serves the augmentation.
    pub fn step_with(&mut self, draws: &Draws, rng: &mut Rng) -> Result<StepReport> {
        let selected = match &draws.selection {
            Some((z, noise)) => self.select_by(&self.layer_changes(z, noise)?),
            None => self.select_all(),
        };
        let report = self.advance(selected, draws, rng, &Cancel::new())?;
        self.attended = self.step;
        Ok(report)
    }

    /// Looks at `cancel` inside a step too, after each layer and each CLIP: a large step takes longer than a user waits. Nothing is written
    /// before its end.
    fn advance(
        &mut self,
        Selected { rows, keys: selected }: Selected,
        draws: &Draws,
        rng: &mut Rng,
        cancel: &Cancel,
    ) -> Result<StepReport> {
        let trained = self.trainable.generator(&selected)?;
        let ranges = clip_pass::ranges(self.settings.rules().divided, draws.z.dim(0)?);
        let twins = |range: &Range<usize>| self.twins(&trained, &draws.narrow(range)?, cancel);
        let parts = ranges.par_iter().map(twins).collect::<Result<Vec<_>>>()?;
        cancel.check()?;
        let (mut loss, mut seeds) = clip_pass::clip_seeds(&self.guides, &self.settings, &parts, rng, cancel)?;
        cancel.check()?;
        // Of a single picture there is nothing: it is the batch's mean.
        if self.settings.losses.structure > 0.0 && draws.z.dim(0)? > 1 {
            let (apart, gradients) = structure::loss(&parts, self.settings.structure_floor, self.settings.losses.structure)?;
            loss += apart;
            for ((seed, gradient), part) in seeds.iter_mut().zip(&gradients).zip(&parts) {
                *seed = (&*seed + with_gradient(&part.after, gradient)?)?;
            }
        }
        drop(parts);
        if !loss.is_finite() {
            return Err(Error::NotFinite(format!("the loss of step {} is {loss}: a smaller learning_rate may help", self.step + 1)));
        }
        let back = |seed: Tensor| {
            cancel.check()?;
            Ok(seed.backward()?)
        };
        let grads = seeds.into_par_iter().map(back).collect::<Result<Vec<_>>>()?;
        cancel.check()?;
        let left_out = self.settings.rules().left_out;
        let rate = self.settings.schedule().share(self.step, self.settings.steps);
        self.optimiser.step_of(&grads, rate, |key| if selected.contains(key) { Gradient::Own } else { left_out })?;
        self.step += 1;
        self.loss = loss;
        Ok(StepReport { step: self.step, loss, rows })
    }

    fn selectable(&self, row: usize) -> Option<&Layer> {
        self.settings.selectable(self.frozen.config(), row)
    }

    /// Pictures of the frozen twin, and of the trained one with its graph.
    fn twins(&self, trained: &Generator, draws: &Draws, cancel: &Cancel) -> Result<Twins> {
        let noise = |twin: usize| draws.noise.as_ref().map_or(Noise::None, |n| Noise::Given(&n[twin]));
        let wplus = |mapper: &Generator, twin: usize| -> Result<Tensor> {
            let map = |z: &Tensor| mapper.broadcast(&mapper.truncate(&mapper.map(z)?, self.settings.truncation)?);
            match &draws.mixing {
                None => map(&draws.z),
                Some(mixing) => mapper.mix(&map(&draws.z)?, &map(&mixing[twin].0)?, mixing[twin].1),
            }
        };
        // The twins share the frozen mapping network, unless the trained one's is trained.
        let own_mapping = self.settings.rules().own_mapping && self.trainable.trains_mapping();
        // One after the other: side by side they would need the memory of both.
        let before = self.frozen.synthesize_unless(&wplus(&self.frozen, 0)?, noise(0), cancel)?;
        let after = trained.synthesize_unless(&wplus(if own_mapping { trained } else { &self.frozen }, 1)?, noise(1), cancel)?;
        Ok(Twins { before: as_rgb(&before)?, after: as_rgb(&after)? })
    }

    /// The losses in CLIP's space, and a scalar whose backward pass carries their gradient into `after`.
    pub fn clip_gradients(&self, before: &Tensor, after: &Tensor, rng: &mut Rng) -> Result<(f32, Tensor)> {
        let twins = [Twins { before: before.clone(), after: after.clone() }];
        let (loss, mut seeds) = clip_pass::clip_seeds(&self.guides, &self.settings, &twins, rng, &Cancel::new())?;
        Ok((loss, seeds.remove(0)))
    }

    /// Adaptive layer selection (Gal et al. 2021, section 4.2): mean |change| of each row of W+ after SGD with rate 0.01 on W+ alone
    /// towards the target, one step for each set of noise maps (or `iterations` without noise).
    pub fn layer_changes(&self, z: &Tensor, noise: &[Vec<Tensor>]) -> Result<Vec<f32>> {
        let iterations = if noise.is_empty() { self.settings.auto_layers.map_or(1, |a| a.iterations) } else { noise.len() };
        self.scores(z, iterations, &mut |i| Ok(noise.get(i).cloned()), &Cancel::new())
    }

    /// As [`Adaptation::layer_changes`]; `noise` gives the maps of each iteration when it begins.
    fn scores(&self, z: &Tensor, iterations: usize, noise: &mut NoiseOf, cancel: &Cancel) -> Result<Vec<f32>> {
        let frozen = &self.frozen;
        let start = frozen.broadcast(&frozen.truncate(&frozen.map(z)?, self.settings.truncation)?)?;
        let trained = self.trainable.generator(&BTreeSet::new())?;
        let wplus = Var::from_tensor(&start)?;
        let mut sgd = Optimiser::named([("W+".into(), wplus.clone())], optim::Config::new(Rule::Sgd, SELECTION_RATE));
        for i in 0..iterations {
            let maps = noise(i)?;
            let noise = maps.as_ref().map_or(Noise::None, |m| Noise::Given(m));
            let image = as_rgb(&trained.synthesize_unless(wplus.as_tensor(), noise, cancel)?)?;
            let mut total: Option<Tensor> = None;
            for g in &self.guides {
                cancel.check()?;
                let e = normalise(&g.clip.encode_image(&g.clip.preprocess(&image, self.settings.clip_resize)?)?)?;
                let loss = (g.selection_loss(&e)? * g.weight as f64)?;
                total = Some(match total {
                    None => loss,
                    Some(t) => (t + loss)?,
                });
            }
            cancel.check()?;
            let grads = total.ok_or_else(|| Error::Internal("no CLIP".into()))?.backward()?;
            sgd.step_of(&[grads], 1.0, |_| Gradient::Own)?;
        }
        Ok((wplus.as_detached_tensor() - start)?.abs()?.mean(2)?.mean(0)?.to_vec1()?)
    }

    /// Trains until `settings.steps` or the stop rule, taking snapshots, which [`Adaptation::snapshots`] keeps. With `Cancelled` the state is
    /// the last complete step, and its snapshots can be taken; calling again goes on.
    pub fn run(&mut self, cancel: &Cancel, on_progress: &mut OnProgress) -> Result<Outcome> {
        self.run_until(cancel, on_progress, None)
    }

    /// As [`Adaptation::run`], with every snapshot given to `keep` when it is taken instead of being kept. An error of `keep` ends the run,
    /// whose state is then that of the snapshot's step.
    pub fn run_keeping(&mut self, cancel: &Cancel, on_progress: &mut OnProgress, keep: &mut Keep) -> Result<Outcome> {
        self.run_until(cancel, on_progress, Some(keep))
    }

    fn run_until(&mut self, cancel: &Cancel, on_progress: &mut OnProgress, mut keep: Option<&mut Keep>) -> Result<Outcome> {
        let total = self.settings.steps;
        if let (Some(rule), None) = (self.settings.stop, &self.judge) {
            let looks = self.looks.clone().unwrap_or_default();
            self.judge = Some(Judge::new(&self.frozen, &self.guides, &self.settings, rule, looks, cancel)?);
        }
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
            // A look that was taken before a cancel is not taken again.
            let mut judgement = self.looked.filter(|(step, _)| *step == self.step).map(|(_, judgement)| judgement);
            if let Some(mut judge) = self.judge.take_if(|_| judge_due && judgement.is_none()) {
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
            if let (Some(snapshot), Some(keep)) = (&snapshot, &mut keep) {
                keep(self, snapshot)?;
            }
            let preview = snapshot.as_ref().map(|s| &s.preview);
            let flow = on_progress(&Progress { step: self.step, total, loss: self.loss, preview });
            if keep.is_none() {
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
        let preview = self.preview_unless(4, cancel)?;
        Ok(Snapshot { step: self.step, loss: self.loss, judgement, preview, domain: Arc::new(self.domain()?) })
    }

    fn judged(&self, judge: &mut Judge, cancel: &Cancel) -> Result<Verdict> {
        let trained = self.trainable.generator(&BTreeSet::new())?;
        judge.look(&trained, &self.guides, &self.settings, self.step, cancel)
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
        let latent = Latent { space: Space::WPlus, tensor: self.preview.narrow(0, 0, count.clamp(1, 8))?, noise: None };
        let trained = self.trainable.generator(&BTreeSet::new())?;
        let mut pictures = vec![];
        for g in [&*self.frozen, &trained] {
            let image = g.render_unless(&latent, 1.0, if self.settings.noise { Noise::Const } else { Noise::None }, cancel)?;
            for i in 0..image.dim(0)? {
                pictures.push(Picture::from_tensor(&image, i)?);
            }
        }
        Picture::contact_sheet(&pictures, count.clamp(1, 8))
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
}
