//! Products of matrices in slices: the one way to the gemm crate.

/// A matrix inside a slice: element (i, j) is at `rows * i + columns * j`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
}

impl<'a> Matrix<'a> {
    /// Rows one after another, each `row` apart.
    pub(crate) fn rows(values: &'a [f32], row: usize) -> Self {
        Self { values, rows: row, columns: 1 }
    }
    pub(crate) fn transposed(self) -> Self {
        Self { values: self.values, rows: self.columns, columns: self.rows }
    }
    fn reaches(&self, m: usize, n: usize) -> bool {
        m == 0 || n == 0 || (m - 1) * self.rows + (n - 1) * self.columns < self.values.len()
    }
}

/// Below so many multiplications a second thread costs more than it saves.
const WORTH_THREADS: usize = 1 << 20;

/// out [m, n], rows `out_row` apart, = (out if `add`) + scale * a [m, k] b [k, n]; `parallel` lets it use rayon's threads, which changes none
/// of its bits.
#[allow(clippy::too_many_arguments)] // BLAS's are more
pub(crate) fn matmul(
    (m, n, k): (usize, usize, usize),
    out: &mut [f32],
    out_row: usize,
    add: bool,
    scale: f32,
    a: Matrix,
    b: Matrix,
    parallel: bool,
) {
    assert!(a.reaches(m, k) && b.reaches(k, n) && Matrix::rows(out, out_row).reaches(m, n), "matmul reaches outside its arguments");
    if m == 0 || n == 0 {
        return;
    }
    let parallel = parallel && m * n * k > WORTH_THREADS && rayon::current_num_threads() > 1;
    let parallelism = if parallel { gemm::Parallelism::Rayon(0) } else { gemm::Parallelism::None };
    // SAFETY: the assertion above keeps every access of the three matrices inside its slice, and `out` is borrowed exclusively.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            out_row as isize,
            add,
            a.values.as_ptr(),
            a.columns as isize,
            a.rows as isize,
            b.values.as_ptr(),
            b.columns as isize,
            b.rows as isize,
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}
