/* What the library itself gives, through its C API, against what a host's plug-in made of the same picture.
 *
 *     reference check BEFORE AFTER WIDTH HEIGHT FORMAT X Y W H OUTPUT DOMAIN IDENTITY SEED STRENGTH TOLERANCE [MASK]
 *     reference same-domain DOMAIN OTHER
 *     reference adapt TARGET STEPS SEED DOMAIN
 *     reference step DOMAIN
 *     reference thumbnail DOMAIN-NAME
 *
 * BEFORE and AFTER: WIDTH x HEIGHT x 4 floats, R'G'B'A, as the host gives them; MASK: WIDTH x HEIGHT floats, the selection (its bounds are
 * the region, X Y W H are not used then). FORMAT is the one
 * that the picture has in the host (rgb8, rgba8, gray8, graya8, rgba32f); X Y W H the selected region; OUTPUT in-place or new-layer (AFTER is
 * then the layer). TOLERANCE is the largest difference of a channel, in parts of 1. */
#include <nada.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static nada_context *context;
static nada_generator *generator;
static nada_model *model;

static void must(nada_status status) {
    if (status == NADA_OK) return;
    fprintf(stderr, "%s: %s\n", nada_status_name(status), nada_last_error_message());
    exit(1);
}

static void fail(const char *message) {
    fprintf(stderr, "%s\n", message);
    exit(1);
}

static float *floats(const char *file, size_t count) {
    float *data = malloc(count * sizeof *data);
    FILE *in = fopen(file, "rb");
    if (!in || !data || fread(data, sizeof *data, count, in) != count || fgetc(in) != EOF) {
        fprintf(stderr, "%s: is not there, or has not %zu floats\n", file, count);
        exit(1);
    }
    fclose(in);
    return data;
}

static unsigned char byte_of(float value) { return (unsigned char)lrintf(fminf(fmaxf(value, 0), 1) * 255); }

/* The picture as the plug-in hands it over: bytes where the host's are bytes, else floats; grey as equal channels. */
static void *encode(const float *rgba, size_t count, int bytes, int channels) {
    unsigned char *data = malloc(count * (bytes ? (size_t)channels : 16));
    if (!bytes) memcpy(data, rgba, count * 16);
    for (size_t i = 0; bytes && i < count; i++)
        for (int c = 0; c < channels; c++) data[i * (size_t)channels + (size_t)c] = byte_of(rgba[4 * i + (size_t)c]);
    return data;
}

static void decode(const void *data, float *rgba, size_t count, int bytes, int channels) {
    if (!bytes) memcpy(rgba, data, count * 16);
    for (size_t i = 0; bytes && i < count; i++)
        for (int c = 0; c < 4; c++)
            rgba[4 * i + (size_t)c] = c < channels ? (float)((const unsigned char *)data)[i * (size_t)channels + (size_t)c] / 255 : 1;
}

static float to_linear(float v) { return v <= 0.04045f ? v / 12.92f : powf((v + 0.055f) / 1.055f, 2.4f); }
static float to_srgb(float v) { return v <= 0.0031308f ? v * 12.92f : 1.055f * powf(v, 1 / 2.4f) - 0.055f; }

