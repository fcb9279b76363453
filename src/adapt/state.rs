//! The whole state of a run in a file, from which another process goes on with the same bits.

use super::domain::{Description, Domain};
use super::judge::{Judgement, Looks};
use super::{Adaptation, Settings};
use crate::checkpoint::{self, save_safetensors_one_by_one, Checkpoint};
use crate::error::{Error, Result};
use crate::files::Destination;
use crate::formats::THIS_VERSION;
use crate::optim::State;
use crate::rng::{Position, Rng};
use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Names the format in a file's metadata; a reader refuses others.
const FORMAT: &str = "nada adaptation 1";
/// The trained values themselves: a domain's differences, added to the generator again, are off by a rounding.
const VALUE: &str = "value.";
/// Adam's second moments.
const MOMENT: &str = "moment.";
/// The domain that the stop rule prefers.
const CHOSEN: &str = "chosen.";
/// What the CLIPs make of source and target, by the CLIP's number.
const GUIDE: &str = "guide.";

/// A state that [`Adaptation::save_state`] wrote. Immutable.
#[derive(Clone, Debug)]
pub struct SavedState {
    file: Checkpoint,
    about: About,
    settings: Settings,
    /// What the writer noted beside the state.
    pub notes: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct About {
    description: Description,
    templates: Vec<String>,
    /// Of the CLIPs' losses.
    weights: Vec<f32>,
    step: usize,
    /// Bits of an f32, which may be NaN.
    loss: u32,
    attended: usize,
    stopping: bool,
    rng: Position,
    /// How often the optimiser has moved each parameter.
    moments: BTreeMap<String, i32>,
    looks: Option<Looks>,
    /// A look that was taken and is not attended to yet: its step, and the bits of gain, pairing and structure.
    #[serde(default)]
    looked: Option<(usize, [u32; 3])>,
    chosen: Option<usize>,
}

impl SavedState {
    /// Reads the table of contents and what it says of the run; the numbers stay in the file until [`Adaptation::restore`].
    ///
    /// Errors: those of [`checkpoint::open`]; `Format` where it is no such file.
    pub fn open(path: &Path) -> Result<Self> {
        Self::from_checkpoint(&checkpoint::open(path)?)
    }

    /// As [`SavedState::open`], of a file that is open already.
    pub fn from_checkpoint(file: &Checkpoint) -> Result<Self> {
        let path = &file.path;
        match file.metadata.get("format").map(String::as_str) {
            Some(FORMAT) => (),
            Some(other) if other.starts_with("nada adaptation") => {
                return Err(Error::unsupported(path.display().to_string(), format!("is a {other:?}; this version reads {FORMAT:?}")))
            }
            _ => return Err(Error::format(path, format!("is not the state of an adaptation: its metadata has no format {FORMAT:?}"))),
        }
        let text = |key: &str| file.metadata.get(key).ok_or_else(|| Error::format(path, format!("the metadata has no {key}")));
        let about: About =
            serde_json::from_str(text("state")?).map_err(|e| Error::format(path, format!("the state in the metadata: {e}")))?;
        // Unlike a domain, a run needs every setting: one that is not known here would make other bits.
        let mut unknown = Vec::new();
        let settings = serde_ignored::deserialize(&about.description.settings, |path| unknown.push(path.to_string().replace(".?", "")));
        let settings = settings.map_err(|e| Error::format(path, format!("the settings in the metadata: {e}")))?;
        if !unknown.is_empty() {
            let message = format!(
                "the run has settings that {THIS_VERSION} does not know: {}; go on with the version that began it",
                unknown.join(", ")
            );
            return Err(Error::unsupported(path.display().to_string(), message));
        }
        let notes = text("notes")?.clone();
        Ok(Self { file: file.clone(), about, settings, notes })
    }

    /// Of the domain that the run would have given at this step.
    pub fn description(&self) -> &Description {
        &self.about.description
    }

