/* Calls every function of the C ABI the way a program would, and a few the way it should not. Built and run, under valgrind too, by
 * scripts/test-c:
 *
 *     client MODEL_FOLDER PICTURE PHOTO OUT_FOLDER
 *
 * PHOTO shows one face.
 */
#include <nada.h>

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures;

#define CHECK(condition)                                                                                        \
    do {                                                                                                        \
        if (!(condition)) {                                                                                     \
            fprintf(stderr, "%s:%d: %s\n  last error: %s\n", __FILE__, __LINE__, #condition, nada_last_error_message()); \
            failures++;                                                                                         \
        }                                                                                                       \
    } while (0)

/* What follows cannot go on without this call. */
#define MUST(call)                                                                                       \
    do {                                                                                                 \
        nada_status status_ = (call);                                                                    \
        if (status_ != NADA_OK) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n  %s (%s): %s\n", __FILE__, __LINE__, #call, nada_status_name(status_), \
                    nada_status_description(status_), nada_last_error_message());                        \
            exit(1);                                                                                     \
        }                                                                                                \
    } while (0)

#define FAILS(call, wanted, word)                             \
    do {                                                      \
        CHECK((call) == (wanted));                            \
        CHECK(strstr(nada_last_error_message(), (word)));     \
    } while (0)

static const char *in_folder(const char *folder, const char *name) {
    static char path[8][4096];
    static int next;
    char *p = path[next++ % 8];
    snprintf(p, sizeof path[0], "%s/%s", folder, name);
    return p;
}

static const char *fingerprint(const nada_generator *generator) {
    const char *found = NULL;
    MUST(nada_generator_fingerprint(generator, NULL, &found));
    CHECK(strlen(found) == 64);
    return found;
}

/* What a progress callback is to do and what it saw. */
struct watch {
    nada_adaptation *adaptation; /* asked for from inside the callback: busy */
    nada_generator *generator;   /* rendered from inside the callback */
    nada_cancel *cancel;         /* triggered at step `at` */
    uint32_t at;
    uint32_t stop_at;
    uint32_t calls;
    uint32_t previews;
    pthread_t thread;
};

static nada_flow on_progress(const nada_progress *progress, void *user_data) {
    struct watch *watch = user_data;
    size_t count = 0;
    watch->calls++;
    CHECK(pthread_equal(watch->thread, pthread_self()));
    CHECK(progress->struct_size >= sizeof *progress);
    CHECK(progress->step >= 1 && progress->step <= progress->total);
    CHECK(isfinite(progress->loss));
    if (progress->preview) {
        watch->previews++;
        CHECK(nada_image_width(progress->preview) > 0);
    }
    if (watch->adaptation) FAILS(nada_adaptation_snapshot_count(watch->adaptation, &count), NADA_BUSY, "adaptation");
    if (watch->generator) {
        nada_latent *latent = NULL;
        MUST(nada_generator_sample(watch->generator, 1, 3, 0.7f, NULL, &latent));
        nada_latent_free(latent);
    }
    if (watch->cancel && progress->step == watch->at) CHECK(nada_cancel_trigger(watch->cancel) == NADA_OK);
    return progress->step == watch->stop_at ? NADA_STOP : NADA_CONTINUE;
}

static void versions_and_errors(void) {
    nada_context *context = NULL;
    nada_context_options options;
    CHECK(nada_abi_version() == NADA_ABI_VERSION);
    CHECK(nada_abi_check(NADA_ABI_VERSION) == NADA_OK);
    CHECK(strlen(nada_version()) > 0);
    CHECK(strcmp(nada_status_name(NADA_OUT_OF_MEMORY), "NADA_OUT_OF_MEMORY") == 0);
    CHECK(strlen(nada_status_description(NADA_PANIC)) > 0);
    CHECK(strcmp(nada_last_error_message(), "") == 0);
    MUST(nada_context_options_init(&options, sizeof options));
    CHECK(options.struct_size == sizeof options);
    options.device = "tpu";
    FAILS(nada_context_new(&options, &context), NADA_UNSUPPORTED, "tpu");
    CHECK(context == NULL);
    CHECK(nada_context_threads(NULL) == 0);
    FAILS(nada_abi_check(NADA_ABI_VERSION + 1), NADA_MISMATCH, "newer");
    FAILS(nada_abi_check(3), NADA_MISMATCH, "compile");
}

/* What a program learns of a failure beside its sentence. */
static void failures_in_parts(nada_context *context) {
    nada_error error;
    nada_generator *generator = NULL;
    FAILS(nada_generator_open(context, "/nowhere/generator.pt", NULL, &generator), NADA_NOT_FOUND, "/nowhere/generator.pt");
    MUST(nada_last_error(&error, sizeof error));
    CHECK(error.struct_size == sizeof error && error.status == NADA_NOT_FOUND && error.memory == 0);
    CHECK(strcmp(error.file, "/nowhere/generator.pt") == 0 && strcmp(error.message, nada_last_error_message()) == 0);
    CHECK(strcmp(error.argument, "") == 0 && strcmp(error.key, "") == 0 && error.needed != NULL);
    CHECK(nada_generator_open(context, NULL, NULL, &generator) == NADA_INVALID_ARGUMENT);
    MUST(nada_last_error(&error, sizeof error));
    CHECK(strcmp(error.argument, "file") == 0 && strcmp(error.file, "") == 0);
}

static char *contents(const char *file, size_t *size) {
    FILE *in = fopen(file, "rb");
    char *bytes = malloc(64 << 20);
    if (!in || !bytes) exit(1);
    *size = fread(bytes, 1, 64 << 20, in);
    fclose(in);
    return bytes;
}

/* Files that the program has in memory, and generators in other programs' formats. */
static void memory(nada_context *context, const nada_generator *generator, const nada_domain *domain, const char *picture, const char *out) {
    nada_generator *again = NULL, *plain = NULL;
    nada_image *image = NULL;
    nada_latent *latent = NULL;
    nada_domain *other = NULL;
    nada_clip *clip = NULL;
    nada_error error;
    size_t size = 0;
    char *bytes = contents(picture, &size);
    MUST(nada_image_open_memory(bytes, size, NULL, NULL, &image));
    CHECK(nada_image_width(image) > 0);
    nada_image_free(image);
    FAILS(nada_image_open_memory(bytes, size / 2, "half", NULL, &image), NADA_BAD_FORMAT, "half");
    FAILS(nada_clip_open_memory(context, bytes, size, "a.clip", NADA_ACTIVATION_OF_FILE, NULL, &clip), NADA_BAD_FORMAT, "a.clip");
    CHECK(clip == NULL);
    free(bytes);

    MUST(nada_generator_without_classes(generator, NULL, &plain));
    MUST(nada_generator_save(plain, in_folder(out, "copy.safetensors"), NADA_LAYOUT_NADA, 0, NULL));
    MUST(nada_generator_save(plain, in_folder(out, "copy.pkl"), NADA_LAYOUT_ADA_PYTORCH, 0, NULL));
    nada_generator_free(plain);
    bytes = contents(in_folder(out, "copy.safetensors"), &size);
    MUST(nada_generator_open_memory(context, bytes, size, "copy", NULL, &again));
    CHECK(strcmp(fingerprint(again), fingerprint(generator)) == 0);
    nada_generator_free(again);
    free(bytes);

    MUST(nada_domain_save(domain, in_folder(out, "kept.safetensors"), NULL));
    bytes = contents(in_folder(out, "kept.safetensors"), &size);
    MUST(nada_domain_open_memory(context, bytes, size, NULL, NULL, &other));
    CHECK(strcmp(nada_domain_target(other), nada_domain_target(domain)) == 0);
    nada_domain_free(other);
    CHECK(nada_generator_open_memory(context, bytes, size, "kept", NULL, &again) == NADA_BAD_FORMAT);
    MUST(nada_last_error(&error, sizeof error));
    CHECK(strcmp(error.file, "kept") == 0);
    free(bytes);

    MUST(nada_generator_sample(generator, 1, 5, 0.7f, NULL, &latent));
    MUST(nada_latent_save(latent, in_folder(out, "one.safetensors"), NULL));
    nada_latent_free(latent);
    bytes = contents(in_folder(out, "one.safetensors"), &size);
    MUST(nada_latent_open_memory(context, bytes, size, NULL, NADA_SPACE_W, NULL, &latent));
    CHECK(nada_latent_count(latent) == 1);
    nada_latent_free(latent);
    free(bytes);
}

/* Embeddings are of length 1, and a score is their product. */
static void embeddings(const nada_clip *clip, const nada_image *picture) {
    const char *words[] = {"a photo", "a pencil sketch"}, *templates[] = {"{}", "a picture of {}"};
    size_t dimension = nada_clip_dimension(clip), i;
    float *texts = malloc(2 * dimension * sizeof *texts), *image = malloc(dimension * sizeof *image), scores[2], length = 0, product = 0;
    MUST(nada_clip_embed_texts(clip, words, 2, templates, 2, NULL, texts, 2 * dimension));
    MUST(nada_clip_embed_images(clip, &picture, 1, NADA_CLIP_RESIZE_ANTIALIAS, NULL, image, dimension));
    MUST(nada_clip_score(clip, &picture, 1, words, 2, templates, 2, NULL, scores, 2));
    for (i = 0; i < dimension; i++) length += image[i] * image[i], product += image[i] * texts[dimension + i];
    CHECK(fabsf(length - 1) < 1e-4f && fabsf(product - scores[1]) < 1e-4f);
    FAILS(nada_clip_embed_texts(clip, words, 2, NULL, 0, NULL, texts, dimension), NADA_INVALID_ARGUMENT, "length");
    free(image);
    free(texts);
}

static void evaluation(const nada_model *model, const nada_domain *domain) {
    nada_evaluation *evaluation = NULL;
    nada_measures measures;
    nada_clip_measures judged;
    nada_image *sheet = NULL;
    nada_status status = nada_model_evaluate(model, &domain, NULL, 1, NULL, NULL, NULL, &evaluation);
    /* The pack for valgrind has no held-out latents. */
    if (status == NADA_UNSUPPORTED) {
        CHECK(strstr(nada_last_error_message(), "held_out") && evaluation == NULL);
        return;
    }
    MUST(status);
    MUST(nada_evaluation_measures(evaluation, &measures, sizeof measures));
    CHECK(measures.pictures > 0 && measures.pairing >= 0 && measures.pairing <= 1);
    CHECK(measures.has_truth == (strlen(nada_evaluation_truth(evaluation)) > 0) && measures.distance >= 0);
    CHECK(nada_evaluation_clip_count(evaluation) >= 1 && strlen(nada_evaluation_clip_name(evaluation, 0)) > 0);
    MUST(nada_evaluation_clip_measures(evaluation, 0, &judged, sizeof judged));
    CHECK(judged.quality > -1 && judged.quality < 1 && judged.diversity_before > 0);
    MUST(nada_evaluation_sheet(evaluation, &sheet));
    CHECK(nada_image_width(sheet) > 0);
    nada_image_free(sheet);
    nada_evaluation_free(evaluation);
    nada_evaluation_free(NULL);
}

static void listen(nada_log_level level, const char *message, void *user_data) {
    CHECK(level >= NADA_LOG_ERROR && level <= NADA_LOG_TRACE && strlen(message) > 0);
    if (strstr(message, "/nowhere/listened.png")) ++*(int *)user_data;
}

static void the_log(void) {
    nada_image *image = NULL;
    int heard = 0;
    MUST(nada_log_set_callback(listen, &heard, NADA_LOG_DEBUG));
    CHECK(nada_image_open("/nowhere/listened.png", NULL, &image) == NADA_NOT_FOUND);
    CHECK(heard == 1);
    MUST(nada_log_set_callback(NULL, NULL, NADA_LOG_OFF));
    CHECK(nada_image_open("/nowhere/listened.png", NULL, &image) == NADA_NOT_FOUND);
    CHECK(heard == 1);
    FAILS(nada_log_set_callback(listen, NULL, 99), NADA_INVALID_ARGUMENT, "level");
}

static void packs(nada_context *context) {
    nada_model_list *list = NULL;
    size_t i;
    MUST(nada_model_list_new(context, &list));
    for (i = 0; i < nada_model_list_count(list); i++) {
        CHECK(strlen(nada_model_list_name(list, i)) > 0 && strlen(nada_model_list_folder(list, i)) > 0);
        CHECK(nada_model_list_description(list, i) != NULL);
    }
    CHECK(nada_model_list_warning(list) != NULL && strcmp(nada_model_list_warning(NULL), "") == 0);
    nada_model_list_free(list);
    nada_model_list_free(NULL);
}

static void images(const char *file, const char *out) {
    nada_image *image = NULL, *other = NULL;
    unsigned char bytes[2 * 20];
    unsigned char back[2 * 20];
    float floats[2 * 3 * 4];
    nada_pixels view = {bytes, 20, 3, 2, NADA_FORMAT_BGRA8, NADA_TRANSFER_SRGB};
    nada_pixels_mut target = {back, 20, 3, 2, NADA_FORMAT_BGRA8, NADA_TRANSFER_SRGB};
    nada_pixels_mut light = {floats, 48, 3, 2, NADA_FORMAT_RGBA32F, NADA_TRANSFER_LINEAR};
    size_t i;
    for (i = 0; i < sizeof bytes; i++) bytes[i] = (unsigned char)(i * 6);
    memset(back, 0x5a, sizeof back);
    MUST(nada_image_from_pixels(&view, &image));
    CHECK(nada_image_width(image) == 3 && nada_image_height(image) == 2);
    MUST(nada_image_to_pixels(image, &target));
    for (i = 0; i < 2; i++) {
        CHECK(memcmp(back + 20 * i, bytes + 20 * i, 12) == 0);
        CHECK(back[20 * i + 12] == 0x5a && back[20 * i + 19] == 0x5a);
    }
    MUST(nada_image_to_pixels(image, &light));
    CHECK(floats[3] > 0.07f && floats[3] < 0.071f); /* alpha 18 / 255, linear in both */
    MUST(nada_image_save_png(image, in_folder(out, "small.png"), NULL));
    MUST(nada_image_open(in_folder(out, "small.png"), NULL, &other));
    CHECK(nada_image_width(other) == 3);
    nada_image_free(other);
    target.stride = 11;
    FAILS(nada_image_to_pixels(image, &target), NADA_INVALID_ARGUMENT, "stride");
    nada_image_free(image);
    MUST(nada_image_open(file, NULL, &image));
    CHECK(strcmp(nada_image_warning(image), "") == 0 && strcmp(nada_image_warning(NULL), "") == 0);
    nada_image_free(image);
    MUST(nada_image_open_square(file, 8, NULL, &image));
    CHECK(nada_image_width(image) == 8 && nada_image_height(image) == 8);
    nada_image_free(image);
    MUST(nada_image_open_square(file, 0, NULL, &image));
    CHECK(nada_image_width(image) > 8 && nada_image_width(image) == nada_image_height(image));
    nada_image_free(image);
    nada_image_free(NULL);
}

/* The table of a generator's layers. */
static void layers(const nada_generator *generator) {
    nada_layer layer;
    size_t count = nada_generator_layer_count(generator), i, inputs = 0, last_row = 0;
    for (i = 0; i < count; i++) {
        MUST(nada_generator_layer(generator, i, &layer, sizeof layer));
        CHECK(layer.struct_size == sizeof layer && strlen(layer.name) > 0 && layer.channels_out > 0);
        CHECK(layer.width <= nada_generator_width(generator) && layer.height <= nada_generator_height(generator));
        inputs += layer.kind == NADA_LAYER_INPUT;
        if (layer.row >= 0 && (size_t)layer.row > last_row) last_row = (size_t)layer.row;
    }
    CHECK(count > 0 && inputs == 1 && last_row + 1 == nada_generator_rows(generator));
    CHECK(layer.kind == NADA_LAYER_TO_RGB && layer.channels_out == nada_generator_channels(generator));
    FAILS(nada_generator_layer(generator, count, &layer, sizeof layer), NADA_INVALID_ARGUMENT, "layers");
    FAILS(nada_generator_layer(generator, 0, &layer, 8), NADA_INVALID_ARGUMENT, "nada_layer.struct_size");
    CHECK(nada_generator_layer_count(NULL) == 0);
}

static void latents(nada_context *context, nada_generator *generator, const char *out) {
    nada_latent *a = NULL, *b = NULL, *mixed = NULL, *again = NULL;
    nada_generator *of_class = NULL;
    size_t rows = nada_generator_rows(generator), dimension = nada_generator_dimension(generator);
    uint32_t width = nada_generator_width(generator), height = nada_generator_height(generator);
    size_t numbers = 2 * rows * dimension;
    float *data = malloc(numbers * sizeof *data), *first = malloc(numbers * sizeof *first);
    nada_space space = NADA_SPACE_Z;
    size_t i;

    CHECK(width == height && width == nada_generator_size(generator));
    CHECK(nada_generator_channels(generator) == 3 && nada_generator_z_dimension(generator) == dimension);
    MUST(nada_generator_sample(generator, 2, 7, 0.7f, NULL, &a));
    MUST(nada_generator_sample(generator, 2, 8, 0.7f, NULL, &b));
    CHECK(nada_generator_classes(generator) == 0);
    CHECK(nada_generator_with_class(generator, 0, &of_class) == NADA_INVALID_ARGUMENT && !of_class);
    CHECK(nada_latent_count(a) == 2 && nada_latent_rows(a) == 1 && nada_latent_dimension(a) == dimension);
    MUST(nada_latent_space(a, &space));
    CHECK(space == NADA_SPACE_W);
    MUST(nada_generator_mix_styles(generator, a, b, rows / 2, NULL, &mixed));
    CHECK(nada_latent_rows(mixed) == rows);
    nada_latent_free(mixed);
    MUST(nada_generator_mix_linear(generator, a, b, 0.25f, NULL, &mixed));
    MUST(nada_latent_copy_data(mixed, data, numbers));
    MUST(nada_latent_copy_data(a, first, 2 * dimension));
    for (i = 0; i < numbers; i++) CHECK(isfinite(data[i]));
    FAILS(nada_latent_copy_data(mixed, data, 3), NADA_INVALID_ARGUMENT, "length");
    MUST(nada_latent_save(mixed, in_folder(out, "mixed.safetensors"), NULL));
    MUST(nada_latent_open(context, in_folder(out, "mixed.safetensors"), NADA_SPACE_W_PLUS, NULL, &again));
    CHECK(nada_latent_count(again) == 2);
    nada_latent_free(again);
    MUST(nada_latent_from_data(context, NADA_SPACE_W_PLUS, data, 2, rows, dimension, &again));
    MUST(nada_latent_copy_data(again, first, numbers));
    CHECK(memcmp(data, first, numbers * sizeof *data) == 0);
    nada_latent_free(again);
    nada_latent_free(mixed);
    nada_latent_free(b);
    nada_latent_free(a);
    nada_latent_free(NULL);
    free(first);
    free(data);
}

/* Some pixel of the two pictures, of one size, differs by more than rounding. */
static int differ(const nada_image *a, const nada_image *b) {
    uint32_t width = nada_image_width(a), height = nada_image_height(a);
    size_t bytes = (size_t)width * height * 3, i;
    unsigned char *p = malloc(bytes), *q = malloc(bytes);
    nada_pixels_mut view = {p, (size_t)width * 3, width, height, NADA_FORMAT_RGB8, NADA_TRANSFER_SRGB};
    int found = 0;
    MUST(nada_image_to_pixels(a, &view));
    view.data = q;
    MUST(nada_image_to_pixels(b, &view));
    for (i = 0; i < bytes; i++) found |= abs(p[i] - q[i]) > 1;
    free(q);
    free(p);
    return found;
}

struct shared_render {
    const nada_generator *generator;
    const nada_latent *latent;
    nada_image *image;
};

static void *render_in_thread(void *argument) {
    struct shared_render *job = argument;
    MUST(nada_generator_render(job->generator, job->latent, NULL, NULL, &job->image, 1));
    /* This thread failed nothing. */
    CHECK(strcmp(nada_last_error_message(), "") == 0);
    return NULL;
}

static void render_concurrently(const nada_generator *generator) {
    struct shared_render jobs[2];
    pthread_t threads[2];
    nada_latent *latent = NULL;
    int i;
    MUST(nada_generator_sample(generator, 1, 5, 0.7f, NULL, &latent));
    for (i = 0; i < 2; i++) {
        jobs[i].generator = generator, jobs[i].latent = latent, jobs[i].image = NULL;
        CHECK(pthread_create(&threads[i], NULL, render_in_thread, &jobs[i]) == 0);
    }
    for (i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    CHECK(!differ(jobs[0].image, jobs[1].image));
    for (i = 0; i < 2; i++) nada_image_free(jobs[i].image);
    nada_latent_free(latent);
}

/* Two steps, large ones, so that two show. */
static void quick(nada_adaptation_options *options) {
    options->steps = 2;
    options->batch = 2;
    options->learning_rate = 0.02;
    options->snapshot_every = 1;
    options->stop_latents = 0;
}

/* `adapted` is `generator` with `domain` in it. */
static void relatives(const nada_generator *generator, const nada_generator *adapted, const nada_domain *domain) {
    nada_domain *between = NULL, *moved = NULL, *half = NULL;
    uint32_t fits = 9;
    CHECK(strcmp(nada_domain_origin(domain), "adapted") == 0);
    MUST(nada_domain_fits(domain, generator, NULL, &fits));
    CHECK(fits == 1);
    MUST(nada_domain_fits(domain, adapted, NULL, &fits));
    CHECK(fits == 0);
    MUST(nada_domain_between(generator, adapted, "a photo", "a sketch", NULL, &between));
    CHECK(strcmp(nada_domain_target(between), "a sketch") == 0);
    FAILS(nada_domain_between(generator, generator, NULL, NULL, NULL, &moved), NADA_MISMATCH, "");
    MUST(nada_domain_for_generator(domain, adapted, NULL, &moved));
    MUST(nada_domain_fits(moved, adapted, NULL, &fits));
    CHECK(fits == 1);
    MUST(nada_domain_to_half(domain, NULL, &half));
    CHECK(strcmp(nada_domain_target(half), nada_domain_target(domain)) == 0);
    nada_domain_free(half);
    nada_domain_free(moved);
    nada_domain_free(between);
}

static void domains(nada_context *context, nada_generator *generator, const nada_domain *domain, const char *out) {
    nada_domain *again = NULL;
    nada_generator *adapted = NULL;
    nada_latent *latent = NULL;
    nada_image *plain = NULL, *half = NULL, *whole = NULL, *same = NULL;
    nada_render_options render;
    nada_parameters parameters = 99;
    const char *name = NULL;
    const nada_domain *list[1];
    float strength = 0.5f;
    CHECK(strcmp(nada_domain_source(domain), "a photo") == 0);
    CHECK(strcmp(nada_domain_target(domain), "a pencil sketch") == 0);
    CHECK(strcmp(nada_domain_fingerprint(domain), fingerprint(generator)) == 0);
    CHECK(nada_domain_step(domain) == 2);
    CHECK(nada_domain_clip_count(domain) >= 1);
    MUST(nada_domain_clip_name(domain, 0, &name));
    CHECK(strlen(name) > 0);
    MUST(nada_domain_parameters(domain, &parameters));
    CHECK(parameters == NADA_PARAMETERS_FULL || parameters == NADA_PARAMETERS_STYLESPACE);
    MUST(nada_domain_save(domain, in_folder(out, "sketch.safetensors"), NULL));
    MUST(nada_domain_open(context, in_folder(out, "sketch.safetensors"), NULL, &again));
    CHECK(strcmp(nada_domain_target(again), "a pencil sketch") == 0);

    MUST(nada_generator_sample(generator, 1, 5, 0.7f, NULL, &latent));
    MUST(nada_render_options_init(&render, sizeof render));
    render.noise = NADA_NOISE_NONE;
    MUST(nada_generator_render(generator, latent, &render, NULL, &plain, 1));
    list[0] = again;
    render.domains = list;
    render.domain_count = 1;
    MUST(nada_generator_render(generator, latent, &render, NULL, &whole, 1));
    render.strengths = &strength;
    MUST(nada_generator_render(generator, latent, &render, NULL, &half, 1));
    CHECK(differ(plain, whole) && differ(half, whole));
    MUST(nada_generator_with_domains(generator, list, NULL, 1, NULL, &adapted));
    render.domain_count = 0;
    MUST(nada_generator_render(adapted, latent, &render, NULL, &same, 1));
    CHECK(!differ(same, whole));
    relatives(generator, adapted, again);
    strength = 2.0f;
    render.domain_count = 1;
    nada_image_free(same);
    FAILS(nada_generator_render(generator, latent, &render, NULL, &same, 1), NADA_INVALID_ARGUMENT, "strength");
    CHECK(same == NULL);

    nada_image_free(half);
    nada_image_free(whole);
    nada_image_free(plain);
    nada_latent_free(latent);
    nada_generator_free(adapted);
    nada_domain_free(again);
    nada_domain_free(NULL);
}

static void gallery(nada_context *context, const nada_generator *generator, const nada_domain *domain, const nada_image *picture, const char *out) {
    nada_gallery *gallery = NULL;
    nada_domain *again = NULL;
    nada_image *thumbnail = NULL;
    char file[4096];
    size_t needed = 0;
    uint32_t fits = 0;
    MUST(nada_gallery_open(context, in_folder(out, "domains"), NULL, &gallery));
    CHECK(nada_gallery_count(gallery) == 0 && nada_gallery_skipped(gallery) == 0);
    MUST(nada_gallery_install(gallery, domain, NULL, picture, NULL, file, sizeof file, &needed));
    CHECK(needed == strlen(file) + 1);
    MUST(nada_gallery_install(gallery, domain, NULL, NULL, NULL, NULL, 0, NULL));
    nada_gallery_free(gallery);
    MUST(nada_gallery_open(context, in_folder(out, "domains"), NULL, &gallery));
    CHECK(nada_gallery_count(gallery) == 2);
    CHECK(strcmp(nada_gallery_name(gallery, 0), "a-pencil-sketch") == 0);
    CHECK(strcmp(nada_gallery_file(gallery, 0), file) == 0);
    CHECK(strcmp(nada_gallery_source(gallery, 0), "a photo") == 0);
    CHECK(strcmp(nada_gallery_target(gallery, 0), "a pencil sketch") == 0);
    CHECK(strcmp(nada_gallery_fingerprint(gallery, 0), nada_domain_fingerprint(domain)) == 0);
    CHECK(strlen(nada_gallery_folder(gallery)) > 0);
    MUST(nada_gallery_fits(gallery, 0, generator, NULL, &fits));
    CHECK(fits == 1);
    MUST(nada_gallery_thumbnail(gallery, 0, &thumbnail));
    CHECK(nada_image_width(thumbnail) > 0 && nada_image_width(thumbnail) <= 256);
    nada_image_free(thumbnail);
    MUST(nada_gallery_thumbnail(gallery, 1, &thumbnail));
    CHECK(thumbnail == NULL);
    MUST(nada_gallery_domain(gallery, 0, NULL, &again));
    CHECK(nada_domain_step(again) == nada_domain_step(domain));
    nada_domain_free(again);
    nada_gallery_free(gallery);
    nada_gallery_free(NULL);
}

static void adapt(nada_context *context, nada_model *model, nada_generator *generator, nada_clip *clip, const nada_image *picture,
                  const char *picture_file, const char *out) {
    nada_adaptation_options options;
    nada_adaptation *adaptation = NULL;
    nada_domain *domain = NULL;
    nada_image *preview = NULL;
    nada_cancel *cancel = NULL;
    nada_outcome outcome;
    nada_snapshot snapshot;
    struct watch watch;
    nada_call call;
    const nada_clip *clips[1];
    const char *templates[] = {"{}", "a picture of {}"};
    float loss = NAN;
    size_t count = 0;
    memset(&watch, 0, sizeof watch);
    watch.thread = pthread_self();
    clips[0] = clip;
    MUST(nada_call_init(&call, sizeof call));
    CHECK(call.struct_size == sizeof call && !call.on_progress && !call.user_data && !call.cancel);
    call.on_progress = on_progress;
    call.user_data = &watch;

    /* In one call. */
    MUST(nada_model_adaptation_options(model, &options, sizeof options));
    quick(&options);
    options.target_text = "a pencil sketch";
    watch.generator = generator;
    MUST(nada_generator_adapt(generator, &options, &call, &domain));
    CHECK(watch.calls == 2);
    domains(context, generator, domain, out);
    gallery(context, generator, domain, picture, out);
    memory(context, generator, domain, picture_file, out);
    evaluation(model, domain);
    nada_domain_free(domain);

    /* Stopped by the callback: no domain. */
    watch.stop_at = 1;
    CHECK(nada_generator_adapt(generator, &options, &call, &domain) == NADA_CANCELLED);
    CHECK(domain == NULL);

    /* Step by step, with a CLIP and templates of our own; cancelled by a token at step 1, then run to the end. */
    memset(&watch, 0, sizeof watch);
    watch.thread = pthread_self();
    MUST(nada_adaptation_options_init(&options, sizeof options));
    MUST(nada_adaptation_options_set(&options, "losses.structure", "400"));
    CHECK(options.losses_structure == 400.0f);
    MUST(nada_adaptation_options_set(&options, "losses.structure", "0"));
    quick(&options);
    options.model = model; /* for its words */
    options.clips = clips;
    options.clip_count = 1;
    options.templates = templates;
    options.template_count = 2;
    options.parameters = NADA_PARAMETERS_STYLESPACE;
    options.target_text = "a flibbertigibbet";
    MUST(nada_adaptation_new(generator, &options, NULL, &adaptation));
    CHECK(strstr(nada_adaptation_warning(adaptation), "flibbertigibbet"));
    MUST(nada_cancel_new(&cancel));
    watch.adaptation = adaptation;
    watch.cancel = cancel;
    watch.at = 1;
    call.cancel = cancel;
    CHECK(nada_adaptation_run(adaptation, &call) == NADA_CANCELLED);
    CHECK(nada_cancel_is_triggered(cancel) == 1);
    MUST(nada_adaptation_outcome(adaptation, &outcome, sizeof outcome));
    CHECK(outcome.ended == NADA_ENDED_NOT && outcome.steps == 1);
    MUST(nada_adaptation_domain(adaptation, &domain));
    CHECK(nada_domain_step(domain) == 1);
    nada_domain_free(domain);
    MUST(nada_cancel_reset(cancel));
    watch.cancel = NULL;
    MUST(nada_adaptation_run(adaptation, &call));
    MUST(nada_adaptation_outcome(adaptation, &outcome, sizeof outcome));
    CHECK(outcome.ended == NADA_ENDED_STEPS && outcome.steps == 2 && outcome.chosen == 2);
    CHECK(watch.previews > 0);
    MUST(nada_adaptation_snapshot_count(adaptation, &count));
    CHECK(count >= 1);
    MUST(nada_adaptation_snapshot_info(adaptation, count - 1, &snapshot, sizeof snapshot));
    CHECK(snapshot.step == 2 && isfinite(snapshot.loss) && snapshot.judged == 0);
    MUST(nada_adaptation_snapshot_preview(adaptation, count - 1, &preview));
    nada_image_free(preview);
    MUST(nada_adaptation_snapshot_domain(adaptation, count - 1, &domain));
    CHECK(nada_domain_step(domain) == 2);
    nada_domain_free(domain);
    MUST(nada_adaptation_step(adaptation, NULL, &loss));
    CHECK(isfinite(loss));
    MUST(nada_cancel_trigger(cancel));
    FAILS(nada_adaptation_step(adaptation, &call, &loss), NADA_CANCELLED, "cancelled");
    FAILS(nada_adaptation_preview(adaptation, 1, &call, &preview), NADA_CANCELLED, "cancelled");
    CHECK(preview == NULL);
    MUST(nada_cancel_reset(cancel));
    MUST(nada_adaptation_result(adaptation, &domain));
    nada_domain_free(domain);
    MUST(nada_adaptation_preview(adaptation, 2, NULL, &preview));
    MUST(nada_image_save_png(preview, in_folder(out, "preview.png"), NULL));
    nada_image_free(preview);
    FAILS(nada_adaptation_snapshot_domain(adaptation, 99, &domain), NADA_INVALID_ARGUMENT, "index");
    nada_adaptation_free(adaptation);
    nada_adaptation_free(NULL);
    nada_cancel_free(cancel);
    nada_cancel_free(NULL);

    /* To a picture instead of words. */
    options.target_text = NULL;
    options.target_images = &picture;
    options.target_image_count = 1;
    options.steps = 1;
    MUST(nada_generator_adapt(generator, &options, NULL, &domain));
    nada_domain_free(domain);
}

static void invert(const nada_model *model, nada_generator *generator, const nada_image *picture, const char *out) {
    nada_inversion_options options;
    nada_latent *latent = NULL;
    nada_image *image = NULL;
    struct watch watch;
    nada_call call = {sizeof call, on_progress, &watch, NULL};
    float psnr = NAN;
    memset(&watch, 0, sizeof watch);
    watch.thread = pthread_self();
    MUST(nada_inversion_options_init(&options, sizeof options));
    CHECK(options.steps > 0 && options.clip == NULL);
    MUST(nada_inversion_options_set(&options, "steps", "3"));
    CHECK(options.steps == 3);
    FAILS(nada_inversion_options_set(&options, "step", "3"), NADA_INVALID_ARGUMENT, "steps");
    MUST(nada_model_inversion_options(model, &options, sizeof options));
    options.steps = 2;
    MUST(nada_generator_invert(generator, picture, &options, &call, &latent, &psnr));
    CHECK(watch.calls >= 1 && watch.calls <= 2);
    CHECK(isfinite(psnr));
    CHECK(nada_latent_count(latent) == 1 && nada_latent_rows(latent) == nada_generator_rows(generator));
    nada_latent_free(latent);
    watch.stop_at = 1;
    CHECK(nada_generator_invert(generator, picture, &options, &call, &latent, &psnr) == NADA_CANCELLED);
    CHECK(latent == NULL);
    MUST(nada_generator_restyle(generator, picture, &options, NULL, NULL, &image));
    CHECK(nada_image_width(image) == nada_generator_size(generator));
    MUST(nada_image_save_png(image, in_folder(out, "restyled.png"), NULL));
    nada_image_free(image);
}

/* The face of a photo, cut out, put back. */
static void faces(const nada_context *context, const char *file) {
    nada_image *photo = NULL, *square = NULL;
    nada_faces *found = NULL;
    nada_face face;
    nada_frame frame;
    size_t bytes, width, height, i, changed = 0;
    unsigned char *pixels, *before;
    MUST(nada_image_open(file, NULL, &photo));
    width = nada_image_width(photo), height = nada_image_height(photo), bytes = width * height * 4;
    pixels = malloc(bytes), before = malloc(bytes);
    if (!pixels || !before) exit(1);
    {
        nada_pixels source = {pixels, width * 4, (uint32_t)width, (uint32_t)height, NADA_FORMAT_RGBA8, NADA_TRANSFER_SRGB};
        nada_pixels_mut target = {pixels, width * 4, (uint32_t)width, (uint32_t)height, NADA_FORMAT_RGBA8, NADA_TRANSFER_SRGB};
        MUST(nada_image_to_pixels(photo, &target));
        memcpy(before, pixels, bytes);
        MUST(nada_faces_find(context, &source, 40, NULL, &found));
        CHECK(nada_faces_count(found) == 1 && nada_faces_count(NULL) == 0);
        MUST(nada_faces_get(found, 0, &face, sizeof face));
        CHECK(face.score > 0.9f && face.right - face.left > 40 && face.points[0] < face.points[2]);
        FAILS(nada_faces_get(found, 1, &face, sizeof face), NADA_INVALID_ARGUMENT, "index");
        memset(&frame, 0, sizeof frame);
        frame.struct_size = sizeof frame;
        frame.centre_x = face.centre_x, frame.centre_y = face.centre_y;
        frame.side = face.side / 2, frame.angle = face.angle;
        MUST(nada_image_from_face(context, &source, &frame, 32, 1, NULL, &square));
        CHECK(nada_image_width(square) == 32 && nada_image_height(square) == 32);
        MUST(nada_image_put_back(context, &source, &frame, square, square, -1.0f, &target));
        CHECK(memcmp(pixels, before, bytes) == 0);
        MUST(nada_image_put_back(context, &source, &frame, square, NULL, -1.0f, &target));
        for (i = 0; i < bytes; i++) changed += pixels[i] != before[i];
        CHECK(changed > 0 && memcmp(pixels, before, width * 4) == 0);
        FAILS(nada_image_put_back(context, &source, &frame, square, NULL, 0.0f, &target), NADA_INVALID_ARGUMENT, "feather");
    }
    free(pixels);
    free(before);
    nada_image_free(square);
    nada_image_free(photo);
    nada_faces_free(found);
    nada_faces_free(NULL);
}

/* What is and what is not an encoder. */
static void encoders(const nada_context *context, const nada_model *model, nada_generator *generator, const nada_image *picture, const char *folder) {
    nada_encoder *encoder = NULL;
    nada_inversion_options options;
    nada_latent *latent = NULL;
    FAILS(nada_encoder_open(context, in_folder(folder, "missing.pt"), NULL, &encoder), NADA_NOT_FOUND, "missing.pt");
    FAILS(nada_encoder_open(context, in_folder(folder, "generator.safetensors"), NULL, &encoder), NADA_BAD_FORMAT, "generator.safetensors");
    CHECK(encoder == NULL);
    MUST(nada_model_encoder(model, NULL, &encoder));
    MUST(nada_model_inversion_options(model, &options, sizeof options));
    options.encoder = encoder;
    options.method = NADA_METHOD_ENCODE;
    if (encoder) {
        MUST(nada_generator_invert(generator, picture, &options, NULL, &latent, NULL));
        CHECK(nada_latent_rows(latent) == nada_generator_rows(generator));
    } else {
        FAILS(nada_generator_invert(generator, picture, &options, NULL, &latent, NULL), NADA_INVALID_ARGUMENT, "encoder");
    }
    nada_latent_free(latent);
    nada_encoder_free(encoder);
    nada_encoder_free(NULL);
}

/* A part of a picture in place, and into a layer above it. */
static void frames(const nada_model *model, const nada_generator *generator) {
    enum { WIDTH = 90, HEIGHT = 70, BYTES = WIDTH * HEIGHT * 4 };
    static unsigned char pixels[BYTES], before[BYTES], layer[BYTES];
    nada_pixels source = {pixels, WIDTH * 4, WIDTH, HEIGHT, NADA_FORMAT_BGRA8, NADA_TRANSFER_SRGB};
    nada_pixels_mut target = {pixels, WIDTH * 4, WIDTH, HEIGHT, NADA_FORMAT_BGRA8, NADA_TRANSFER_SRGB};
    nada_frame frame = {sizeof frame, 40, 40, 40, 0};
    nada_frame_options where;
    nada_inversion_options options;
    nada_image *square = NULL;
    nada_latent *latent = NULL;
    int x, y, changed = 0, outside = 0;
    for (x = 0; x < BYTES; x++) pixels[x] = (unsigned char)(x % 251);
    memcpy(before, pixels, BYTES);
    MUST(nada_frame_options_init(&where, sizeof where));
    CHECK(where.struct_size == sizeof where && where.opacity == 1.0f && where.feather < 0 && where.frame == NULL);
    where.frame = &frame;
    MUST(nada_model_inversion_options(model, &options, sizeof options));
    options.steps = 2;
    MUST(nada_generator_restyle_frame(generator, &source, &where, &options, NULL, NULL, &target));
    for (y = 0; y < HEIGHT; y++)
        for (x = 0; x < WIDTH; x++) {
            int differs = memcmp(pixels + 4 * (y * WIDTH + x), before + 4 * (y * WIDTH + x), 4) != 0;
            if (x >= 20 && x < 60 && y >= 20 && y < 60) changed += differs;
            else outside += differs;
        }
    CHECK(outside == 0);
    CHECK(changed > 1000);
    MUST(nada_image_from_frame(&source, &frame, 16, NULL, &square));
    CHECK(nada_image_width(square) == 16 && nada_image_height(square) == 16);
    MUST(nada_generator_invert(generator, square, &options, NULL, &latent, NULL));
    memset(layer, 0x5a, BYTES);
    target.data = layer;
    where.replace = 1;
    where.opacity = 0.5f;
    where.hard_edges = NADA_EDGE_LEFT | NADA_EDGE_BOTTOM;
    MUST(nada_generator_render_frame(generator, &source, &where, latent, NULL, NULL, &target));
    CHECK(layer[0] == 0x5a && layer[4 * (40 * WIDTH + 19) + 3] == 0x5a && layer[4 * (40 * WIDTH + 59) + 3] != 0x5a);
    /* Turned: corners of the square that it no longer covers stay, and what it reaches beside it is written. */
    memset(layer, 0x5a, BYTES);
    frame.angle = 45;
    where.hard_edges = 0;
    MUST(nada_generator_render_frame(generator, &source, &where, latent, NULL, NULL, &target));
    CHECK(layer[4 * (21 * WIDTH + 21) + 3] == 0x5a && layer[4 * (40 * WIDTH + 15) + 3] != 0x5a);
    nada_image_free(square);
    MUST(nada_image_from_frame(&source, &frame, 0, NULL, &square));
    CHECK(nada_image_width(square) == 40);
    nada_latent_free(latent);
    nada_image_free(square);
}

int main(int argc, char **argv) {
    nada_context_options options;
    nada_context *context = NULL;
    nada_model *model = NULL;
    nada_generator *generator = NULL, *opened = NULL;
    nada_clip *clip = NULL, *first = NULL;
    nada_image *picture = NULL;
    size_t count = 0, needed = 0;
    float weight = 0;
    char warning[256], cut[10];
    const char *folder, *out;
    nada_cancel *cancel = NULL;
    nada_call call = {sizeof call, NULL, NULL, NULL};
    if (argc != 5) return fprintf(stderr, "usage: %s MODEL_FOLDER PICTURE PHOTO OUT_FOLDER\n", argv[0]), 2;
    folder = argv[1];
    out = argv[4];

    versions_and_errors();
    the_log();
    images(argv[2], out);
    MUST(nada_context_options_init(&options, sizeof options));
    options.threads = 2;
    options.model_folders = (const char *const *)&out;
    options.model_folder_count = 1;
    MUST(nada_context_new(&options, &context));
    CHECK(nada_context_threads(context) == 2);

    MUST(nada_model_open(context, folder, &model));
    CHECK(strlen(nada_model_name(model)) > 0 && strlen(nada_model_folder(model)) > 0);
    MUST(nada_model_phrases(model, warning, sizeof warning, &needed));
    CHECK(needed > 1 && strlen(warning) > 0 && strlen(nada_model_description(model)) > 0);
    CHECK(strcmp(nada_model_warning(model), "") == 0 && strcmp(nada_model_warning(NULL), "") == 0);
    MUST(nada_model_check_text(model, "a pencil sketch", NULL, warning, sizeof warning, &needed));
    CHECK(needed == 1 && strcmp(warning, "") == 0);
    MUST(nada_model_check_text(model, "a flibbertigibbet", NULL, warning, sizeof warning, &needed));
    CHECK(needed > 1 && strstr(warning, "flibbertigibbet"));
    MUST(nada_model_check_text(model, "a flibbertigibbet", NULL, cut, sizeof cut, NULL));
    CHECK(strlen(cut) == sizeof cut - 1);
    MUST(nada_model_check_length(model, "a pencil sketch", NULL));
    FAILS(nada_model_check_length(model, "a sketch of a sketch of a sketch of a sketch of a sketch of a sketch of a sketch of a sketch", NULL),
          NADA_INVALID_ARGUMENT, "too long");
    MUST(nada_cancel_new(&cancel));
    MUST(nada_cancel_trigger(cancel));
    call.cancel = cancel;
    FAILS(nada_model_generator(model, &call, &generator), NADA_CANCELLED, "cancelled");
    FAILS(nada_model_check_text(model, "a pencil sketch", &call, warning, sizeof warning, &needed), NADA_CANCELLED, "cancelled");
    nada_cancel_free(cancel);
    MUST(nada_model_generator(model, NULL, &generator));
    MUST(nada_model_clip_count(model, NULL, &count));
    CHECK(count >= 1);
    MUST(nada_model_clip(model, 0, NULL, &first, &weight));
    CHECK(weight > 0 && nada_clip_resolution(first) > 0 && nada_clip_dimension(first) > 0);

    MUST(nada_generator_open(context, in_folder(folder, "generator.safetensors"), NULL, &opened));
    CHECK(strcmp(fingerprint(generator), fingerprint(opened)) == 0);
    CHECK(nada_generator_size(opened) == nada_generator_size(generator));
    MUST(nada_clip_open(context, in_folder(folder, "clip-a"), NULL, &clip));
    CHECK(strstr(nada_clip_name(clip), "clip-a"));
    CHECK(strcmp(nada_clip_warning(clip), "") == 0 && strcmp(nada_clip_warning(NULL), "") == 0);
    nada_clip_free(clip);
    MUST(nada_clip_open_as(context, in_folder(folder, "clip-a"), NADA_ACTIVATION_OF_FILE, NULL, &clip));
    MUST(nada_image_open(argv[2], NULL, &picture));
    /* Everything keeps what it needs. */
    nada_model_free(model);
    MUST(nada_model_open(context, folder, &model));

    FAILS(nada_generator_render((nada_generator *)clip, NULL, NULL, NULL, &picture, 0), NADA_INVALID_ARGUMENT, "nada_generator");
    layers(generator);
    latents(context, generator, out);
    render_concurrently(generator);
    adapt(context, model, generator, clip, picture, argv[2], out);
    embeddings(clip, picture);
    failures_in_parts(context);
    invert(model, generator, picture, out);
    frames(model, generator);
    faces(context, argv[3]);
    encoders(context, model, generator, picture, folder);
    packs(context);

    nada_context_free(context);
    render_concurrently(opened);
    nada_image_free(picture);
    nada_clip_free(clip);
    nada_clip_free(first);
    nada_clip_free(NULL);
    nada_generator_free(opened);
    nada_generator_free(generator);
    nada_generator_free(NULL);
    nada_model_free(model);
    nada_model_free(NULL);
    nada_context_free(NULL);
    if (failures) fprintf(stderr, "%d checks failed\n", failures);
    return failures != 0;
}
