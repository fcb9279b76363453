//! Where a long computation looks whether it is still wanted.

use crate::error::Result;
use crate::kernels::{apply, Backward, Differentiable, Op, View};
use crate::progress::Cancel;
use candle_core::{Shape, Tensor};

struct Watched(Cancel);

/// `x`, a small tensor that a large layer takes, such as its style: `Cancelled` once the flag is raised, here and when a backward pass
/// comes by, which it does soon after the layer's own.
pub(crate) fn watched(x: &Tensor, cancel: &Cancel) -> Result<Tensor> {
    cancel.check()?;
    Ok(apply(Watched(cancel.clone()), [x])?)
}

impl Op<1> for Watched {
    const NAME: &'static str = "watched";

    fn shapes(&self, [x]: [&Shape; 1]) -> candle_core::Result<[Shape; 1]> {
        Ok([x.clone()])
    }

    fn cpu(&self, [x]: [View; 1]) -> candle_core::Result<[Vec<f32>; 1]> {
        Ok([x.values.to_vec()])
    }
}

impl Differentiable<1> for Watched {
    fn gradient(&self, given: &Backward<1>) -> candle_core::Result<[Option<Tensor>; 1]> {
        self.0.check()?;
        Ok([Some(given.gradient.clone())])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use candle_core::{Device, Var};

    #[test]
    fn it_changes_nothing_until_it_stops_either_way() {
        let cancel = Cancel::new();
        let x = Var::from_slice(&[1f32, 2.0, 3.0], 3, &Device::Cpu).unwrap();
        let square = |x: &Tensor| watched(&x.sqr().unwrap(), &cancel);
        let y = square(&x).unwrap();
        assert_eq!(y.to_vec1::<f32>().unwrap(), [1.0, 4.0, 9.0]);
        assert_eq!(y.backward().unwrap().get(&x).unwrap().to_vec1::<f32>().unwrap(), [2.0, 4.0, 6.0]);
        cancel.cancel();
        assert!(matches!(square(&x), Err(Error::Cancelled)));
        assert!(matches!(y.backward().map_err(Error::from), Err(Error::Cancelled)));
    }
}
