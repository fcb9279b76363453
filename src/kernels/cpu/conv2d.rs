//! Plain convolution as a product with the matrix of columns.

use super::gemm::{matmul, Matrix};
use super::scratch::Scratch;
use crate::kernels::conv2d::{Conv2d, Sizes};
use rayon::prelude::*;

impl Conv2d {
    /// For kernels of 1 with stride 1 the picture is its own column matrix.
    fn is_product(&self, z: &Sizes) -> bool {
        z.kh == 1 && z.kw == 1 && self.stride == 1 && self.padding == 0
    }

    /// For each column-matrix row (c, ky, kx) and output row: where the input row starts, if it lies inside.
    fn input_row(&self, z: &Sizes, oy: usize, ky: usize) -> Option<usize> {
        (oy * self.stride + ky).checked_sub(self.padding).filter(|&y| y < z.h)
    }

    fn im2col(&self, z: &Sizes, x: &[f32], col: &mut [f32]) {
        for (row, col) in col.chunks_mut(z.out_area()).enumerate() {
            let (c, ky, kx) = (row / (z.kh * z.kw), row / z.kw % z.kh, row % z.kw);
            for (oy, out) in col.chunks_mut(z.ow).enumerate() {
                match self.input_row(z, oy, ky) {
                    None => out.fill(0.0),
                    Some(y) => {
                        let src = &x[(c * z.h + y) * z.w..][..z.w];
                        if self.stride == 1 && self.padding == 0 {
                            out.copy_from_slice(&src[kx..kx + z.ow]);
                            continue;
                        }
                        for (ox, v) in out.iter_mut().enumerate() {
                            *v = (ox * self.stride + kx).checked_sub(self.padding).and_then(|i| src.get(i)).copied().unwrap_or(0.0);
                        }
                    }
                }
            }
        }
    }

    fn col2im(&self, z: &Sizes, col: &[f32], x: &mut [f32]) {
        for (row, col) in col.chunks(z.out_area()).enumerate() {
            let (c, ky, kx) = (row / (z.kh * z.kw), row / z.kw % z.kh, row % z.kw);
            for (oy, src) in col.chunks(z.ow).enumerate() {
                if let Some(y) = self.input_row(z, oy, ky) {
                    let dst = &mut x[(c * z.h + y) * z.w..][..z.w];
                    for (ox, v) in src.iter().enumerate() {
                        if let Some(d) = (ox * self.stride + kx).checked_sub(self.padding).and_then(|i| dst.get_mut(i)) {
                            *d += v;
                        }
                    }
                }
            }
        }
    }

    /// x, w -> y
    pub(crate) fn forward(&self, z: &Sizes, x: &[f32], w: &[f32]) -> Vec<f32> {
        let (p, k) = (z.out_area(), z.columns());
        let mut y = vec![0.0; z.n * z.o * p];
        y.par_chunks_mut(z.o * p).zip(x.par_chunks(z.c * z.h * z.w)).for_each(|(y, x)| {
            let product = |col: &[f32], y: &mut [f32]| {
                matmul((z.o, p, k), y, p, false, 1.0, Matrix::rows(w, k), Matrix::rows(col, p), true);
            };
            if self.is_product(z) {
                product(x, y);
            } else {
                let mut col = Scratch::new(k * p);
                self.im2col(z, x, &mut col);
                product(&col, y);
            }
        });
        y
    }

    /// w, dy -> dx
    pub(crate) fn input_gradient(&self, z: &Sizes, w: &[f32], dy: &[f32]) -> Vec<f32> {
        let (p, k) = (z.out_area(), z.columns());
        let mut dx = vec![0.0; z.n * z.c * z.h * z.w];
        dx.par_chunks_mut(z.c * z.h * z.w).zip(dy.par_chunks(z.o * p)).for_each(|(dx, dy)| {
            let product = |col: &mut [f32]| {
                matmul((k, p, z.o), col, p, false, 1.0, Matrix::rows(w, k).transposed(), Matrix::rows(dy, p), true);
            };
            if self.is_product(z) {
                product(dx);
            } else {
                let mut col = Scratch::new(k * p);
                product(&mut col);
                self.col2im(z, &col, dx);
            }
        });
        dx
    }

    /// x, dy -> dw
    pub(crate) fn weight_gradient(&self, z: &Sizes, x: &[f32], dy: &[f32]) -> Vec<f32> {
        let (p, k) = (z.out_area(), z.columns());
        let mut dw = vec![0.0; z.o * k];
        let mut col = Scratch::new(k * p);
        for (x, dy) in x.chunks(z.c * z.h * z.w).zip(dy.chunks(z.o * p)) {
            self.im2col(z, x, &mut col);
            matmul((z.o, k, p), &mut dw, k, true, 1.0, Matrix::rows(dy, p), Matrix::rows(&col, p).transposed(), true);
        }
        dw
    }
}
