/* libnada, opened at run time, so that a plug-in whose library is missing or of another ABI can say so instead of not starting. */
#ifndef NADA_PLUGIN_LIBRARY_H
#define NADA_PLUGIN_LIBRARY_H

#include <nada.h>
#include <stdbool.h>

/* What went wrong, for the user. */
typedef struct plugin_error {
    char text[2048];
} plugin_error;

/* Writes the message and returns false, so that `return plugin_fail(...)` ends a function that failed. */
bool plugin_fail(plugin_error *error, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 2, 3)))
#endif
    ;

/* Every function of the library that the plug-ins call. */
#define PLUGIN_FUNCTIONS(X) \
    X(abi_version) X(version) X(status_name) X(last_error_message) \
    X(cancel_new) X(cancel_trigger) X(cancel_is_triggered) X(cancel_free) \
    X(context_new) X(context_free) \
    X(model_open) X(model_name) X(model_folder) X(model_description) X(model_generator) X(model_adaptation_options) \
    X(model_inversion_options) X(model_check_text) X(model_check_length) X(model_phrases) X(model_free) \
    X(model_list_new) X(model_list_count) X(model_list_name) X(model_list_folder) X(model_list_warning) X(model_list_free) \
    X(gallery_open) X(gallery_folder) X(gallery_count) X(gallery_name) X(gallery_file) X(gallery_source) X(gallery_target) X(gallery_fits) \
    X(gallery_thumbnail) X(gallery_domain) X(gallery_install) X(gallery_free) \
    X(domain_open) X(domain_save) X(domain_source) X(domain_target) X(domain_step) X(domain_fits) X(domain_free) \
    X(adaptation_new) X(adaptation_run) X(adaptation_outcome) X(adaptation_domain) X(adaptation_result) X(adaptation_preview) \
    X(adaptation_free) \
    X(generator_size) X(generator_fingerprint) X(generator_sample) X(generator_invert) X(generator_render) X(generator_render_frame) \
    X(generator_free) X(render_options_init) X(frame_options_init) \
    X(image_from_pixels) X(image_from_frame) X(image_to_pixels) X(image_width) X(image_height) X(image_free) \
    X(latent_free)

typedef struct plugin_library {
    void *handle;
    /* The file that was loaded. */
    char path[4096];
#define X(name) __typeof__(&nada_##name) name;
    PLUGIN_FUNCTIONS(X)
#undef X
} plugin_library;

/* Opens libnada: the file or folder that the environment variable NADA_LIBRARY names (then nothing else is tried), else beside the
 * program, else where the system looks. A library of another ABI is an error that names both. It stays open until the process ends. */
bool plugin_library_open(plugin_library *library, plugin_error *error);

/* The message of the last call into the library that failed on this thread. */
bool plugin_library_fail(const plugin_library *library, plugin_error *error);

#endif
