#define _POSIX_C_SOURCE 200809L
#include "reached.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PREFIX "reached-"
#define SUFFIX ".nada.safetensors"

static bool state_folder(char *folder, size_t size) {
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int length = state && *state == '/' ? snprintf(folder, size, "%s/nada", state)
                 : home && *home        ? snprintf(folder, size, "%s/.local/state/nada", home)
                                        : -1;
    return length > 0 && (size_t)length < size;
}

static bool make_folders(char *path) {
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        int failed = mkdir(path, 0700) != 0 && errno != EEXIST;
        *slash = '/';
        if (failed) return false;
    }
    return mkdir(path, 0700) == 0 || errno == EEXIST;
}

bool plugin_reached_file(char file[PLUGIN_FILE_MAX]) {
    char folder[PLUGIN_FILE_MAX - 64];
    if (!state_folder(folder, sizeof folder) || !make_folders(folder)) return false;
    snprintf(file, PLUGIN_FILE_MAX, "%s/" PREFIX "%ld" SUFFIX, folder, (long)getpid());
    return true;
}

size_t plugin_reached_left(char files[PLUGIN_REACHED_MAX][PLUGIN_FILE_MAX]) {
    char folder[PLUGIN_FILE_MAX - 300];
    DIR *entries = state_folder(folder, sizeof folder) ? opendir(folder) : NULL;
    size_t count = 0;
    struct dirent *entry;
    while (entries && count < PLUGIN_REACHED_MAX && (entry = readdir(entries))) {
        long process = 0;
        int end = 0;
        /* Temporary names end otherwise. */
        if (sscanf(entry->d_name, PREFIX "%ld" SUFFIX "%n", &process, &end) != 1 || end == 0 || entry->d_name[end] || process <= 0) continue;
        if (kill((pid_t)process, 0) == 0 || errno == EPERM) continue;
        snprintf(files[count++], PLUGIN_FILE_MAX, "%s/%s", folder, entry->d_name);
    }
    if (entries) closedir(entries);
    return count;
}
