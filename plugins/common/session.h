/* The plug-ins' work, and what of it can be used again: while a dialog is open, moving the strength does not invert the picture anew, and
 * changing the words does not either.
 *
 * A session belongs to one thread at a time: to the job that runs a plugin_work_*, else to the main thread. */
#ifndef NADA_PLUGIN_SESSION_H
#define NADA_PLUGIN_SESSION_H

#include "job.h"
#include "request.h"

/* Previews are at most this wide and high. */
enum { PLUGIN_PREVIEW_SIDE = 384 };

typedef struct plugin_session plugin_session;

/* `library` must outlive the session. NULL with a message. */
plugin_session *plugin_session_new(const plugin_library *library, plugin_error *error);
void plugin_session_free(plugin_session *session);

/* The library that the session computes with. */
const plugin_library *plugin_session_library(const plugin_session *session);

/* An open gallery of the user's installed domains; the caller frees it. NULL with a message. */
nada_gallery *plugin_session_gallery(const plugin_session *session, plugin_error *error);

/* The packs that are found; the caller frees it. NULL with a message. */
nada_model_list *plugin_session_models(const plugin_session *session, plugin_error *error);

/* A pack by name or folder ("" for the starter), beside the one that jobs work with; the caller frees it. NULL with a message. */
nada_model *plugin_session_look_up(const plugin_session *session, const char *name, plugin_error *error);

/* Of plugin_work_open(): the pack (NULL before; the session's), and its generator's side in pixels (0 before). */
const nada_model *plugin_session_model(const plugin_session *session);
uint32_t plugin_session_size(const plugin_session *session);
/* Whether its generator draws domain `index` of a gallery. */
bool plugin_session_fits(const plugin_session *session, const nada_gallery *gallery, size_t index);

/* The picture to restyle, a square; becomes the session's. */
void plugin_session_set_source(plugin_session *session, nada_image *source);
/* It, to be shown; the caller frees it. NULL where there is none. */
plugin_picture *plugin_session_source(const plugin_session *session, int side);

/* How far the domain is that a request asks for. */
typedef struct plugin_reached {
    uint32_t step, total; /* of an adaptation; 0 where none was begun, or the domain came from a file */
    bool usable;          /* there is a domain */
    bool complete;        /* it is all that was asked for */
    bool kept;            /* it is in a file */
} plugin_reached;
plugin_reached plugin_session_reached(const plugin_session *session, const plugin_request *request);

/* True where the picture is inverted as the request asks for. */
bool plugin_session_inverted(const plugin_session *session, const plugin_request *request);

/* What a job is to do, with its results. */
typedef struct plugin_task {
    plugin_session *session;
    plugin_request request;
    bool as_reached; /* take a stopped adaptation's domain as it is, instead of going on with it */

    /* plugin_work_apply(): the square to restyle, and where the result goes. */
    nada_pixels source;
    nada_pixels_mut target;
    bool replace;        /* the result alone, for a layer; else it is blended over what is in `source` */
    uint32_t hard_edges; /* nada_edge numbers of the square's edges that lie at the border of the user's picture */

    /* plugin_work_install(): where the domain was written. */
    char file[PLUGIN_PATH];
} plugin_task;

/* The work of jobs; `data` is a plugin_task. */

/* Opens the pack of the request. */
bool plugin_work_open(plugin_job *job, void *data, plugin_error *error);
/* After it and plugin_session_set_source(): fails where the pack knows no word of the request's; inverts the picture, adapts or opens the domain, shows the restyled picture. What is there
 * already is used. A cancelled adaptation stays at its last step and goes on from there when the same is asked for again. */
bool plugin_work_restyle(plugin_job *job, void *data, plugin_error *error);
/* After plugin_work_open(): adapts, showing pairs of pictures before and after. Cancelling: the same. */
bool plugin_work_new_domain(plugin_job *job, void *data, plugin_error *error);
/* After plugin_work_restyle(): draws into the pixels of the task. They are written when all is computed. */
bool plugin_work_apply(plugin_job *job, void *data, plugin_error *error);
/* Puts the domain that was reached into the gallery, with a thumbnail. */
bool plugin_work_install(plugin_job *job, void *data, plugin_error *error);

/* What a state is that an ended process left: its words and step. */
bool plugin_session_left(const plugin_session *session, const char *file, char words[PLUGIN_TEXT], uint32_t *step, plugin_error *error);

/* Puts a state that an ended process left (plugin_reached_left()) into the gallery and removes the file; main thread, while no job runs.
 * There is a thumbnail where the open pack's generator is the domain's. `installed` gets the path. */
bool plugin_session_rescue(const plugin_session *session, const char *file, char installed[PLUGIN_PATH], plugin_error *error);

#endif
