//! Optimisers and schedules, for whoever trains: adaptation, inversion, mappers.
//!
//! An update is one operation over the storage of a parameter, of its state and of its gradient, in place and without a way over the
//! host. Its arithmetic is said once, for one number of a parameter (`Element`), and gets whole slices (`Slices`).

use crate::error::{Error, Result};
#[cfg(feature = "cuda")]
use crate::kernels::cuda;
use crate::kernels::{change, InPlace, View};
use candle_core::{backprop::GradStore, DType, Tensor, Var};
use rayon::prelude::*;
use std::cell::Cell;
use std::collections::BTreeSet;

/// How a gradient moves a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// p -= rate * g
    Sgd,
    /// Kingma and Ba 2015, algorithm 1. With a `beta1` of 0 (StyleGAN's) no first moments are kept.
    Adam { beta1: f64, beta2: f64, epsilon: f64 },
    /// Rectified Adam (Liu et al. 2020, algorithm 2) inside Lookahead (Zhang et al. 2019: 6 fast steps, then half the way) with
    /// centralised gradients (Yong et al. 2020), as the encoders' and mappers' published training has it: as long as the rectification
    /// says too little, momentum alone moves the parameter, not divided by the second moments.
    Ranger { beta1: f64, beta2: f64, epsilon: f64 },
}

impl Rule {
    /// Adam with the usual epsilon.
    pub const fn adam(beta1: f64, beta2: f64) -> Self {
        Rule::Adam { beta1, beta2, epsilon: 1e-8 }
    }

    /// Ranger as published.
    pub const RANGER: Self = Rule::Ranger { beta1: 0.95, beta2: 0.999, epsilon: 1e-5 };

    /// How many numbers are kept beside each of a parameter's.
    fn rows(self) -> usize {
        match self {
            Rule::Sgd => 0,
            Rule::Adam { beta1: 0.0, .. } => 1,
            Rule::Adam { .. } => 2,
            Rule::Ranger { .. } => 3,
        }
    }
}

/// An optimiser's settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    pub rule: Rule,
    pub learning_rate: f64,
    /// Before a step a parameter shrinks by this times the learning rate (Loshchilov and Hutter 2019).
    pub weight_decay: f64,
}

impl Config {
    pub fn new(rule: Rule, learning_rate: f64) -> Self {
        Self { rule, learning_rate, weight_decay: 0.0 }
    }
}

/// How the learning rate goes over a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Schedule {
    Constant,
    /// Falls linearly, to nothing after the last step.
    Linear,
    /// Rises linearly from `start`, as fast as from 0 to 1 over the share `up` of the steps, falls as a cosine over the share `down` at the
    /// end (Karras et al. 2020, appendix D, with a start of 0).
    RiseAndFall {
        start: f64,
        up: f64,
        down: f64,
    },
}

impl Schedule {
    /// The rate of step `step` (from 0) of `steps` as a share of the learning rate. Beyond `steps` it stays what it would be at their end.
    pub fn share(self, step: usize, steps: usize) -> f64 {
        let t = if step < steps { step as f64 / steps as f64 } else { 1.0 };
        match self {
            Schedule::Constant => 1.0,
            Schedule::Linear => 1.0 - t,
            Schedule::RiseAndFall { start, up, down } => {
                let up = (t / up + start).min(1.0);
                let down = ((1.0 - t) / down).min(1.0);
                up * (0.5 - 0.5 * (down * std::f64::consts::PI).cos())
            }
        }
    }
}

/// Which gradient a step takes for a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gradient {
    /// Its own; where there is none, zero.
    Own,
    /// Zero, whatever its own is: moments decay.
    Zero,
    /// None at all: the parameter and its moments stay.
    Skip,
}

/// What an optimiser keeps of a parameter.
#[derive(Clone, Debug)]
pub struct State {
    /// Steps that moved the parameter.
    pub steps: i32,
    /// [rows, n] for a parameter of n numbers. Adam: first moments (none for a `beta1` of 0), second moments; Ranger: these two, then the
    /// slow weights.
    pub moments: Tensor,
}

struct Parameter {
    name: String,
    var: Var,
    /// None before the first step.
    state: Option<State>,
}

/// Moves variables against their gradients. f32 only. May be used from one thread at a time; a step shares its work among rayon's.
pub struct Optimiser {
    config: Config,
    parameters: Vec<Parameter>,
}

