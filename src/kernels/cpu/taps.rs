//! Convolution as sums over taps of long rows: the two loops that all of StyleGAN2's convolutions come down to.
//!
//! A picture of h rows is kept with a zero border, rows one behind the other. A tap (ky, kx) is then a fixed offset, so a
//! convolution is `out[o][p] = sum over c, t of w[o][c][t] * src[c][off[t] + p]` with one long index p; what falls on border
//! columns is garbage (forward) or multiplied by zero (gradient of the weight). Transposed convolutions of stride 2 are four such
//! sums, one for each parity of the output position (their gradient is one sum over four planes).

use super::simd::{dispatch, load, store};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

/// Slack, in numbers, that every row buffer must have behind its last used position: one block of the widest vectors.
pub(crate) const SLACK: usize = 64;
/// Vectors in flight along p.
const NV: usize = 3;
/// Output channels in flight.
const OB: usize = 8;

/// Weights [o][c][t] laid out as blocks of up to [`OB`] output channels: [block][c][t][o in block].
pub(crate) struct Packed {
    data: Vec<f32>,
    /// (first output channel, channels in the block, offset in `data`).
    blocks: Vec<(usize, usize, usize)>,
    c: usize,
    taps: usize,
}

impl Packed {
    /// `at(o, c, t)` gives the weights.
    pub(crate) fn new(o: usize, c: usize, taps: usize, at: impl Fn(usize, usize, usize) -> f32) -> Self {
        let mut data = Vec::with_capacity(o * c * taps);
        let mut blocks = vec![];
        let mut first = 0;
        while first < o {
            let n = match o - first {
                n if n >= OB => OB,
                n if n >= 4 => 4,
                n => n,
            };
            blocks.push((first, n, data.len()));
            for ci in 0..c {
                for t in 0..taps {
                    data.extend((first..first + n).map(|oi| at(oi, ci, t)));
                }
            }
            first += n;
        }
        Self { data, blocks, c, taps }
    }
}

/// Planes of numbers with a common stride.
#[derive(Clone, Copy)]
pub(crate) struct Planes<'a> {
    pub data: &'a [f32],
    pub stride: usize,
}

#[derive(Clone, Copy)]
struct SendPtr(*mut f32);
unsafe impl Send for SendPtr {}
unsafe impl Sync for SendPtr {}
impl SendPtr {
    fn get(self) -> *mut f32 {
        self.0
    }
}

struct Correlate<'a> {
    packed: &'a Packed,
    src: *const f32,
    src_stride: usize,
    off: &'a [usize],
    dst: *mut f32,
    dst_stride: usize,
    from: usize,
    to: usize,
}

impl Correlate<'_> {
    #[inline(always)]
    unsafe fn block<S: Simd, const B: usize>(&self, simd: S, first: usize, weights: *const f32, p: usize) {
        let mut acc = [[simd.splat_f32s(0.0); NV]; B];
        let mut w = weights;
        let mut src = self.src.add(p);
        for _ in 0..self.packed.c {
            for &off in self.off {
                let s = src.add(off);
                let v = [load::<S>(s), load::<S>(s.add(S::F32_LANES)), load::<S>(s.add(2 * S::F32_LANES))];
                for (b, acc) in acc.iter_mut().enumerate() {
                    let k = simd.splat_f32s(*w.add(b));
                    for i in 0..NV {
                        acc[i] = simd.mul_add_e_f32s(v[i], k, acc[i]);
                    }
                }
                w = w.add(B);
            }
            src = src.add(self.src_stride);
        }
        for (b, acc) in acc.iter().enumerate() {
            let d = self.dst.add((first + b) * self.dst_stride + p);
            for (i, v) in acc.iter().enumerate() {
                store::<S>(d.add(i * S::F32_LANES), *v);
            }
        }
    }
}

impl WithSimd for Correlate<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for &(first, n, at) in &self.packed.blocks {
            let w = self.packed.data[at..].as_ptr();
            let mut p = self.from;
            while p < self.to {
                // SAFETY: who makes a `Correlate` sees to it that the planes reach far enough.
                unsafe {
                    match n {
                        8 => self.block::<S, 8>(simd, first, w, p),
                        4 => self.block::<S, 4>(simd, first, w, p),
                        3 => self.block::<S, 3>(simd, first, w, p),
                        2 => self.block::<S, 2>(simd, first, w, p),
                        _ => self.block::<S, 1>(simd, first, w, p),
                    }
                }
                p += NV * S::F32_LANES;
            }
        }
    }
}

