/* What the plug-ins for GIMP 2.10 and 3 have in common: the texts of their procedures, and running them. Built with the headers of either. */
#ifndef NADA_PLUGIN_GIMP_RUN_H
#define NADA_PLUGIN_GIMP_RUN_H

#include "../gegl/canvas.h"
#include <libgimp/gimp.h>

#define MENU "<Image>/Filters/Artistic"
#define AUTHORS "the libnada authors"
#define YEAR "2026"

#define RESTYLE "plug-in-nada-restyle"
#define RESTYLE_LABEL "_Restyle with text..."
#define RESTYLE_BLURB "Restyle a face by words, or with an installed domain"
#define RESTYLE_HELP                                                                                            \
    "Finds the picture in a StyleGAN2 generator, and draws it anew with the generator adapted to a text "       \
    "(StyleGAN-NADA). The result is blended into the layer with a soft edge, or becomes a layer above it. The " \
    "selection, alpha and the picture's depth are kept; it is one step of undo."
#define RESTYLE_IMAGES "RGB*, GRAY*"

#define NEW_DOMAIN "plug-in-nada-new-domain"
#define NEW_DOMAIN_LABEL "_New domain from text..."
#define NEW_DOMAIN_BLURB "Adapt a generator to words and install the domain"
#define NEW_DOMAIN_HELP                                                                                     \
    "Adapts a StyleGAN2 generator to a text (StyleGAN-NADA) and puts the domain into the gallery, from which " \
    "\"Restyle with text\" takes it. Needs no picture."

/* Of the arguments. */
#define MODEL_HELP "Name or folder of a model pack; \"\" for the starter"
#define DOMAIN_HELP "Name of an installed domain, or the path (with a slash) of a domain file; \"\" to learn `target`"
#define SOURCE_HELP "What pictures of the generator are, in words; \"\" for the pack's own, such as \"a photo\""
#define TARGET_HELP "What they are to become, such as \"a pencil sketch\"; words that the pack does not know are told"
#define STRENGTH_HELP "How much of the domain, 0 to 1.5; 1 is what was learned"
#define SEED_HELP "Of everything that is drawn at random, 0 or more"
#define IDENTITY_HELP "Steps of the inversion: more come closer to the picture; 0 for what the pack recommends"
#define STEPS_HELP "Steps of learning `target` at the most; 0 for the pack's recipe"
#define INSTALL_HELP "Whether a domain that was learned goes into the gallery"
#define NAME_HELP "Under which the domain is installed; \"\": made from `target`. A taken name gets -2, -3, ..."
#define FILE_HELP "The file of the installed domain"

/* For a plugin_canvas. */
void plugin_gimp_progress(void *host, double fraction, const char *text);
void plugin_gimp_warn(void *host, const char *text);

/* A session, which the caller frees; the library stays open until the process ends. NULL with a message. */
plugin_session *plugin_gimp_session(plugin_error *error);

/* These open the dialog where the mode is interactive; `request` then gets what the user chose. The message of an error goes to `error`. */
GimpPDBStatusType plugin_gimp_restyle(GimpRunMode mode, plugin_canvas *canvas, plugin_session *session, plugin_request *request,
                                      plugin_error *error);
/* `file` gets the path of the domain; not after a dialog. */
GimpPDBStatusType plugin_gimp_new_domain(GimpRunMode mode, plugin_session *session, plugin_request *request, char file[PLUGIN_PATH],
                                         plugin_error *error);

#endif