impl Optimiser {
    /// Of variables with names, by which errors and [`Optimiser::states`] call them.
    pub fn named(variables: impl IntoIterator<Item = (String, Var)>, config: Config) -> Self {
        let parameters = variables.into_iter().map(|(name, var)| Parameter { name, var, state: None }).collect();
        Self { config, parameters }
    }

    /// What is kept of each parameter that was moved, by name.
    pub fn states(&self) -> impl Iterator<Item = (&str, &State)> {
        self.parameters.iter().filter_map(|p| Some((p.name.as_str(), p.state.as_ref()?)))
    }

    /// The number of rows in each [`State::moments`].
    pub fn rows(&self) -> usize {
        self.config.rule.rows()
    }

    /// Puts back what [`Optimiser::states`] gave; parameters that `state` has nothing for begin anew. On an error nothing has changed.
    ///
    /// Errors: `Mismatch` where a state has other numbers than its parameter needs.
    pub fn restore(&mut self, mut state: impl FnMut(&str) -> Option<State>) -> Result<()> {
        let rows = self.rows();
        let mut states = Vec::with_capacity(self.parameters.len());
        for p in &self.parameters {
            let state = state(&p.name);
            let want = [rows, p.var.elem_count()];
            if let Some(s) = state.as_ref().filter(|s| s.moments.dims() != want || s.steps < 1) {
                let message = format!("{}: moments of shape {:?} after {} steps; want {want:?}", p.name, s.moments.dims(), s.steps);
                return Err(Error::Mismatch(message));
            }
            states.push(state);
        }
        self.parameters.iter_mut().zip(states).for_each(|(p, state)| p.state = state);
        Ok(())
    }

    /// Moves each variable against the sum of its gradients (in that order), with `share` of the learning rate; `of` says which gradient it
    /// takes. Everything is looked at before the first number is written: on an error nothing has changed.
    ///
    /// Errors: `NotFinite` that names a variable which would become NaN or infinite.
    pub fn step_of(&mut self, grads: &[GradStore], share: f64, of: impl Fn(&str) -> Gradient + Sync) -> Result<()> {
        let config = Config { learning_rate: self.config.learning_rate * share, ..self.config };
        let prepare = |p: &Parameter| -> Result<Option<Prepared>> {
            let choice = of(&p.name);
            if choice == Gradient::Skip {
                return Ok(None);
            }
            let mut own = grads.iter().filter(|_| choice == Gradient::Own).filter_map(|g| g.get(p.var.as_tensor()));
            let grad = match own.next() {
                Some(first) => own.try_fold(first.clone(), |sum, g| sum + g)?.contiguous()?,
                None => p.var.zeros_like()?,
            };
            let mut state = match &p.state {
                // The moments themselves, not a copy.
                Some(state) => state.clone(),
                None => {
                    let rows = config.rule.rows();
                    // No allocation of a GPU is empty.
                    let room = Tensor::zeros((rows.max(1), p.var.elem_count()), DType::F32, p.var.device())?;
                    State { steps: 0, moments: room.narrow(0, 0, rows)? }
                }
            };
            state.steps += 1;
            // Where numbers lie elsewhere, what was seen of them is there too, until all have been looked at.
            let away = match p.var.device().is_cpu() {
                true => None,
                false => Some(Tensor::zeros(1, DType::F32, p.var.device())?),
            };
            let bad = Cell::new(None);
            let look = Update { config: &config, step: state.steps, dims: p.var.dims(), pass: Pass::Look, bad: &bad, away: away.as_ref() };
            look.over(&p.var, &state.moments, &grad)?;
            match bad.get() {
                None => Ok(Some((grad, state, away))),
                Some(bad) => Err(not_finite(&p.name, bad)),
            }
        };
        let prepared = self.parameters.par_iter().map(prepare).collect::<Result<Vec<_>>>()?;
        let away = |of: &Option<Prepared>| of.as_ref().and_then(|(_, _, away)| away.clone());
        let names = self.parameters.iter().zip(&prepared).filter(|(_, of)| away(of).is_some()).map(|(p, _)| &p.name);
        let away: Vec<Tensor> = prepared.iter().filter_map(away).collect();
        if !away.is_empty() {
            let seen = Tensor::cat(&away, 0)?.to_vec1::<f32>()?;
            if let Some((name, bad)) = names.zip(seen).find(|(_, bad)| *bad != 0.0) {
                return Err(not_finite(name, bad));
            }
        }
        let write = |(p, prepared): (&mut Parameter, Option<Prepared>)| -> Result<()> {
            let Some((grad, state, _)) = prepared else { return Ok(()) };
            let bad = Cell::new(None);
            let write = Update { config: &config, step: state.steps, dims: p.var.dims(), pass: Pass::Write, bad: &bad, away: None };
            write.over(&p.var, &state.moments, &grad)?;
            p.state = Some(state);
            Ok(())
        };
        self.parameters.par_iter_mut().zip(prepared).map(write).collect()
    }
}

