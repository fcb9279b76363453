// A CUDA driver and the part of cuBLAS that candle uses, on the CPU: enough for candle's CUDA device to run with emulated kernels.
// Built as libcuda.so.1 and libcublas.so.13 in a folder that NADA_CUDA_LIBS names. EMULATE_SEED chooses the order of threads and blocks.
#include "emulate_run.hpp"
#include <cstdio>
#include <cstdlib>
#include <stdexcept>

namespace {
    constexpr int INVALID = 1, NOT_FOUND = 500, LAUNCH_FAILED = 719;
    thread_local void *context;
    char something; // what handles point to
    unsigned seed() {
        const char *s = std::getenv("EMULATE_SEED");
        return s ? unsigned(std::atoi(s)) : 0;
    }
    int allocate(void **at, size_t bytes) {
        if (bytes == 0)
            return INVALID;
        *at = std::malloc(bytes);
        std::memset(*at, 0xff, bytes); // not a number, until written
        return 0;
    }
}

using Handle = void *;
extern "C" {
int cuInit(unsigned) { return 0; }
int cuDriverGetVersion(int *v) { return *v = 13000, 0; }
int cuDeviceGetCount(int *n) { return *n = 1, 0; }
int cuDeviceGet(int *device, int ordinal) { return *device = ordinal, ordinal == 0 ? 0 : 101; }
int cuDeviceGetName(char *to, int length, int) { return std::snprintf(to, size_t(length), "emulated"), 0; }
int cuDeviceGetAttribute(int *value, int attribute, int) {
    *value = attribute == 115 ? 1 /* memory pools */ : attribute == 16 ? 1 /* multiprocessors */ : attribute == 75 ? 9 : 0;
    return 0;
}
int cuDevicePrimaryCtxRetain(Handle *c, int) { return *c = &something, 0; }
int cuDevicePrimaryCtxRelease_v2(int) { return 0; }
int cuCtxSetCurrent(Handle c) { return context = c, 0; }
int cuCtxGetCurrent(Handle *c) { return *c = context, 0; }
int cuCtxDestroy_v2(Handle) { return 0; }
int cuCtxSynchronize() { return 0; }
int cuStreamCreate(Handle *s, unsigned) { return *s = &something, 0; }
int cuStreamDestroy_v2(Handle) { return 0; }
int cuStreamSynchronize(Handle) { return 0; }
int cuStreamWaitEvent(Handle, Handle, unsigned) { return 0; }
int cuStreamIsCapturing(Handle, int *status) { return *status = 0, 0; }
int cuEventCreate(Handle *e, unsigned) { return *e = &something, 0; }
int cuEventDestroy_v2(Handle) { return 0; }
int cuEventRecord(Handle, Handle) { return 0; }
int cuMemAlloc_v2(void **at, size_t bytes) { return allocate(at, bytes); }
int cuMemAllocAsync(void **at, size_t bytes, Handle) { return allocate(at, bytes); }
int cuMemFree_v2(void *at) { return std::free(at), 0; }
int cuMemFreeAsync(void *at, Handle) { return std::free(at), 0; }
int cuMemGetInfo_v2(size_t *unused, size_t *all) { return *unused = *all = size_t(1) << 32, 0; }
int cuMemcpyHtoDAsync_v2(void *to, const void *from, size_t bytes, Handle) { return std::memcpy(to, from, bytes), 0; }
int cuMemcpyDtoHAsync_v2(void *to, const void *from, size_t bytes, Handle) { return std::memcpy(to, from, bytes), 0; }
int cuMemcpyDtoDAsync_v2(void *to, const void *from, size_t bytes, Handle) { return std::memcpy(to, from, bytes), 0; }
int cuMemcpyPeerAsync(void *to, Handle, const void *from, Handle, size_t bytes, Handle) { return std::memcpy(to, from, bytes), 0; }
int cuMemsetD8Async(void *at, unsigned char value, size_t bytes, Handle) { return std::memset(at, value, bytes), 0; }
int cuModuleLoad(Handle *m, const char *) { return *m = &something, 0; }
int cuModuleLoadData(Handle *m, const void *) { return *m = &something, 0; }
int cuModuleUnload(Handle) { return 0; }
int cuDeviceGetDefaultMemPool(Handle *p, int) { return *p = &something, 0; }
int cuMemPoolSetAttribute(Handle, int, void *) { return 0; }
int cuFuncSetAttribute(Handle, int, int) { return 0; }
int cuModuleGetFunction(Handle *f, Handle, const char *name) {
    *f = reinterpret_cast<Handle>(emulate::find(name));
    if (!*f)
        std::fprintf(stderr, "emulated CUDA: there is no kernel %s\n", name);
    return *f ? 0 : NOT_FOUND;
}
int cuLaunchKernel(Handle f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, Handle,
                   void **arguments, void **) {
    try {
        emulate::launch(reinterpret_cast<emulate::Kernel>(f), {gx, gy, gz}, {bx, by, bz}, shared, arguments, seed());
        return 0;
    } catch (const std::exception &e) {
        std::fprintf(stderr, "emulated CUDA: %s\n", e.what());
        return LAUNCH_FAILED;
    }
}
int cuGetErrorString(int, const char **text) { return *text = "error of the emulated CUDA", 0; }

int cublasCreate_v2(Handle *h) { return *h = &something, 0; }
int cublasDestroy_v2(Handle) { return 0; }
int cublasSetStream_v2(Handle, Handle) { return 0; }
int cublasDgemmStridedBatched() { return 15; }
// Column-major, f32 only (data type 0): C = alpha op(A) op(B) + beta C.
int cublasGemmStridedBatchedEx(Handle, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int at, int lda, long long sa,
                               const void *b, int bt, int ldb, long long sb, const void *beta, void *c, int ct, int ldc, long long sc,
                               int batch, int, int) {
    if (at != 0 || bt != 0 || ct != 0)
        return 15;
    if (lda < (ta ? k : m) || ldb < (tb ? n : k) || ldc < m)
        return 7;
    const float x = *static_cast<const float *>(alpha), z = *static_cast<const float *>(beta);
    for (long long i = 0; i < batch; i++)
        for (long long col = 0; col < n; col++)
            for (long long row = 0; row < m; row++) {
                double sum = 0;
                for (long long j = 0; j < k; j++)
                    sum += double(static_cast<const float *>(a)[i * sa + (ta ? j + row * lda : row + j * lda)]) *
                           static_cast<const float *>(b)[i * sb + (tb ? col + j * ldb : j + col * ldb)];
                float &out = static_cast<float *>(c)[i * sc + row + col * ldc];
                out = x * float(sum) + (z == 0.0f ? 0.0f : z * out);
            }
    return 0;
}
}
