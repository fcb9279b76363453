/* The dialogs of both procedures, for GTK 2.24 and GTK 3; the host makes the window around them. */
#ifndef NADA_PLUGIN_PANEL_H
#define NADA_PLUGIN_PANEL_H

#include "../session.h"
#include <gtk/gtk.h>

/* Gives the session the user's picture (plugin_session_set_source()); called when a pack was opened. */
typedef bool (*plugin_source)(void *data, plugin_session *session, plugin_error *error);

/* Fills `dialog` (a GtkDialog without buttons), runs it, and leaves it to be destroyed by the caller. True where the user pressed OK:
 * `request` holds the choices, the session has what they need, and a new domain is installed. False where the user went away. */
bool plugin_panel_run(GtkWidget *dialog, plugin_kind kind, plugin_session *session, plugin_request *request, plugin_source source, void *data);

#endif
