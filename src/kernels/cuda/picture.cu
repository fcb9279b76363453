// What losses and preprocessing do with pictures [n][c][h][w].
#include "sums.hpp"

// One direction of a resize, or its transpose: lines of `inputs` numbers `stride` apart become lines of `outputs`. Output i is the sum of
// weights[i][k] times input starts[i] + k, `taps` of them, 0 where it has fewer. `inner` lines lie beside each other. A thread a number.
extern "C" __global__ void resize_along(const float *__restrict__ x, float *__restrict__ y, const int *__restrict__ starts,
                                        const float *__restrict__ weights, int taps, int outer, int inputs, int outputs, int inner) {
    const size_t total = (size_t)outer * outputs * inner;
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < total; i += (size_t)gridDim.x * blockDim.x) {
        const int out = i / inner % outputs;
        const float *from = x + (i / inner / outputs * inputs + starts[out]) * inner + i % inner, *w = weights + (size_t)out * taps;
        const int count = min(taps, inputs - starts[out]);
        float sum = 0.0f;
        for (int k = 0; k < count; k++)
            sum += w[k] * from[(size_t)k * inner];
        y[i] = sum;
    }
}

// y = x * scale[c] + shift[c]. A thread a number.
extern "C" __global__ void channel_affine(const float *__restrict__ x, const float *__restrict__ scale, const float *__restrict__ shift,
                                          float *__restrict__ y, int planes, int c, int area) {
    const size_t total = (size_t)planes * area;
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < total; i += (size_t)gridDim.x * blockDim.x) {
        const int channel = i / area % c;
        y[i] = x[i] * scale[channel] + shift[channel];
    }
}

// y = sqrt(2) leaky_relu(x + bias[c]) with slope 0.2. A thread a number.
extern "C" __global__ void bias_act_forward(const float *__restrict__ x, const float *__restrict__ bias, float *__restrict__ y, int length, int c,
                                            int area) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < length; i += gridDim.x * blockDim.x) {
        const float v = x[i] + bias[i / area % c];
        y[i] = v * (v > 0.0f ? 1.41421356f : 0.2f * 1.41421356f);
    }
}

// dx from the result y, which has the sign of what went into the activation. A thread a number.
extern "C" __global__ void bias_act_backward(const float *__restrict__ y, const float *__restrict__ dy, float *__restrict__ dx, int length) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < length; i += gridDim.x * blockDim.x)
        dx[i] = dy[i] * (y[i] > 0.0f ? 1.41421356f : 0.2f * 1.41421356f);
}

// Part b of `parts`: sum over a share of (a - b)^2; d = a - b where it is not null. Block 256, grid parts.
extern "C" __global__ void squares(const float *__restrict__ a, const float *__restrict__ b, float *__restrict__ d, float *__restrict__ part, int length,
                                   float factor) {
    // Pairs of f32: millions of squares in one would forget most of the last ones. Compensated, in the thread.
    float sum = 0.0f, lost = 0.0f;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < length; i += gridDim.x * blockDim.x) {
        const float v = b ? a[i] - b[i] : a[i];
        if (d)
            d[i] = v;
        const float term = v * v - lost, next = sum + term;
        lost = (next - sum) - term;
        sum = next;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        part[blockIdx.x] = factor * sum;
}

// out[0] = sum of n numbers. One block of 256.
extern "C" __global__ void total(const float *__restrict__ x, float *__restrict__ out, int n) {
    float sum = 0.0f;
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        sum += x[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        *out = sum;
}

// coarse [planes][h / 2][w / 2] = averages over 2 x 2 of fine [planes][h][w]. A thread a number.
extern "C" __global__ void halved(const float *__restrict__ fine, float *__restrict__ coarse, int planes, int h, int w) {
    const int half_h = h / 2, half_w = w / 2;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < planes * half_h * half_w; i += gridDim.x * blockDim.x) {
        const float *from = fine + (size_t)(i / (half_h * half_w)) * h * w + (size_t)(i / half_w % half_h) * 2 * w + i % half_w * 2;
        coarse[i] = 0.25f * (from[0] + from[1] + from[w] + from[w + 1]);
    }
}