/// The names are the variables' numbers, from 0. An [`Error`] comes back from candle's by `Error::from`.
impl candle_nn::Optimizer for Optimiser {
    type Config = Config;

    fn new(vars: Vec<Var>, config: Config) -> candle_core::Result<Self> {
        Ok(Self::named(vars.into_iter().enumerate().map(|(i, var)| (format!("variable {i}"), var)), config))
    }

    /// A variable without a gradient stays, and so do its moments.
    fn step(&mut self, grads: &GradStore) -> candle_core::Result<()> {
        let with: BTreeSet<String> =
            self.parameters.iter().filter(|p| grads.get(p.var.as_tensor()).is_some()).map(|p| p.name.clone()).collect();
        let of = |name: &str| if with.contains(name) { Gradient::Own } else { Gradient::Skip };
        Ok(self.step_of(std::slice::from_ref(grads), 1.0, of)?)
    }

    fn learning_rate(&self) -> f64 {
        self.config.learning_rate
    }

    fn set_learning_rate(&mut self, rate: f64) {
        self.config.learning_rate = rate;
    }
}

/// What a step will need of a parameter: its gradient, its state, and where what was seen of them lies, if that is elsewhere.
type Prepared = (Tensor, State, Option<Tensor>);

/// What an update works on: a parameter of n numbers, its state [rows, n], its gradient.
struct Slices<'a> {
    parameter: &'a mut [f32],
    state: &'a mut [f32],
    gradient: &'a [f32],
}

/// Whether an update is only looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    Look,
    Write,
}

/// What becomes of one number of a parameter and of its state.
trait Element<const ROWS: usize> {
    fn next(&self, p: f32, g: f32, state: [f32; ROWS]) -> (f32, [f32; ROWS]);
}

struct Sgd {
    keep: f32,
    rate: f32,
}

impl Element<0> for Sgd {
    #[inline(always)]
    fn next(&self, p: f32, g: f32, state: [f32; 0]) -> (f32, [f32; 0]) {
        (self.keep * p - self.rate * g, state)
    }
}

/// Scalars of a step of Adam; the rate holds the correction of the first moments, `correction` is that of the second ones' root.
struct Adam {
    keep: f32,
    beta1: f32,
    beta2: f32,
    rate: f32,
    correction: f32,
    epsilon: f32,
}

impl Adam {
    #[inline(always)]
    fn moved(&self, p: f32, m: f32, v: f32) -> f32 {
        self.keep * p - self.rate * m / (v.sqrt() / self.correction + self.epsilon)
    }

    #[inline(always)]
    fn square(&self, v: f32, g: f32) -> f32 {
        self.beta2 * v + (1.0 - self.beta2) * g * g
    }
}

/// With a first beta of 0.
impl Element<1> for Adam {
    #[inline(always)]
    fn next(&self, p: f32, g: f32, [v]: [f32; 1]) -> (f32, [f32; 1]) {
        let v = self.square(v, g);
        (self.moved(p, g, v), [v])
    }
}

impl Element<2> for Adam {
    #[inline(always)]
    fn next(&self, p: f32, g: f32, [m, v]: [f32; 2]) -> (f32, [f32; 2]) {
        let m = self.beta1 * m + (1.0 - self.beta1) * g;
        let v = self.square(v, g);
        (self.moved(p, m, v), [m, v])
    }
}

/// Lookahead meets every so many steps, and goes this share of the way.
const MEET_EVERY: i32 = 6;
const MEET_SHARE: f32 = 0.5;
/// Rectification needs more degrees of freedom than this.
const TRACTABLE: f64 = 5.0;