/// `dst[n][o][p] = sum over c, t of w[o][c][t] * src[n][c][off[t] + p]` for p in 0..len, in parallel.
///
/// `src` has `batch * c` planes, `dst` `batch * o`; the positions behind `len`, up to [`SLACK`], are overwritten with garbage, and
/// as many are read behind the last tap. A plane's slack may not overlap the next plane's numbers in `dst`.
pub(crate) fn correlate(packed: &Packed, batch: usize, src: Planes, off: &[usize], dst: &mut [f32], dst_stride: usize, len: usize) {
    let o: usize = packed.blocks.iter().map(|b| b.1).sum();
    let reach = off.iter().max().copied().unwrap_or(0) + len + SLACK;
    assert_eq!(off.len(), packed.taps);
    assert!(reach <= src.stride && src.data.len() >= batch * packed.c * src.stride, "source planes are too short");
    assert!(len + SLACK <= dst_stride && dst.len() >= batch * o * dst_stride, "destination planes are too short");
    // A chunk's source (all channels) should stay in the second-level cache while every block of outputs passes over it.
    let unit = 48;
    let by_cache = (96 * 1024 / packed.c.max(1)).clamp(unit, 1 << 14);
    let by_threads = len.div_ceil((2 * rayon::current_num_threads()).div_ceil(batch));
    let chunk = by_cache.min(by_threads).next_multiple_of(unit);
    let chunks = len.div_ceil(chunk);
    let out = SendPtr(dst.as_mut_ptr());
    let work = |task: usize| {
        let (n, i) = (task / chunks, task % chunks);
        // SAFETY: the asserts above bound every access; tasks write disjoint ranges, except that a chunk's last block may run into
        // the next chunk's first positions, which is prevented by chunks being multiples of every vector block (48, 24 and 12).
        let kernel = Correlate {
            packed,
            src: unsafe { src.data.as_ptr().add(n * packed.c * src.stride) },
            src_stride: src.stride,
            off,
            dst: unsafe { out.get().add(n * o * dst_stride) },
            dst_stride,
            from: i * chunk,
            to: ((i + 1) * chunk).min(len),
        };
        dispatch(kernel)
    };
    if batch * chunks == 1 {
        work(0)
    } else {
        (0..batch * chunks).into_par_iter().for_each(work)
    }
}

struct Outer<'a> {
    a: &'a [*const f32],
    src: &'a [*const f32],
    off: &'a [usize],
    len: usize,
    /// [a.len()][off.len()]
    out: &'a mut [f32],
}

impl Outer<'_> {
    #[inline(always)]
    unsafe fn block<S: Simd, const B: usize, const T: usize>(&mut self, simd: S, b0: usize, t0: usize) {
        let mut total = [[0.0f32; T]; B];
        let offs: [usize; T] = std::array::from_fn(|t| self.off[t0 + t]);
        for (n, &src) in self.src.iter().enumerate() {
            let batch = self.src.len();
            let rows: [*const f32; B] = std::array::from_fn(|b| self.a[(b0 + b) * batch + n]);
            let mut acc = [[simd.splat_f32s(0.0); T]; B];
            let mut p = 0;
            while p < self.len {
                let v: [S::f32s; T] = std::array::from_fn(|t| load::<S>(src.add(p + offs[t])));
                for b in 0..B {
                    let a = load::<S>(rows[b].add(p));
                    for t in 0..T {
                        acc[b][t] = simd.mul_add_e_f32s(a, v[t], acc[b][t]);
                    }
                }
                p += S::F32_LANES;
            }
            for (total, acc) in total.iter_mut().zip(&acc) {
                for (total, acc) in total.iter_mut().zip(acc) {
                    *total += simd.reduce_sum_f32s(*acc);
                }
            }
        }
        for (b, row) in total.iter().enumerate() {
            self.out[(b0 + b) * self.off.len() + t0..][..T].copy_from_slice(row);
        }
    }
}

impl WithSimd for Outer<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let o = self.out.len() / self.off.len();
        let mut b = 0;
        while b < o {
            let eight = o - b >= 8;
            let four = o - b >= 4;
            let mut t = 0;
            while t < self.off.len() {
                let three = self.off.len() - t >= 3;
                // SAFETY: who makes an `Outer` sees to it that the planes reach far enough.
                unsafe {
                    match (eight, four, three) {
                        (true, _, true) => self.block::<S, 8, 3>(simd, b, t),
                        (true, _, false) => self.block::<S, 8, 1>(simd, b, t),
                        (_, true, true) => self.block::<S, 4, 3>(simd, b, t),
                        (_, true, false) => self.block::<S, 4, 1>(simd, b, t),
                        (_, _, true) => self.block::<S, 1, 3>(simd, b, t),
                        _ => self.block::<S, 1, 1>(simd, b, t),
                    }
                }
                t += if three { 3 } else { 1 };
            }
            b += if eight {
                8
            } else if four {
                4
            } else {
                1
            };
        }
    }
}