// g = own * d, plus a quarter of the coarser gradient above where it is not null. A thread a number.
extern "C" __global__ void halved_back(const float *__restrict__ d, const float *__restrict__ coarse, float *__restrict__ g, int planes, int h, int w,
                                       float own) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < planes * h * w; i += gridDim.x * blockDim.x) {
        const int x = i % w, y = i / w % h;
        const size_t plane = i / (h * w);
        g[i] = own * d[i] + (coarse ? 0.25f * coarse[plane * (h / 2) * (w / 2) + (size_t)(y / 2) * (w / 2) + x / 2] : 0.0f);
    }
}

// ---- small grey pictures

__device__ __forceinline__ int cell_from(int i, int length) { return i * length / 16; }
__device__ __forceinline__ int cell_to(int i, int length) { return ((i + 1) * length + 15) / 16; }

// out [n][16 * 16]: mean of 3 colours, averaged over each cell. Block 128, grid (256, n).
extern "C" __global__ void grey16_forward(const float *__restrict__ x, float *__restrict__ out, int h, int w) {
    const int y0 = cell_from(blockIdx.x / 16, h), y1 = cell_to(blockIdx.x / 16, h), x0 = cell_from(blockIdx.x % 16, w), x1 = cell_to(blockIdx.x % 16, w);
    const int wide = x1 - x0, count = (y1 - y0) * wide;
    float sum = 0.0f;
    for (int i = threadIdx.x; i < 3 * count; i += blockDim.x)
        sum += x[(((size_t)blockIdx.y * 3 + i / count) * h + y0 + i % count / wide) * w + x0 + i % wide];
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        out[(size_t)blockIdx.y * 256 + blockIdx.x] = sum / (3.0f * count);
}

// A thread a number of the pictures: which cells it is in (neighbours overlap where sizes do not divide).
extern "C" __global__ void grey16_backward(const float *__restrict__ g, float *__restrict__ dx, int n, int h, int w) {
    const size_t total = (size_t)n * 3 * h * w;
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < total; i += (size_t)gridDim.x * blockDim.x) {
        const int x = i % w, y = i / w % h, sample = i / ((size_t)3 * h * w);
        float sum = 0.0f;
        for (int a = 0; a < 16; a++) {
            if (y < cell_from(a, h) || y >= cell_to(a, h))
                continue;
            for (int b = 0; b < 16; b++)
                if (x >= cell_from(b, w) && x < cell_to(b, w)) {
                    const int count = (cell_to(a, h) - cell_from(a, h)) * (cell_to(b, w) - cell_from(b, w));
                    sum += g[(size_t)sample * 256 + a * 16 + b] / (3.0f * count);
                }
        }
        dx[i] = sum;
    }
}

// ---- pictures under affine maps

// Mirrored at the outer edges of the first and the last pixel, then clamped to their centres. tile: how many edges further out it was.
__device__ __forceinline__ float mirrored(float x, int size, int *tile) {
    const float span = (float)size, from = fabsf(x + 0.5f), flips = floorf(from / span), extra = fmodf(from, span);
    const float at = fmodf(flips, 2.0f) == 0.0f ? extra - 0.5f : span - extra - 0.5f;
    *tile = x < -0.5f ? -1 - (int)flips : (int)flips;
    return fminf(fmaxf(at, 0.0f), span - 1.0f);
}

// Where pixel (x, y) of the result looks under theta [2][3], in pixels, not mirrored yet.
__device__ __forceinline__ void looks_at(const float *t, float x, float y, int h, int w, float *px, float *py) {
    const float ux = (2.0f * x + 1.0f) / (float)w - 1.0f, uy = (2.0f * y + 1.0f) / (float)h - 1.0f;
    *px = ((t[0] * ux + t[1] * uy + t[2] + 1.0f) * w - 1.0f) / 2.0f;
    *py = ((t[3] * ux + t[4] * uy + t[5] + 1.0f) * h - 1.0f) / 2.0f;
}

