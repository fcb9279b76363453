/* States that adaptations reach, saved while they run: a host may end a plug-in's process at any moment (GIMP does when Cancel is pressed
 * at its progress bar), and what was trained until then is offered to the user the next time. */
#ifndef NADA_PLUGIN_REACHED_H
#define NADA_PLUGIN_REACHED_H

#include <stdbool.h>
#include <stddef.h>

enum { PLUGIN_REACHED_MAX = 16, PLUGIN_FILE_MAX = 4096 };

/* The file for this process's adaptation, in $XDG_STATE_HOME/nada (default ~/.local/state/nada), which is made where missing. False where
 * that cannot be: then nothing is saved. */
bool plugin_reached_file(char file[PLUGIN_FILE_MAX]);

/* Files of processes that have ended; at most PLUGIN_REACHED_MAX. */
size_t plugin_reached_left(char files[PLUGIN_REACHED_MAX][PLUGIN_FILE_MAX]);

#endif
