/* Long and rough use of the C ABI. Built and run by scripts/soak.
 *
 *     soak mixed MODEL SECONDS THREADS OUT   every kind of call from several threads at once, on shared handles
 *     soak cancel MODEL TIMES                cancels adaptations and inversions at random moments; handles are as before
 *     soak kill MODEL TIMES FOLDER           kills a process at random moments while it installs domains into FOLDER
 *     soak memory MODEL                      resident memory from the 50th to the 500th render
 *     soak race                              a mistake that ThreadSanitizer must report: two threads give one handle's place to a call
 *
 * `soak write MODEL FOLDER` is the process that `kill` kills.
 */
#define _GNU_SOURCE
#include <nada.h>

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void fail(const char *file, int line, const char *what) {
    fprintf(stderr, "%s:%d: %s\n  last error: %s\n", file, line, what, nada_last_error_message());
    exit(1);
}
#define CHECK(condition) ((condition) ? (void)0 : fail(__FILE__, __LINE__, #condition))
#define MUST(call) CHECK((call) == NADA_OK)

/* xorshift64*: the same on every machine. */
static uint64_t next(uint64_t *state) {
    *state ^= *state >> 12, *state ^= *state << 25, *state ^= *state >> 27;
    return *state * UINT64_C(2685821657736338717);
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void wait_for(double time) {
    struct timespec t;
    t.tv_sec = (time_t)time;
    t.tv_nsec = (long)((time - (double)t.tv_sec) * 1e9);
    while (nanosleep(&t, &t) && errno == EINTR) {}
}

/* Shared by all threads; none of it changes. */
struct world {
    nada_context *context;
    nada_model *model;
    nada_generator *generator;
    nada_domain *domain;
    nada_latent *latent;
    nada_image *picture;
    const char *out;
    double until;
};

static void adaptation_options(const struct world *w, nada_adaptation_options *options, uint32_t steps) {
    MUST(nada_model_adaptation_options(w->model, options, sizeof *options));
    options->target_text = "a pencil sketch";
    options->steps = steps;
    options->batch = 2;
    options->stop_latents = 0;
    options->snapshot_every = 0;
}

static void inversion_options(const struct world *w, nada_inversion_options *options, uint32_t steps) {
    MUST(nada_model_inversion_options(w->model, options, sizeof *options));
    options->steps = steps;
}

static void open_world(struct world *w, const char *folder) {
    static unsigned char grey[32 * 32];
    nada_pixels pixels = {grey, 32, 32, 32, NADA_FORMAT_GRAY8, NADA_TRANSFER_SRGB};
    nada_context_options options;
    nada_adaptation_options adapt;
    size_t i;
    MUST(nada_abi_check(NADA_ABI_VERSION));
    for (i = 0; i < sizeof grey; i++) grey[i] = (unsigned char)(i * 7 % 256);
    MUST(nada_context_options_init(&options, sizeof options));
    options.threads = 2;
    MUST(nada_context_new(&options, &w->context));
    MUST(nada_model_open(w->context, folder, &w->model));
    MUST(nada_model_generator(w->model, NULL, &w->generator));
    adaptation_options(w, &adapt, 1);
    MUST(nada_generator_adapt(w->generator, &adapt, NULL, &w->domain));
    MUST(nada_generator_sample(w->generator, 1, 1, 0.7f, NULL, &w->latent));
    MUST(nada_image_from_pixels(&pixels, &w->picture));
}

static void close_world(struct world *w) {
    nada_image_free(w->picture);
    nada_latent_free(w->latent);
    nada_domain_free(w->domain);
    nada_generator_free(w->generator);
    nada_model_free(w->model);
    nada_context_free(w->context);
}

/* The pixels of the shared latent, drawn with the shared domain; the caller frees them. */
static unsigned char *drawn(const struct world *w, size_t *bytes) {
    const nada_domain *domains[1];
    nada_render_options render;
    nada_image *image = NULL;
    uint32_t size = nada_generator_size(w->generator);
    nada_pixels_mut pixels = {NULL, 4 * (size_t)size, size, size, NADA_FORMAT_RGBA8, NADA_TRANSFER_SRGB};
    domains[0] = w->domain;
    MUST(nada_render_options_init(&render, sizeof render));
    render.domains = domains;
    render.domain_count = 1;
    *bytes = 4 * (size_t)size * size;
    pixels.data = malloc(*bytes);
    CHECK(pixels.data != NULL);
    MUST(nada_generator_render(w->generator, w->latent, &render, NULL, &image, 1));
    MUST(nada_image_to_pixels(image, &pixels));
    nada_image_free(image);
    return pixels.data;
}

struct worker {
    struct world *world;
    uint64_t random;
    unsigned number;
    unsigned calls;
};

static nada_flow stop_sometimes(const nada_progress *progress, void *user_data) {
    struct worker *me = user_data;
    (void)progress;
    return next(&me->random) % 4 ? NADA_CONTINUE : NADA_STOP;
}

static void one_call(struct worker *me) {
    struct world *w = me->world;
    nada_status status;
    switch (next(&me->random) % 9) {
        case 0: {
            size_t bytes;
            free(drawn(w, &bytes));
            break;
        }
        case 1: {
            nada_latent *a = NULL, *b = NULL;
            MUST(nada_generator_sample(w->generator, 2, next(&me->random), 0.7f, NULL, &a));
            MUST(nada_generator_mix_linear(w->generator, a, a, 0.5f, NULL, &b));
            nada_latent_free(a);
            nada_latent_free(b);
            break;
        }
        case 2: {
            nada_adaptation_options options;
            nada_domain *domain = NULL;
            adaptation_options(w, &options, 2);
            status = nada_generator_adapt(w->generator, &options, &(nada_call){sizeof(nada_call), stop_sometimes, me, NULL}, &domain);
            CHECK(status == NADA_OK ? domain != NULL : status == NADA_CANCELLED && domain == NULL);
            nada_domain_free(domain);
            break;
        }
        case 3: {
            nada_inversion_options options;
            nada_latent *latent = NULL;
            inversion_options(w, &options, 2);
            status = nada_generator_invert(w->generator, w->picture, &options, &(nada_call){sizeof(nada_call), stop_sometimes, me, NULL}, &latent, NULL);
            CHECK(status == NADA_OK || status == NADA_CANCELLED);
            nada_latent_free(latent);
            break;
        }
        case 4: {
            nada_gallery *gallery = NULL;
            nada_domain *domain = NULL;
            MUST(nada_gallery_open(w->context, w->out, NULL, &gallery));
            CHECK(nada_gallery_skipped(gallery) == 0);
            if (nada_gallery_count(gallery) < 20) MUST(nada_gallery_install(gallery, w->domain, NULL, w->picture, NULL, NULL, 0, NULL));
            else {
                MUST(nada_gallery_domain(gallery, next(&me->random) % 20, NULL, &domain));
                nada_domain_free(domain);
            }
            nada_gallery_free(gallery);
            break;
        }
        case 5: {
            unsigned char bytes[24 * 20 * 4];
            nada_pixels source = {bytes, 24 * 4, 24, 20, NADA_FORMAT_BGRA8, NADA_TRANSFER_SRGB};
            nada_pixels_mut target = {bytes, 24 * 4, 24, 20, NADA_FORMAT_BGRA8, NADA_TRANSFER_SRGB};
            memset(bytes, (int)me->number, sizeof bytes);
            MUST(nada_generator_render_frame(w->generator, &source, NULL, w->latent, NULL, NULL, &target));
            break;
        }
        case 6: {
            nada_image *none = NULL;
            char name[64];
            snprintf(name, sizeof name, "/nowhere/%u.png", me->number);
            CHECK(nada_image_open(name, NULL, &none) == NADA_NOT_FOUND && strstr(nada_last_error_message(), name));
            break;
        }
        case 7: {
            nada_clip *clip = NULL;
            nada_generator *generator = NULL;
            MUST(nada_model_clip(w->model, 0, NULL, &clip, NULL));
            MUST(nada_model_generator(w->model, NULL, &generator));
            const char *found = NULL, *known = NULL;
            MUST(nada_generator_fingerprint(generator, NULL, &found));
            MUST(nada_generator_fingerprint(w->generator, NULL, &known));
            CHECK(strcmp(found, known) == 0);
            nada_clip_free(clip);
            nada_generator_free(generator);
            break;
        }
        default: {
            nada_context *context = NULL;
            nada_model_list *list = NULL;
            MUST(nada_context_new(NULL, &context));
            MUST(nada_model_list_new(context, &list));
            nada_context_free(context);
            nada_model_list_free(list);
        }
    }
    me->calls++;
}

static void *work(void *argument) {
    struct worker *me = argument;
    while (seconds() < me->world->until) one_call(me);
    return NULL;
}

static void mixed(const char *model, double length, unsigned count, const char *out) {
    struct world w;
    struct worker workers[64];
    pthread_t threads[64];
    size_t bytes;
    unsigned char *before, *after;
    unsigned i, calls = 0;
    CHECK(count > 0 && count <= 64);
    open_world(&w, model);
    w.out = out;
    before = drawn(&w, &bytes);
    w.until = seconds() + length;
    for (i = 0; i < count; i++) {
        workers[i].world = &w, workers[i].random = 88172645463325252u + i, workers[i].number = i, workers[i].calls = 0;
        CHECK(pthread_create(&threads[i], NULL, work, &workers[i]) == 0);
    }
    for (i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
        calls += workers[i].calls;
    }
    after = drawn(&w, &bytes);
    CHECK(memcmp(before, after, bytes) == 0);
    free(before);
    free(after);
    close_world(&w);
    printf("mixed: %u calls from %u threads\n", calls, count);
}

struct killer {
    nada_cancel *cancel;
    double after;
};

static void *cancel_later(void *argument) {
    struct killer *k = argument;
    wait_for(k->after);
    nada_cancel_trigger(k->cancel);
    return NULL;
}

static void cancelling(const char *model, unsigned times) {
    struct world w;
    struct killer k;
    pthread_t thread;
    nada_adaptation_options adapt;
    nada_inversion_options invert;
    nada_adaptation *adaptation = NULL;
    uint64_t random = 42;
    size_t bytes;
    unsigned char *before, *after;
    unsigned i, cancelled = 0;
    double start, whole[2];
    open_world(&w, model);
    before = drawn(&w, &bytes);
    adaptation_options(&w, &adapt, 12);
    inversion_options(&w, &invert, 12);
    MUST(nada_cancel_new(&k.cancel));
    for (i = 0; i < 2; i++) { /* how long they take, so that moments fall everywhere in them */
        nada_domain *domain = NULL;
        nada_latent *latent = NULL;
        start = seconds();
        if (i == 0) MUST(nada_generator_adapt(w.generator, &adapt, NULL, &domain));
        else MUST(nada_generator_invert(w.generator, w.picture, &invert, NULL, &latent, NULL));
        whole[i] = seconds() - start;
        nada_domain_free(domain);
        nada_latent_free(latent);
    }
    for (i = 0; i < times; i++) {
        nada_domain *domain = NULL;
        nada_latent *latent = NULL;
        nada_status status;
        MUST(nada_cancel_reset(k.cancel));
        k.after = whole[i % 2] * (double)(next(&random) % 1000) / 1000.0;
        CHECK(pthread_create(&thread, NULL, cancel_later, &k) == 0);
        if (i % 4 == 2) {
            /* An adaptation that was cancelled stays at its last complete step, goes on, and gives what it gives undisturbed. */
            nada_outcome outcome;
            MUST(nada_adaptation_new(w.generator, &adapt, NULL, &adaptation));
            status = nada_adaptation_run(adaptation, &(nada_call){sizeof(nada_call), NULL, NULL, k.cancel});
            MUST(nada_adaptation_outcome(adaptation, &outcome, sizeof outcome));
            CHECK(status == NADA_OK ? outcome.steps == 12 : outcome.steps < 12);
            MUST(nada_adaptation_run(adaptation, NULL));
            MUST(nada_adaptation_outcome(adaptation, &outcome, sizeof outcome));
            CHECK(outcome.steps == 12);
            nada_adaptation_free(adaptation);
            adaptation = NULL;
        } else if (i % 2 == 0) {
            status = nada_generator_adapt(w.generator, &adapt, &(nada_call){sizeof(nada_call), NULL, NULL, k.cancel}, &domain);
            CHECK((status == NADA_OK) == (domain != NULL));
        } else {
            status = nada_generator_invert(w.generator, w.picture, &invert, &(nada_call){sizeof(nada_call), NULL, NULL, k.cancel}, &latent, NULL);
            CHECK((status == NADA_OK) == (latent != NULL));
        }
        CHECK(status == NADA_OK || status == NADA_CANCELLED);
        cancelled += status == NADA_CANCELLED;
        pthread_join(thread, NULL);
        nada_domain_free(domain);
        nada_latent_free(latent);
        after = drawn(&w, &bytes);
        CHECK(memcmp(before, after, bytes) == 0);
        free(after);
    }
    CHECK(cancelled >= times / 2);
    free(before);
    nada_cancel_free(k.cancel);
    close_world(&w);
    printf("cancel: %u of %u calls were cancelled before their end; every handle as before\n", cancelled, times);
}

/* Installs domains until it is killed. */
static void writing(const char *model, const char *folder) {
    struct world w;
    nada_gallery *gallery = NULL;
    char file[4096];
    open_world(&w, model);
    MUST(nada_gallery_open(w.context, folder, NULL, &gallery));
    for (;;) {
        MUST(nada_gallery_install(gallery, w.domain, NULL, w.picture, NULL, file, sizeof file, NULL));
        /* Only what was said to be there must be there. */
        if (write(STDOUT_FILENO, "+", 1) != 1) exit(1);
    }
}

static void killing(const char *self, const char *model, unsigned times, const char *folder) {
    nada_context *context = NULL;
    uint64_t random = 7;
    size_t said = 0, had = 0;
    unsigned i;
    MUST(nada_context_new(NULL, &context));
    for (i = 0; i < times; i++) {
        nada_gallery *gallery = NULL;
        char bytes[4096];
        int ends[2];
        pid_t child;
        ssize_t n;
        size_t j, count;
        CHECK(pipe(ends) == 0);
        child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            dup2(ends[1], STDOUT_FILENO);
            close(ends[0]), close(ends[1]);
            execl(self, self, "write", model, folder, (char *)NULL);
            _exit(127);
        }
        close(ends[1]);
        /* After the first domain, so that the moment falls into the writing and not into the opening of the model. */
        CHECK(read(ends[0], bytes, 1) == 1);
        said++;
        wait_for((double)(next(&random) % 20000) * 1e-6);
        CHECK(kill(child, SIGKILL) == 0);
        CHECK(waitpid(child, NULL, 0) == child);
        while ((n = read(ends[0], bytes, sizeof bytes)) > 0) said += (size_t)n;
        close(ends[0]);

        MUST(nada_gallery_open(context, folder, NULL, &gallery));
        count = nada_gallery_count(gallery);
        CHECK(nada_gallery_skipped(gallery) == 0);
        CHECK(count >= said);
        /* Those of this round, and with the last round all. */
        for (j = 0; j < count; j++) {
            nada_domain *domain = NULL;
            nada_image *thumbnail = NULL;
            if (i + 1 < times && count - j > 8 && j % 16 != i % 16) continue;
            MUST(nada_gallery_domain(gallery, j, NULL, &domain));
            MUST(nada_gallery_thumbnail(gallery, j, &thumbnail));
            CHECK(thumbnail != NULL);
            nada_image_free(thumbnail);
            nada_domain_free(domain);
        }
        CHECK(count >= had);
        had = count;
        nada_gallery_free(gallery);
    }
    nada_context_free(context);
    printf("kill: %u times; %zu domains said to be installed, %zu there, none torn\n", times, said, had);
}