    /// Steps done.
    pub fn step(&self) -> usize {
        self.about.step
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn templates(&self) -> super::Templates {
        super::Templates(self.about.templates.clone())
    }

    /// Whether both were written by one run, or by runs that went on from each other.
    pub fn is_of_the_run_of(&self, other: &SavedState) -> bool {
        let same = self.about.templates == other.about.templates && self.about.weights == other.about.weights;
        self.made(&other.about.description) && same && self.notes == other.notes
    }

    /// Whether `domain` is of such a run, at whatever step.
    pub fn made(&self, domain: &Description) -> bool {
        // By which rule one fingerprint was made does not matter, and earlier versions did not say it.
        let at_none = |d: &Description| Description { step: 0, fingerprint_version: 0, ..d.clone() };
        at_none(&self.about.description) == at_none(domain)
    }

    fn tensor(&self, prefix: &str, key: &str, shape: Option<&[usize]>) -> Result<Tensor> {
        self.file.f32(&format!("{prefix}{key}"), shape)
    }

    fn differs(&self, what: &str, run: impl std::fmt::Display, here: impl std::fmt::Display) -> Error {
        let path = self.file.path.display();
        Error::Mismatch(format!("{path}: the run had another {what}: {run}, where this one has {here}; the bits would differ"))
    }
}

impl Adaptation {
    /// Writes everything that a run with the same arguments needs to go on from here with the same bits: trained values, the optimiser's
    /// state, the position in the random numbers, the stop rule's memory; and `notes`. Safetensors, by a temporary name and a rename.
    ///
    /// Errors: `Io`.
    pub fn save_state<'a>(&self, to: impl Into<Destination<'a>>, templates: &super::Templates, notes: &str) -> Result<()> {
        let chosen = self.chosen.as_ref();
        let about = About {
            description: self.description()?,
            templates: templates.0.clone(),
            weights: self.guides.iter().map(|g| g.weight).collect(),
            step: self.step,
            loss: self.loss.to_bits(),
            attended: self.attended,
            stopping: self.stopping,
            rng: self.rng.position(),
            looked: self.looked.map(|(step, j)| (step, [j.gain, j.pairing, j.structure].map(f32::to_bits))),
            moments: self.optimiser.states().map(|(key, s)| (key.to_string(), s.steps)).collect(),
            looks: self.judge.as_ref().map(|j| j.looks().clone()).or_else(|| self.looks.clone()),
            chosen: chosen.map(|(step, _)| *step),
        };
        let about = serde_json::to_string(&about).map_err(|e| Error::Internal(e.to_string()))?;
        let metadata = [("format", FORMAT.to_string()), ("state", about), ("notes", notes.to_string())];
        let metadata = metadata.into_iter().map(|(k, v)| (k.to_string(), v)).collect();
        let mut planned = Vec::new();
        let mut plan = |prefix: &str, key: &str, shape: &[usize]| planned.push((format!("{prefix}{key}"), DType::F32, shape.to_vec()));
        self.trainable.variables.iter().for_each(|(key, v)| plan(VALUE, key, v.dims()));
        let moments: BTreeMap<&str, &State> = self.optimiser.states().collect();
        moments.iter().for_each(|(key, s)| plan(MOMENT, key, &[s.moments.elem_count()]));
        chosen.iter().flat_map(|(_, domain)| &domain.deltas).for_each(|(key, delta)| plan(CHOSEN, key, delta.dims()));
        self.guides.iter().enumerate().for_each(|(i, g)| plan(GUIDE, &i.to_string(), g.direction.dims()));
        save_safetensors_one_by_one(to, planned, &metadata, |name| {
            let of = |prefix: &str| name.strip_prefix(prefix);
            let found = if let Some(key) = of(VALUE) {
                self.trainable.variables.get(key).map(|v| v.as_detached_tensor())
            } else if let Some(key) = of(MOMENT) {
                moments.get(key).map(|s| s.moments.flatten_all()).transpose()?
            } else if let Some(key) = of(CHOSEN) {
                chosen.and_then(|(_, domain)| domain.deltas.get(key)).cloned()
            } else {
                of(GUIDE).and_then(|i| self.guides.get(i.parse::<usize>().ok()?)).map(|g| g.direction.clone())
            };
            Ok(found.ok_or_else(|| Error::Internal(format!("'{name}' was planned and is not there")))?.contiguous()?)
        })
    }

