// What a synthesis network does between convolutions: colours, the way back through activations, sums. Features are [n][c][h][w], pictures
// [n][colours][h][w] with at most 4 colours.
#include "sums.hpp"

constexpr int COLOURS = 4;
constexpr float GAIN = 1.41421356f, SLOPE = 0.2f;

// y [n][length] = x [length], for every sample. A thread a number.
extern "C" __global__ void repeated(const float *__restrict__ x, float *__restrict__ y, int n, int length) {
    const size_t total = (size_t)n * length;
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < total; i += (size_t)gridDim.x * blockDim.x)
        y[i] = x[i % length];
}

// Weights of a ToRGB layer for each sample: [n][colours][c] = w [colours][c] * s * scale. A thread a number.
extern "C" __global__ void colour_weights(const float *__restrict__ w, const float *__restrict__ s, int step, float *__restrict__ to, int n, int colours,
                                          int c, float scale) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n * colours * c; i += gridDim.x * blockDim.x)
        to[i] = w[i % (colours * c)] * s[(size_t)(i / (colours * c)) * step + i % c] * scale;
}

// Small picture's pixels around (y, x) of one of twice the size: zeros between, then the blur along both directions.
__device__ __forceinline__ float enlarged(const float *small, int h, int w, int y, int x, const float *blur) {
    const int m = y / 2, q = x / 2;
    float sum = 0.0f;
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++) {
            // An even row sees rows m - 1 and m with taps 3 and 1, an odd one m and m + 1 with taps 2 and 0.
            const int r = m - 1 + y % 2 + i, c = q - 1 + x % 2 + j;
            if (r >= 0 && r < h && c >= 0 && c < w)
                sum += blur[3 - y % 2 - 2 * i] * blur[3 - x % 2 - 2 * j] * small[r * w + c];
        }
    return sum;
}

// out [n][colours][h][w] = colours of x [n][c][h][w] + bias, clamped (kept in `own` where that is not null), plus the picture before, or null, of half the
// size where `half`. Block 256, grid (pixels / 256, n), colours * c floats of shared memory.
extern "C" __global__ void colours_forward(const float *__restrict__ x, const float *__restrict__ weights, const float *__restrict__ bias,
                                           const float *__restrict__ before, int half, float *__restrict__ own, float *__restrict__ out, int colours,
                                           int c, int h, int w, float clamp, float b0, float b1, float b2, float b3) {
    extern __shared__ float tile[];
    const float blur[4] = {b0, b1, b2, b3};
    const int n = blockIdx.y, area = h * w, p = blockIdx.x * blockDim.x + threadIdx.x;
    for (int i = threadIdx.x; i < colours * c; i += blockDim.x)
        tile[i] = weights[(size_t)n * colours * c + i];
    __syncthreads();
    if (p >= area)
        return;
    float sums[COLOURS] = {};
    for (int i = 0; i < c; i++) {
        const float v = x[((size_t)n * c + i) * area + p];
        for (int o = 0; o < COLOURS; o++)
            if (o < colours)
                sums[o] += v * tile[o * c + i];
    }
    for (int o = 0; o < COLOURS; o++)
        if (o < colours) {
            const size_t plane = (size_t)n * colours + o;
            float v = fminf(fmaxf(sums[o] + (bias ? bias[o] : 0.0f), -clamp), clamp);
            if (own)
                own[plane * area + p] = v;
            if (before)
                v += half ? enlarged(before + plane * (area / 4), h / 2, w / 2, p / w, p % w, blur) : before[plane * area + p];
            out[plane * area + p] = v;
        }
}

// The transpose of the enlarging: g [planes][2 h][2 w] -> out [planes][h][w]. A thread a number.
extern "C" __global__ void colours_reduce(const float *__restrict__ g, float *__restrict__ out, int planes, int h, int w, float b0, float b1, float b2,
                                          float b3) {
    const float blur[4] = {b0, b1, b2, b3};
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < planes * h * w; i += gridDim.x * blockDim.x) {
        const int x = i % w, y = i / w % h;
        const float *from = g + (size_t)(i / (h * w)) * 4 * h * w;
        float sum = 0.0f;
        for (int j = 0; j < 4; j++)
            for (int k = 0; k < 4; k++) {
                const int r = 2 * y - 1 + j, c = 2 * x - 1 + k;
                if (r >= 0 && r < 2 * h && c >= 0 && c < 2 * w)
                    sum += blur[j] * blur[k] * from[r * 2 * w + c];
            }
        out[i] = sum;
    }
}

