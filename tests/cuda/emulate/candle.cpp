// Those of candle's own kernels that tests meet, for f32: same names and arguments, written plainly. A test that needs another says so.
#include "emulate.hpp"

namespace {
    size_t strided(size_t i, size_t rank, const size_t *dims, const size_t *strides) {
        size_t at = 0;
        for (size_t d = rank; d-- > 0; i /= dims[d])
            at += i % dims[d] * strides[d];
        return at;
    }
    size_t first() { return blockIdx.x * blockDim.x + threadIdx.x; }
    size_t step() { return size_t(blockDim.x) * gridDim.x; }

    template <float (*F)(float, float)>
    void binary(size_t n, size_t rank, const size_t *info, const float *a, const float *b, float *out) {
        for (size_t i = first(); i < n; i += step())
            out[i] = F(a[info ? strided(i, rank, info, info + rank) : i], b[info ? strided(i, rank, info, info + 2 * rank) : i]);
    }
    template <float (*F)(float)> void unary(size_t n, size_t rank, const size_t *info, const float *in, float *out) {
        for (size_t i = first(); i < n; i += step())
            out[i] = F(in ? in[info ? strided(i, rank, info, info + rank) : i] : out[i]);
    }
    void affine(size_t n, size_t rank, const size_t *info, const float *in, float *out, float mul, float add) {
        for (size_t i = first(); i < n; i += step())
            out[i] = (in ? in[info ? strided(i, rank, info, info + rank) : i] : out[i]) * mul + add;
    }
    void set(size_t n, size_t rank, const size_t *info, float value, float *out) {
        for (size_t i = first(); i < n; i += step())
            out[info ? strided(i, rank, info, info + rank) : i] = value;
    }
    void sum(size_t n, size_t each, size_t rank, const size_t *info, const float *in, float *out) {
        if (threadIdx.x != 0)
            return;
        double all = 0;
        for (size_t i = blockIdx.x * each; i < (blockIdx.x + 1) * each && i < n; i++)
            all += in[info ? strided(i, rank, info, info + rank) : i];
        out[blockIdx.x] = float(all);
    }
    void sum_small(size_t outputs, size_t each, size_t rank, const size_t *info, const float *in, float *out) {
        for (size_t o = first(); o < outputs; o += step()) {
            double all = 0;
            for (size_t i = o * each; i < (o + 1) * each; i++)
                all += in[info ? strided(i, rank, info, info + rank) : i];
            out[o] = float(all);
        }
    }
    template <bool (*F)(float, float)>
    void compare(size_t n, size_t rank, const size_t *info, const float *a, const float *b, uint8_t *out) {
        for (size_t i = first(); i < n; i += step())
            out[i] = F(a[info ? strided(i, rank, info, info + rank) : i], b[info ? strided(i, rank, info, info + 2 * rank) : i]);
    }
    template <class From, class To> void cast(size_t n, size_t rank, const size_t *info, const From *in, To *out) {
        for (size_t i = first(); i < n; i += step())
            out[i] = To(in[info ? strided(i, rank, info, info + rank) : i]);
    }
    template <class T> void copy2d(const T *from, T *to, uint32_t rows, uint32_t columns, uint32_t from_row, uint32_t to_row) {
        const size_t i = first();
        if (i < size_t(rows) * columns)
            to[i / columns * to_row + i % columns] = from[i / columns * from_row + i % columns];
    }
    void where(size_t n, size_t rank, const size_t *info, const uint8_t *which, const float *a, const float *b, float *out) {
        for (size_t i = first(); i < n; i += step())
            out[i] = which[strided(i, rank, info, info + rank)] ? a[strided(i, rank, info, info + 2 * rank)]
                                                                : b[strided(i, rank, info, info + 3 * rank)];
    }
    template <bool BEST_IS_LARGEST> void best(size_t, size_t each, size_t rank, const size_t *info, const float *in, float *out) {
        if (threadIdx.x != 0)
            return;
        float most = in[strided(blockIdx.x * each, rank, info, info + rank)];
        for (size_t i = blockIdx.x * each; i < (blockIdx.x + 1) * each; i++) {
            const float v = in[strided(i, rank, info, info + rank)];
            most = BEST_IS_LARGEST ? fmaxf(most, v) : fminf(most, v);
        }
        out[blockIdx.x] = most;
    }
    void select(size_t n, size_t, const size_t *, const uint32_t *ids, const float *in, float *out, size_t, size_t source, size_t count, size_t right) {
        for (size_t i = first(); i < n; i += step())
            out[i] = in[(i / (count * right) * source + ids[i / right % count]) * right + i % right];
    }
    void index_add(const uint32_t *ids, size_t count, const float *in, float *out, size_t left, size_t, size_t dims, size_t right) {
        for (size_t i = first(); i < left * right; i += step())
            for (size_t j = 0; j < count; j++)
                out[(i / right * dims + ids[j]) * right + i % right] += in[(i / right * count + j) * right + i % right];
    }
    void average(size_t, size_t kw, size_t kh, size_t sw, size_t sh, const size_t *info, const float *in, float *out) {
        const size_t *dims = info, *strides = info + 4, i = first();
        const size_t rows = (dims[2] - kw) / sw + 1, columns = (dims[3] - kh) / sh + 1;
        if (i >= dims[0] * dims[1] * rows * columns)
            return;
        const size_t from = i / (rows * columns * dims[1]) * strides[0] + i / (rows * columns) % dims[1] * strides[1];
        float all = 0;
        for (size_t r = 0; r < kw; r++)
            for (size_t c = 0; c < kh; c++)
                all += in[from + (sw * (i / columns % rows) + r) * strides[2] + (sh * (i % columns) + c) * strides[3]];
        out[i] = all / float(kw * kh);
    }
    void nearest(size_t rows, size_t columns, double row_scale, double column_scale, const size_t *info, const float *in, float *out) {
        const size_t *dims = info, *strides = info + 4, i = first();
        if (i >= dims[0] * dims[1] * rows * columns)
            return;
        const size_t r = size_t(double(i / columns % rows) * row_scale), c = size_t(double(i % columns) * column_scale);
        out[i] = in[i / (rows * columns * dims[1]) * strides[0] + i / (rows * columns) % dims[1] * strides[1] +
                    (r < dims[2] ? r : dims[2] - 1) * strides[2] + (c < dims[3] ? c : dims[3] - 1) * strides[3]];
    }
    float positive(float a) { return a > 0 ? a : 0; }
    bool lt(float a, float b) { return a < b; }
    bool le(float a, float b) { return a <= b; }
    bool gt(float a, float b) { return a > b; }
    bool ge(float a, float b) { return a >= b; }
    bool eq(float a, float b) { return a == b; }
    bool ne(float a, float b) { return a != b; }
    float larger(float a, float b) { return fmaxf(a, b); }
    float smaller(float a, float b) { return fminf(a, b); }
    float root(float a) { return sqrtf(a); }
    float over(float a) { return 1.0f / a; }
    float minus(float a) { return -a; }
    float magnitude(float a) { return fabsf(a); }
    float exponential(float a) { return expf(a); }
    float logarithm(float a) { return logf(a); }
    float cosine(float a) { return cosf(a); }
    float sine(float a) { return sinf(a); }
    float add(float a, float b) { return a + b; }
    float sub(float a, float b) { return a - b; }
    float mul(float a, float b) { return a * b; }
    float div(float a, float b) { return a / b; }
    float same(float a) { return a; }
    float square(float a) { return a * a; }

