/* Stands before libnada, to which it is linked, for tests of what hosts do when the library fails: compiled with -DABI=NUMBER it says to be of
 * another ABI, without it ends the process where a picture is drawn. */
#include <nada.h>
#include <stdlib.h>

#ifdef ABI
uint32_t nada_abi_version(void) { return ABI; }
#else
nada_status nada_generator_render_frame(const nada_generator *generator, const nada_pixels *source, const nada_frame_options *options,
                                        const nada_latent *latent, const nada_render_options *render, const nada_call *call,
                                        const nada_pixels_mut *target) {
    (void)generator, (void)source, (void)options, (void)latent, (void)render, (void)call, (void)target;
    abort();
}
#endif
