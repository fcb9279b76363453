#include "canvas.h"

#include "../words.h"

#include <stdlib.h>
#include <string.h>

/* 8-bit sRGB is handed over as it is; everything else as floats, which lose nothing. */
static nada_pixel_format format_of(GeglBuffer *buffer) {
    const Babl *format = gegl_buffer_get_format(buffer);
    const char *model = babl_get_name(babl_format_get_model(format));
    bool bytes = babl_format_get_type(format, 0) == babl_type("u8") && babl_format_get_space(format) == babl_space("sRGB");
    bool alpha = babl_format_has_alpha(format);
    if (bytes && strcmp(model, alpha ? "R'G'B'A" : "R'G'B'") == 0) return alpha ? NADA_FORMAT_RGBA8 : NADA_FORMAT_RGB8;
    if (bytes && strcmp(model, alpha ? "Y'A" : "Y'") == 0) return alpha ? NADA_FORMAT_RGBA8 : NADA_FORMAT_RGB8;
    return NADA_FORMAT_RGBA32F;
}

/* sRGB's primaries and curve: babl converts from and to the picture's colour space, grey and depth. */
static const Babl *babl_of(nada_pixel_format format) {
    return babl_format(format == NADA_FORMAT_RGB8 ? "R'G'B' u8" : format == NADA_FORMAT_RGBA8 ? "R'G'B'A u8" : "R'G'B'A float");
}

/* A macro, as the rectangle lives in the block that names it. */
#define RECTANGLE(r) GEGL_RECTANGLE((r).x, (r).y, (r).width, (r).height)

static bool read_pixels(GeglBuffer *buffer, plugin_rectangle r, nada_pixels_mut *pixels, plugin_error *error) {
    nada_pixel_format format = format_of(buffer);
    if (!plugin_pixels_new(pixels, r.width, r.height, format, error)) return false;
    gegl_buffer_get(buffer, RECTANGLE(r), 1, babl_of(format), pixels->data, (int)pixels->stride, GEGL_ABYSS_NONE);
    return true;
}

static void write_pixels(GeglBuffer *buffer, plugin_rectangle r, const nada_pixels_mut *pixels) {
    gegl_buffer_set(buffer, RECTANGLE(r), 0, babl_of(pixels->format), pixels->data, (int)pixels->stride);
}

/* A new layer shows only what is selected. */
static bool mask_layer(const plugin_canvas *canvas, plugin_rectangle r, const nada_pixels_mut *pixels, plugin_error *error) {
    int x, y;
    GeglBuffer *selection = canvas->selection(canvas->host, &x, &y);
    if (!selection) return true;
    /* Some rows at a time, as the mask would be as large as the pixels. */
    enum { ROWS = 64 };
    float *mask = malloc(sizeof *mask * (size_t)r.width * ROWS);
    if (!mask) plugin_fail(error, "not enough memory for the selection's mask");
    for (int top = 0; mask && top < r.height; top += ROWS) {
        int rows = r.height - top < ROWS ? r.height - top : ROWS;
        nada_pixels_mut strip = *pixels;
        strip.data = (char *)pixels->data + (size_t)top * pixels->stride;
        strip.height = (uint32_t)rows;
        gegl_buffer_get(selection, GEGL_RECTANGLE(r.x + x, r.y + y + top, r.width, rows), 1, babl_format("Y float"), mask, GEGL_AUTO_ROWSTRIDE,
                        GEGL_ABYSS_NONE);
        plugin_pixels_mask(&strip, mask);
    }
    g_object_unref(selection);
    free(mask);
    return mask != NULL;
}

/* Runs a job to its end, with the host's progress bar. */
static bool run_job(const plugin_canvas *canvas, plugin_work work, plugin_task *task, plugin_error *error) {
    plugin_job *job = plugin_job_start(plugin_session_library(task->session), work, task, error);
    if (!job) return false;
    plugin_job_status status;
    char shown[sizeof status.text] = "";
    while (plugin_job_poll(job, &status) == PLUGIN_RUNNING) {
        plugin_picture_free(status.preview);
        bool same = strcmp(shown, status.text) == 0;
        memcpy(shown, status.text, sizeof shown);
        canvas->progress(canvas->host, status.fraction, same ? NULL : status.text);
        g_usleep(PLUGIN_POLL_MS * 1000);
    }
    plugin_picture_free(status.preview);
    plugin_job_free(job);
    if (status.state != PLUGIN_DONE) *error = status.error;
    return status.state == PLUGIN_DONE;
}

