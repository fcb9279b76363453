//! Which tensors are trained, and the trained twin that they make.

use super::domain::style_key;
use super::settings::{Mode, Parameters, Phase, Settings};
use crate::device::HOST;
use crate::error::{Error, Result};
use crate::nn::generator::{Config, Generator, Kind, Layer};
use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor, Var};
use std::collections::{BTreeMap, BTreeSet};

/// The variables of an adaptation over its frozen generator.
pub(super) struct Trainable {
    frozen: Generator,
    /// What the trained twin is where nothing is trained.
    start: Generator,
    /// By the key that a domain has for them: the generator's own, or `s.<layer>` for style offsets.
    pub variables: BTreeMap<String, Var>,
    parameters: Parameters,
}

impl Phase {
    /// Whether `layer` is trained. Convolutions are counted from the first, which is always trained, as is what it starts from.
    fn includes(self, layer: &Layer) -> bool {
        match (layer.kind, self) {
            (Kind::ToRgb, phase) => phase == Phase::All,
            (Kind::Input, _) | (_, Phase::Convolutions | Phase::All) => true,
            (Kind::Convolution, _) if layer.index == 0 => true,
            (Kind::Convolution, Phase::Texture) => (3..=10).contains(&layer.index),
            (Kind::Convolution, Phase::Shape) => layer.index <= 2,
            (Kind::Convolution, Phase::ShapeExpanded) => layer.index <= 3,
            (Kind::Convolution, Phase::NoFine) => layer.index <= 10,
        }
    }
}

impl Settings {
    /// Whether an adaptation trains `layer`; where layers are selected anew in each step, whether it may.
    pub(crate) fn trains(&self, layer: &Layer) -> bool {
        if self.train_resolution > 0 && layer.size() > self.train_resolution {
            return false;
        }
        match layer.kind {
            Kind::ToRgb => self.train_to_rgb || self.phase.includes(layer) || self.selects_as_published() && layer.index == 0,
            Kind::Input | Kind::Convolution => self.phase.includes(layer) || self.selects_as_published(),
        }
    }

    /// Whether an adaptation trains the mapping network.
    pub(crate) fn trains_mapping(&self) -> bool {
        self.phase == Phase::All
    }

    /// The published selection knows no phases: it chooses among all convolutions and the first ToRGB.
    fn selects_as_published(&self) -> bool {
        self.mode == Mode::Reference && self.auto_layers.is_some()
    }

