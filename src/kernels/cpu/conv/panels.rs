//! Weights in the order in which the kernels read them.

use crate::kernels::cpu::micro::PANEL;
use crate::kernels::cpu::scratch::Scratch;
use rayon::prelude::*;

/// Weights as [tap][output channels / 16][input channels][16], the last panel with zeros behind the last output channel. "Output" and "input" are
/// the convolution's that is computed with them: those of an input gradient are exchanged.
pub(crate) struct Panels {
    pub(super) data: Scratch,
    pub taps: usize,
    pub inputs: usize,
    pub outputs: usize,
}

impl Panels {
    /// Of weights [outputs][inputs][taps].
    pub(crate) fn new(w: &[f32], outputs: usize, inputs: usize, taps: usize) -> Self {
        Self::from(outputs, inputs, taps, |o, i, t| w[(o * inputs + i) * taps + t])
    }

    /// For the input gradient of a convolution with weights [outputs][inputs][taps]: its outputs are inputs. `turned`: the kernel is turned by half
    /// a turn, as that of a convolution of stride 1 is.
    pub(crate) fn back(w: &[f32], outputs: usize, inputs: usize, taps: usize, turned: bool) -> Self {
        let tap = |t: usize| if turned { taps - 1 - t } else { t };
        Self::from(inputs, outputs, taps, |i, o, t| w[(o * inputs + i) * taps + tap(t)])
    }

    fn from(outputs: usize, inputs: usize, taps: usize, at: impl Fn(usize, usize, usize) -> f32 + Sync) -> Self {
        let count = outputs.div_ceil(PANEL);
        let mut data = Scratch::lasting(taps * count * inputs * PANEL);
        let parts: Vec<(usize, &mut [f32])> = data.chunks_mut(inputs * PANEL).enumerate().collect();
        // A panel at a time, all its taps, so that weights are read from memory once.
        let mut by_panel: Vec<Vec<(usize, &mut [f32])>> = (0..count).map(|_| Vec::with_capacity(taps)).collect();
        for (i, part) in parts {
            by_panel[i % count].push((i / count, part));
        }
        by_panel.into_par_iter().enumerate().for_each(|(panel, mut parts)| {
            let valid = PANEL.min(outputs - panel * PANEL);
            for i in 0..inputs {
                for lane in 0..valid {
                    for (t, part) in parts.iter_mut() {
                        part[i * PANEL + lane] = at(panel * PANEL + lane, i, *t);
                    }
                }
            }
        });
        Self { data, taps, inputs, outputs }
    }

    /// Of one tap, of numbers that are in this order already.
    pub(crate) fn packed(data: Scratch, outputs: usize, inputs: usize) -> Self {
        assert_eq!(data.len(), outputs.div_ceil(PANEL) * inputs * PANEL);
        Self { data, taps: 1, inputs, outputs }
    }

    /// Panels of a tap.
    pub(crate) fn count(&self) -> usize {
        self.outputs.div_ceil(PANEL)
    }

    /// From one tap's panel to the next tap's.
    pub(super) fn tap_step(&self) -> usize {
        self.count() * self.inputs * PANEL
    }

    pub(crate) fn panel(&self, tap: usize, panel: usize) -> &[f32] {
        &self.data[(tap * self.count() + panel) * self.inputs * PANEL..][..self.inputs * PANEL]
    }
}

/// A gradient in the order of [`Panels`], as weights [outputs][inputs][taps], times `scale`.
pub(crate) fn unpacked(data: &[f32], outputs: usize, inputs: usize, taps: usize, scale: f32) -> Vec<f32> {
    let count = outputs.div_ceil(PANEL);
    let mut w = vec![0.0; outputs * inputs * taps];
    w.par_chunks_mut(inputs * taps).enumerate().for_each(|(o, w)| {
        for (i, w) in w.chunks_mut(taps).enumerate() {
            for (t, w) in w.iter_mut().enumerate() {
                *w = scale * data[((t * count + o / PANEL) * inputs + i) * PANEL + o % PANEL];
            }
        }
    });
    w
}