// out = g where the colour was not clamped. A thread a number.
extern "C" __global__ void colours_unclamped(const float *__restrict__ g, const float *__restrict__ own, float *__restrict__ out, int length,
                                             float clamp) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < length; i += gridDim.x * blockDim.x)
        out[i] = fabsf(own[i]) < clamp ? g[i] : 0.0f;
}

// out[c] = sum over n and pixels of x [n][c][area]. Block 256, grid c.
extern "C" __global__ void channel_totals(const float *__restrict__ x, float *__restrict__ out, int n, int c, int area) {
    float sum = 0.0f;
    for (int s = 0; s < n; s++)
        for (int i = threadIdx.x; i < area; i += blockDim.x)
            sum += x[((size_t)s * c + blockIdx.x) * area + i];
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        out[blockIdx.x] = sum;
}

// Where pixel p of a plane of h x w lies when it is given back to an up-sampling convolution, as 4 planes of half the size.
__device__ __forceinline__ int parted(int p, int w, int area) {
    const int row = p / w, column = p % w;
    return (row % 2 * 2 + column % 2) * (area / 4) + row / 2 * (w / 2) + column / 2;
}

// Back through noise, bias and activation of a layer, from its result y [n][c][h][w]. What comes from above is `above_u` [n][c][h][w] times
// `above_s` (rows `step` apart) of the next convolution, or nothing (null), plus the colours' gradients [n][colours][h][w] times their weights.
// g: the gradient before the activation (in parts where `up`). part [n * c][chunks][3 + colours]: sums over the pixels of g, of g times what went in
// without noise and bias, of y times above_u, of y times each colour's gradient. Block 256, grid (chunks, planes).
extern "C" __global__ void activation_back(const float *__restrict__ y, const float *__restrict__ above_u, const float *__restrict__ above_s, int step,
                                           const float *__restrict__ of_colours, const float *__restrict__ weights, int colours,
                                           const float *__restrict__ bias, const float *__restrict__ noise, int noise_step,
                                           const float *__restrict__ strength, float clamp, float *__restrict__ g, float *__restrict__ part, int n,
                                           int c, int h, int w, int up) {
    const int area = h * w;
    for (int plane = blockIdx.y; plane < n * c; plane += gridDim.y) {
        const int sample = plane / c, channel = plane % c;
        const size_t base = (size_t)plane * area;
        const float b = bias[channel], s = above_u ? above_s[(size_t)sample * step + channel] : 0.0f;
        const float *added = noise ? noise + (size_t)sample * noise_step : nullptr;
        float sums[3 + COLOURS] = {}, rows[COLOURS] = {};
        for (int o = 0; o < COLOURS; o++)
            if (o < colours)
                rows[o] = weights[((size_t)sample * colours + o) * c + channel];
        for (int p = blockIdx.x * blockDim.x + threadIdx.x; p < area; p += gridDim.x * blockDim.x) {
            const float v = y[base + p], u = above_u ? above_u[base + p] : 0.0f;
            float dy = s * u;
            sums[2] += v * u;
            for (int o = 0; o < COLOURS; o++)
                if (o < colours) {
                    const float colour = of_colours[((size_t)sample * colours + o) * area + p];
                    dy += rows[o] * colour;
                    sums[3 + o] += v * colour;
                }
            // The result has the sign of what went into the activation, and says what that was.
            const float back = fabsf(v) < clamp ? dy * (v > 0.0f ? GAIN : SLOPE * GAIN) : 0.0f;
            g[base + (up ? parted(p, w, area) : p)] = back;
            sums[0] += back;
            sums[1] += back * (v * (v > 0.0f ? 1.0f / GAIN : 1.0f / (SLOPE * GAIN)) - b - (added ? *strength * added[p] : 0.0f));
        }
        for (int i = 0; i < 3 + COLOURS; i++)
            if (i < 3 + colours) {
                const float sum = block_sum(sums[i]);
                if (threadIdx.x == 0)
                    part[((size_t)plane * gridDim.x + blockIdx.x) * (3 + colours) + i] = sum;
            }
    }
}

// The parts of activation_back, summed: plain, q = -product * d^2, direct, each [n][c], and colours [n][colours][c]. A thread a plane.
extern "C" __global__ void activation_sums(const float *__restrict__ part, const float *__restrict__ d, float *__restrict__ plain,
                                           float *__restrict__ q, float *__restrict__ direct, float *__restrict__ of_colours, int n, int c, int chunks,
                                           int colours) {
    for (int plane = blockIdx.x * blockDim.x + threadIdx.x; plane < n * c; plane += gridDim.x * blockDim.x) {
        float sums[3 + COLOURS] = {};
        for (int chunk = 0; chunk < chunks; chunk++)
            for (int i = 0; i < 3 + COLOURS; i++)
                if (i < 3 + colours)
                    sums[i] += part[((size_t)plane * chunks + chunk) * (3 + colours) + i];
        plain[plane] = sums[0];
        q[plane] = -sums[1] * d[plane] * d[plane];
        direct[plane] = sums[2];
        for (int o = 0; o < COLOURS; o++)
            if (o < colours)
                of_colours[((size_t)(plane / c) * colours + o) * c + plane % c] = sums[3 + o];
    }
}