/// `out[o][c][t] = sum over n, p of a[n][o][p] * src[n][c][off[t] + p]` for p in 0..len, in parallel over c, always in one order.
///
/// Both read up to [`SLACK`] numbers behind `len`: there either factor must be zero (and neither may be NaN).
pub(crate) fn outer(batch: usize, o: usize, c: usize, a: Planes, src: Planes, off: &[usize], len: usize) -> Vec<f32> {
    let reach = off.iter().max().copied().unwrap_or(0) + len + SLACK;
    assert!(reach <= src.stride && src.data.len() >= batch * c * src.stride, "source planes are too short");
    assert!(len + SLACK <= a.stride && a.data.len() >= batch * o * a.stride - (a.stride - len - SLACK), "factor planes are too short");
    let taps = off.len();
    let per_channel: Vec<Vec<f32>> = (0..c)
        .into_par_iter()
        .map(|ci| {
            // SAFETY: offsets below are inside the slices by the asserts above.
            let (a, src): (Vec<_>, Vec<_>) = unsafe {
                (
                    (0..o * batch).map(|i| a.data.as_ptr().add(((i % batch) * o + i / batch) * a.stride)).collect(),
                    (0..batch).map(|n| src.data.as_ptr().add((n * c + ci) * src.stride)).collect(),
                )
            };
            let mut out = vec![0.0; o * taps];
            dispatch(Outer { a: &a, src: &src, off, len, out: &mut out });
            out
        })
        .collect();
    let mut out = vec![0.0; o * c * taps];
    for (ci, part) in per_channel.iter().enumerate() {
        for oi in 0..o {
            out[(oi * c + ci) * taps..][..taps].copy_from_slice(&part[oi * taps..][..taps]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cpu::simd::each_level;

    fn noise(n: usize, seed: u64) -> Vec<f32> {
        let mut rng = crate::rng::Rng::new(seed);
        (0..n).map(|_| rng.normal()).collect()
    }

    #[test]
    fn correlate_and_outer_match_their_definition_at_every_vector_width() {
        for (batch, o, c, taps, len) in [(1, 1, 1, 1, 1), (2, 3, 2, 4, 50), (1, 15, 3, 9, 200), (3, 12, 5, 2, 97), (2, 8, 1, 9, 48)] {
            let off: Vec<usize> = (0..taps).map(|t| t * 3).collect();
            let stride = len + SLACK + taps * 3;
            let src = noise(batch * c * stride, 1);
            let w = noise(o * c * taps, 2);
            let packed = Packed::new(o, c, taps, |o, ci, t| w[(o * c + ci) * taps + t]);
            let mut dst = vec![0.0; batch * o * stride];
            correlate(&packed, batch, Planes { data: &src, stride }, &off, &mut dst, stride, len);
            for n in 0..batch {
                let one = each_level(|| {
                    let dst = Box::leak(vec![0.0f32; o * stride].into_boxed_slice());
                    OwnedCorrelate(
                        Correlate {
                            packed: &packed,
                            src: src[n * c * stride..].as_ptr(),
                            src_stride: stride,
                            off: &off,
                            dst: dst.as_mut_ptr(),
                            dst_stride: stride,
                            from: 0,
                            to: len,
                        },
                        dst,
                    )
                });
                for oi in 0..o {
                    for p in 0..len {
                        let mut want = 0.0f64;
                        for ci in 0..c {
                            for t in 0..taps {
                                want += w[(oi * c + ci) * taps + t] as f64 * src[(n * c + ci) * stride + off[t] + p] as f64;
                            }
                        }
                        // 45 products at the most, each rounded to 2^-24 of a size below 100.
                        let tol = 1e-4;
                        assert!((dst[(n * o + oi) * stride + p] as f64 - want).abs() < tol);
                        for level in &one {
                            assert!((level[oi * stride + p] as f64 - want).abs() < tol);
                        }
                    }
                }
            }
            // outer: the factor is zero behind len, as its contract asks.
            let mut a = noise(batch * o * stride, 3);
            a.chunks_mut(stride).for_each(|row| row[len..].fill(0.0));
            let got = outer(batch, o, c, Planes { data: &a, stride }, Planes { data: &src, stride }, &off, len);
            for oi in 0..o {
                for ci in 0..c {
                    for t in 0..taps {
                        let mut want = 0.0f64;
                        for n in 0..batch {
                            for p in 0..len {
                                want += a[(n * o + oi) * stride + p] as f64 * src[(n * c + ci) * stride + off[t] + p] as f64;
                            }
                        }
                        assert!((got[(oi * c + ci) * taps + t] as f64 - want).abs() < 1e-3, "{batch} {o} {c} {taps} {len}");
                    }
                }
            }
        }
    }

    struct OwnedCorrelate<'a>(Correlate<'a>, &'static mut [f32]);
    impl WithSimd for OwnedCorrelate<'_> {
        type Output = Vec<f32>;
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
            self.0.with_simd(simd);
            self.1.to_vec()
        }
    }
}
