//! Where a long computation looks whether it is still wanted.

use crate::error::Result;
use crate::progress::Cancel;
use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};

struct Watched(Cancel);

/// `x`, a small tensor that a large layer takes, such as its style: `Cancelled` once the flag is raised, here and when a backward pass
/// comes by, which it does soon after the layer's own.
pub(crate) fn watched(x: &Tensor, cancel: &Cancel) -> Result<Tensor> {
    cancel.check()?;
    Ok(x.apply_op1(Watched(cancel.clone()))?)
}

impl CustomOp1 for Watched {
    fn name(&self) -> &'static str {
        "watched"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let Some((from, to)) = layout.contiguous_offsets() else { candle_core::bail!("watched: a tensor that is not contiguous") };
        Ok((CpuStorage::F32(x.as_slice::<f32>()?[from..to].to_vec()), layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, gradient: &Tensor) -> candle_core::Result<Option<Tensor>> {
        self.0.check()?;
        Ok(Some(gradient.clone()))
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
