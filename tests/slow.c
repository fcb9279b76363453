/* For LD_PRELOAD: a slow disk. Each read of more than 60000 bytes waits NADA_TEST_SLOW_US microseconds first. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

static void wait_for_the_disk(size_t n) {
    const char *us = getenv("NADA_TEST_SLOW_US");
    if (n > 60000 && us) usleep((useconds_t)atoi(us));
}

ssize_t pread64(int fd, void *buffer, size_t n, off64_t at) {
    ssize_t (*real)(int, void *, size_t, off64_t) = (ssize_t (*)(int, void *, size_t, off64_t))dlsym(RTLD_NEXT, "pread64");
    wait_for_the_disk(n);
    return real(fd, buffer, n, at);
}

ssize_t read(int fd, void *buffer, size_t n) {
    ssize_t (*real)(int, void *, size_t) = (ssize_t (*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
    wait_for_the_disk(n);
    return real(fd, buffer, n);
}
