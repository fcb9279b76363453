#include "pixels.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

plugin_rectangle plugin_square(plugin_rectangle region) {
    int side = region.width < region.height ? region.width : region.height;
    return (plugin_rectangle){region.x + (region.width - side) / 2, region.y + (region.height - side) / 2, side, side};
}

uint32_t plugin_hard_edges(plugin_rectangle s, plugin_rectangle w) {
    return (s.x <= w.x ? NADA_EDGE_LEFT : 0u) | (s.y <= w.y ? NADA_EDGE_TOP : 0u) |
           (s.x + s.width >= w.x + w.width ? NADA_EDGE_RIGHT : 0u) | (s.y + s.height >= w.y + w.height ? NADA_EDGE_BOTTOM : 0u);
}

size_t plugin_pixel_size(nada_pixel_format format) {
    switch (format) {
    case NADA_FORMAT_RGB8: return 3;
    case NADA_FORMAT_RGBA8: return 4;
    case NADA_FORMAT_RGBA32F: return 16;
    default: return 0;
    }
}

bool plugin_pixels_new(nada_pixels_mut *pixels, int width, int height, nada_pixel_format format, plugin_error *error) {
    size_t stride = (size_t)width * plugin_pixel_size(format);
    *pixels = (nada_pixels_mut){malloc(stride * (size_t)height), stride, (uint32_t)width, (uint32_t)height, format, NADA_TRANSFER_SRGB};
    if (!pixels->data)
        return plugin_fail(error, "not enough memory for %d x %d pixels (%zu MiB); select a smaller part of the picture", width, height,
                           stride * (size_t)height >> 20);
    return true;
}

nada_pixels plugin_pixels_const(const nada_pixels_mut *p) {
    return (nada_pixels){p->data, p->stride, p->width, p->height, p->format, p->transfer};
}

void plugin_pixels_mask(const nada_pixels_mut *pixels, const float *mask) {
    for (uint32_t y = 0; y < pixels->height; y++) {
        unsigned char *row = (unsigned char *)pixels->data + y * pixels->stride;
        for (uint32_t x = 0; x < pixels->width; x++, mask++) {
            if (pixels->format == NADA_FORMAT_RGBA8)
                row[4 * x + 3] = (unsigned char)lrintf((float)row[4 * x + 3] * *mask);
            else if (pixels->format == NADA_FORMAT_RGBA32F)
                ((float *)(void *)row)[4 * x + 3] *= *mask;
        }
    }
}

plugin_picture *plugin_picture_new(const plugin_library *library, const nada_image *image, int side) {
    int width = (int)library->image_width(image), height = (int)library->image_height(image);
    int longer = width > height ? width : height;
    nada_pixels_mut full;
    plugin_error ignored;
    if (longer == 0 || !plugin_pixels_new(&full, width, height, NADA_FORMAT_RGB8, &ignored)) return NULL;
    plugin_picture *picture = calloc(1, sizeof *picture);
    if (!picture || library->image_to_pixels(image, &full) != NADA_OK) {
        free(full.data), free(picture);
        return NULL;
    }
    *picture = (plugin_picture){width, height, full.data};
    if (longer <= side) return picture;

    int w = width * side / longer, h = height * side / longer;
    w = w > 0 ? w : 1, h = h > 0 ? h : 1;
    unsigned char *small = malloc((size_t)w * (size_t)h * 3);
    if (!small) {
        plugin_picture_free(picture);
        return NULL;
    }
    for (int y = 0; y < h; y++) {
        /* The pixels under a small one: each belongs to one of them. */
        int top = (int)((int64_t)y * height / h), bottom = (int)((int64_t)(y + 1) * height / h);
        for (int x = 0; x < w; x++) {
            int left = (int)((int64_t)x * width / w), right = (int)((int64_t)(x + 1) * width / w);
            unsigned sum[3] = {0}, count = (unsigned)((bottom - top) * (right - left));
            for (int v = top; v < bottom; v++)
                for (int u = left; u < right; u++)
                    for (int c = 0; c < 3; c++) sum[c] += picture->rgb[((size_t)v * (size_t)width + (size_t)u) * 3 + (size_t)c];
            for (int c = 0; c < 3; c++) small[((size_t)y * (size_t)w + (size_t)x) * 3 + (size_t)c] = (unsigned char)((sum[c] + count / 2) / count);
        }
    }
    free(picture->rgb);
    *picture = (plugin_picture){w, h, small};
    return picture;
}

void plugin_picture_free(plugin_picture *picture) {
    if (!picture) return;
    free(picture->rgb);
    free(picture);
}
