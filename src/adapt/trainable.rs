//! Which tensors are trained, and the trained twin that they make.

use super::domain::style_key;
use super::settings::{Parameters, Phase, Settings};
use crate::error::{Error, Result};
use crate::nn::stylegan2::{Config, Generator};
use candle_core::{DType, Device, Tensor, Var};
use std::collections::{BTreeMap, BTreeSet};

/// The variables of an adaptation over its frozen generator.
pub(super) struct Trainable {
    frozen: Generator,
    /// What the trained twin has where nothing is trained.
    start: Generator,
    /// By the key that a domain has for them: the generator's own, or `s.<layer>` for style offsets.
    pub variables: BTreeMap<String, Var>,
    parameters: Parameters,
}

/// Number of convs.* layers.
fn convolutions(config: &Config) -> usize {
    2 * (config.resolutions().count() - 1)
}

/// Whether settings train `layer`, before any selection.
fn trains(settings: &Settings, layer: &str) -> bool {
    let index = layer.strip_prefix("convs.").and_then(|i| i.parse::<usize>().ok());
    if layer.starts_with("to_rgb") {
        return settings.train_to_rgb || settings.phase == Phase::All;
    }
    match (settings.phase, index) {
        (_, None) => true, // conv1
        (Phase::Convolutions | Phase::All, _) => true,
        (Phase::Texture, Some(i)) => (2..10).contains(&i),
        (Phase::Shape, Some(i)) => i < 2,
        (Phase::ShapeExpanded, Some(i)) => i < 3,
        (Phase::NoFine, Some(i)) => i < 10,
    }
}

impl Trainable {
    /// The trained twin starts as `start`, which is the frozen generator or an adapted one of its family.
    pub(super) fn new(frozen: &Generator, start: &Generator, settings: &Settings) -> Result<Self> {
        let config = frozen.config();
        if start.config() != config {
            return Err(Error::Mismatch("the start of the trained twin has other sizes than the frozen generator".into()));
        }
        let mut variables = BTreeMap::new();
        match settings.parameters {
            Parameters::Full => {
                for (key, tensor) in start.weights() {
                    let layer = layer_of(key);
                    let chosen = match key.as_str() {
                        "input.input" => true,
                        k if k.starts_with("style.") => settings.phase == Phase::All,
                        _ => trains(settings, layer),
                    };
                    // The published selection may choose to_rgb1.
                    let chosen = chosen || layer == "to_rgb1" && settings.auto_layers.is_some() && settings.mode == super::Mode::Reference;
                    if chosen {
                        variables.insert(key.clone(), Var::from_tensor(tensor)?);
                    }
                }
            }
            Parameters::Stylespace => {
                for (layer, _) in config.layers().into_iter().filter(|(l, _)| trains(settings, l)) {
                    let channels = config.style_channels(&layer);
                    let at = match start.offsets().get(&layer) {
                        Some(t) => t.clone(),
                        None => Tensor::zeros(channels, DType::F32, &Device::Cpu)?,
                    };
                    variables.insert(style_key(&layer), Var::from_tensor(&at)?);
                }
            }
        }
        Ok(Self { frozen: frozen.clone(), start: start.clone(), variables, parameters: settings.parameters })
    }

    /// Keys of all variables.
    pub(super) fn all(&self) -> BTreeSet<String> {
        self.variables.keys().cloned().collect()
    }

    /// Keys of the variables of some layers.
    pub(super) fn of_layers(&self, layers: &[String]) -> BTreeSet<String> {
        let chosen = |key: &str| match self.parameters {
            Parameters::Full => layers.iter().any(|l| l == layer_of(key)),
            Parameters::Stylespace => layers.iter().any(|l| style_key(l) == key),
        };
        self.variables.keys().filter(|k| chosen(k)).cloned().collect()
    }

    /// The trained twin; gradients reach the variables in `tracked` only.
    pub(super) fn generator(&self, tracked: &BTreeSet<String>) -> Result<Generator> {
        let (mut weights, mut offsets) = (BTreeMap::new(), BTreeMap::new());
        for (key, var) in &self.variables {
            let tensor = if tracked.contains(key) { var.as_tensor().clone() } else { var.as_detached_tensor() };
            match self.parameters {
                Parameters::Full => weights.insert(key.clone(), tensor),
                Parameters::Stylespace => offsets.insert(key[2..].to_string(), tensor),
            };
        }
        self.start.replacing(weights, offsets)
    }

    /// What the trained twin has otherwise than the frozen one, copied: later steps do not reach it.
    pub(super) fn deltas(&self) -> Result<BTreeMap<String, Tensor>> {
        let trained = self.generator(&BTreeSet::new())?;
        let mut deltas = BTreeMap::new();
        let weights = trained.weights().iter().map(|(key, t)| (key.clone(), t, self.frozen.weights().get(key)));
        let offsets = trained.offsets().iter().map(|(layer, t)| (style_key(layer), t, self.frozen.offsets().get(layer)));
        for (key, tensor, before) in weights.chain(offsets) {
            // The two share what neither training nor a start has changed.
            if before.is_some_and(|b| b.id() == tensor.id()) {
                continue;
            }
            let delta = match before {
                Some(before) => (tensor - before)?,
                None => tensor.copy()?,
            };
            // A noise strength that never met noise, or a layer that was never selected, is no part of the domain.
            if delta.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()? > 0.0 {
                deltas.insert(key, delta);
            }
        }
        if deltas.is_empty() {
            // Before the first step a domain is a change of nothing; one tensor keeps its file valid.
            if let Some((key, var)) = self.variables.iter().next() {
                deltas.insert(key.clone(), var.zeros_like()?);
            }
        }
        Ok(deltas)
    }

    /// Layers that adaptive selection may choose, by the row of W+ that scores each.
    ///
    /// The published code takes row 0 for conv1, 1 for to_rgb1 and j for convs.(j - 2), though that convolution reads row j - 1;
    /// `default` mode takes the convolution that reads the row.
    pub(super) fn layer_of_row(config: &Config, mode: super::Mode, row: usize) -> Option<String> {
        let n = convolutions(config);
        match (mode, row) {
            (_, 0) => Some("conv1".into()),
            (super::Mode::Reference, 1) => Some("to_rgb1".into()),
            (super::Mode::Reference, j) => (j - 2 < n).then(|| format!("convs.{}", j - 2)),
            (super::Mode::Default, j) => (j - 1 < n).then(|| format!("convs.{}", j - 1)),
        }
    }
}

/// conv1, convs.3, to_rgb1 ... of a key of the generator.
fn layer_of(key: &str) -> &str {
    let mut parts = key.match_indices('.').map(|(i, _)| i);
    let first = parts.next().unwrap_or(key.len());
    match &key[..first] {
        "convs" | "to_rgbs" => &key[..parts.next().unwrap_or(key.len())],
        layer => layer,
    }
}
