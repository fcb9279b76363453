#include "run.h"

#include "../gtk/panel.h"

#include <libgimp/gimpui.h>

/* A process runs one procedure. */
static bool progress_shown;

void plugin_gimp_progress(void *host, double fraction, const char *text) {
    (void)host;
    if (!progress_shown) {
        progress_shown = true;
        gimp_progress_init(text ? text : "");
    } else if (text) {
        gimp_progress_set_text(text);
    }
    gimp_progress_update(fraction);
}

void plugin_gimp_warn(void *host, const char *text) {
    (void)host;
    gimp_message(text);
}

plugin_session *plugin_gimp_session(plugin_error *error) {
    static plugin_library library;
    gegl_init(NULL, NULL);
    return plugin_library_open(&library, error) ? plugin_session_new(&library, error) : NULL;
}

static bool source_of(void *canvas, plugin_session *session, plugin_error *error) { return plugin_canvas_source(canvas, session, error); }

/* True where the user pressed OK. */
static bool run_dialog(plugin_kind kind, plugin_session *session, plugin_request *request, plugin_canvas *canvas) {
    const char *procedure = kind == PLUGIN_RESTYLE ? RESTYLE : NEW_DOMAIN;
#if GIMP_MAJOR_VERSION < 3
    gimp_ui_init("nada", TRUE);
#else
    gimp_ui_init("nada");
#endif
    GtkWidget *dialog = gimp_dialog_new(kind == PLUGIN_RESTYLE ? "Restyle with text" : "New domain from text", procedure, NULL, 0,
                                        gimp_standard_help_func, procedure, NULL);
    gimp_window_set_transient(GTK_WINDOW(dialog));
    bool wanted = plugin_panel_run(dialog, kind, session, request, canvas ? source_of : NULL, canvas);
    gtk_widget_destroy(dialog);
    return wanted;
}

static GimpPDBStatusType end(bool done) {
    if (progress_shown) gimp_progress_end();
    return done ? GIMP_PDB_SUCCESS : GIMP_PDB_EXECUTION_ERROR;
}

GimpPDBStatusType plugin_gimp_restyle(GimpRunMode mode, plugin_canvas *canvas, plugin_session *session, plugin_request *request,
                                      plugin_error *error) {
    bool interactive = mode == GIMP_RUN_INTERACTIVE;
    if (interactive && !run_dialog(PLUGIN_RESTYLE, session, request, canvas)) return GIMP_PDB_CANCEL;
    bool done = plugin_canvas_restyle(canvas, session, request, interactive, error);
    if (done && mode != GIMP_RUN_NONINTERACTIVE) gimp_displays_flush();
    return end(done);
}

GimpPDBStatusType plugin_gimp_new_domain(GimpRunMode mode, plugin_session *session, plugin_request *request, char file[PLUGIN_PATH],
                                         plugin_error *error) {
    plugin_canvas canvas = {.progress = plugin_gimp_progress, .warn = plugin_gimp_warn};
    if (mode == GIMP_RUN_INTERACTIVE) return run_dialog(PLUGIN_NEW_DOMAIN, session, request, NULL) ? GIMP_PDB_SUCCESS : GIMP_PDB_CANCEL;
    return end(plugin_canvas_new_domain(&canvas, session, request, file, error));
}
