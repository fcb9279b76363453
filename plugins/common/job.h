/* Work on a thread of its own. The thread reports; the host's main loop looks in from time to time (plugin_job_poll(), which never waits)
 * and calls its own functions, which belong to the main thread. */
#ifndef NADA_PLUGIN_JOB_H
#define NADA_PLUGIN_JOB_H

#include "pixels.h"

/* How often a main loop should look in, in milliseconds. */
enum { PLUGIN_POLL_MS = 50 };

typedef enum plugin_job_state { PLUGIN_RUNNING, PLUGIN_DONE, PLUGIN_FAILED, PLUGIN_CANCELLED } plugin_job_state;

typedef struct plugin_job plugin_job;

/* Runs on the job's thread. False with a message where it failed; false where it was cancelled. */
typedef bool (*plugin_work)(plugin_job *job, void *data, plugin_error *error);

typedef struct plugin_job_status {
    plugin_job_state state;
    double fraction; /* of the work, [0, 1] */
    char text[256];  /* what it is doing, for the user */
    /* A new picture to show since the last look, else NULL; it becomes the caller's. */
    plugin_picture *preview;
    plugin_error error; /* where it failed */
} plugin_job_status;

/* Main thread. NULL with a message where no thread could be started. `data` must live until plugin_job_free(). */
plugin_job *plugin_job_start(const plugin_library *library, plugin_work work, void *data, plugin_error *error);
plugin_job_state plugin_job_poll(plugin_job *job, plugin_job_status *status);
void plugin_job_cancel(plugin_job *job);
/* Waits for the thread to end. */
void plugin_job_free(plugin_job *job);

/* For the work, on its thread. */
const nada_cancel *plugin_job_token(const plugin_job *job);
bool plugin_job_is_cancelled(const plugin_job *job);
void plugin_job_report(plugin_job *job, double fraction, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 3, 4)))
#endif
    ;
/* The picture becomes the job's; NULL is allowed and does nothing. */
void plugin_job_show(plugin_job *job, plugin_picture *preview);

#endif