struct Ranger {
    keep: f32,
    beta1: f32,
    beta2: f32,
    /// 1 - beta; of the betas as they were given, not as they are rounded to f32, which is 5e-5 of it off for 0.999.
    rest1: f32,
    rest2: f32,
    rate: f32,
    epsilon: f32,
    /// Whether the second moments are known well enough to divide by.
    rectified: bool,
    first: bool,
    meets: bool,
}

impl Element<3> for Ranger {
    #[inline(always)]
    fn next(&self, p: f32, g: f32, [m, v, slow]: [f32; 3]) -> (f32, [f32; 3]) {
        let slow = if self.first { p } else { slow };
        let m = self.beta1 * m + self.rest1 * g;
        let v = self.beta2 * v + self.rest2 * g * g;
        let by = if self.rectified { v.sqrt() + self.epsilon } else { 1.0 };
        let fast = self.keep * p - self.rate * m / by;
        if self.meets {
            let met = slow + MEET_SHARE * (fast - slow);
            (met, [m, v, met])
        } else {
            (fast, [m, v, slow])
        }
    }
}

/// What a step does to a number.
enum Elements {
    Sgd(Sgd),
    Adam(Adam),
    Ranger(Ranger),
}

/// Step number `step`, from 1.
fn elements(config: &Config, step: i32) -> Elements {
    let rate = config.learning_rate;
    let keep = (1.0 - config.weight_decay * rate) as f32;
    match config.rule {
        Rule::Sgd => Elements::Sgd(Sgd { keep, rate: rate as f32 }),
        Rule::Adam { beta1, beta2, epsilon } => {
            let rate = (rate / (1.0 - beta1.powi(step))) as f32;
            let correction = (1.0 - beta2.powi(step)).sqrt() as f32;
            Elements::Adam(Adam { keep, beta1: beta1 as f32, beta2: beta2 as f32, rate, correction, epsilon: epsilon as f32 })
        }
        Rule::Ranger { beta1, beta2, epsilon } => {
            let power = beta2.powi(step);
            let most = 2.0 / (1.0 - beta2) - 1.0;
            let free = most - 2.0 * f64::from(step) * power / (1.0 - power);
            let rectified = free > TRACTABLE;
            let rectification = match rectified {
                true => ((1.0 - power) * (free - 4.0) / (most - 4.0) * (free - 2.0) / free * most / (most - 2.0)).sqrt(),
                false => 1.0,
            };
            Elements::Ranger(Ranger {
                keep,
                beta1: beta1 as f32,
                beta2: beta2 as f32,
                rest1: (1.0 - beta1) as f32,
                rest2: (1.0 - beta2) as f32,
                rate: (rate * rectification / (1.0 - beta1.powi(step))) as f32,
                epsilon: epsilon as f32,
                rectified,
                first: step == 1,
                meets: step % MEET_EVERY == 0,
            })
        }
    }
}

/// Gradients of Ranger are centralised over all but the first dimension: how many numbers that is; None for no centring.
fn centred(dims: &[usize], all: usize) -> Option<usize> {
    match dims {
        &[first, ..] if dims.len() > 1 && first > 0 => Some(all / first),
        _ => None,
    }
}

/// Step number `step` (from 1) of a parameter of shape `dims`. Looking gives a number that is not finite and would be written, if there is
/// one.
fn update(config: &Config, step: i32, dims: &[usize], slices: Slices, pass: Pass) -> Option<f32> {
    let all = slices.parameter.len();
    match elements(config, step) {
        Elements::Sgd(sgd) => each(&sgd, slices, pass, all, false),
        Elements::Adam(adam) => match config.rule.rows() {
            1 => each::<1>(&adam, slices, pass, all, false),
            _ => each::<2>(&adam, slices, pass, all, false),
        },
        Elements::Ranger(ranger) => match centred(dims, all) {
            Some(span) => each(&ranger, slices, pass, span, true),
            None => each(&ranger, slices, pass, all, false),
        },
    }
}

/// Numbers that are looked at before anything is said of them.
const BLOCK: usize = 1024;

