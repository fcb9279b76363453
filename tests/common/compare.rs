//! Comparisons of tensors that say where they failed.

use candle_core::{DType, Tensor};

/// Panics with the worst element unless |have - want| <= atol + rtol * |want| everywhere; shapes must be equal.
pub fn close(name: &str, have: &Tensor, want: &Tensor, atol: f64, rtol: f64) {
    assert_eq!(have.dims(), want.dims(), "{name}: shape");
    let values = |t: &Tensor| t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
    let (h, w) = (values(have), values(want));
    let mut worst = (f64::NEG_INFINITY, 0);
    for (i, (a, b)) in h.iter().zip(&w).enumerate() {
        let excess = (a - b).abs() - (atol + rtol * b.abs());
        // NaN on either side is the worst there is.
        let excess = if excess.is_nan() { f64::INFINITY } else { excess };
        if excess > worst.0 {
            worst = (excess, i);
        }
    }
    let (excess, i) = worst;
    assert!(
        h.is_empty() || excess <= 0.0,
        "{name}: element {i} of {:?} is {} where {} is wanted (difference {:e}, allowed {:e})",
        have.dims(),
        h[i],
        w[i],
        (h[i] - w[i]).abs(),
        atol + rtol * w[i].abs()
    );
}

/// The largest number of a tensor, without its sign.
pub fn largest(t: &Tensor) -> f64 {
    t.to_dtype(DType::F64).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f64>().unwrap()
}
