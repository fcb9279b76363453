//! Gradients against differences.

use super::compare::largest;
use candle_core::{DType, Device, Tensor, Var};
use nada::rng::Rng;

/// Fails unless the gradient at `x` of a sum of the outputs of `f`, each with a weight of its own, is that of central differences along
/// random directions. A direction moves every number of `x`, so that one wrong number shows in each; the outputs are summed in f64.
pub fn check_gradient(name: &str, x: &Var, f: &dyn Fn() -> Tensor) {
    const STEP: f64 = 4e-3;
    const DIRECTIONS: u64 = 6;
    let y = f();
    let weights = Tensor::from_vec((0..y.elem_count()).map(|i| (i as f64 * 0.7).cos()).collect::<Vec<f64>>(), y.dims(), &Device::Cpu);
    let weights = weights.unwrap();
    let grads = (&y * weights.to_dtype(DType::F32).unwrap()).unwrap().sum_all().unwrap().backward().unwrap();
    let gradient = grads.get(x.as_tensor()).unwrap_or_else(|| panic!("{name}: no gradient")).to_dtype(DType::F64).unwrap();
    let start = x.as_detached_tensor().copy().unwrap();
    let size = gradient.sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt();
    assert!(size > 0.1 && largest(&y) > 0.1, "{name}: a gradient of length {size} proves nothing");
    for seed in 0..DIRECTIONS {
        let direction = Rng::new(seed).normals(x.dims(), &Device::Cpu).unwrap();
        let at = |step: f64| {
            x.set(&(&start + (&direction * step).unwrap()).unwrap()).unwrap();
            (f().to_dtype(DType::F64).unwrap() * &weights).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap()
        };
        let want = (at(STEP) - at(-STEP)) / (2.0 * STEP);
        let have = (&gradient * direction.to_dtype(DType::F64).unwrap()).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap();
        // Curvature is of the order of STEP^2 of it; rounding of 1000 outputs of about 5 to f32, 1e-5, counts 1 / STEP times.
        assert!(
            (have - want).abs() < 1e-3 * size + 3e-3,
            "{name}, direction {seed}: {have} instead of {want}, of a gradient of length {size}"
        );
    }
    x.set(&start).unwrap();
}
