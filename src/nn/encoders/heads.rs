//! The networks from feature maps to rows of W+.

use super::backbone::Backbone;
use super::file::Config;
use super::Head;
use crate::cancel::Cancel;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::kernels::{linear, Convolution, Features};
use candle_core::Tensor;
use rayon::prelude::*;

/// The first row that reads the map in the middle, and the first that reads the finest (Richardson et al. 2021, section 3).
const MIDDLE: usize = 3;
const FINE: usize = 7;

/// torch's LeakyReLU by default.
const SLOPE: f64 = 0.01;

/// A linear layer whose weights are kept at unit variance (Karras et al. 2018, equalised learning rate): [outputs, inputs] and [outputs].
fn equalised(file: &Checkpoint, name: &str, outputs: usize, inputs: usize) -> Result<(Tensor, Tensor)> {
    let weight = file.f32(&format!("{name}.weight"), Some(&[outputs, inputs]))?;
    let bias = file.f32(&format!("{name}.bias"), Some(&[outputs]))?;
    Ok(((weight / (inputs as f64).sqrt())?, bias))
}

fn convolution(file: &Checkpoint, name: &str, shape: [usize; 4], slopes: Option<&Tensor>, stride: usize) -> Result<Convolution> {
    let weight = file.f32(&format!("{name}.weight"), Some(&shape))?;
    let bias = file.f32(&format!("{name}.bias"), Some(&shape[..1]))?;
    Ok(Convolution::new(&weight, &bias, slopes, stride)?)
}

/// A map to a row: convolutions that halve it until one pixel is left, and a linear layer.
pub(super) struct Row {
    convolutions: Vec<Convolution>,
    linear: (Tensor, Tensor),
}

impl Row {
    fn new(file: &Checkpoint, name: &str, inputs: usize, d: usize) -> Result<Self> {
        let slopes = Tensor::full(SLOPE as f32, d, file.device())?;
        let mut convolutions = Vec::new();
        // An activation stands between two convolutions.
        while let Some(key) = Some(format!("{name}.convs.{}", 2 * convolutions.len())).filter(|key| file.contains(&format!("{key}.weight")))
        {
            let from = if convolutions.is_empty() { inputs } else { d };
            convolutions.push(convolution(file, &key, [d, from, 3, 3], Some(&slopes), 2)?);
        }
        if convolutions.is_empty() && inputs != d {
            let message = format!("{name} has no convolutions, and its map has {inputs} channels where a row has {d} numbers");
            return Err(Error::format(&file.path, message));
        }
        Ok(Self { convolutions, linear: equalised(file, &format!("{name}.linear"), d, d)? })
    }

    /// [n, d]
    fn forward(&self, map: &Features) -> Result<Tensor> {
        let mut x = map.clone();
        for convolution in &self.convolutions {
            x = convolution.forward(&x)?;
        }
        let (n, d, h, w) = x.dims()?;
        if (h, w) != (1, 1) {
            let message =
                format!("a head of {} convolutions leaves {h} x {w} places of this input, where one is needed", self.convolutions.len());
            return Err(Error::Mismatch(message));
        }
        Ok(linear(&x.to_tensor()?.reshape((n, d))?, &self.linear.0, Some(&self.linear.1))?)
    }
}

pub(super) enum Heads {
    /// The mean of the last map through a linear layer: a point of W.
    IntoW((Tensor, Tensor)),
    Rows {
        rows: Vec<Row>,
        /// Of the last map but one and the one before, to the last one's channels (Lin et al. 2017, feature pyramids).
        lateral: Option<[Convolution; 2]>,
        /// Rows behind the first are differences from it.
        on_first: bool,
    },
}

impl Heads {
    pub(super) fn new(file: &Checkpoint, config: &Config, head: Head, backbone: &Backbone, cancel: &Cancel) -> Result<Self> {
        let d = config.style_dim;
        if head == Head::IntoW {
            return Ok(Heads::IntoW(equalised(file, "linear", d, backbone.width)?));
        }
        let unfit = |message: String| Err(Error::format(&file.path, message));
        let lateral = match config.pyramid {
            false => None,
            true if backbone.maps() < 3 || backbone.width != d => {
                let message = "a feature pyramid (latlayer1) needs three maps, the last of as many channels as a row has numbers";
                return unfit(format!("{message}: there are {}, and {} channels for {d} numbers", backbone.maps(), backbone.width));
            }
            true => {
                let layer = |i: usize| -> Result<Convolution> {
                    let name = format!("latlayer{i}");
                    let from = file.shape(&format!("{name}.weight")).and_then(|shape| shape.get(1).copied()).unwrap_or(0);
                    convolution(file, &name, [d, from, 1, 1], None, 1)
                };
                Some([layer(1)?, layer(2)?])
            }
        };
        let inputs = if config.pyramid { d } else { backbone.width };
        // On all threads: reading, checking and packing a gigabyte.
        let row = |i: usize| {
            cancel.check()?;
            Row::new(file, &format!("styles.{i}"), inputs, d)
        };
        let rows = (0..config.styles).into_par_iter().map(row).collect::<Result<Vec<Row>>>()?;
        Ok(Heads::Rows { rows, lateral, on_first: head == Head::OnFirst })
    }

    /// Maps of the backbone that are read.
    pub(super) fn maps(&self) -> usize {
        match self {
            Heads::Rows { lateral: Some(_), .. } => 3,
            _ => 1,
        }
    }

    /// The maps, the finest first -> [n, rows, d], or [n, 1, d] into W. Of rows that are differences only the first `stage` are added.
    pub(super) fn forward(&self, maps: &[Features], stage: usize, cancel: &Cancel) -> Result<Tensor> {
        let last = maps.last().ok_or_else(|| Error::Internal("no feature map".into()))?;
        let (rows, lateral, on_first) = match self {
            Heads::IntoW((weight, bias)) => return Ok(linear(&last.mean()?, weight, Some(bias))?.unsqueeze(1)?),
            Heads::Rows { rows, lateral, on_first } => (rows, lateral, *on_first),
        };
        let pyramid = match (lateral, maps) {
            (Some([first, second]), [fine, middle, coarse]) => {
                let middle = coarse.enlarged_onto(&first.forward(middle)?)?;
                let fine = middle.enlarged_onto(&second.forward(fine)?)?;
                Some((middle, fine))
            }
            _ => None,
        };
        let map = |i: usize| match &pyramid {
            Some((middle, _)) if (MIDDLE..FINE).contains(&i) => middle,
            Some((_, fine)) if i >= FINE => fine,
            _ => last,
        };
        let mut codes: Vec<Tensor> = Vec::with_capacity(rows.len());
        for (i, row) in rows.iter().enumerate() {
            cancel.check()?;
            let code = match codes.first() {
                Some(first) if on_first && i > stage => first.clone(),
                Some(first) if on_first => (first + row.forward(map(i))?)?,
                _ => row.forward(map(i))?,
            };
            codes.push(code);
        }
        Ok(Tensor::stack(&codes, 1)?)
    }
}