static int check(char **a, int count) {
    size_t width = strtoul(a[2], NULL, 10), height = strtoul(a[3], NULL, 10), size = width * height;
    const char *format = a[4];
    int bytes = strchr(format, '8') != NULL, grey = strncmp(format, "gray", 4) == 0, alpha = strchr(format + 1, 'a') && strcmp(format, "gray8") != 0;
    struct { uint32_t x, y, width, height; } area = {(uint32_t)atoi(a[5]), (uint32_t)atoi(a[6]), (uint32_t)atoi(a[7]), (uint32_t)atoi(a[8])};
    int layer = strcmp(a[9], "new-layer") == 0, channels = bytes && !alpha ? 3 : 4;
    const char *tolerance_text = a[14];
    double tolerance = atof(tolerance_text);
    float *before = floats(a[0], size * 4), *after = floats(a[1], size * 4), *mask = count > 15 ? floats(a[15], size) : NULL;

    size_t left = width, right = 0, top = height, bottom = 0;
    for (size_t i = 0; mask && i < size; i++) {
        size_t x = i % width, y = i / width;
        if (mask[i] <= 0) continue;
        left = x < left ? x : left, right = x + 1 > right ? x + 1 : right, top = y < top ? y : top, bottom = y + 1;
    }
    if (mask) area.x = (uint32_t)left, area.y = (uint32_t)top, area.width = (uint32_t)(right - left), area.height = (uint32_t)(bottom - top);

    nada_domain *domain;
    nada_frame_options options;
    nada_inversion_options inversion;
    nada_render_options render;
    must(nada_domain_open(context, a[10], NULL, &domain));
    must(nada_frame_options_init(&options, sizeof options));
    must(nada_model_inversion_options(model, &inversion, sizeof inversion));
    must(nada_render_options_init(&render, sizeof render));
    const nada_domain *domains[] = {domain};
    float strengths[] = {strtof(a[13], NULL)};
    options.replace = (uint32_t)layer;
    uint32_t edge = area.width < area.height ? area.width : area.height, x0 = area.x + (area.width - edge) / 2, y0 = area.y + (area.height - edge) / 2;
    nada_frame frame = {sizeof frame, x0 + edge / 2.0, y0 + edge / 2.0, edge, 0};
    options.frame = &frame;
    options.hard_edges = (x0 == 0 ? NADA_EDGE_LEFT : 0u) | (y0 == 0 ? NADA_EDGE_TOP : 0u) | (x0 + edge == width ? NADA_EDGE_RIGHT : 0u) |
                         (y0 + edge == height ? NADA_EDGE_BOTTOM : 0u);
    inversion.steps = (uint32_t)atoi(a[11]), inversion.seed = (uint64_t)atoll(a[12]);
    render.domains = domains, render.strengths = strengths, render.domain_count = 1, render.noise = NADA_NOISE_NONE;

    nada_pixel_format from = !bytes ? NADA_FORMAT_RGBA32F : alpha ? NADA_FORMAT_RGBA8 : NADA_FORMAT_RGB8;
    nada_pixel_format to = layer && bytes ? NADA_FORMAT_RGBA8 : from;
    int out_channels = layer ? 4 : channels;
    size_t pixel = bytes ? (size_t)channels : 16, out_pixel = bytes ? (size_t)out_channels : 16;
    void *source = encode(before, size, bytes, channels);
    void *target = layer ? calloc(size, out_pixel) : encode(before, size, bytes, channels);
    nada_pixels in = {source, width * pixel, (uint32_t)width, (uint32_t)height, from, NADA_TRANSFER_SRGB};
    nada_pixels_mut out = {target, width * out_pixel, (uint32_t)width, (uint32_t)height, to, NADA_TRANSFER_SRGB};
    must(nada_generator_restyle_frame(generator, &in, &options, &inversion, &render, NULL, &out));
    float *expected = malloc(size * 16);
    decode(target, expected, size, bytes, out_channels);

    size_t changed = 0, wrong = 0;
    double worst = 0;
    for (size_t i = 0; i < size; i++) {
        size_t x = i % width, y = i / width;
        int inside = x >= area.x && x < area.x + area.width && y >= area.y && y < area.y + area.height;
        double m = !inside ? 0 : mask ? mask[i] : 1, most = 0;
        float *e = expected + 4 * i, *b = before + 4 * i, *now = after + 4 * i;
        if (grey) e[0] = e[1] = e[2] = to_srgb(0.2225045f * to_linear(e[0]) + 0.7168786f * to_linear(e[1]) + 0.0606169f * to_linear(e[2]));
        /* In a part of the mask between nothing and all the host blends, each in its own way: there the result lies between the two. */
        for (int c = 0; c < 4; c++) {
            double low = e[c], high = e[c];
            if (layer && c == 3) low = high = bytes ? (float)byte_of((float)(e[3] * m)) / 255 : e[3] * (float)m;
            if (layer && c < 3 && now[3] == 0) continue; /* no colour */
            if (!layer) low = m == 1 ? e[c] : fmin(b[c], m == 0 ? b[c] : e[c]), high = m == 1 ? e[c] : fmax(b[c], m == 0 ? b[c] : e[c]);
            most = fmax(most, fmax(low - now[c], now[c] - high));
            /* Outside of the selection nothing at all may change. */
            if (!layer && m == 0 && now[c] != b[c]) most = fmax(most, 1);
        }
        changed += layer ? now[3] > 0 : memcmp(now, b, 12) != 0;
        wrong += most > tolerance;
        worst = fmax(worst, most);
    }
    printf("    %zu of %zu pixels changed, %zu differ from the library's by more than %s, at most %.3g\n", changed, size, wrong, tolerance_text, worst);
    if (wrong) return 1;
    /* A plug-in that does nothing must not pass. */
    if (changed < (size_t)edge * edge / 4) fail("too few pixels changed");
    return 0;
}