/// Takes `element` over all numbers, with `centred` gradients of each `span` numbers in turn.
fn each<const ROWS: usize>(element: &impl Element<ROWS>, slices: Slices, pass: Pass, span: usize, centred: bool) -> Option<f32> {
    let Slices { parameter, state, gradient } = slices;
    let n = parameter.len();
    if n == 0 {
        return None;
    }
    let mut rows = state.chunks_exact_mut(n);
    let mut rows: [&mut [f32]; ROWS] = std::array::from_fn(|_| rows.next().unwrap_or_default());
    for from in (0..n).step_by(span) {
        let span = from..(from + span).min(n);
        let shift = match centred {
            true => (gradient[span.clone()].iter().map(|&g| f64::from(g)).sum::<f64>() / span.len() as f64) as f32,
            false => 0.0,
        };
        for from in span.clone().step_by(BLOCK) {
            let block = from..(from + BLOCK).min(span.end);
            let (p, g) = (&mut parameter[block.clone()], &gradient[block.clone()]);
            let mut rows: [&mut [f32]; ROWS] = rows.each_mut().map(|row| &mut row[block.clone()][..p.len()]);
            match pass {
                Pass::Look => {
                    let next = |(i, (p, g)): (usize, (&f32, &f32))| element.next(*p, *g - shift, std::array::from_fn(|r| rows[r][i])).0;
                    // Without a way out of the loop it becomes one of vectors.
                    if p.iter().zip(g).enumerate().fold(false, |bad, at| bad | !next(at).is_finite()) {
                        return p.iter().zip(g).enumerate().map(next).find(|p| !p.is_finite());
                    }
                }
                Pass::Write => {
                    for (i, (p, g)) in p.iter_mut().zip(g).enumerate() {
                        let (next, state) = element.next(*p, *g - shift, std::array::from_fn(|r| rows[r][i]));
                        *p = next;
                        rows.iter_mut().zip(state).for_each(|(row, s)| row[i] = s);
                    }
                }
            }
        }
    }
    None
}

fn not_finite(name: &str, bad: f32) -> Error {
    Error::NotFinite(format!("training made {name} {bad}: a smaller learning_rate may help"))
}

/// A step of one parameter, or a look at it.
struct Update<'a> {
    config: &'a Config,
    step: i32,
    dims: &'a [usize],
    pass: Pass,
    /// Becomes a number that is not finite and would be written, if there is one.
    bad: &'a Cell<Option<f32>>,
    /// The same, where the numbers lie elsewhere: [1], 0 for none.
    #[cfg_attr(not(feature = "cuda"), allow(dead_code))]
    away: Option<&'a Tensor>,
}

impl Update<'_> {
    /// Of three tensors of f32, contiguous; the first two may be changed in place.
    fn over(&self, parameter: &Tensor, state: &Tensor, gradient: &Tensor) -> Result<()> {
        if gradient.dims() != parameter.dims() {
            let (g, p) = (gradient.dims(), parameter.dims());
            return Err(Error::Internal(format!("a gradient of shape {g:?} for a parameter of shape {p:?}")));
        }
        Ok(change(self, [parameter, state], [gradient])?)
    }
}