    /// Puts a run that was just made to where the one was that wrote `state`. On an error nothing has changed.
    ///
    /// Errors: `Mismatch` where generator, CLIPs, source, target or settings are others than those of the run; `Format`, `Io`.
    pub fn restore(&mut self, state: &SavedState) -> Result<()> {
        let about = &state.about;
        let (then, now) = (&about.description, self.description()?);
        let short = |f: &str| f.chars().take(12).collect::<String>();
        let words = |d: &Description| (d.source.clone(), d.target.clone());
        if !then.fits(&self.frozen)? {
            return Err(state.differs("generator", short(&then.fingerprint), short(&now.fingerprint)));
        }
        if words(then) != words(&now) {
            return Err(state.differs("source or target", format!("{:?}", words(then)), format!("{:?}", words(&now))));
        }
        if state.settings != self.settings {
            let text = |s: &Settings| serde_json::to_string(s).unwrap_or_default();
            return Err(state.differs("setting", text(&state.settings), text(&self.settings)));
        }
        let weights: Vec<f32> = self.guides.iter().map(|g| g.weight).collect();
        if then.clips != now.clips || about.weights != weights {
            let text = |clips: &[String], weights: &[f32]| format!("{clips:?} with the weights {weights:?}");
            return Err(state.differs("CLIP", text(&then.clips, &about.weights), text(&now.clips, &weights)));
        }
        for (i, guide) in self.guides.iter().enumerate() {
            let bits = |t: &Tensor| Result::Ok(t.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits).collect::<Vec<_>>());
            let then = state.tensor(GUIDE, &i.to_string(), Some(guide.direction.dims()))?;
            if bits(&then)? != bits(&guide.direction)? {
                return Err(state.differs("view of source and target", "that of other weights, pictures or templates", &guide.clip.name));
            }
        }
        // All is read before anything is written.
        let variables = &self.trainable.variables;
        let values = variables.iter().map(|(key, v)| Ok(state.tensor(VALUE, key, Some(v.dims()))?.to_device(v.device())?));
        let values = values.collect::<Result<Vec<_>>>()?;
        let moment = |(key, steps): (&String, &i32)| {
            let count = variables.get(key).map(|v| v.elem_count());
            let count = count.ok_or_else(|| Error::format(&state.file.path, format!("'{key}' is no parameter that is trained")))?;
            // A copy: steps change moments in place, and the file's numbers may be asked for again.
            let moments = state.tensor(MOMENT, key, Some(&[count]))?.reshape((1, count))?.copy()?.to_device(self.frozen.device())?;
            Ok((key.clone(), State { steps: *steps, moments }))
        };
        let mut moments = about.moments.iter().map(moment).collect::<Result<BTreeMap<_, _>>>()?;
        let chosen = match about.chosen {
            None => None,
            Some(step) => {
                let keys = state.file.keys().filter_map(|k| k.strip_prefix(CHOSEN));
                let deltas = keys.map(|k| Ok((k.to_string(), state.tensor(CHOSEN, k, None)?))).collect::<Result<_>>()?;
                Some((step, Arc::new(Domain::new(Description { step, ..now }, deltas))))
            }
        };
        self.optimiser.restore(|key| moments.remove(key))?;
        for (var, value) in variables.values().zip(&values) {
            var.set(value)?;
        }
        self.rng = Rng::at(&about.rng);
        (self.step, self.attended, self.stopping) = (about.step, about.attended, about.stopping);
        self.loss = f32::from_bits(about.loss);
        let looked = about.looked.map(|(step, bits)| {
            let [gain, pairing, structure] = bits.map(f32::from_bits);
            (step, Judgement { gain, pairing, structure })
        });
        (self.looks, self.judge, self.looked, self.chosen) = (about.looks.clone(), None, looked, chosen);
        Ok(())
    }
}
