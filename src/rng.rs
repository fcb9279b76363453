//! Random numbers: seeded, the same on every machine and with any number of threads.

use crate::error::Result;
use candle_core::{Device, Tensor};
use rand::{Rng as _, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};

/// ChaCha8 with a stream per purpose, so that drawing more of one thing does not change another.
#[derive(Clone, Debug)]
pub struct Rng(ChaCha8Rng);

/// A place in a stream of random numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    seed: [u8; 32],
    stream: u64,
    /// 32-bit words drawn so far.
    word: u128,
}

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// An independent stream of the same seed.
    pub fn stream(seed: u64, stream: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Self(rng)
    }

    /// Where the stream is, for [`Rng::at`].
    pub fn position(&self) -> Position {
        Position { seed: self.0.get_seed(), stream: self.0.get_stream(), word: self.0.get_word_pos() }
    }

    /// A stream that goes on from `position`.
    pub fn at(position: &Position) -> Self {
        let mut rng = ChaCha8Rng::from_seed(position.seed);
        rng.set_stream(position.stream);
        rng.set_word_pos(position.word);
        Self(rng)
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f32 {
        self.0.random::<f32>()
    }

    /// Uniform in 0..n.
    pub fn below(&mut self, n: usize) -> usize {
        self.0.random_range(0..n)
    }

    pub fn normal(&mut self) -> f32 {
        self.0.sample(StandardNormal)
    }

    /// A tensor of standard normal numbers, f32.
    pub fn normals(&mut self, shape: &[usize], device: &Device) -> Result<Tensor> {
        let n = shape.iter().product();
        let data: Vec<f32> = (0..n).map(|_| self.normal()).collect();
        Ok(Tensor::from_vec(data, shape, device)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_goes_on_where_it_was() {
        let mut rng = Rng::stream(7, 3);
        // An odd number of words, so that the position lies inside a block and between two halves of a u64.
        (0..37).for_each(|_| _ = (rng.normal(), rng.uniform(), rng.below(5)));
        let text = serde_json::to_string(&rng.position()).unwrap();
        let mut again = Rng::at(&serde_json::from_str(&text).unwrap());
        (0..100).for_each(|_| assert_eq!((rng.normal().to_bits(), rng.below(9)), (again.normal().to_bits(), again.below(9))));
    }
}
