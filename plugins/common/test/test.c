/* Tests of the part without a host, with the real library and the starter: see run. */
#define _POSIX_C_SOURCE 200809L
#include "../reached.h"
#include "../session.h"
#include "../words.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int failures;

#define CHECK(condition)                                                        \
    do {                                                                        \
        if (!(condition)) {                                                     \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);     \
            failures++;                                                         \
        }                                                                       \
    } while (0)

/* What follows cannot go on without it. */
#define MUST(condition, error)                                                                          \
    do {                                                                                                \
        if (!(condition)) {                                                                             \
            fprintf(stderr, "%s:%d: %s\n  %s\n", __FILE__, __LINE__, #condition, (error).text);         \
            exit(1);                                                                                    \
        }                                                                                               \
    } while (0)

static plugin_library library;

static void nap(void) { nanosleep(&(struct timespec){0, 5000000}, NULL); }

static bool fails_with(const char *chosen, const char *words) {
    plugin_library other;
    plugin_error error = {""};
    setenv("NADA_LIBRARY", chosen, 1);
    bool opened = plugin_library_open(&other, &error);
    if (opened || !strstr(error.text, words)) fprintf(stderr, "  said: %s\n", error.text);
    return !opened && strstr(error.text, words) && strstr(error.text, chosen);
}

static void test_library(const char *folder, const char *abi) {
    plugin_error error = {""};
    CHECK(fails_with("/no/such/libnada.so", "No such file"));
    CHECK(fails_with("/tmp", "no libnada.so.3 in that folder"));
    CHECK(fails_with("/bin/true", "NADA_LIBRARY is"));
    CHECK(fails_with(abi, "has ABI 7.1, but this plug-in needs 3."));
    setenv("NADA_LIBRARY", folder, 1);
    MUST(plugin_library_open(&library, &error), error);
    CHECK(strstr(library.path, "libnada.so"));
    /* Nothing is named: this program has no library beside it, so the system's is asked for, and there is none in its search path. */
    unsetenv("NADA_LIBRARY");
    plugin_library other;
    if (!plugin_library_open(&other, &error)) CHECK(strstr(error.text, "was found neither in"));
}

static void test_request(void) {
    plugin_request r;
    plugin_error error;
    plugin_request_init(&r);
    CHECK(!plugin_request_check(&r, PLUGIN_RESTYLE, &error) && strstr(error.text, "target: is empty"));
    CHECK(!plugin_request_check(&r, PLUGIN_NEW_DOMAIN, &error) && strstr(error.text, "target: is empty"));
    CHECK(plugin_request_text(r.target, sizeof r.target, "a sketch", "target", &error));
    CHECK(plugin_request_check(&r, PLUGIN_RESTYLE, &error) && plugin_request_check(&r, PLUGIN_NEW_DOMAIN, &error));
    r.strength = 1.51;
    CHECK(!plugin_request_check(&r, PLUGIN_RESTYLE, &error) && strstr(error.text, "strength: 1.51"));
    r.strength = NAN;
    CHECK(!plugin_request_check(&r, PLUGIN_RESTYLE, &error));
    r.strength = 0, r.identity = PLUGIN_STEPS_MAX + 1;
    CHECK(!plugin_request_check(&r, PLUGIN_RESTYLE, &error) && strstr(error.text, "keep-identity: 10001"));
    r.identity = 0, r.steps = PLUGIN_STEPS_MAX + 1;
    CHECK(!plugin_request_check(&r, PLUGIN_NEW_DOMAIN, &error) && strstr(error.text, "steps: 10001"));
    char longest[PLUGIN_TEXT + 1];
    memset(longest, 'a', sizeof longest - 1), longest[PLUGIN_TEXT] = '\0';
    CHECK(!plugin_request_text(r.target, sizeof r.target, longest, "target", &error) && strstr(error.text, "target: 512 bytes, at most 511"));
    /* The field is as it was, and equal texts are equal bytes. */
    plugin_request other = r;
    CHECK(plugin_request_text(r.target, sizeof r.target, longest + 1, "target", &error));
    CHECK(plugin_request_text(r.target, sizeof r.target, "a sketch", "target", &error) && memcmp(&r, &other, sizeof r) == 0);
}

static void test_pixels(void) {
    plugin_rectangle s = plugin_square((plugin_rectangle){10, 20, 8, 5});
    CHECK(s.x == 11 && s.y == 20 && s.width == 5 && s.height == 5);
    plugin_rectangle whole = {0, 0, 30, 25};
    CHECK(plugin_hard_edges(s, whole) == NADA_EDGE_BOTTOM);
    CHECK(plugin_hard_edges(whole, whole) == (NADA_EDGE_LEFT | NADA_EDGE_TOP | NADA_EDGE_RIGHT | NADA_EDGE_BOTTOM));
    CHECK(plugin_hard_edges((plugin_rectangle){1, 1, 5, 5}, whole) == 0);

    plugin_error error;
    nada_pixels_mut pixels;
    const float mask[] = {0, 0.5f, 1};
    MUST(plugin_pixels_new(&pixels, 3, 1, NADA_FORMAT_RGBA8, &error), error);
    memcpy(pixels.data, (unsigned char[]){1, 2, 3, 200, 4, 5, 6, 201, 7, 8, 9, 202}, 12);
    plugin_pixels_mask(&pixels, mask);
    CHECK(memcmp(pixels.data, (unsigned char[]){1, 2, 3, 0, 4, 5, 6, 100, 7, 8, 9, 202}, 12) == 0);
    free(pixels.data);
    MUST(plugin_pixels_new(&pixels, 3, 1, NADA_FORMAT_RGBA32F, &error), error);
    memcpy(pixels.data, (float[]){1, 2, 3, 0.5f, 1, 2, 3, 0.5f, 1, 2, 3, 0.5f}, 48);
    plugin_pixels_mask(&pixels, mask);
    CHECK(memcmp(pixels.data, (float[]){1, 2, 3, 0, 1, 2, 3, 0.25f, 1, 2, 3, 0.5f}, 48) == 0);
    free(pixels.data);

    /* 4 x 2 to 2 x 1: the mean of four pixels each. */
    unsigned char rgb[24];
    for (int i = 0; i < 24; i++) rgb[i] = (unsigned char)(10 * i);
    nada_pixels view = {rgb, 12, 4, 2, NADA_FORMAT_RGB8, NADA_TRANSFER_SRGB};
    nada_image *image = NULL;
    CHECK(library.image_from_pixels(&view, &image) == NADA_OK);
    plugin_picture *small = plugin_picture_new(&library, image, 2), *same = plugin_picture_new(&library, image, 4);
    CHECK(small && small->width == 2 && small->height == 1 && memcmp(small->rgb, (unsigned char[]){75, 85, 95, 135, 145, 155}, 6) == 0);
    CHECK(same && same->width == 4 && same->height == 2 && memcmp(same->rgb, rgb, 24) == 0);
    plugin_picture_free(small), plugin_picture_free(same), plugin_picture_free(NULL);
    library.image_free(image);
}

/* --- Jobs --- */

static bool wait_to_be_cancelled(plugin_job *job, void *data, plugin_error *error) {
    (void)data;
    plugin_job_report(job, 0.25, "waiting");
    while (!plugin_job_is_cancelled(job)) nap();
    return plugin_fail(error, "ended");
}

static bool show_twice(plugin_job *job, void *data, plugin_error *error) {
    (void)error;
    for (int i = 1; i <= 2; i++) {
        plugin_picture *picture = calloc(1, sizeof *picture);
        picture->width = i;
        plugin_job_show(job, picture);
    }
    plugin_job_show(job, NULL);
    *(int *)data = 7;
    return true;
}

static bool fail_at_once(plugin_job *job, void *data, plugin_error *error) {
    (void)job, (void)data;
    return plugin_fail(error, "because of %d", 3);
}

static void test_jobs(void) {
    plugin_error error;
    plugin_job_status status;
    plugin_job *job = plugin_job_start(&library, wait_to_be_cancelled, NULL, &error);
    MUST(job, error);
    do plugin_job_poll(job, &status);
    while (!*status.text);
    CHECK(status.state == PLUGIN_RUNNING && status.fraction == 0.25 && strcmp(status.text, "waiting") == 0);
    plugin_job_cancel(job);
    while (plugin_job_poll(job, &status) == PLUGIN_RUNNING) nap();
    CHECK(status.state == PLUGIN_CANCELLED);
    plugin_job_free(job);

    int value = 0;
    job = plugin_job_start(&library, show_twice, &value, &error);
    plugin_picture *last = NULL;
    do {
        plugin_job_poll(job, &status);
        if (status.preview) plugin_picture_free(last), last = status.preview;
    } while (status.state == PLUGIN_RUNNING);
    /* Only the newest matters, and it is given once. */
    CHECK(status.state == PLUGIN_DONE && value == 7 && last && last->width == 2);
    plugin_job_poll(job, &status);
    CHECK(!status.preview);
    plugin_picture_free(last);
    plugin_job_free(job);

    job = plugin_job_start(&library, fail_at_once, NULL, &error);
    while (plugin_job_poll(job, &status) == PLUGIN_RUNNING) nap();
    CHECK(status.state == PLUGIN_FAILED && strcmp(status.error.text, "because of 3") == 0);
    plugin_job_free(job);
    plugin_job_free(NULL);
}

/* --- The work --- */

struct seen {
    int pictures;
    plugin_job_state state;
    plugin_error error;
};

/* Runs a job; cancels it once `cancel_after` pictures were shown (0: never). */
static struct seen work(plugin_work function, plugin_task *task, int cancel_after) {
    struct seen seen = {0};
    plugin_job_status status;
    plugin_job *job = plugin_job_start(&library, function, task, &seen.error);
    MUST(job, seen.error);
    do {
        plugin_job_poll(job, &status);
        if (status.preview) {
            plugin_picture_free(status.preview);
            if (++seen.pictures == cancel_after) plugin_job_cancel(job);
        }
        nap();
    } while (status.state == PLUGIN_RUNNING);
    plugin_job_free(job);
    seen.state = status.state, seen.error = status.error;
    if (seen.state == PLUGIN_FAILED) fprintf(stderr, "  (%s)\n", seen.error.text);
    return seen;
}

static void draw_into(plugin_task *task, unsigned char *rgb, int side) {
    task->source = (nada_pixels){rgb, (size_t)side * 3, (uint32_t)side, (uint32_t)side, NADA_FORMAT_RGB8, NADA_TRANSFER_SRGB};
    task->target = (nada_pixels_mut){rgb, (size_t)side * 3, (uint32_t)side, (uint32_t)side, NADA_FORMAT_RGB8, NADA_TRANSFER_SRGB};
    CHECK(work(plugin_work_apply, task, 0).state == PLUGIN_DONE);
}

static void set_source(plugin_session *session, const unsigned char *rgb, int side) {
    nada_pixels pixels = {rgb, (size_t)side * 3, (uint32_t)side, (uint32_t)side, NADA_FORMAT_RGB8, NADA_TRANSFER_SRGB};
    nada_image *image = NULL;
    CHECK(library.image_from_frame(&pixels, NULL, plugin_session_size(session), NULL, &image) == NADA_OK);
    plugin_session_set_source(session, image);
}

enum { SIDE = 100, STEPS = 8 };

static void picture(unsigned char rgb[SIDE * SIDE * 3]) {
    for (int i = 0; i < SIDE * SIDE * 3; i++) rgb[i] = (unsigned char)(i / (SIDE * 3) + 50 * (i % 3));
}

/* A job that is cancelled while its pack is read leaves none, and the next one reads it. */
static void test_opening(void) {
    plugin_error error = {""};
    plugin_session *session = plugin_session_new(&library, &error);
    MUST(session, error);
    plugin_task task = {.session = session};
    plugin_request_init(&task.request);
    plugin_job_status status;
    plugin_job *job = plugin_job_start(&library, plugin_work_open, &task, &error);
    MUST(job, error);
    plugin_job_cancel(job);
    while (plugin_job_poll(job, &status) == PLUGIN_RUNNING) nap();
    plugin_job_free(job);
    CHECK(status.state == PLUGIN_CANCELLED && plugin_session_size(session) == 0);
    CHECK(work(plugin_work_open, &task, 0).state == PLUGIN_DONE && plugin_session_size(session) == 128);
    plugin_session_free(session);
}

/* Stopping and going on gives what an adaptation in one go gives, byte by byte; and so the pictures. */
static void test_session(void) {
    plugin_error error = {""};
    plugin_session *session = plugin_session_new(&library, &error);
    MUST(session, error);
    plugin_task task = {.session = session};
    plugin_request_init(&task.request);
    plugin_request_text(task.request.target, sizeof task.request.target, "a pencil sketch", "target", &error);
    task.request.steps = STEPS, task.request.identity = 12;

    CHECK(work(plugin_work_restyle, &task, 0).state == PLUGIN_FAILED); /* nothing is open */
    CHECK(work(plugin_work_open, &task, 0).state == PLUGIN_DONE && plugin_session_size(session) == 128);
    static unsigned char before[SIDE * SIDE * 3], once[sizeof before], again[sizeof before];
    picture(before);
    memcpy(once, before, sizeof before), memcpy(again, before, sizeof before);
    set_source(session, before, SIDE);

    struct seen first = work(plugin_work_restyle, &task, 1);
    plugin_reached reached = plugin_session_reached(session, &task.request);
    CHECK(first.state == PLUGIN_CANCELLED && reached.usable && !reached.complete && !reached.kept);
    CHECK(reached.step >= 1 && reached.step < STEPS && reached.total == STEPS);
    CHECK(plugin_session_inverted(session, &task.request));
    CHECK(work(plugin_work_restyle, &task, 0).state == PLUGIN_DONE);
    reached = plugin_session_reached(session, &task.request);
    CHECK(reached.complete && reached.step == STEPS);
    draw_into(&task, again, SIDE);
    CHECK(memcmp(again, before, sizeof before) != 0);

    /* Another strength needs neither; other words need a domain, other steps of the inversion a latent. */
    plugin_request other = task.request;
    other.strength = 0.5;
    CHECK(plugin_session_inverted(session, &other) && plugin_session_reached(session, &other).complete);
    other.identity = 13, other.target[0] = 'A';
    CHECK(!plugin_session_inverted(session, &other) && !plugin_session_reached(session, &other).usable);

    /* Words that the pack does not know: some are told, none at all is an error, and before the picture is inverted. */
    const nada_model *pack = plugin_session_model(session);
    char *sentence = plugin_unknown_words(&library, pack, "a flibbertigibbet sketch");
    CHECK(sentence && strstr(sentence, "never learned 'flibbertigibbet', so") && strstr(sentence, "it knows: a photo, "));
    free(sentence);
    CHECK(!plugin_unknown_words(&library, pack, "A Pencil Sketch!"));
    plugin_task none = {.session = session, .request = task.request};
    none.request.identity = 14;
    static const char *const UNKNOWN[] = {"The FLIBBERTIGIBBET of a zw\303\266lf", "flibbertigibbet"};
    for (size_t i = 0; i < sizeof UNKNOWN / sizeof *UNKNOWN; i++) {
        plugin_request_text(none.request.target, sizeof none.request.target, UNKNOWN[i], "target", &error);
        CHECK(!plugin_words_known(&library, pack, &none.request, NULL, &error) && strstr(error.text, "target: the model 'starter' knows no word of"));
        CHECK(work(plugin_work_restyle, &none, 0).state == PLUGIN_FAILED && !plugin_session_inverted(session, &none.request));
        CHECK(work(plugin_work_new_domain, &none, 0).state == PLUGIN_FAILED);
    }
    plugin_request_text(none.request.target, sizeof none.request.target, "flibbertigibbet, SKETCH", "target", &error);
    CHECK(plugin_words_known(&library, pack, &none.request, NULL, &error));
    plugin_request_text(none.request.source, sizeof none.request.source, "flibbertigibbet", "source", &error);
    CHECK(!plugin_words_known(&library, pack, &none.request, NULL, &error) && strstr(error.text, "source: the model"));

    /* So is what does not fit into the model's CLIPs. */
    plugin_request_text(none.request.source, sizeof none.request.source, "a photo", "source", &error);
    char *words = none.request.target;
    for (*words = '\0'; strlen(words) < 130;) strcat(words, "pencil sketch golden statue ");
    CHECK(!plugin_words_known(&library, pack, &none.request, NULL, &error) && strstr(error.text, "too long by 1 token"));
    CHECK(work(plugin_work_restyle, &none, 0).state == PLUGIN_FAILED && !plugin_session_inverted(session, &none.request));

    /* Installed with a thumbnail, and found by its name. */
    CHECK(work(plugin_work_install, &task, 0).state == PLUGIN_DONE && strstr(task.file, "/a-pencil-sketch.nada.safetensors"));
    CHECK(plugin_session_reached(session, &task.request).kept);
    /* It belongs to the session's generator, and to none where no pack is open. */
    nada_gallery *gallery = plugin_session_gallery(session, &error);
    CHECK(gallery && library.gallery_count(gallery) == 1 && plugin_session_fits(session, gallery, 0) && !plugin_session_fits(session, gallery, 1));
    plugin_session *closed = plugin_session_new(&library, &error);
    CHECK(closed && !plugin_session_fits(closed, gallery, 0));
    plugin_session_free(closed);
    library.gallery_free(gallery);
    plugin_session_free(session);

    session = task.session = plugin_session_new(&library, &error);
    CHECK(work(plugin_work_open, &task, 0).state == PLUGIN_DONE);
    set_source(session, before, SIDE);
    nada_adaptation_options options;
    nada_context *context;
    nada_model *model = plugin_session_look_up(session, "", &error);
    nada_generator *generator;
    nada_adaptation *adaptation;
    nada_domain *domain;
    char file[PLUGIN_PATH];
    CHECK(library.context_new(NULL, &context) == NADA_OK && library.model_generator(model, NULL, &generator) == NADA_OK);
    CHECK(library.model_adaptation_options(model, &options, sizeof options) == NADA_OK);
    options.target_text = "a pencil sketch", options.steps = STEPS, options.seed = 1;
    CHECK(library.adaptation_new(generator, &options, NULL, &adaptation) == NADA_OK);
    CHECK(library.adaptation_run(adaptation, NULL) == NADA_OK);
    CHECK(library.adaptation_result(adaptation, &domain) == NADA_OK);
    snprintf(file, sizeof file, "%s/own.nada.safetensors", getenv("NADA_DOMAINS"));
    CHECK(library.domain_save(domain, file, NULL) == NADA_OK);
    library.domain_free(domain), library.adaptation_free(adaptation), library.generator_free(generator);
    library.model_free(model), library.context_free(context);

    plugin_request_text(task.request.domain, sizeof task.request.domain, file, "domain", &error);
    CHECK(work(plugin_work_restyle, &task, 0).state == PLUGIN_DONE);
    draw_into(&task, once, SIDE);
    CHECK(memcmp(once, again, sizeof once) == 0);
    plugin_request_text(task.request.domain, sizeof task.request.domain, "a-pencil-sketch", "domain", &error);
    CHECK(work(plugin_work_restyle, &task, 0).state == PLUGIN_DONE);
    memcpy(once, before, sizeof before);
    draw_into(&task, once, SIDE);
    CHECK(memcmp(once, again, sizeof once) == 0);

    plugin_request_text(task.request.domain, sizeof task.request.domain, "nothing", "domain", &error);
    struct seen missing = work(plugin_work_restyle, &task, 0);
    CHECK(missing.state == PLUGIN_FAILED && strstr(missing.error.text, "'nothing'") && strstr(missing.error.text, getenv("NADA_DOMAINS")));
    plugin_request_text(task.request.model, sizeof task.request.model, "no-such-pack", "model", &error);
    missing = work(plugin_work_open, &task, 0);
    CHECK(missing.state == PLUGIN_FAILED && strstr(missing.error.text, "no-such-pack"));
    plugin_session_free(session);
}

/* A process that is killed in the middle leaves its state, and only then; this process's own is not offered. */
static void test_reached(void) {
    plugin_error error = {""};
    char files[PLUGIN_REACHED_MAX][PLUGIN_FILE_MAX], file[PLUGIN_FILE_MAX], words[PLUGIN_TEXT], installed[PLUGIN_PATH];
    uint32_t step = 0;
    CHECK(plugin_reached_left(files) == 0);
    CHECK(plugin_reached_file(file));
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        /* A process of its own, as libraries with threads do not survive a fork. */
        execl("/proc/self/exe", "test", "adapt", (char *)NULL);
        _exit(127);
    }
    char of_child[PLUGIN_FILE_MAX];
    snprintf(of_child, sizeof of_child, "%s", file);
    snprintf(strrchr(of_child, '/'), 64, "/reached-%ld.nada.safetensors", (long)child);
    for (int i = 0; i < 24000 && access(of_child, F_OK) != 0; i++) nap();
    CHECK(access(of_child, F_OK) == 0);
    CHECK(plugin_reached_left(files) == 0); /* it runs still */
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    CHECK(plugin_reached_left(files) == 1 && strcmp(files[0], of_child) == 0);

    plugin_session *session = plugin_session_new(&library, &error);
    MUST(session, error);
    CHECK(plugin_session_left(session, of_child, words, &step, &error) && strcmp(words, "a zombie") == 0 && step >= 1);
    CHECK(plugin_session_rescue(session, of_child, installed, &error) && strstr(installed, "/a-zombie.nada.safetensors"));
    CHECK(plugin_reached_left(files) == 0 && access(installed, F_OK) == 0);
    plugin_session_free(session);
}

static int adapt_for_ever(void) {
    plugin_error error = {""};
    MUST(plugin_library_open(&library, &error), error);
    plugin_session *session = plugin_session_new(&library, &error);
    MUST(session, error);
    plugin_task task = {.session = session};
    plugin_request_init(&task.request);
    plugin_request_text(task.request.target, sizeof task.request.target, "a zombie", "target", &error);
    task.request.steps = PLUGIN_STEPS_MAX;
    work(plugin_work_open, &task, 0);
    work(plugin_work_new_domain, &task, 0);
    return 1;
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "adapt") == 0) return adapt_for_ever();
    if (argc != 3) return fprintf(stderr, "usage: test LIBRARY-FOLDER LIBRARY-OF-ANOTHER-ABI\n"), 2;
    test_library(argv[1], argv[2]);
    test_request();
    test_pixels();
    test_jobs();
    test_opening();
    test_session();
    setenv("NADA_LIBRARY", argv[1], 1);
    test_reached();
    printf(failures ? "%d failed\n" : "all well\n", failures);
    return failures != 0;
}