static unsigned char *drawing(const char *file, size_t *size) {
    nada_domain *domain;
    nada_latent *latent;
    nada_image *image;
    nada_render_options render;
    must(nada_domain_open(context, file, NULL, &domain));
    must(nada_render_options_init(&render, sizeof render));
    const nada_domain *domains[] = {domain};
    render.domains = domains, render.domain_count = 1;
    must(nada_generator_sample(generator, 1, 5, 0.7f, NULL, &latent));
    must(nada_generator_render(generator, latent, &render, NULL, &image, 1));
    uint32_t side = nada_image_width(image);
    *size = (size_t)side * side * 3;
    unsigned char *data = malloc(*size);
    nada_pixels_mut out = {data, (size_t)side * 3, side, side, NADA_FORMAT_RGB8, NADA_TRANSFER_SRGB};
    must(nada_image_to_pixels(image, &out));
    return data;
}

int main(int argc, char **argv) {
    must(nada_context_new(NULL, &context));
    must(nada_model_open(context, NULL, &model));
    must(nada_model_generator(model, NULL, &generator));
    const char *verb = argc > 1 ? argv[1] : "";
    if (strcmp(verb, "check") == 0 && argc >= 17) return check(argv + 2, argc - 2);
    if (strcmp(verb, "same-domain") == 0 && argc == 4) {
        size_t size, other;
        unsigned char *a = drawing(argv[2], &size), *b = drawing(argv[3], &other);
        if (size != other || memcmp(a, b, size) != 0) fail("the domains draw different pictures");
        return 0;
    }
    if (strcmp(verb, "adapt") == 0 && argc == 6) {
        nada_adaptation_options options;
        nada_domain *domain;
        must(nada_model_adaptation_options(model, &options, sizeof options));
        options.target_text = argv[2], options.steps = (uint32_t)atoi(argv[3]), options.seed = (uint64_t)atoll(argv[4]);
        must(nada_generator_adapt(generator, &options, NULL, &domain));
        must(nada_domain_save(domain, argv[5], NULL));
        return 0;
    }
    if (strcmp(verb, "step") == 0 && argc == 3) {
        nada_domain *domain;
        must(nada_domain_open(context, argv[2], NULL, &domain));
        return printf("%u %s\n", nada_domain_step(domain), nada_domain_target(domain)) < 0;
    }
    if (strcmp(verb, "thumbnail") == 0 && argc == 3) {
        nada_gallery *gallery;
        must(nada_gallery_open(context, NULL, NULL, &gallery));
        for (size_t i = 0; i < nada_gallery_count(gallery); i++) {
            nada_image *image = NULL;
            if (strcmp(nada_gallery_name(gallery, i), argv[2]) != 0) continue;
            must(nada_gallery_thumbnail(gallery, i, &image));
            return image ? printf("%u x %u\n", nada_image_width(image), nada_image_height(image)) < 0 : 1;
        }
        fail("the gallery has no domain of that name");
    }
    fprintf(stderr, "reference: wrong arguments; see the head of reference.c\n");
    return 2;
}