    /// The layer that adaptive selection trains where the row of W+ scores high; None where it trains none for it.
    ///
    /// The published code counts convolutions from row 2 but for the first, though each reads the row before, and has the first ToRGB for
    /// row 1; `default` mode takes the convolution that reads the row, if the phase trains it.
    pub(crate) fn selectable<'a>(&self, config: &'a Config, row: usize) -> Option<&'a Layer> {
        let found = match (self.mode, row) {
            (Mode::Default, row) => config.of_kind(Kind::Convolution).find(|layer| layer.row == Some(row)),
            (Mode::Reference, 0) => config.of_kind(Kind::Convolution).next(),
            (Mode::Reference, 1) => config.of_kind(Kind::ToRgb).next(),
            (Mode::Reference, row) => config.of_kind(Kind::Convolution).nth(row - 1),
        };
        found.filter(|layer| self.trains(layer))
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
                    let chosen = config.layer_of(key).map_or(settings.trains_mapping(), |layer| settings.trains(layer));
                    if chosen {
                        variables.insert(key.clone(), Var::from_tensor(tensor)?);
                    }
                }
            }
            Parameters::Stylespace => {
                for layer in config.styled().filter(|layer| settings.trains(layer)) {
                    let at = match start.offsets().get(&layer.name) {
                        Some(t) => t.clone(),
                        None => Tensor::zeros(layer.style_channels(), DType::F32, start.device())?,
                    };
                    variables.insert(style_key(&layer.name), Var::from_tensor(&at)?);
                }
            }
        }
        Ok(Self { frozen: frozen.clone(), start: start.clone(), variables, parameters: settings.parameters })
    }

    /// Whether the mapping network is among the variables.
    pub(super) fn trains_mapping(&self) -> bool {
        let config = self.frozen.config();
        self.parameters == Parameters::Full && self.variables.keys().any(|key| config.layer_of(key).is_none())
    }

    /// Keys of all variables.
    pub(super) fn all(&self) -> BTreeSet<String> {
        self.variables.keys().cloned().collect()
    }

    /// Keys of the variables of some layers.
    pub(super) fn of_layers(&self, layers: &[&Layer]) -> BTreeSet<String> {
        let chosen = |key: &str| match self.parameters {
            Parameters::Full => layers.iter().any(|l| l.owns(key)),
            Parameters::Stylespace => layers.iter().any(|l| style_key(&l.name) == key),
        };
        self.variables.keys().filter(|k| chosen(k)).cloned().collect()
    }

    /// The trained twin as it is now, without gradients.
    pub(super) fn generator(&self) -> Result<Generator> {
        self.replacing(&self.start, self.variables.iter().map(|(key, var)| (key, var.as_detached_tensor())))
    }

    /// `now`, which is [`Trainable::generator`] or a part of it, with gradients that reach the variables in `tracked`. What its device made of
    /// the other weights is used again.
    pub(super) fn tracking(&self, now: &Generator, tracked: &BTreeSet<String>) -> Result<Generator> {
        let chosen = self.variables.iter().filter(|(key, _)| tracked.contains(*key));
        self.replacing(now, chosen.map(|(key, var)| (key, var.as_tensor().clone())))
    }

    fn replacing<'a>(&self, generator: &Generator, tensors: impl Iterator<Item = (&'a String, Tensor)>) -> Result<Generator> {
        let (mut weights, mut offsets) = (BTreeMap::new(), BTreeMap::new());
        for (key, tensor) in tensors {
            match self.parameters {
                Parameters::Full => weights.insert(key.clone(), tensor),
                Parameters::Stylespace => offsets.insert(key[2..].to_string(), tensor),
            };
        }
        generator.replacing(weights, offsets)
    }

    /// Adds the variables' gradients of `more`, which lose them, to `sum`.
    pub(super) fn add(&self, sum: &mut GradStore, more: &mut GradStore) -> Result<()> {
        for var in self.variables.values() {
            let Some(gradient) = more.remove(var) else { continue };
            let total = match sum.remove(var) {
                Some(before) => (before + gradient)?,
                None => gradient,
            };
            sum.insert(var, total);
        }
        Ok(())
    }

    /// How the trained twin differs from the frozen one, copied: later steps do not reach it.
    pub(super) fn deltas(&self) -> Result<BTreeMap<String, Tensor>> {
        let now = self.generator()?;
        let mut deltas = BTreeMap::new();
        let mut add = |key: String, tensor: &Tensor, before: Option<&Tensor>| -> Result<()> {
            if before.is_some_and(|b| b.id() == tensor.id()) {
                return Ok(());
            }
            let delta = before.map_or_else(|| tensor.copy(), |b| tensor - b)?;
            // A noise strength that never met noise, or a layer that was never selected, is no part of the domain.
            if delta.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()? > 0.0 {
                deltas.insert(key, delta);
            }
            Ok(())
        };
        for (key, tensor) in now.weights() {
            add(key.clone(), tensor, self.frozen.weights().get(key))?;
        }
        for (layer, offset) in now.offsets() {
            add(style_key(layer), offset, self.frozen.offsets().get(layer))?;
        }
        if deltas.is_empty() {
            // Before the first step a domain is a change of nothing; one tensor keeps its file valid.
            if let Some((key, var)) = self.variables.iter().next() {
                deltas.insert(key.clone(), var.zeros_like()?);
            }
        }
        // A domain lies with whoever takes it.
        deltas.values_mut().try_for_each(|delta| delta.to_device(HOST).map(|there| *delta = there))?;
        Ok(deltas)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapt::AutoLayers;
    use crate::nn::generator::stylegan2::Sizes;

    /// 1024 px, as the phases were made for.
    fn config() -> Config {
        let (start, channels) = ([4, 4], vec![8; 9]);
        Sizes { z_dim: 8, style_dim: 8, n_mlp: 2, lr_mlp: 0.01, c_dim: 0, start, channels, colours: 3, conv_clamp: None }.config()
    }

    fn trained(settings: &Settings) -> Vec<String> {
        config().layers.iter().filter(|l| settings.trains(l)).map(|l| l.name.clone()).collect()
    }

    #[test]
    fn phases_are_those_of_the_published_code() {
        let convs = |range: std::ops::Range<usize>| range.map(|i| format!("convs.{i}"));
        let first = || ["input", "conv1"].map(String::from).into_iter();
        for (phase, range) in [
            (Phase::Convolutions, 0..16),
            (Phase::Texture, 2..10),
            (Phase::Shape, 0..2),
            (Phase::ShapeExpanded, 0..3),
            (Phase::NoFine, 0..10),
        ] {
            let want: Vec<String> = first().chain(convs(range)).collect();
            let settings = Settings { phase, ..Settings::default() };
            assert_eq!(trained(&settings), want, "{phase:?}");
            let with_colours = trained(&Settings { train_to_rgb: true, ..settings });
            assert_eq!(with_colours.iter().filter(|l| l.starts_with("to_rgb")).count(), 9);
        }
        assert_eq!(trained(&Settings { phase: Phase::All, ..Settings::default() }).len(), config().layers.len());
    }

    #[test]
    fn selection_chooses_among_what_is_trained() {
        let auto_layers = Some(AutoLayers { k: 2, iterations: 1, batch: 2 });
        let (config, of) = (config(), |mode, phase| Settings { mode, phase, auto_layers, ..Settings::default() });
        let names = |settings: Settings| -> Vec<Option<String>> {
            (0..config.n_latent()).map(|row| settings.selectable(&config, row).map(|l| l.name.clone())).collect()
        };
        let shape = names(of(Mode::Default, Phase::Shape));
        assert_eq!(shape[..3], ["conv1", "convs.0", "convs.1"].map(|name| Some(name.to_string())));
        assert!(shape[3..].iter().all(Option::is_none));
        // Whatever the phase: the published code has none there.
        let published = names(of(Mode::Reference, Phase::Shape));
        assert_eq!(published[..3], ["conv1", "to_rgb1", "convs.0"].map(|name| Some(name.to_string())));
        assert_eq!(published, names(of(Mode::Reference, Phase::Convolutions)));
        assert_eq!(published[17].as_deref(), Some("convs.15"));
        // All that it may choose can be trained.
        assert_eq!(trained(&of(Mode::Reference, Phase::Shape)).len(), 1 + 17 + 1);
    }
}
