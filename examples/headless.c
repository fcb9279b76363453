/* Restyles a picture by words: loads a generator, adapts it to the words, inverts the picture, renders it before and after.
 *
 *     cargo build --release
 *     cc examples/headless.c -Iinclude -Ltarget/release -lnada -Wl,-rpath,$PWD/target/release -o headless
 *     ./headless face.png "a pencil sketch"
 */
#include <nada.h>
#include <stdio.h>
#include <stdlib.h>

static void must(nada_status status) {
    if (status == NADA_OK) return;
    fprintf(stderr, "%s: %s\n", nada_status_name(status), nada_last_error_message());
    exit(1);
}

int main(int argc, char **argv) {
    if (argc < 3) return fprintf(stderr, "usage: %s PICTURE WORDS [STEPS]\n", argv[0]), 2;
    nada_context *context; nada_model *model; nada_generator *generator; nada_domain *domain; nada_latent *latent;
    nada_image *picture, *before, *after;
    nada_adaptation_options adapt; nada_inversion_options invert; nada_render_options render;
    must(nada_context_new(NULL, &context));
    must(nada_image_open(argv[1], NULL, &picture));
    must(nada_model_open(context, "starter", &model));
    must(nada_model_generator(model, NULL, &generator));
    must(nada_model_adaptation_options(model, &adapt, sizeof adapt));
    must(nada_model_inversion_options(model, &invert, sizeof invert));
    must(nada_render_options_init(&render, sizeof render));
    adapt.target_text = argv[2];
    if (argc > 3) adapt.steps = invert.steps = (uint32_t)atoi(argv[3]); /* fewer, for a quick look */
    must(nada_generator_adapt(generator, &adapt, NULL, &domain));
    must(nada_generator_invert(generator, picture, &invert, NULL, &latent, NULL));
    must(nada_generator_render(generator, latent, &render, NULL, &before, 1));
    const nada_domain *domains[] = {domain};
    render.domains = domains, render.domain_count = 1;
    must(nada_generator_render(generator, latent, &render, NULL, &after, 1));
    must(nada_image_save_png(before, "before.png", NULL));
    must(nada_image_save_png(after, "after.png", NULL));
    nada_image_free(after), nada_image_free(before), nada_image_free(picture);
    nada_latent_free(latent), nada_domain_free(domain), nada_generator_free(generator);
    nada_model_free(model), nada_context_free(context);
    return 0;
}
