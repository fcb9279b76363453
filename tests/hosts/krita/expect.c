/* What the library makes of a square of pixels that Krita stores, by the C interface alone: the plug-in's layers are compared with it.
 *
 *     expect DOMAIN STRENGTH STEPS DEPTH TRANSFER EDGES SIDE IN OUT [MASK]
 *
 * DEPTH: U8 or U16 (B, G, R, A), F16 or F32 (R, G, B, A); TRANSFER: srgb or linear; EDGES: those that do not fade, a sum of
 * NADA_EDGE_*. IN, OUT: raw pixels of a square; MASK: a byte a pixel, which multiplies alpha. The conversions here are not those of the plug-in.
 */
#include <nada.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(nada_status status) {
    if (status == NADA_OK) return;
    fprintf(stderr, "%s: %s\n", nada_status_name(status), nada_last_error_message());
    exit(1);
}

static void *read_file(const char *name, size_t size) {
    void *data = malloc(size);
    FILE *file = fopen(name, "rb");
    if (!file || !data || fread(data, 1, size, file) != size || fgetc(file) != EOF) {
        fprintf(stderr, "%s: is not a file of %zu bytes\n", name, size);
        exit(1);
    }
    fclose(file);
    return data;
}

int main(int argc, char **argv) {
    if (argc < 10) return fprintf(stderr, "usage: see the source\n"), 2;
    const char *depth = argv[4];
    size_t side = (size_t)atoi(argv[7]), count = side * side;
    size_t bytes = !strcmp(depth, "U8") ? 4 : !strcmp(depth, "F32") ? 16 : 8;
    unsigned char *raw = read_file(argv[8], count * bytes);
    unsigned char *mask = argc > 10 ? read_file(argv[10], count) : NULL;

    /* All as floats: R, G, B, A. */
    float *in = malloc(count * 16), *out = malloc(count * 16);
    if (!in || !out) return 1;
    for (size_t i = 0; i < count; i++)
        for (size_t c = 0; c < 4; c++) {
            size_t stored = i * 4 + (bytes == 4 || !strcmp(depth, "U16") ? (c < 3 ? 2 - c : 3) : c);
            if (!strcmp(depth, "U8")) in[i * 4 + c] = raw[stored] / 255.0f;
            else if (!strcmp(depth, "U16")) in[i * 4 + c] = ((uint16_t *)raw)[stored] / 65535.0f;
            else if (!strcmp(depth, "F16")) in[i * 4 + c] = (float)((_Float16 *)raw)[stored];
            else in[i * 4 + c] = ((float *)raw)[stored];
        }
    uint32_t transfer = !strcmp(argv[5], "linear") ? NADA_TRANSFER_LINEAR : NADA_TRANSFER_SRGB;
    nada_pixels source = {in, side * 16, (uint32_t)side, (uint32_t)side, NADA_FORMAT_RGBA32F, transfer};
    nada_pixels_mut target = {out, side * 16, (uint32_t)side, (uint32_t)side, NADA_FORMAT_RGBA32F, transfer};

    nada_context *context;
    nada_model *model;
    nada_generator *generator;
    nada_domain *domain;
    nada_inversion_options inversion;
    nada_render_options render;
    nada_frame_options options;
    must(nada_context_new(NULL, &context));
    must(nada_model_open(context, "starter", &model));
    must(nada_model_generator(model, NULL, &generator));
    must(nada_domain_open(context, argv[1], NULL, &domain));
    must(nada_model_inversion_options(model, &inversion, sizeof inversion));
    must(nada_render_options_init(&render, sizeof render));
    must(nada_frame_options_init(&options, sizeof options));
    const nada_domain *domains[] = {domain};
    float strength = (float)atof(argv[2]);
    render.domains = domains;
    render.strengths = &strength;
    render.domain_count = 1;
    render.noise = NADA_NOISE_NONE;
    inversion.steps = (uint32_t)atoi(argv[3]);
    options.replace = 1;
    options.hard_edges = (uint32_t)atoi(argv[6]);
    must(nada_generator_restyle_frame(generator, &source, &options, &inversion, &render, NULL, &target));

    for (size_t i = 0; i < count; i++) {
        if (mask) out[i * 4 + 3] *= mask[i] / 255.0f;
        for (size_t c = 0; c < 4; c++) {
            size_t stored = i * 4 + (bytes == 4 || !strcmp(depth, "U16") ? (c < 3 ? 2 - c : 3) : c);
            /* Under a mask of 0 nothing is left, not even colour. */
            float v = mask && !mask[i] ? 0 : out[i * 4 + c];
            if (!strcmp(depth, "U8")) raw[stored] = (unsigned char)(v * 255 + 0.5f);
            else if (!strcmp(depth, "U16")) ((uint16_t *)raw)[stored] = (uint16_t)(v * 65535 + 0.5f);
            else if (!strcmp(depth, "F16")) ((_Float16 *)raw)[stored] = (_Float16)v;
            else ((float *)raw)[stored] = v;
        }
    }
    FILE *file = fopen(argv[9], "wb");
    if (!file || fwrite(raw, bytes, count, file) != count || fclose(file)) return fprintf(stderr, "%s: not written\n", argv[9]), 1;
    free(raw), free(mask), free(in), free(out);
    nada_domain_free(domain), nada_generator_free(generator), nada_model_free(model), nada_context_free(context);
    return 0;
}
