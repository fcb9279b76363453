#define _POSIX_C_SOURCE 200809L
#include "session.h"

#include "reached.h"
#include "words.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { THUMBNAIL_SIDE = 128, PAIRS = 4 };

/* Pictures between looks at an adaptation, and looks between saves, take at most about this share of its time. */
static const double LOOK_SHARE = 0.1, SAVE_SHARE = 0.05;
static const double LOOK_SECONDS = 1, SAVE_SECONDS = 5;

struct plugin_session {
    const plugin_library *library;
    nada_context *context;

    char model_name[PLUGIN_PATH];
    nada_model *model;
    nada_generator *generator;

    nada_image *source;
    nada_latent *latent;
    plugin_request latent_of;

    nada_adaptation *adaptation;
    nada_domain *domain;
    plugin_request domain_of; /* also of the adaptation */
    uint32_t step, total;
    bool complete, kept;
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

plugin_session *plugin_session_new(const plugin_library *library, plugin_error *error) {
    plugin_session *session = calloc(1, sizeof *session);
    if (!session) {
        plugin_fail(error, "not enough memory");
        return NULL;
    }
    session->library = library;
    if (library->context_new(NULL, &session->context) != NADA_OK) {
        plugin_library_fail(library, error);
        free(session);
        return NULL;
    }
    return session;
}

static void forget_latent(plugin_session *session) {
    session->library->latent_free(session->latent);
    session->latent = NULL;
}

/* The state that was saved for the case of a sudden end is no longer needed. */
static void forget_saved(void) {
    char file[PLUGIN_FILE_MAX];
    if (plugin_reached_file(file)) unlink(file);
}

static void forget_domain(plugin_session *session) {
    if (session->adaptation) forget_saved();
    session->library->adaptation_free(session->adaptation);
    session->library->domain_free(session->domain);
    session->adaptation = NULL, session->domain = NULL;
    session->step = session->total = 0;
    session->complete = session->kept = false;
}

static void forget_model(plugin_session *session) {
    forget_latent(session);
    forget_domain(session);
    session->library->image_free(session->source);
    session->library->generator_free(session->generator);
    session->library->model_free(session->model);
    session->source = NULL, session->generator = NULL, session->model = NULL;
}

void plugin_session_free(plugin_session *session) {
    if (!session) return;
    forget_model(session);
    session->library->context_free(session->context);
    free(session);
}

const plugin_library *plugin_session_library(const plugin_session *session) { return session->library; }

nada_gallery *plugin_session_gallery(const plugin_session *session, plugin_error *error) {
    nada_gallery *gallery = NULL;
    if (session->library->gallery_open(session->context, NULL, NULL, &gallery) != NADA_OK) plugin_library_fail(session->library, error);
    return gallery;
}

nada_model_list *plugin_session_models(const plugin_session *session, plugin_error *error) {
    nada_model_list *list = NULL;
    if (session->library->model_list_new(session->context, &list) != NADA_OK) plugin_library_fail(session->library, error);
    return list;
}

nada_model *plugin_session_look_up(const plugin_session *session, const char *name, plugin_error *error) {
    nada_model *model = NULL;
    if (session->library->model_open(session->context, *name ? name : NULL, &model) != NADA_OK) plugin_library_fail(session->library, error);
    return model;
}

const nada_model *plugin_session_model(const plugin_session *session) { return session->model; }

uint32_t plugin_session_size(const plugin_session *session) { return session->library->generator_size(session->generator); }

bool plugin_session_fits(const plugin_session *session, const nada_gallery *gallery, size_t index) {
    uint32_t fits = 0;
    return session->generator && session->library->gallery_fits(gallery, index, session->generator, NULL, &fits) == NADA_OK && fits;
}

void plugin_session_set_source(plugin_session *session, nada_image *source) {
    forget_latent(session);
    session->library->image_free(session->source);
    session->source = source;
}

plugin_picture *plugin_session_source(const plugin_session *session, int side) {
    return session->source ? plugin_picture_new(session->library, session->source, side) : NULL;
}

bool plugin_session_inverted(const plugin_session *session, const plugin_request *request) {
    return session->latent && session->latent_of.identity == request->identity && session->latent_of.seed == request->seed;
}

static bool domain_is_of(const plugin_session *session, const plugin_request *request) {
    const plugin_request *have = &session->domain_of;
    if ((!session->domain && !session->adaptation) || strcmp(have->model, request->model) != 0) return false;
    if (*have->domain || *request->domain) return strcmp(have->domain, request->domain) == 0;
    return strcmp(have->source, request->source) == 0 && strcmp(have->target, request->target) == 0 && have->seed == request->seed &&
           have->steps == request->steps;
}

plugin_reached plugin_session_reached(const plugin_session *session, const plugin_request *request) {
    if (!domain_is_of(session, request)) return (plugin_reached){0};
    return (plugin_reached){session->step, session->total, session->domain != NULL, session->complete, session->kept};
}

/* False where the call failed; its message goes to `error`. */
static bool ok(const plugin_session *session, nada_status status, plugin_error *error) {
    return status == NADA_OK || plugin_library_fail(session->library, error);
}

/* Ends a call within a moment where the job is cancelled. */
static nada_call heeding(const plugin_job *job) { return (nada_call){sizeof(nada_call), NULL, NULL, plugin_job_token(job)}; }

bool plugin_work_open(plugin_job *job, void *data, plugin_error *error) {
    plugin_task *task = data;
    plugin_session *session = task->session;
    const plugin_library *library = session->library;
    const char *name = task->request.model;
    if (session->generator && strcmp(session->model_name, name) == 0) return true;

    plugin_job_report(job, 0, "Opening the model pack");
    nada_model *model = NULL;
    nada_generator *generator = NULL;
    if (library->model_open(session->context, *name ? name : NULL, &model) != NADA_OK) return plugin_library_fail(library, error);
    nada_call call = heeding(job);
    /* The fingerprint takes a while for large generators; a gallery that is shown asks for it. */
    const char *fingerprint = NULL;
    if (library->model_generator(model, &call, &generator) != NADA_OK ||
        library->generator_fingerprint(generator, &call, &fingerprint) != NADA_OK) {
        library->generator_free(generator);
        library->model_free(model);
        return plugin_library_fail(library, error);
    }
    forget_model(session);
    session->model = model, session->generator = generator;
    memcpy(session->model_name, name, sizeof session->model_name);
    return true;
}

/* A stretch of a job's progress bar, and what the library's callbacks need. */
struct stretch {
    const plugin_library *library;
    plugin_job *job;
    const char *what;
    double from, to;
    uint32_t step, total;
    double pause; /* the moment from which the callback asks to stop, so that the state can be looked at; 0 for never */
};

static nada_flow on_progress(const nada_progress *progress, void *data) {
    struct stretch *s = data;
    s->step = progress->step, s->total = progress->total;
    plugin_job_report(s->job, s->from + (s->to - s->from) * progress->step / progress->total, "%s: step %u of %u", s->what, progress->step,
                      progress->total);
    return s->pause > 0 && now() >= s->pause ? NADA_STOP : NADA_CONTINUE;
}

static bool invert(plugin_session *session, const plugin_request *request, struct stretch *stretch, plugin_error *error) {
    const plugin_library *library = session->library;
    nada_inversion_options options;
    nada_latent *latent = NULL;
    if (!session->source) return plugin_fail(error, "there is no picture to restyle");
    if (!ok(session, library->model_inversion_options(session->model, &options, sizeof options), error)) return false;
    options.seed = request->seed;
    if (request->identity) options.steps = request->identity;
    plugin_job_report(stretch->job, stretch->from, "%s", stretch->what);
    nada_call call = {sizeof call, on_progress, stretch, plugin_job_token(stretch->job)};
    if (!ok(session, library->generator_invert(session->generator, session->source, &options, &call, &latent, NULL), error))
        return false;
    forget_latent(session);
    session->latent = latent, session->latent_of = *request;
    return true;
}

/* Options that draw as the inversion saw it: without noise, but for maps that it found. */
static void drawing(const plugin_session *session, const nada_domain *const *domain, const plugin_request *request,
                    nada_render_options *options, float *strength) {
    session->library->render_options_init(options, sizeof *options);
    *strength = (float)request->strength;
    options->domains = domain, options->strengths = strength, options->domain_count = 1;
    options->noise = NADA_NOISE_NONE;
}

static plugin_picture *draw(const plugin_session *session, const nada_latent *latent, const nada_domain *domain,
                            const plugin_request *request, const nada_call *call, int side) {
    nada_render_options options;
    float strength;
    nada_image *image = NULL;
    drawing(session, &domain, request, &options, &strength);
    if (session->library->generator_render(session->generator, latent, &options, call, &image, 1) != NADA_OK) return NULL;
    plugin_picture *picture = plugin_picture_new(session->library, image, side);
    session->library->image_free(image);
    return picture;
}

/* What the preview shows: the user's picture where there is one, else pairs of the adaptation's own. NULL where `call` was cancelled. */
static plugin_picture *look(const plugin_session *session, const plugin_request *request, const nada_call *call) {
    if (session->latent) return draw(session, session->latent, session->domain, request, call, PLUGIN_PREVIEW_SIDE);
    nada_image *pairs = NULL;
    if (!session->adaptation || session->library->adaptation_preview(session->adaptation, PAIRS, call, &pairs) != NADA_OK) return NULL;
    plugin_picture *picture = plugin_picture_new(session->library, pairs, PLUGIN_PREVIEW_SIDE);
    session->library->image_free(pairs);
    return picture;
}

static bool begin_adaptation(plugin_session *session, const plugin_request *request, const nada_call *call, plugin_error *error) {
    const plugin_library *library = session->library;
    nada_adaptation_options options;
    if (!ok(session, library->model_adaptation_options(session->model, &options, sizeof options), error)) return false;
    if (*request->source) options.source_text = request->source;
    options.target_text = request->target;
    options.seed = request->seed;
    if (request->steps) options.steps = request->steps;
    /* Snapshots would keep states and pictures that nobody asks for here. */
    options.snapshot_every = 0;
    nada_adaptation *adaptation = NULL;
    if (!ok(session, library->adaptation_new(session->generator, &options, call, &adaptation), error)) return false;
    forget_domain(session);
    session->adaptation = adaptation, session->domain_of = *request, session->total = options.steps;
    return true;
}

/* Takes the adaptation's domain as it is; `end` for what its stop rule chose. */
static bool take_domain(plugin_session *session, bool end, plugin_error *error) {
    const plugin_library *library = session->library;
    nada_domain *domain = NULL;
    if (!ok(session, end ? library->adaptation_result(session->adaptation, &domain) : library->adaptation_domain(session->adaptation, &domain),
            error))
        return false;
    library->domain_free(session->domain);
    session->domain = domain;
    session->kept = false;
    return true;
}

static bool adapt(plugin_session *session, const plugin_request *request, struct stretch *stretch, plugin_error *error) {
    const plugin_library *library = session->library;
    plugin_job *job = stretch->job;
    plugin_job_report(job, stretch->from, "%s", stretch->what);
    nada_call reading = heeding(job), running = {sizeof running, on_progress, stretch, plugin_job_token(job)};
    if (!domain_is_of(session, request) && !begin_adaptation(session, request, &reading, error)) return false;

    char file[PLUGIN_FILE_MAX];
    bool saving = plugin_reached_file(file);
    double next_save = now() + SAVE_SECONDS;
    stretch->pause = now() + LOOK_SECONDS;
    for (;;) {
        nada_status status = library->adaptation_run(session->adaptation, &running);
        nada_outcome outcome;
        if (library->adaptation_outcome(session->adaptation, &outcome, sizeof outcome) == NADA_OK) session->step = outcome.steps;
        if (status == NADA_OK) break;
        plugin_library_fail(library, error);
        bool cancelled = status == NADA_CANCELLED && plugin_job_is_cancelled(job);
        if (cancelled || status != NADA_CANCELLED) {
            /* Also after a failure the state is that of the last complete step. */
            plugin_error second;
            if (session->step > 0 && take_domain(session, true, &second)) plugin_job_show(job, look(session, request, NULL));
            return false;
        }
        double start = now();
        if (!take_domain(session, false, error)) return false;
        plugin_job_show(job, look(session, request, &reading));
        double looked = now();
        if (saving && looked >= next_save) {
            nada_status saved = library->domain_save(session->domain, file, &reading);
            saving = saved == NADA_OK || saved == NADA_CANCELLED;
            double took = now() - looked;
            next_save = now() + (took / SAVE_SHARE > SAVE_SECONDS ? took / SAVE_SHARE : SAVE_SECONDS);
        }
        double took = looked - start;
        stretch->pause = now() + (took / LOOK_SHARE > LOOK_SECONDS ? took / LOOK_SHARE : LOOK_SECONDS);
    }
    if (!take_domain(session, true, error)) return false;
    session->complete = true;
    return true;
}

/* An installed domain by name, or a file by its path. */
static bool open_domain(plugin_session *session, const plugin_request *request, const nada_call *call, plugin_error *error) {
    const plugin_library *library = session->library;
    const char *name = request->domain;
    nada_domain *domain = NULL;
    if (strchr(name, '/')) {
        if (!ok(session, library->domain_open(session->context, name, call, &domain), error)) return false;
    } else {
        nada_gallery *gallery = plugin_session_gallery(session, error);
        if (!gallery) return false;
        size_t count = library->gallery_count(gallery), i = 0;
        while (i < count && strcmp(library->gallery_name(gallery, i), name) != 0) i++;
        if (i == count) {
            plugin_fail(error, "domain: none of the %zu installed in %.1000s is called '%.200s'; give the name of one, or the path of a file", count,
                        library->gallery_folder(gallery), name);
        } else {
            ok(session, library->gallery_domain(gallery, i, call, &domain), error);
        }
        library->gallery_free(gallery);
        if (!domain) return false;
    }
    forget_domain(session);
    session->domain = domain, session->domain_of = *request;
    session->complete = session->kept = true;
    return true;
}

/* Sees to the domain of the request. */
static bool have_domain(plugin_task *task, struct stretch *stretch, plugin_error *error) {
    plugin_session *session = task->session;
    plugin_reached reached = plugin_session_reached(session, &task->request);
    if (reached.complete || (reached.usable && task->as_reached)) return true;
    nada_call call = heeding(stretch->job);
    return *task->request.domain ? open_domain(session, &task->request, &call, error) : adapt(session, &task->request, stretch, error);
}

static bool is_open(const plugin_session *session, plugin_error *error) {
    return session->generator || plugin_fail(error, "no model pack is open");
}

bool plugin_work_restyle(plugin_job *job, void *data, plugin_error *error) {
    plugin_task *task = data;
    plugin_session *session = task->session;
    if (!is_open(session, error)) return false;
    bool inverts = !plugin_session_inverted(session, &task->request);
    bool adapts = !*task->request.domain && !plugin_session_reached(session, &task->request).complete;
    double middle = !inverts ? 0 : adapts ? 0.4 : 0.95;
    /* Wrong words and a wrong name are told before the long part. */
    nada_call call = heeding(job);
    if (adapts && !plugin_words_known(session->library, session->model, &task->request, &call, error)) return false;
    struct stretch adapting = {session->library, job, "Learning the words", middle, 0.95, 0, 0, 0};
    if (!adapts && !have_domain(task, &adapting, error)) return false;
    struct stretch inverting = {session->library, job, "Finding the picture", 0, middle, 0, 0, 0};
    if (inverts && !invert(session, &task->request, &inverting, error)) return false;
    if (adapts && !have_domain(task, &adapting, error)) return false;
    plugin_job_report(job, 0.95, "Drawing");
    plugin_job_show(job, look(session, &task->request, &call));
    plugin_job_report(job, 1, "Done");
    return true;
}

bool plugin_work_new_domain(plugin_job *job, void *data, plugin_error *error) {
    plugin_task *task = data;
    const plugin_session *session = task->session;
    nada_call call = heeding(job);
    if (!is_open(session, error) || !plugin_words_known(session->library, session->model, &task->request, &call, error)) return false;
    struct stretch adapting = {session->library, job, "Learning the words", 0, 1, 0, 0, 0};
    if (!have_domain(task, &adapting, error)) return false;
    plugin_job_show(job, look(session, &task->request, &call));
    plugin_job_report(job, 1, "Done");
    return true;
}

bool plugin_work_apply(plugin_job *job, void *data, plugin_error *error) {
    plugin_task *task = data;
    plugin_session *session = task->session;
    const plugin_library *library = session->library;
    if (!plugin_session_inverted(session, &task->request) || !plugin_session_reached(session, &task->request).usable)
        return plugin_fail(error, "the picture is not inverted, or there is no domain");
    plugin_job_report(job, 0.95, "Drawing");
    nada_frame_options frame;
    nada_render_options options;
    const nada_domain *domain = session->domain;
    float strength;
    if (!ok(session, library->frame_options_init(&frame, sizeof frame), error)) return false;
    frame.replace = task->replace, frame.hard_edges = task->hard_edges;
    nada_call call = heeding(job);
    drawing(session, &domain, &task->request, &options, &strength);
    return ok(session, library->generator_render_frame(session->generator, &task->source, &frame, session->latent, &options, &call,
                                                       &task->target), error);
}

/* One picture of the generator with the domain; NULL where it cannot be drawn, as thumbnails are not needed. */
static nada_image *thumbnail(const plugin_session *session, const nada_domain *domain, const nada_call *call) {
    const plugin_library *library = session->library;
    uint32_t fits = 0;
    if (!session->generator || library->domain_fits(domain, session->generator, call, &fits) != NADA_OK || !fits) return NULL;
    nada_latent *latent = NULL;
    nada_image *image = NULL;
    if (library->generator_sample(session->generator, 1, 1, 0.7f, call, &latent) != NADA_OK) return NULL;
    plugin_request full;
    plugin_request_init(&full);
    plugin_picture *picture = draw(session, latent, domain, &full, call, THUMBNAIL_SIDE);
    library->latent_free(latent);
    if (!picture) return NULL;
    nada_pixels pixels = {picture->rgb, (size_t)picture->width * 3, (uint32_t)picture->width, (uint32_t)picture->height, NADA_FORMAT_RGB8,
                          NADA_TRANSFER_SRGB};
    if (library->image_from_pixels(&pixels, &image) != NADA_OK) image = NULL;
    plugin_picture_free(picture);
    return image;
}

static bool install(const plugin_session *session, const nada_domain *domain, const char *name, const nada_image *picture,
                    const nada_call *call, char file[PLUGIN_PATH], plugin_error *error) {
    nada_gallery *gallery = plugin_session_gallery(session, error);
    if (!gallery) return false;
    bool done = ok(session, session->library->gallery_install(gallery, domain, *name ? name : NULL, picture, call, file, PLUGIN_PATH, NULL),
                   error);
    session->library->gallery_free(gallery);
    return done;
}

bool plugin_work_install(plugin_job *job, void *data, plugin_error *error) {
    plugin_task *task = data;
    plugin_session *session = task->session;
    if (!plugin_session_reached(session, &task->request).usable) return plugin_fail(error, "there is no domain to install yet");
    plugin_job_report(job, 1, "Installing the domain");
    nada_call call = heeding(job);
    nada_image *picture = thumbnail(session, session->domain, &call);
    bool done = install(session, session->domain, task->request.name, picture, &call, task->file, error);
    session->library->image_free(picture);
    if (!done) return false;
    session->kept = true;
    forget_saved();
    return true;
}

bool plugin_session_left(const plugin_session *session, const char *file, char words[PLUGIN_TEXT], uint32_t *step, plugin_error *error) {
    nada_domain *domain = NULL;
    if (!ok(session, session->library->domain_open(session->context, file, NULL, &domain), error)) return false;
    snprintf(words, PLUGIN_TEXT, "%s", session->library->domain_target(domain));
    *step = session->library->domain_step(domain);
    session->library->domain_free(domain);
    return true;
}

bool plugin_session_rescue(const plugin_session *session, const char *file, char installed[PLUGIN_PATH], plugin_error *error) {
    nada_domain *domain = NULL;
    if (!ok(session, session->library->domain_open(session->context, file, NULL, &domain), error)) return false;
    nada_image *picture = thumbnail(session, domain, NULL);
    bool done = install(session, domain, "", picture, NULL, installed, error);
    session->library->image_free(picture);
    session->library->domain_free(domain);
    if (done) unlink(file);
    return done;
}