// out[i] = sum over n of x [n][length]. A thread a number.
extern "C" __global__ void sample_totals(const float *__restrict__ x, float *__restrict__ out, int n, int length) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < length; i += gridDim.x * blockDim.x) {
        float sum = 0.0f;
        for (int s = 0; s < n; s++)
            sum += x[(size_t)s * length + i];
        out[i] = sum;
    }
}

// rows [n][pixels] = sums over channels of g, which lies in parts where `up`. A thread a pixel.
extern "C" __global__ void pixel_totals(const float *__restrict__ g, float *__restrict__ rows, int n, int c, int h, int w, int up) {
    const int area = h * w;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n * area; i += gridDim.x * blockDim.x) {
        const int p = i % area, at = up ? parted(p, w, area) : p;
        float sum = 0.0f;
        for (int channel = 0; channel < c; channel++)
            sum += g[((size_t)(i / area) * c + channel) * area + at];
        rows[i] = sum;
    }
}

// out[0] = sum of rows [n][area] times noise. One block of 256.
extern "C" __global__ void strength_gradient(const float *__restrict__ rows, const float *__restrict__ noise, int noise_step, float *__restrict__ out,
                                             int n, int area) {
    float sum = 0.0f;
    for (int s = 0; s < n; s++)
        for (int i = threadIdx.x; i < area; i += blockDim.x)
            sum += rows[(size_t)s * area + i] * noise[(size_t)s * noise_step + i];
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        *out = sum;
}

// out [maps][area] = strength * rows [n][area], summed where there is one map for all. A thread a number.
extern "C" __global__ void noise_gradient(const float *__restrict__ rows, const float *__restrict__ strength, float *__restrict__ out, int n, int maps,
                                          int area) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < maps * area; i += gridDim.x * blockDim.x) {
        float sum = 0.0f;
        for (int s = 0; s < n / maps; s++)
            sum += rows[(size_t)s * area + i];
        out[i] = *strength * sum;
    }
}

// A ToRGB layer's gradients from the sums [n][colours][c] of features times colours' gradients: ds [n][c] in rows `step` apart, dw [colours][c]. A thread
// a channel.
extern "C" __global__ void colour_gradients(const float *__restrict__ sums, const float *__restrict__ w, const float *__restrict__ s, int step,
                                            float *__restrict__ ds, float *__restrict__ dw, int n, int colours, int c, float scale) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < c; i += gridDim.x * blockDim.x) {
        for (int k = 0; k < n; k++) {
            float sum = 0.0f;
            for (int o = 0; o < colours; o++)
                sum += w[o * c + i] * sums[((size_t)k * colours + o) * c + i];
            if (ds)
                ds[(size_t)k * step + i] = scale * sum;
        }
        for (int o = 0; o < colours; o++) {
            float sum = 0.0f;
            for (int k = 0; k < n; k++)
                sum += s[(size_t)k * step + i] * sums[((size_t)k * colours + o) * c + i];
            dw[o * c + i] = scale * sum;
        }
    }
}

// out [n][c] = sums over the pixels of x times u, both [n][c][area]. Block 256, grid planes.
extern "C" __global__ void plane_products(const float *__restrict__ x, const float *__restrict__ u, float *__restrict__ out, int planes, int area) {
    for (int plane = blockIdx.x; plane < planes; plane += gridDim.x) {
        float sum = 0.0f;
        for (int i = threadIdx.x; i < area; i += blockDim.x)
            sum += x[(size_t)plane * area + i] * u[(size_t)plane * area + i];
        sum = block_sum(sum);
        if (threadIdx.x == 0)
            out[plane] = sum;
    }
}

// The constant's gradient [c][area] = sum over n of s * u [n][c][area]. A thread a number.
extern "C" __global__ void constant_gradient(const float *__restrict__ u, const float *__restrict__ s, int step, float *__restrict__ out, int n, int c,
                                             int area) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < c * area; i += gridDim.x * blockDim.x) {
        float sum = 0.0f;
        for (int k = 0; k < n; k++)
            sum += s[(size_t)k * step + i / area] * u[(size_t)k * c * area + i];
        out[i] = sum;
    }
}
