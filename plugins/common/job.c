#include "job.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct plugin_job {
    const plugin_library *library;
    plugin_work work;
    void *data;
    nada_cancel *cancel;
    pthread_t thread;
    pthread_mutex_t lock; /* of what follows */
    plugin_job_status status;
};

static void *run(void *argument) {
    plugin_job *job = argument;
    plugin_error error = {""};
    bool done = job->work(job, job->data, &error);
    pthread_mutex_lock(&job->lock);
    /* Work that was done before it heard of the cancelling is done. */
    job->status.state = done ? PLUGIN_DONE : plugin_job_is_cancelled(job) ? PLUGIN_CANCELLED : PLUGIN_FAILED;
    job->status.error = error;
    pthread_mutex_unlock(&job->lock);
    return NULL;
}

plugin_job *plugin_job_start(const plugin_library *library, plugin_work work, void *data, plugin_error *error) {
    plugin_job *job = calloc(1, sizeof *job);
    if (!job) {
        plugin_fail(error, "not enough memory");
        return NULL;
    }
    job->library = library, job->work = work, job->data = data;
    if (library->cancel_new(&job->cancel) != NADA_OK) {
        plugin_library_fail(library, error);
        free(job);
        return NULL;
    }
    pthread_mutex_init(&job->lock, NULL);
    int failure = pthread_create(&job->thread, NULL, run, job);
    if (failure) {
        plugin_fail(error, "no thread could be started: %s", strerror(failure));
        pthread_mutex_destroy(&job->lock);
        library->cancel_free(job->cancel);
        free(job);
        return NULL;
    }
    return job;
}

plugin_job_state plugin_job_poll(plugin_job *job, plugin_job_status *status) {
    pthread_mutex_lock(&job->lock);
    *status = job->status;
    job->status.preview = NULL;
    pthread_mutex_unlock(&job->lock);
    return status->state;
}

void plugin_job_cancel(plugin_job *job) { job->library->cancel_trigger(job->cancel); }

void plugin_job_free(plugin_job *job) {
    if (!job) return;
    pthread_join(job->thread, NULL);
    pthread_mutex_destroy(&job->lock);
    plugin_picture_free(job->status.preview);
    job->library->cancel_free(job->cancel);
    free(job);
}

const nada_cancel *plugin_job_token(const plugin_job *job) { return job->cancel; }

bool plugin_job_is_cancelled(const plugin_job *job) { return job->library->cancel_is_triggered(job->cancel) != 0; }

void plugin_job_report(plugin_job *job, double fraction, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    pthread_mutex_lock(&job->lock);
    job->status.fraction = fraction < 0 ? 0 : fraction > 1 ? 1 : fraction;
    vsnprintf(job->status.text, sizeof job->status.text, format, arguments);
    pthread_mutex_unlock(&job->lock);
    va_end(arguments);
}

void plugin_job_show(plugin_job *job, plugin_picture *preview) {
    if (!preview) return;
    pthread_mutex_lock(&job->lock);
    plugin_picture_free(job->status.preview);
    job->status.preview = preview;
    pthread_mutex_unlock(&job->lock);
}
