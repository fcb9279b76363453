#define _GNU_SOURCE
#include "library.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool plugin_fail(plugin_error *error, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    return false;
}

bool plugin_library_fail(const plugin_library *library, plugin_error *error) {
    return plugin_fail(error, "%s", library->last_error_message());
}

/* First what is tried first. A flavour for other devices would stand before the one for the CPU. */
static const char *const FILES[] = {"libnada.so.3", "libnada.so"};
enum { FILE_COUNT = sizeof FILES / sizeof *FILES };

/* The folder of the running program, without a slash at its end; "" where the system does not say. */
static void program_folder(char *folder, size_t size) {
    ssize_t length = readlink("/proc/self/exe", folder, size - 1);
    folder[length > 0 ? length : 0] = '\0';
    /* Without /proc: the name that it was started by. */
    Dl_info info;
    bool (*own)(plugin_library *, plugin_error *) = plugin_library_open;
    void *address;
    /* POSIX lets a data pointer hold a function's address; ISO C has no cast for it. */
    memcpy(&address, &own, sizeof address);
    if (length <= 0 && dladdr(address, &info) && info.dli_fname) snprintf(folder, size, "%s", info.dli_fname);
    char *slash = strrchr(folder, '/');
    if (slash) *slash = '\0';
}

static bool is_folder(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

/* Loads `file` and looks its functions up; true when the library can be used. */
static bool load(plugin_library *library, const char *file, plugin_error *error) {
    library->handle = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (!library->handle) return plugin_fail(error, "%s", dlerror());

    Dl_info info;
    void *address = dlsym(library->handle, "nada_abi_version");
    if (!address) return plugin_fail(error, "%s is not libnada: it has no nada_abi_version", file);
    memcpy(&library->abi_version, &address, sizeof address);
    snprintf(library->path, sizeof library->path, "%s", dladdr(address, &info) && info.dli_fname ? info.dli_fname : file);

    uint32_t found = library->abi_version(), wanted = NADA_ABI_VERSION;
    if (found >> 16 != wanted >> 16 || found < wanted)
        return plugin_fail(error,
                           "%s has ABI %u.%u, but this plug-in needs %u.%u or a later %u.x: install plug-in and library of one release",
                           library->path, found >> 16, found & 0xffff, wanted >> 16, wanted & 0xffff, wanted >> 16);
#define X(name)                                                                                                    \
    address = dlsym(library->handle, "nada_" #name);                                                               \
    if (!address) return plugin_fail(error, "%s lacks the function nada_" #name ": it is damaged", library->path); \
    memcpy(&library->name, &address, sizeof address);
    PLUGIN_FUNCTIONS(X)
#undef X
    return true;
}

/* Tries the files in `folder` ("" for the system's search); *found says whether one was there. */
static bool load_from(plugin_library *library, const char *folder, bool *found, plugin_error *error) {
    for (int i = 0; i < FILE_COUNT; i++) {
        char path[8192];
        int length = snprintf(path, sizeof path, "%s%s%s", folder, *folder ? "/" : "", FILES[i]);
        /* A name that was cut is another file's. */
        if (length < 0 || (size_t)length >= sizeof path) continue;
        if (*folder && access(path, F_OK) != 0) continue;
        *found = true;
        if (load(library, path, error)) return true;
        /* One that is there and does not work is told, not passed over; the system's search only fails to find some names. */
        if (*folder || library->handle) return false;
    }
    return false;
}

bool plugin_library_open(plugin_library *library, plugin_error *error) {
    memset(library, 0, sizeof *library);
    /* The tensor library below would start a second pool of threads, which takes turns with libnada's own. libnada sets this itself only
     * in processes of one thread. */
    setenv("CANDLE_NUM_THREADS", "1", 0);

    bool found = false;
    const char *chosen = getenv("NADA_LIBRARY");
    if (chosen && *chosen) {
        plugin_error why = {""};
        if (is_folder(chosen) ? load_from(library, chosen, &found, &why) : load(library, chosen, &why)) return true;
        if (!*why.text) plugin_fail(&why, "no %s in that folder", FILES[0]);
        return plugin_fail(error, "NADA_LIBRARY is %.300s: %.1600s", chosen, why.text);
    }
    char folder[4096];
    program_folder(folder, sizeof folder);
    if (*folder && load_from(library, folder, &found, error)) return true;
    if (found) return false;
    if (load_from(library, "", &found, error)) return true;
    if (library->handle) return false;
    return plugin_fail(error, "%s was found neither in %.1000s nor by the system; put it there or name it in NADA_LIBRARY", FILES[0], folder);
}