bool plugin_canvas_source(const plugin_canvas *canvas, plugin_session *session, plugin_error *error) {
    const plugin_library *library = plugin_session_library(session);
    nada_pixels_mut pixels;
    GeglBuffer *buffer = canvas->pixels(canvas->host);
    bool done = read_pixels(buffer, plugin_square(canvas->region), &pixels, error);
    g_object_unref(buffer);
    if (!done) return false;
    nada_image *image = NULL;
    nada_pixels source = plugin_pixels_const(&pixels);
    nada_status status = library->image_from_frame(&source, NULL, plugin_session_size(session), NULL, &image);
    free(pixels.data);
    if (status != NADA_OK) return plugin_library_fail(library, error);
    plugin_session_set_source(session, image);
    return true;
}

/* Draws into the hidden buffer, then lets the host show it. */
static bool deliver(const plugin_canvas *canvas, plugin_task *task, plugin_error *error) {
    bool new_layer = task->request.output == PLUGIN_NEW_LAYER;
    plugin_rectangle square = plugin_square(canvas->region);
    nada_pixels_mut source = {0}, layer = {0};
    GeglBuffer *pixels = canvas->pixels(canvas->host), *hidden = NULL;
    bool done = read_pixels(pixels, square, &source, error);
    task->source = plugin_pixels_const(&source);
    task->target = source;
    task->replace = new_layer;
    const GeglRectangle *extent = gegl_buffer_get_extent(pixels);
    task->hard_edges = plugin_hard_edges(square, (plugin_rectangle){extent->x, extent->y, extent->width, extent->height});
    if (done && new_layer) {
        /* Alpha is wanted, which the picture may lack. */
        nada_pixel_format format = source.format == NADA_FORMAT_RGB8 ? NADA_FORMAT_RGBA8 : source.format;
        done = plugin_pixels_new(&layer, square.width, square.height, format, error);
        task->target = layer;
    }
    done = done && run_job(canvas, plugin_work_apply, task, error) && (!new_layer || mask_layer(canvas, square, &layer, error));
    if (done) {
        char name[PLUGIN_TEXT];
        const char *words = *task->request.target && !*task->request.domain ? task->request.target : task->request.domain;
        g_strlcpy(name, words, sizeof name);
        hidden = canvas->begin(canvas->host, new_layer, name, error);
        done = hidden != NULL;
    }
    if (done) {
        /* The whole of a shadow's region is merged, more than the square. */
        if (!new_layer) gegl_buffer_copy(pixels, RECTANGLE(canvas->region), GEGL_ABYSS_NONE, hidden, RECTANGLE(canvas->region));
        write_pixels(hidden, square, &task->target);
    }
    free(source.data), free(layer.data);
    /* The host gets what is in a buffer when its last reference goes. */
    if (hidden) g_object_unref(hidden);
    g_object_unref(pixels);
    return done && canvas->finish(canvas->host, new_layer, error);
}

static void warn_of(const plugin_canvas *canvas, const plugin_session *session, const char *argument, const char *text) {
    char *sentence = plugin_unknown_words(plugin_session_library(session), plugin_session_model(session), text);
    if (!sentence) return;
    char *warning = g_strdup_printf("%s: %s", argument, sentence);
    canvas->warn(canvas->host, warning);
    g_free(warning);
    free(sentence);
}

/* What a dialog shows while the user writes. */
static void warn(const plugin_canvas *canvas, const plugin_session *session, const plugin_request *request) {
    if (*request->domain) return;
    warn_of(canvas, session, "source", request->source);
    warn_of(canvas, session, "target", request->target);
}

bool plugin_canvas_restyle(const plugin_canvas *canvas, plugin_session *session, const plugin_request *request, bool shown,
                           plugin_error *error) {
    plugin_task task = {.session = session, .request = *request, .as_reached = shown};
    if (!plugin_request_check(request, PLUGIN_RESTYLE, error) || !run_job(canvas, plugin_work_open, &task, error)) return false;
    if (!shown) warn(canvas, session, request);
    if (!plugin_session_inverted(session, request) && !plugin_canvas_source(canvas, session, error)) return false;
    if (!run_job(canvas, plugin_work_restyle, &task, error)) return false;
    /* Before the picture is drawn, so that what was learned is kept even where that fails. */
    bool keep = request->install && !*request->domain && !plugin_session_reached(session, request).kept;
    if (keep && !run_job(canvas, plugin_work_install, &task, error)) return false;
    return deliver(canvas, &task, error);
}

bool plugin_canvas_new_domain(const plugin_canvas *canvas, plugin_session *session, const plugin_request *request, char file[PLUGIN_PATH],
                              plugin_error *error) {
    plugin_task task = {.session = session, .request = *request};
    if (!plugin_request_check(request, PLUGIN_NEW_DOMAIN, error) || !run_job(canvas, plugin_work_open, &task, error)) return false;
    warn(canvas, session, request);
    bool done = run_job(canvas, plugin_work_new_domain, &task, error) && run_job(canvas, plugin_work_install, &task, error);
    memcpy(file, task.file, sizeof task.file);
    return done;
}
