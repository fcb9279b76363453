//! Plain convolution, for CLIP's networks and encoders.

use super::buffer::{numbers, tensor, with_numbers, Scratch};
use super::gemm::{gemm, View};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

struct Conv2d {
    stride: usize,
    padding: usize,
}

/// `x` [n, c, h, w], `w` [o, c, kh, kw] -> [n, o, h', w']. Gradients of both, each only when candle tracks it.
pub fn conv2d(x: &Tensor, w: &Tensor, stride: usize, padding: usize) -> Result<Tensor> {
    x.apply_op2(w, Conv2d { stride, padding })
}

#[derive(Clone, Copy)]
struct Sizes {
    n: usize,
    c: usize,
    h: usize,
    w: usize,
    o: usize,
    kh: usize,
    kw: usize,
    oh: usize,
    ow: usize,
}

impl Sizes {
    fn columns(&self) -> usize {
        self.c * self.kh * self.kw
    }
    fn out_area(&self) -> usize {
        self.oh * self.ow
    }
}

impl Conv2d {
    fn sizes(&self, x: &[usize], w: &[usize]) -> Result<Sizes> {
        match (x, w) {
            (&[n, c, h, wd], &[o, c2, kh, kw])
                if c == c2
                    && self.stride > 0
                    && h + 2 * self.padding >= kh
                    && wd + 2 * self.padding >= kw
                    && n * c * h * wd * o * kh * kw > 0 =>
            {
                let oh = (h + 2 * self.padding - kh) / self.stride + 1;
                let ow = (wd + 2 * self.padding - kw) / self.stride + 1;
                Ok(Sizes { n, c, h, w: wd, o, kh, kw, oh, ow })
            }
            _ => candle_core::bail!("conv2d: shapes {x:?} and {w:?} do not fit"),
        }
    }

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
}

impl CustomOp2 for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(&self, x: &CpuStorage, xl: &Layout, w: &CpuStorage, wl: &Layout) -> Result<(CpuStorage, Shape)> {
        let z = self.sizes(xl.dims(), wl.dims())?;
        let (x, w) = (numbers(x, xl)?, numbers(w, wl)?);
        let mut y = vec![0.0; z.n * z.o * z.out_area()];
        y.par_chunks_mut(z.o * z.out_area()).zip(x.par_chunks(z.c * z.h * z.w)).for_each(|(y, x)| {
            if self.is_product(&z) {
                gemm(z.o, z.out_area(), z.c, 1.0, View::rows(&w, z.c), View::rows(x, z.out_area()), 0.0, y, true);
            } else {
                let mut col = Scratch::new(z.columns() * z.out_area());
                self.im2col(&z, x, &mut col);
                gemm(z.o, z.out_area(), z.columns(), 1.0, View::rows(&w, z.columns()), View::rows(&col, z.out_area()), 0.0, y, true);
            }
        });
        Ok((CpuStorage::F32(y), Shape::from((z.n, z.o, z.oh, z.ow))))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let z = self.sizes(x.dims(), w.dims())?;
        let (p, k) = (z.out_area(), z.columns());
        let dx = x.track_op().then(|| {
            with_numbers(w, |w| {
                with_numbers(dy, |dy| {
                    let mut dx = vec![0.0; z.n * z.c * z.h * z.w];
                    dx.par_chunks_mut(z.c * z.h * z.w).zip(dy.par_chunks(z.o * p)).for_each(|(dx, dy)| {
                        if self.is_product(&z) {
                            gemm(k, p, z.o, 1.0, View::columns(w, k), View::rows(dy, p), 0.0, dx, true);
                        } else {
                            let mut col = Scratch::new(k * p);
                            gemm(k, p, z.o, 1.0, View::columns(w, k), View::rows(dy, p), 0.0, &mut col, true);
                            self.col2im(&z, &col, dx);
                        }
                    });
                    tensor(dx, x.dims())
                })
            })
        });
        let dw = w.track_op().then(|| {
            with_numbers(x, |x| {
                with_numbers(dy, |dy| {
                    let mut dw = vec![0.0; z.o * k];
                    let mut col = Scratch::new(k * p);
                    for (x, dy) in x.chunks(z.c * z.h * z.w).zip(dy.chunks(z.o * p)) {
                        self.im2col(&z, x, &mut col);
                        gemm(z.o, k, p, 1.0, View::rows(dy, p), View::columns(&col, p), 1.0, &mut dw, true);
                    }
                    tensor(dw, w.dims())
                })
            })
        });
        Ok((dx.transpose()?, dw.transpose()?))
    }
}
