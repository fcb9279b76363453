//! Directions.

use candle_core::{Result, Tensor, D};

/// The length below which a vector has no direction.
pub(crate) const LEAST_LENGTH: f64 = 1e-12;

/// x / max(|x|, `least`) along the last dimension: of length 1, but for those that are shorter than `least`; those of zeros stay.
/// Differentiable.
pub(crate) fn unit_rows(x: &Tensor, least: f64) -> Result<Tensor> {
    // The floor is under the square: a root's gradient at 0 is infinite.
    let length = x.sqr()?.sum_keepdim(D::Minus1)?.maximum(least * least)?.sqrt()?;
    x.broadcast_div(&length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn rows_of_zeros_stay_and_have_a_finite_gradient() {
        let x = Var::from_tensor(&Tensor::new(&[[3f32, 4.0], [0.0, 0.0]], &Device::Cpu).unwrap()).unwrap();
        let unit = unit_rows(x.as_tensor(), LEAST_LENGTH).unwrap();
        assert_eq!(unit.to_vec2::<f32>().unwrap(), [[0.6, 0.8], [0.0, 0.0]]);
        // Of the sum of a unit vector's components: (1 - u (u_0 + u_1)) / |x|.
        let gradients = unit.narrow(0, 0, 1).unwrap().sum_all().unwrap().backward().unwrap();
        let gradient = gradients.get(x.as_tensor()).unwrap().to_vec2::<f32>().unwrap();
        assert!((gradient[0][0] - 0.032).abs() < 1e-6 && (gradient[0][1] + 0.024).abs() < 1e-6, "{gradient:?}");
        let all = unit_rows(x.as_tensor(), 0.5).unwrap().sum_all().unwrap().backward().unwrap();
        assert_eq!(all.get(x.as_tensor()).unwrap().to_vec2::<f32>().unwrap()[1], [2.0, 2.0]);
    }
}
