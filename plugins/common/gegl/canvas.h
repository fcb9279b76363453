/* What both GIMP plug-ins do with a picture. GEGL only: the host's own handles stay behind a few functions. */
#ifndef NADA_PLUGIN_CANVAS_H
#define NADA_PLUGIN_CANVAS_H

#include "../session.h"
#include <gegl.h>

/* The layer to restyle, as its host gives it. All is called on the main thread; buffers that are given belong to the caller. */
typedef struct plugin_canvas {
    void *host;
    /* The part of the layer that is selected (all of it where nothing is), in its own coordinates. */
    plugin_rectangle region;
    /* The layer's pixels, to read. */
    GeglBuffer *(*pixels)(void *host);
    /* The selection's mask and where the layer's origin lies on it; NULL where nothing is selected. */
    GeglBuffer *(*selection)(void *host, int *x, int *y);
    /* Where a result is drawn that the user does not see yet: the layer's shadow, or the pixels of a new layer (transparent, of the layer's
     * size, called `name`) that is in no picture yet. NULL with a message. */
    GeglBuffer *(*begin)(void *host, bool new_layer, const char *name, plugin_error *error);
    /* Shows it, as one step of undo; the host applies the selection to a shadow. */
    bool (*finish)(void *host, bool new_layer, plugin_error *error);
    /* The host's progress bar; NULL text leaves the text. */
    void (*progress)(void *host, double fraction, const char *text);
    /* Tells the user something that is no error. */
    void (*warn)(void *host, const char *text);
} plugin_canvas;

/* Gives the session the square that would be restyled, for previews. */
bool plugin_canvas_source(const plugin_canvas *canvas, plugin_session *session, plugin_error *error);

/* Does all that `request` asks for. After a dialog (`shown`) what it left in the session is used, also a stopped adaptation's domain; without
 * one there are warnings of words that the pack does not know. */
bool plugin_canvas_restyle(const plugin_canvas *canvas, plugin_session *session, const plugin_request *request, bool shown,
                           plugin_error *error);

/* Adapts and installs, without a dialog; `file` gets the path. Of the canvas only host, progress and warn are used. */
bool plugin_canvas_new_domain(const plugin_canvas *canvas, plugin_session *session, const plugin_request *request, char file[PLUGIN_PATH],
                              plugin_error *error);

#endif