    using emulate::Call;
    const emulate::Register all[] = {
        {"badd_f32", Call<binary<add>>::run},  {"bsub_f32", Call<binary<sub>>::run},       {"bmul_f32", Call<binary<mul>>::run},
        {"bdiv_f32", Call<binary<div>>::run},  {"ucopy_f32", Call<unary<same>>::run},      {"usqr_f32", Call<unary<square>>::run},
        {"affine_f32", Call<affine>::run},     {"const_set_f32", Call<set>::run},          {"fast_sum_f32", Call<sum>::run},
        {"fast_sum_small_f32", Call<sum_small>::run},
        {"lt_f32", Call<compare<lt>>::run},    {"le_f32", Call<compare<le>>::run},         {"gt_f32", Call<compare<gt>>::run},
        {"ge_f32", Call<compare<ge>>::run},    {"eq_f32", Call<compare<eq>>::run},         {"ne_f32", Call<compare<ne>>::run},
        {"bmaximum_f32", Call<binary<larger>>::run}, {"bminimum_f32", Call<binary<smaller>>::run},
        {"usqrt_f32", Call<unary<root>>::run}, {"urecip_f32", Call<unary<over>>::run},     {"uneg_f32", Call<unary<minus>>::run},
        {"uabs_f32", Call<unary<magnitude>>::run}, {"uexp_f32", Call<unary<exponential>>::run}, {"ulog_f32", Call<unary<logarithm>>::run},
        {"ucos_f32", Call<unary<cosine>>::run}, {"usin_f32", Call<unary<sine>>::run},
        {"cast_u8_f32", Call<cast<uint8_t, float>>::run}, {"cast_f32_f64", Call<cast<float, double>>::run},
        {"cast_f64_f32", Call<cast<double, float>>::run}, {"cast_u32_f32", Call<cast<uint32_t, float>>::run},
        {"copy2d_f32", Call<copy2d<float>>::run}, {"copy2d_u32", Call<copy2d<uint32_t>>::run},
        {"where_u8_f32", Call<where>::run},    {"fast_max_f32", Call<best<true>>::run},    {"fast_min_f32", Call<best<false>>::run},
        {"avg_pool2d_f32", Call<average>::run}, {"upsample_nearest2d_f32", Call<nearest>::run}, {"urelu_f32", Call<unary<positive>>::run},
        {"is_u32_f32", Call<select>::run},     {"ia_u32_f32", Call<index_add>::run},
    };
}
