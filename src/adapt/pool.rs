//! A pool of latents, whose unadapted pictures are drawn and looked at once: the frozen twin's share of a step is then only what changes.
//!
//! Everything about a latent of the pool follows from the run's seed and its number alone: z, style mixing and noise. Each is drawn by itself,
//! not with the others of its step, as the last bits of a picture depend on how many are drawn together: a run that goes on from a snapshot
//! draws what it needs again with the same bits. The pool is gone through in a new order each time.

use super::clip_pass::Seen;
use super::draws::Draws;
use super::settings::Settings;
use crate::error::Result;
use crate::nn::generator::Generator;
use crate::rng::Rng;

/// Streams of a run's random numbers: the orders, and the latents.
const ORDERS: u64 = 1 << 32;
const LATENTS: u64 = 2 << 32;

pub(super) struct Pool {
    seed: u64,
    /// Of each latent's unadapted picture, once it was drawn.
    kept: Vec<Option<Seen>>,
}

impl Pool {
    /// None where the settings want fresh latents in each step.
    pub(super) fn new(settings: &Settings) -> Option<Self> {
        let size = settings.pooled();
        (size > 0).then(|| Self { seed: settings.seed, kept: vec![None; size] })
    }

    /// The latents of the step after `step` steps, by number.
    pub(super) fn of_step(&self, step: usize, batch: usize) -> Vec<usize> {
        let size = self.kept.len();
        let mut order: Option<(usize, Vec<usize>)> = None;
        let mut at = |position: usize| {
            let pass = position / size;
            let known = order.take().filter(|(of, _)| *of == pass);
            let (_, order) = order.insert(known.unwrap_or_else(|| (pass, self.order(pass))));
            order[position % size]
        };
        (step * batch..(step + 1) * batch).map(&mut at).collect()
    }

    /// The first time as they are numbered, then shuffled.
    fn order(&self, pass: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.kept.len()).collect();
        if pass > 0 {
            let mut rng = Rng::stream(self.seed, ORDERS + pass as u64);
            (1..order.len()).rev().for_each(|i| order.swap(i, rng.below(i + 1)));
        }
        order
    }

    /// What is random about one latent.
    pub(super) fn draws(&self, index: usize, twin: &Generator, settings: &Settings) -> Result<Draws> {
        Draws::random(&mut Rng::stream(self.seed, LATENTS + index as u64), twin, settings, 1)
    }

    /// Those of `indices` that were not drawn yet, each once.
    pub(super) fn missing(&self, indices: &[usize]) -> Vec<usize> {
        let mut missing: Vec<usize> = indices.iter().copied().filter(|&i| self.kept[i].is_none()).collect();
        missing.sort_unstable();
        missing.dedup();
        missing
    }

    pub(super) fn keep(&mut self, index: usize, seen: Seen) {
        self.kept[index] = Some(seen);
    }

    /// Of latents that were drawn.
    pub(super) fn seen(&self, indices: &[usize]) -> Result<Seen> {
        Seen::cat(&indices.iter().filter_map(|&i| self.kept[i].as_ref()).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pass_has_every_latent_once_in_an_order_of_its_own() {
        let pool = Pool::new(&Settings { pool: 6, batch: 4, seed: 5, ..Settings::default() }).unwrap();
        let all: Vec<usize> = (0..9).flat_map(|step| pool.of_step(step, 4)).collect();
        assert_eq!(all.len(), 36);
        let mut orders = vec![];
        for pass in all.chunks(6) {
            let mut sorted = pass.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3, 4, 5]);
            orders.push(pass.to_vec());
        }
        assert_eq!(orders[0], [0, 1, 2, 3, 4, 5]);
        orders.sort_unstable();
        orders.dedup();
        assert!(orders.len() >= 5, "{orders:?}");
        // Fewer than a step needs would stand in it twice.
        assert_eq!(Pool::new(&Settings { pool: 2, batch: 4, ..Settings::default() }).unwrap().of_step(3, 4).len(), 4);
    }
}
