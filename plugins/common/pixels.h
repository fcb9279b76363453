/* Pixels between host and library. */
#ifndef NADA_PLUGIN_PIXELS_H
#define NADA_PLUGIN_PIXELS_H

#include "library.h"

typedef struct plugin_rectangle {
    int x, y, width, height;
} plugin_rectangle;

/* The largest centred square: what the library restyles of a region. */
plugin_rectangle plugin_square(plugin_rectangle region);

/* nada_edge numbers of the edges of `square` that lie at the border of `whole`: a fade there would leave a rim of the old picture. */
uint32_t plugin_hard_edges(plugin_rectangle square, plugin_rectangle whole);

/* Bytes of a pixel; 0 for a format that is not known. */
size_t plugin_pixel_size(nada_pixel_format format);

/* Room for width * height pixels, not filled; sRGB, rows without gaps. `data` is the caller's to free(); false where there is no memory. */
bool plugin_pixels_new(nada_pixels_mut *pixels, int width, int height, nada_pixel_format format, plugin_error *error);

/* The same pixels, to read. */
nada_pixels plugin_pixels_const(const nada_pixels_mut *pixels);

/* Multiplies alpha (RGBA8 or RGBA32F) by a mask of one float a pixel in [0, 1], rows without gaps: what a selection does to a new layer. */
void plugin_pixels_mask(const nada_pixels_mut *pixels, const float *mask);

/* A picture for the screen: RGB8, rows without gaps, transparent parts over white. */
typedef struct plugin_picture {
    int width, height;
    unsigned char *rgb;
} plugin_picture;

/* `image` at most `side` pixels wide and high (averaged; never enlarged). NULL where there is no memory. */
plugin_picture *plugin_picture_new(const plugin_library *library, const nada_image *image, int side);
void plugin_picture_free(plugin_picture *picture);

#endif