impl InPlace<2, 1> for Update<'_> {
    const NAME: &'static str = "an optimiser's step";

    fn cpu(&self, [parameter, state]: [&mut [f32]; 2], [gradient]: [View; 1]) -> candle_core::Result<()> {
        let slices = Slices { parameter, state, gradient: gradient.values };
        self.bad.set(update(self.config, self.step, self.dims, slices, self.pass));
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &cuda::Gpu, [parameter, state]: [cuda::Argument; 2], [gradient]: [cuda::View; 1]) -> candle_core::Result<()> {
        use cuda::At;
        let length = gradient.values.len();
        let rows = self.config.rule.rows();
        let none = Ranger {
            keep: 0.0,
            beta1: 0.0,
            beta2: 0.0,
            rest1: 0.0,
            rest2: 0.0,
            rate: 0.0,
            epsilon: 0.0,
            rectified: false,
            first: false,
            meets: false,
        };
        let (rule, r, correction) = match elements(self.config, self.step) {
            Elements::Sgd(Sgd { keep, rate }) => (0, Ranger { keep, rate, ..none }, 1.0),
            Elements::Adam(Adam { keep, beta1, beta2, rate, correction, epsilon }) => {
                let (rest1, rest2) = (1.0 - beta1, 1.0 - beta2);
                (rows as i32, Ranger { keep, beta1, beta2, rest1, rest2, rate, epsilon, ..none }, correction)
            }
            Elements::Ranger(ranger) => (3, ranger, 1.0),
        };
        let span = centred(self.dims, length).filter(|span| rule == 3 && *span > 0);
        let mut shift = None;
        if let Some(span) = span {
            let means = gpu.alloc(length / span)?;
            // SAFETY: the kernel's arguments.
            unsafe {
                let grid = [length / span, 1, 1];
                gpu.launch(("optim", "optim_centres"), grid, 256, 0, cuda::arguments![gradient.at(), means.at(), span])?
            };
            shift = Some(means);
        }
        let step = |bad: cuda::Argument| {
            let arguments = cuda::arguments![
                parameter,
                state,
                gradient.at(),
                shift.at(),
                span.unwrap_or(length.max(1)),
                length,
                rows,
                (self.pass == Pass::Look) as i32,
                bad,
                rule,
                r.first as i32,
                r.meets as i32,
                r.rectified as i32,
                r.keep,
                r.rate,
                r.beta1,
                r.beta2,
                r.rest1,
                r.rest2,
                correction,
                r.epsilon
            ];
            // SAFETY: the kernel's arguments; the state has `rows` times as many numbers as the parameter.
            unsafe { gpu.each(("optim", "optim_step"), length, arguments) }
        };
        match self.away {
            Some(away) => cuda::with(away, Self::NAME, step),
            None => step(cuda::Argument::NULL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use candle_core::Device;
    use candle_nn::Optimizer;
    use std::slice::from_ref as one;

    fn values(t: &Tensor) -> Vec<f32> {
        t.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn bits(t: &Tensor) -> Vec<u32> {
        values(t).into_iter().map(f32::to_bits).collect()
    }

    fn normals(rng: &mut Rng, dims: &[usize]) -> Tensor {
        rng.normals(dims, &Device::Cpu).unwrap()
    }

    /// Gradients of `vars`, as a backward pass gives them.
    fn gradients(vars: &[Var], values: &[Tensor]) -> GradStore {
        let terms = vars.iter().zip(values).map(|(v, g)| (v.as_tensor() * g).unwrap().sum_all().unwrap());
        terms.reduce(|a, b| (a + b).unwrap()).unwrap().backward().unwrap()
    }

    fn all(_: &str) -> Gradient {
        Gradient::Own
    }

    /// Domains of one seed are the same for ever: the update that version 0.1 had, number by number.
    #[test]
    fn adam_without_a_first_moment_has_the_bits_it_always_had() {
        let mut rng = Rng::new(4);
        let (rate, beta2, n) = (0.002 * 0.8, 0.99f64.powf(0.8), 2500);
        let var = Var::from_tensor(&normals(&mut rng, &[n])).unwrap();
        let mut p = values(&var);
        let mut v = vec![0.0f32; n];
        let mut optimiser = Optimiser::named([("x".into(), var.clone())], Config::new(Rule::adam(0.0, beta2), rate));
        for step in 1..=20 {
            let parts: Vec<Tensor> = (0..3).map(|_| normals(&mut rng, &[n]).affine(1e-3, 0.0).unwrap()).collect();
            let share = 1.0 - step as f64 / 40.0;
            let grads: Vec<GradStore> = parts.iter().map(|g| gradients(one(&var), one(g))).collect();
            optimiser.step_of(&grads, share, all).unwrap();
            let parts: Vec<Vec<f32>> = parts.iter().map(values).collect();
            let correction = (1.0 - beta2.powi(step)).sqrt() as f32;
            let (rate, beta2) = ((rate * share) as f32, beta2 as f32);
            for i in 0..n {
                let g = parts[0][i] + parts[1][i] + parts[2][i];
                v[i] = beta2 * v[i] + (1.0 - beta2) * g * g;
                p[i] -= rate * g / (v[i].sqrt() / correction + 1e-8);
            }
            assert_eq!(bits(&var), p.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), "step {step}");
        }
        assert_eq!(bits(&optimiser.states().next().unwrap().1.moments), v.iter().map(|x| x.to_bits()).collect::<Vec<_>>());
    }

    /// The definitions, written down once more in f64 and without a thought for speed.
    fn plainly(rule: Rule, config: Config, start: &[f32], dims: &[usize], gradients: &[Vec<f32>]) -> Vec<f64> {
        let mut p: Vec<f64> = start.iter().map(|&x| x.into()).collect();
        let (mut m, mut v, mut slow) = (vec![0.0; p.len()], vec![0.0; p.len()], p.clone());
        for (t, g) in (1..).zip(gradients) {
            let span = p.len() / dims[0];
            for i in 0..p.len() {
                let mut g_i = f64::from(g[i]);
                p[i] *= 1.0 - config.weight_decay * config.learning_rate;
                match rule {
                    Rule::Sgd => p[i] -= config.learning_rate * g_i,
                    Rule::Adam { beta1, beta2, epsilon } => {
                        m[i] = beta1 * m[i] + (1.0 - beta1) * g_i;
                        v[i] = beta2 * v[i] + (1.0 - beta2) * g_i * g_i;
                        let (m, v): (f64, f64) = (m[i] / (1.0 - beta1.powi(t)), v[i] / (1.0 - beta2.powi(t)));
                        p[i] -= config.learning_rate * m / (v.sqrt() + epsilon);
                    }
                    Rule::Ranger { beta1, beta2, epsilon } => {
                        if dims.len() > 1 {
                            g_i -= g[i / span * span..][..span].iter().map(|&x| f64::from(x)).sum::<f64>() / span as f64;
                        }
                        m[i] = beta1 * m[i] + (1.0 - beta1) * g_i;
                        v[i] = beta2 * v[i] + (1.0 - beta2) * g_i * g_i;
                        let b = beta2.powi(t);
                        let n = 1999.0 - 2.0 * f64::from(t) * b / (1.0 - b);
                        let momentum = config.learning_rate * m[i] / (1.0 - beta1.powi(t));
                        p[i] -= match n > 5.0 {
                            true => {
                                let r = ((1.0 - b) * (n - 4.0) * (n - 2.0) * 1999.0 / (1995.0 * n * 1997.0)).sqrt();
                                r * momentum / (v[i].sqrt() + epsilon)
                            }
                            false => momentum,
                        };
                        if t % 6 == 0 {
                            slow[i] += 0.5 * (p[i] - slow[i]);
                            p[i] = slow[i];
                        }
                    }
                }
            }
        }
        p
    }

    #[test]
    fn each_rule_is_its_definition() {
        for rule in [Rule::Sgd, Rule::adam(0.0, 0.99), Rule::adam(0.9, 0.999), Rule::RANGER] {
            for weight_decay in [0.0, 0.01] {
                let config = Config { rule, learning_rate: 0.05, weight_decay };
                let mut rng = Rng::new(8);
                for dims in [&[7][..], &[3, 4], &[2, 3, 3, 3], &[2, 1100]] {
                    let var = Var::from_tensor(&normals(&mut rng, dims)).unwrap();
                    let start = values(&var);
                    let grads: Vec<Tensor> = (0..14).map(|_| normals(&mut rng, dims)).collect();
                    let mut optimiser = Optimiser::new(vec![var.clone()], config).unwrap();
                    for g in &grads {
                        optimiser.step(&gradients(one(&var), one(g))).unwrap();
                    }
                    let want = plainly(rule, config, &start, dims, &grads.iter().map(values).collect::<Vec<_>>());
                    let worst = values(&var).iter().zip(&want).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
                    let moved = start.iter().zip(&want).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
                    // 14 steps of values about 1; Adam's complement of a beta rounded to f32 is off by up to 5e-5, and the root of its
                    // moments by half of that, of a way of at most 14 times the rate.
                    let most = if matches!(rule, Rule::Adam { .. }) { 2.5e-5 * 14.0 * 0.05 + 2e-6 } else { 2e-6 };
                    assert!(worst < most && moved > 0.03, "{rule:?} {weight_decay} {dims:?}: {worst:e} off a way of {moved}");
                }
            }
        }
    }

    #[test]
    fn a_step_that_fails_leaves_everything_as_it_was() {
        for rule in [Rule::Sgd, Rule::adam(0.0, 0.99), Rule::adam(0.9, 0.999), Rule::RANGER] {
            let mut rng = Rng::new(2);
            let vars: Vec<Var> = (0..8).map(|i| Var::from_tensor(&normals(&mut rng, &[2, 900 + i])).unwrap()).collect();
            let mut draw = || -> Vec<Tensor> { vars.iter().map(|v| normals(&mut rng, v.dims())).collect() };
            let mut optimiser = Optimiser::new(vars.clone(), Config::new(rule, 0.1)).unwrap();
            // The first step makes the moments; it too may fail.
            for earlier in 0..2 {
                let state = |o: &Optimiser| -> Vec<(i32, Vec<u32>)> { o.states().map(|(_, s)| (s.steps, bits(&s.moments))).collect() };
                let before: Vec<_> = vars.iter().map(|v| bits(v)).collect();
                let moments = state(&optimiser);
                let mut grads = draw();
                let mut broken = values(&grads[5]);
                broken[1500] = f32::NAN;
                grads[5] = Tensor::from_vec(broken, vars[5].dims(), &Device::Cpu).unwrap();
                let error = optimiser.step_of(&[gradients(&vars, &grads)], 1.0, all).unwrap_err();
                let text = error.to_string();
                assert!(matches!(error, Error::NotFinite(_)) && text.contains("variable 5") && text.contains("NaN"), "{text}");
                assert_eq!(before, vars.iter().map(|v| bits(v)).collect::<Vec<_>>(), "{rule:?}");
                assert_eq!(moments, state(&optimiser), "{rule:?}");
                assert_eq!(moments.len(), 8 * earlier);
                // Through candle's interface it is the same error.
                let error = Error::from(optimiser.step(&gradients(&vars, &grads)).unwrap_err());
                assert!(matches!(error, Error::NotFinite(_)), "{error}");
                optimiser.step_of(&[gradients(&vars, &draw())], 1.0, all).unwrap();
                assert!(vars.iter().zip(&before).all(|(v, before)| bits(v) != *before));
            }
        }
    }

    /// Moments are changed where they are: nothing is copied of parameters that a step leaves out, nor of those that it moves.
    #[test]
    fn moments_stay_in_place_and_what_is_left_out_stays() {
        let mut rng = Rng::new(3);
        let vars: Vec<Var> = (0..3).map(|_| Var::from_tensor(&normals(&mut rng, &[50])).unwrap()).collect();
        let mut optimiser = Optimiser::new(vars.clone(), Config::new(Rule::adam(0.0, 0.5), 0.1)).unwrap();
        let mut step = |optimiser: &mut Optimiser, of: &(dyn Fn(&str) -> Gradient + Sync)| {
            let grads: Vec<Tensor> = vars.iter().map(|_| normals(&mut rng, &[50])).collect();
            optimiser.step_of(&[gradients(&vars, &grads)], 1.0, of).unwrap();
        };
        step(&mut optimiser, &all);
        let held: Vec<Tensor> = optimiser.states().map(|(_, s)| s.moments.clone()).collect();
        let before: Vec<Vec<f32>> = held.iter().map(values).collect();
        let parameters: Vec<Vec<u32>> = vars.iter().map(|v| bits(v)).collect();
        step(&mut optimiser, &|name: &str| match name {
            "variable 0" => Gradient::Own,
            "variable 1" => Gradient::Zero,
            _ => Gradient::Skip,
        });
        assert_ne!(values(&held[0]), before[0], "the same storage holds the new moments");
        assert_eq!(values(&held[1]), before[1].iter().map(|v| 0.5 * v).collect::<Vec<_>>());
        assert_eq!(values(&held[2]), before[2]);
        assert_eq!(optimiser.states().map(|(_, s)| s.steps).collect::<Vec<_>>(), [2, 2, 1]);
        let now: Vec<Vec<u32>> = vars.iter().map(|v| bits(v)).collect();
        assert!(now[0] != parameters[0] && now[1..] == parameters[1..]);
    }

    #[test]
    fn schedules_go_where_they_say_and_never_below_nothing() {
        let linear: Vec<f64> = [0, 1, 5, 9, 10, 11, 1000].iter().map(|&s| Schedule::Linear.share(s, 10)).collect();
        for (have, want) in linear.iter().zip([1.0, 0.9, 0.5, 0.1, 0.0, 0.0, 0.0]) {
            assert!((have - want).abs() < 1e-12, "{linear:?}");
        }
        assert_eq!(Schedule::Constant.share(1000, 10), 1.0);
        let rise = Schedule::RiseAndFall { start: 0.0, up: 0.05, down: 0.25 };
        let share = |step: usize| rise.share(step, 1000);
        assert_eq!((share(0), share(50), share(750)), (0.0, 1.0, 1.0));
        assert!((share(25) - 0.5).abs() < 1e-12 && (share(875) - 0.5).abs() < 1e-12);
        assert!(share(999) < 1e-4 && share(999) > 0.0 && share(1000) == 0.0 && share(5000) == 0.0);
    }
}