static long resident(void) {
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file && fscanf(file, "%*d %ld", &pages) == 1);
    fclose(file);
    return pages * sysconf(_SC_PAGESIZE);
}

/* What leaks grows in every window of 450 renders, by 450 times as much; what threads keep for their next call grows until each has met the
   largest work at once with another's, which may come late and does not come again. So two windows in a row that change by less than 64 KiB (145
   bytes a render) show that nothing leaks; one that gives more back than that shows nothing, as a leak may hide in it. */
static void memory(const char *model) {
    struct world w;
    long before = 0;
    size_t bytes;
    int i, calm = 0;
    open_world(&w, model);
    for (i = 1; i <= 50 + 8 * 450 && calm < 2; i++) {
        free(drawn(&w, &bytes));
        if (i == 50) before = resident();
        if (i > 50 && (i - 50) % 450 == 0) {
            long growth = resident() - before;
            before += growth;
            calm = labs(growth) < 1 << 16 ? calm + 1 : 0;
            printf("memory: %ld bytes more after %d renders (at %ld)\n", growth, i, before);
        }
    }
    close_world(&w);
    CHECK(calm == 2);
}

static void *take_place(void *place) {
    int i;
    for (i = 0; i < 1000; i++) CHECK(nada_image_open("no such file", NULL, place) == NADA_NOT_FOUND);
    return NULL;
}

/* The library writes NULL to *place before it does anything else. */
static void race(void) {
    nada_image *place = NULL;
    pthread_t threads[2];
    int i;
    for (i = 0; i < 2; i++) CHECK(pthread_create(&threads[i], NULL, take_place, &place) == 0);
    for (i = 0; i < 2; i++) pthread_join(threads[i], NULL);
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    if (!strcmp(mode, "mixed") && argc == 6) mixed(argv[2], atof(argv[3]), (unsigned)atoi(argv[4]), argv[5]);
    else if (!strcmp(mode, "cancel") && argc == 4) cancelling(argv[2], (unsigned)atoi(argv[3]));
    else if (!strcmp(mode, "kill") && argc == 5) killing(argv[0], argv[2], (unsigned)atoi(argv[3]), argv[4]);
    else if (!strcmp(mode, "write") && argc == 4) writing(argv[2], argv[3]);
    else if (!strcmp(mode, "memory") && argc == 3) memory(argv[2]);
    else if (!strcmp(mode, "race") && argc == 2) race();
    else return fprintf(stderr, "usage: see the head of tests/soak.c\n"), 2;
    return 0;
}