// Its four neighbours, their weights, and the tile.
__device__ __forceinline__ void neighbours(const float *t, int x, int y, int h, int w, int at[4], float weight[4], int tile[2]) {
    float px, py;
    looks_at(t, (float)x, (float)y, h, w, &px, &py);
    px = mirrored(px, w, &tile[0]);
    py = mirrored(py, h, &tile[1]);
    const int x0 = (int)floorf(px), y0 = (int)floorf(py), x1 = min(x0 + 1, w - 1), y1 = min(y0 + 1, h - 1);
    const float fx = px - x0, fy = py - y0;
    at[0] = y0 * w + x0, at[1] = y0 * w + x1, at[2] = y1 * w + x0, at[3] = y1 * w + x1;
    weight[0] = (1.0f - fx) * (1.0f - fy), weight[1] = fx * (1.0f - fy), weight[2] = (1.0f - fx) * fy, weight[3] = fx * fy;
}

// A thread a number of the result.
extern "C" __global__ void affine_forward(const float *__restrict__ x, const float *__restrict__ theta, float *__restrict__ y, int planes, int c, int h,
                                          int w) {
    const size_t total = (size_t)planes * h * w;
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < total; i += (size_t)gridDim.x * blockDim.x) {
        const size_t plane = i / ((size_t)h * w);
        int at[4], tile[2];
        float weight[4];
        neighbours(theta + plane / c * 6, i % w, i / w % h, h, w, at, weight, tile);
        float sum = 0.0f;
        for (int k = 0; k < 4; k++)
            sum += weight[k] * x[plane * h * w + at[k]];
        y[i] = sum;
    }
}

// The transpose, gathered, so that it has the same bits each time: a thread a number of the picture looks at those pixels of the result that look
// at it or at one of its mirror images, whose places are the map turned round.
extern "C" __global__ void affine_backward(const float *__restrict__ g, const float *__restrict__ theta, float *__restrict__ dx, int planes, int c, int h,
                                           int w) {
    const size_t total = (size_t)planes * h * w;
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < total; i += (size_t)gridDim.x * blockDim.x) {
        const int p = i % ((size_t)h * w), x = p % w, y = p / w;
        const size_t plane = i / ((size_t)h * w);
        const float *t = theta + plane / c * 6;
        // Tiles that the corners of the result are in, with those between; a margin for rounding.
        float low[2] = {1e30f, 1e30f}, high[2] = {-1e30f, -1e30f}, at0[2];
        for (int k = 0; k < 4; k++) {
            float q[2];
            looks_at(t, k % 2 ? (float)w : -1.0f, k / 2 ? (float)h : -1.0f, h, w, &q[0], &q[1]);
            for (int d = 0; d < 2; d++)
                low[d] = fminf(low[d], q[d]), high[d] = fmaxf(high[d], q[d]);
        }
        looks_at(t, 0.0f, 0.0f, h, w, &at0[0], &at0[1]);
        const float a = t[0], b = t[1] * w / h, e = t[3] * h / w, f = t[4], det = a * f - b * e;
        const bool turns = fabsf(det) > 1e-6f;
        float sum = 0.0f;
        for (int ty = (int)floorf((low[1] - 1.0f) / h); ty <= (int)floorf((high[1] + 1.0f) / h); ty++)
            for (int tx = (int)floorf((low[0] - 1.0f) / w); tx <= (int)floorf((high[0] + 1.0f) / w); tx++) {
                const float px = (float)(tx * w + (tx % 2 ? w - 1 - x : x)) - at0[0], py = (float)(ty * h + (ty % 2 ? h - 1 - y : y)) - at0[1];
                int x0 = 0, x1 = w - 1, y0 = 0, y1 = h - 1;
                if (turns) {
                    const float mx = (f * px - b * py) / det, my = (a * py - e * px) / det;
                    const float rx = (fabsf(f) + fabsf(b)) / fabsf(det) + 0.05f, ry = (fabsf(a) + fabsf(e)) / fabsf(det) + 0.05f;
                    x0 = max(x0, (int)fmaxf(ceilf(mx - rx), 0.0f)), x1 = min(x1, (int)fminf(floorf(mx + rx), (float)w));
                    y0 = max(y0, (int)fmaxf(ceilf(my - ry), 0.0f)), y1 = min(y1, (int)fminf(floorf(my + ry), (float)h));
                    if (mx + rx < 0.0f || my + ry < 0.0f)
                        continue;
                }
                for (int r = y0; r <= y1; r++)
                    for (int q = x0; q <= x1; q++) {
                        int at[4], tile[2];
                        float weight[4];
                        neighbours(t, q, r, h, w, at, weight, tile);
                        if (tile[0] != tx || tile[1] != ty)
                            continue;
                        for (int k = 0; k < 4; k++)
                            if (at[k] == p)
                                sum += weight[k] * g[plane * h * w + (size_t)r * w + q];
                    }
            }
        dx[i] = sum;
    }
}

