/* What the user asks for: the arguments of both procedures, as a dialog, a script or the last run gave them. */
#ifndef NADA_PLUGIN_REQUEST_H
#define NADA_PLUGIN_REQUEST_H

#include "library.h"
#include <stdint.h>

typedef enum plugin_kind {
    PLUGIN_RESTYLE,    /* "Restyle with text" */
    PLUGIN_NEW_DOMAIN, /* "New domain from text" */
} plugin_kind;

enum plugin_output { PLUGIN_NEW_LAYER = 0, PLUGIN_IN_PLACE = 1 };

enum { PLUGIN_PATH = 1024, PLUGIN_TEXT = 512 };

#define PLUGIN_STRENGTH_MAX 1.5
#define PLUGIN_STEPS_MAX 10000

/* Plain bytes, zeroed before use: hosts store it as it is, and two are equal where all bytes are. */
typedef struct plugin_request {
    char model[PLUGIN_PATH];  /* name or folder of a model pack; "" is the starter */
    char domain[PLUGIN_PATH]; /* name of an installed domain, or the path of a domain file; "": adapt to `target` */
    char source[PLUGIN_TEXT]; /* what pictures of the generator are, in words; "" is the pack's own */
    char target[PLUGIN_TEXT]; /* what they are to become */
    char name[PLUGIN_TEXT];   /* under which a new domain is installed; "": made from the target */
    double strength;          /* [0, 1.5] */
    uint32_t seed;            /* of everything that is drawn at random */
    uint32_t identity;        /* "keep identity": steps of the inversion; 0 is what the pack recommends */
    uint32_t steps;           /* steps of the adaptation at the most; 0 is the pack's recipe */
    uint32_t output;          /* plugin_output */
    uint32_t install;         /* 1: a domain that was adapted for this run goes into the gallery */
} plugin_request;

void plugin_request_init(plugin_request *request);

/* Copies a string into a field of `size` bytes; false where it does not fit. NULL is "". */
bool plugin_request_text(char *field, size_t size, const char *text, const char *name, plugin_error *error);

/* The message names the argument and what would be right. */
bool plugin_request_check(const plugin_request *request, plugin_kind kind, plugin_error *error);

#endif
