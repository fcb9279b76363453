//! Adam with a first beta of 0 (Kingma and Ba 2015, algorithm 1), as StyleGAN training uses it.

use crate::error::{Error, Result};
use candle_core::{backprop::GradStore, Tensor, Var};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const EPSILON: f64 = 1e-8;

/// Second moments by parameter. Parameters that a step leaves out keep theirs, or, for `decay_unselected`, see a gradient of zero.
pub(super) struct Adam {
    learning_rate: f64,
    beta2: f64,
    decay_unselected: bool,
    moments: BTreeMap<String, Moment>,
}

#[derive(Clone)]
pub(super) struct Moment {
    pub steps: i32,
    pub square: Vec<f32>,
}

impl Adam {
    pub(super) fn new(learning_rate: f64, beta2: f64, decay_unselected: bool) -> Self {
        Self { learning_rate, beta2, decay_unselected, moments: BTreeMap::new() }
    }

    pub(super) fn moments(&self) -> &BTreeMap<String, Moment> {
        &self.moments
    }

    pub(super) fn restore(&mut self, moments: BTreeMap<String, Moment>) {
        self.moments = moments;
    }

    /// Moves every variable in `selected` against the sum of its gradients, times `rate`. All new values are computed before the first is written.
    pub(super) fn step(
        &mut self,
        variables: &BTreeMap<String, Var>,
        selected: &BTreeSet<String>,
        grads: &[GradStore],
        rate: f64,
    ) -> Result<()> {
        let moments = std::mem::take(&mut self.moments);
        let update = |(key, var): (&String, &Var)| -> Result<Option<(String, Moment, Option<Tensor>)>> {
            let chosen = selected.contains(key);
            if !chosen && !self.decay_unselected {
                return Ok(moments.get(key).map(|m| (key.clone(), m.clone(), None)));
            }
            let mut moment = moments.get(key).cloned().unwrap_or_else(|| Moment { steps: 0, square: vec![0.0; var.elem_count()] });
            moment.steps += 1;
            let beta2 = self.beta2 as f32;
            let mut parts = grads.iter().filter_map(|g| g.get(var.as_tensor())).filter(|_| chosen);
            let Some(first) = parts.next() else {
                moment.square.iter_mut().for_each(|v| *v *= beta2);
                return Ok(Some((key.clone(), moment, None)));
            };
            let grad = parts.try_fold(first.clone(), |sum, g| sum + g)?.flatten_all()?.to_vec1::<f32>()?;
            let mut values = var.flatten_all()?.to_vec1::<f32>()?;
            let correction = (1.0 - self.beta2.powi(moment.steps)).sqrt() as f32;
            let (rate, epsilon) = ((self.learning_rate * rate) as f32, EPSILON as f32);
            for ((p, g), v) in values.iter_mut().zip(&grad).zip(&mut moment.square) {
                *v = beta2 * *v + (1.0 - beta2) * g * g;
                *p -= rate * g / (v.sqrt() / correction + epsilon);
            }
            if let Some(bad) = values.iter().find(|v| !v.is_finite()) {
                return Err(Error::NotFinite(format!("training made {key} {bad}: a smaller learning_rate may help")));
            }
            Ok(Some((key.clone(), moment, Some(Tensor::from_vec(values, var.dims(), var.device())?))))
        };
        let updates: Result<Vec<_>> = variables.par_iter().map(update).collect();
        let updates = match updates {
            Ok(u) => u,
            Err(e) => {
                self.moments = moments;
                return Err(e);
            }
        };
        for (key, moment, value) in updates.into_iter().flatten() {
            if let Some(value) = value {
                variables[&key].set(&value)?;
            }
            self.moments.insert(key, moment);
        }
        Ok(())
    }
}