// ---- upsample, filter with a FIR kernel, downsample

// y [planes][oh][ow] from x [planes][h][w] and taps [kh][kw], which a convolution turns round. A thread a number.
extern "C" __global__ void upfirdn(const float *__restrict__ x, const float *__restrict__ taps, float *__restrict__ y, int planes, int h, int w, int oh,
                                   int ow, int kh, int kw, int up, int down, int left, int top) {
    const size_t total = (size_t)planes * oh * ow;
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < total; i += (size_t)gridDim.x * blockDim.x) {
        const int ox = i % ow, oy = i / ow % oh;
        const float *from = x + i / ow / oh * h * w;
        float sum = 0.0f;
        for (int j = 0; j < kh; j++) {
            const int sy = oy * down - top + j;
            if (sy < 0 || sy % up || sy / up >= h)
                continue;
            for (int k = 0; k < kw; k++) {
                const int sx = ox * down - left + k;
                if (sx >= 0 && sx % up == 0 && sx / up < w)
                    sum += from[(size_t)(sy / up) * w + sx / up] * taps[(kh - 1 - j) * kw + kw - 1 - k];
            }
        }
        y[i] = sum;
    }
}

// ---- plain convolutions: columns of c * kh * kw numbers for each output pixel, and back

// to [oh * ow][c * kh * kw] of one sample. A thread a number.
extern "C" __global__ void columns(const float *__restrict__ x, float *__restrict__ to, int c, int h, int w, int kh, int kw, int oh, int ow, int stride,
                                   int padding) {
    const int depth = c * kh * kw;
    const size_t total = (size_t)oh * ow * depth;
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < total; i += (size_t)gridDim.x * blockDim.x) {
        const int k = i % depth, p = i / depth, y = p / ow * stride - padding + k / kw % kh, q = p % ow * stride - padding + k % kw;
        to[i] = y >= 0 && y < h && q >= 0 && q < w ? x[((size_t)(k / (kh * kw)) * h + y) * w + q] : 0.0f;
    }
}

// The transpose: a thread a number of the picture gathers those columns that it is in.
extern "C" __global__ void columns_back(const float *__restrict__ from, float *__restrict__ dx, int c, int h, int w, int kh, int kw, int oh, int ow,
                                        int stride, int padding) {
    const int depth = c * kh * kw;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < c * h * w; i += gridDim.x * blockDim.x) {
        const int q = i % w, y = i / w % h, ch = i / (w * h);
        float sum = 0.0f;
        for (int j = 0; j < kh; j++) {
            const int oy = y + padding - j;
            if (oy < 0 || oy % stride || oy / stride >= oh)
                continue;
            for (int k = 0; k < kw; k++) {
                const int ox = q + padding - k;
                if (ox >= 0 && ox % stride == 0 && ox / stride < ow)
                    sum += from[(size_t)(oy / stride * ow + ox / stride) * depth + (ch * kh + j) * kw + k];
            }
        }
        dx[i] = sum;
    }
}
