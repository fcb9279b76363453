//! Matrix products of slices.

/// A matrix in a slice: element (r, c) is at r * rs + c * cs.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub data: &'a [f32],
    pub rs: usize,
    pub cs: usize,
}

impl<'a> View<'a> {
    /// Row-major with rows of `width`.
    pub(crate) fn rows(data: &'a [f32], width: usize) -> Self {
        Self { data, rs: width, cs: 1 }
    }
    /// The transpose of a row-major matrix with rows of `width`.
    pub(crate) fn columns(data: &'a [f32], width: usize) -> Self {
        Self { data, rs: 1, cs: width }
    }
    fn holds(&self, r: usize, c: usize) -> bool {
        r * c == 0 || (r - 1) * self.rs + (c - 1) * self.cs < self.data.len()
    }
}

/// `out[m][n] = alpha * a[m][k] * b[k][n] + beta * out`, `out` row-major; `parallel` lets a large product use all threads.
#[allow(clippy::too_many_arguments)] // BLAS's signature
pub(crate) fn gemm(m: usize, n: usize, k: usize, alpha: f32, a: View, b: View, beta: f32, out: &mut [f32], parallel: bool) {
    assert!(a.holds(m, k) && b.holds(k, n) && out.len() >= m * n, "gemm: slices are too short for {m} x {k} x {n}");
    // Below this a second thread costs more than it saves.
    let parallel = parallel && m * n * k > 1 << 20 && rayon::current_num_threads() > 1;
    let how = if parallel { gemm::Parallelism::Rayon(0) } else { gemm::Parallelism::None };
    // SAFETY: the assert bounds every access.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            beta != 0.0,
            a.data.as_ptr(),
            a.cs as isize,
            a.rs as isize,
            b.data.as_ptr(),
            b.cs as isize,
            b.rs as isize,
            beta,
            alpha,
            false,
            false,
            false,
            how,
        )
    }
}
