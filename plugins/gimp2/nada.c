/* The plug-in for GIMP 2.10: its procedures, and how it reaches a picture. The work is in plugins/common. */
#include "../common/gegl/canvas.h"
#include "../common/gtk/panel.h"

#include <libgimp/gimp.h>
#include <libgimp/gimpui.h>
#include <string.h>

#define RESTYLE "plug-in-nada-restyle"
#define NEW_DOMAIN "plug-in-nada-new-domain"

static const GimpParamDef RESTYLE_ARGUMENTS[] = {
    {GIMP_PDB_INT32, "run-mode", "The run mode { RUN-INTERACTIVE (0), RUN-NONINTERACTIVE (1), RUN-WITH-LAST-VALS (2) }"},
    {GIMP_PDB_IMAGE, "image", "The image"},
    {GIMP_PDB_DRAWABLE, "drawable", "The layer to restyle; of its selected part, else of all of it, the largest centred square"},
    {GIMP_PDB_STRING, "model", "Name or folder of a model pack; \"\" for the starter"},
    {GIMP_PDB_STRING, "domain", "Name of an installed domain, or the path (with a slash) of a domain file; \"\" to learn `target`"},
    {GIMP_PDB_STRING, "source", "What pictures of the generator are, in words; \"\" for the pack's own, such as \"a photo\""},
    {GIMP_PDB_STRING, "target", "What the picture is to become, such as \"a pencil sketch\"; not used with `domain`"},
    {GIMP_PDB_FLOAT, "strength", "How much of the domain, 0 to 1.5; 1 is what was learned"},
    {GIMP_PDB_INT32, "seed", "Of everything that is drawn at random, 0 or more"},
    {GIMP_PDB_INT32, "keep-identity", "Steps of the inversion: more come closer to the picture; 0 for what the pack recommends"},
    {GIMP_PDB_INT32, "steps", "Steps of learning `target` at the most; 0 for the pack's recipe"},
    {GIMP_PDB_INT32, "output", "Where the result goes { NEW-LAYER (0), IN-PLACE (1) }"},
    {GIMP_PDB_INT32, "install", "Whether a domain that was learned goes into the gallery { FALSE (0), TRUE (1) }"},
};
static const GimpParamDef RESTYLE_RESULTS[] = {{GIMP_PDB_LAYER, "layer", "The new layer; in place: `drawable`"}};

static const GimpParamDef NEW_DOMAIN_ARGUMENTS[] = {
    {GIMP_PDB_INT32, "run-mode", "The run mode { RUN-INTERACTIVE (0), RUN-NONINTERACTIVE (1), RUN-WITH-LAST-VALS (2) }"},
    {GIMP_PDB_STRING, "model", "Name or folder of a model pack; \"\" for the starter"},
    {GIMP_PDB_STRING, "source", "What pictures of the generator are, in words; \"\" for the pack's own, such as \"a photo\""},
    {GIMP_PDB_STRING, "target", "What they are to become, such as \"a pencil sketch\""},
    {GIMP_PDB_STRING, "name", "Under which the domain is installed; \"\": made from `target`. A taken name gets -2, -3, ..."},
    {GIMP_PDB_INT32, "seed", "Of everything that is drawn at random, 0 or more"},
    {GIMP_PDB_INT32, "steps", "Steps at the most; 0 for the pack's recipe"},
};
static const GimpParamDef NEW_DOMAIN_RESULTS[] = {{GIMP_PDB_STRING, "file", "The file of the installed domain"}};

static void query(void) {
    gimp_install_procedure(RESTYLE, "Restyle a face by words, or with an installed domain",
                           "Finds the picture in a StyleGAN2 generator, and draws it anew with the generator adapted to a text "
                           "(StyleGAN-NADA). The result is blended into the layer with a soft edge, or becomes a layer above it. The "
                           "selection, alpha and the picture's depth are kept; it is one step of undo.",
                           "the libnada authors", "the libnada authors", "2026", "_Restyle with text...", "RGB*, GRAY*", GIMP_PLUGIN,
                           G_N_ELEMENTS(RESTYLE_ARGUMENTS), G_N_ELEMENTS(RESTYLE_RESULTS), RESTYLE_ARGUMENTS, RESTYLE_RESULTS);
    gimp_plugin_menu_register(RESTYLE, "<Image>/Filters/Artistic");
    gimp_install_procedure(NEW_DOMAIN, "Adapt a generator to words and install the domain",
                           "Adapts a StyleGAN2 generator to a text (StyleGAN-NADA) and puts the domain into the gallery, from which "
                           "\"Restyle with text\" takes it. Needs no picture.",
                           "the libnada authors", "the libnada authors", "2026", "_New domain from text...", NULL, GIMP_PLUGIN,
                           G_N_ELEMENTS(NEW_DOMAIN_ARGUMENTS), G_N_ELEMENTS(NEW_DOMAIN_RESULTS), NEW_DOMAIN_ARGUMENTS, NEW_DOMAIN_RESULTS);
    gimp_plugin_menu_register(NEW_DOMAIN, "<Image>/Filters/Artistic");
}

/* --- The picture --- */

typedef struct host {
    gint32 image, drawable;
    gint32 layer; /* the result's */
    bool visible; /* a progress bar was begun */
} host;

static GeglBuffer *host_pixels(void *data) { return gimp_drawable_get_buffer(((host *)data)->drawable); }

static GeglBuffer *host_selection(void *data, int *x, int *y) {
    host *h = data;
    if (gimp_selection_is_empty(h->image)) return NULL;
    gimp_drawable_offsets(h->drawable, x, y);
    return gimp_drawable_get_buffer(gimp_image_get_selection(h->image));
}

static GeglBuffer *host_begin(void *data, bool new_layer, const char *words, plugin_error *error) {
    host *h = data;
    if (!new_layer) return gimp_drawable_get_shadow_buffer(h->drawable);
    int x, y;
    char *old = gimp_item_get_name(h->drawable), *name = g_strdup_printf("%s: %s", old, words);
    GimpImageType type = gimp_image_base_type(h->image) == GIMP_GRAY ? GIMP_GRAYA_IMAGE : GIMP_RGBA_IMAGE;
    h->layer = gimp_layer_new(h->image, name, gimp_drawable_width(h->drawable), gimp_drawable_height(h->drawable), type, 100,
                              gimp_image_get_default_new_layer_mode(h->image));
    g_free(name), g_free(old);
    if (h->layer == -1) {
        plugin_fail(error, "GIMP made no new layer: %s", gimp_get_pdb_error());
        return NULL;
    }
    gimp_drawable_offsets(h->drawable, &x, &y);
    gimp_layer_set_offsets(h->layer, x, y);
    return gimp_drawable_get_buffer(h->layer);
}

static bool host_finish(void *data, bool new_layer, plugin_error *error) {
    host *h = data;
    if (new_layer) {
        int position = gimp_image_get_item_position(h->image, h->drawable);
        if (gimp_image_insert_layer(h->image, h->layer, gimp_item_get_parent(h->drawable), position)) return true;
        gimp_item_delete(h->layer);
        return plugin_fail(error, "GIMP refused the new layer: %s", gimp_get_pdb_error());
    }
    int x, y, width, height;
    if (!gimp_drawable_merge_shadow(h->drawable, TRUE)) return plugin_fail(error, "GIMP refused the pixels: %s", gimp_get_pdb_error());
    gimp_drawable_mask_intersect(h->drawable, &x, &y, &width, &height);
    gimp_drawable_update(h->drawable, x, y, width, height);
    h->layer = h->drawable;
    return true;
}

static void host_progress(void *data, double fraction, const char *text) {
    host *h = data;
    if (!h->visible) {
        h->visible = true;
        gimp_progress_init(text ? text : "");
    } else if (text) {
        gimp_progress_set_text(text);
    }
    gimp_progress_update(fraction);
}

static bool open_picture(host *h, plugin_canvas *canvas, plugin_error *error) {
    int x, y, width, height;
    if (!gimp_item_is_layer(h->drawable)) return plugin_fail(error, "drawable: is no layer; choose a layer of the picture");
    if (!gimp_drawable_mask_intersect(h->drawable, &x, &y, &width, &height))
        return plugin_fail(error, "the selection does not meet the layer: there is nothing to restyle");
    *canvas = (plugin_canvas){h, {x, y, width, height}, host_pixels, host_selection, host_begin, host_finish, host_progress};
    return true;
}

static bool source_of(void *canvas, plugin_session *session, plugin_error *error) { return plugin_canvas_source(canvas, session, error); }

/* --- Arguments --- */

/* A number that may not be negative. */
static bool take_number(uint32_t *field, gint32 value, const char *name, plugin_error *error) {
    *field = (uint32_t)value;
    return value >= 0 || plugin_fail(error, "%s: %d, must be 0 or more", name, value);
}

static bool take_restyle(plugin_request *r, const GimpParam *p, plugin_error *e) {
    r->strength = p[7].data.d_float;
    return plugin_request_text(r->model, sizeof r->model, p[3].data.d_string, "model", e) &&
           plugin_request_text(r->domain, sizeof r->domain, p[4].data.d_string, "domain", e) &&
           plugin_request_text(r->source, sizeof r->source, p[5].data.d_string, "source", e) &&
           plugin_request_text(r->target, sizeof r->target, p[6].data.d_string, "target", e) &&
           take_number(&r->seed, p[8].data.d_int32, "seed", e) && take_number(&r->identity, p[9].data.d_int32, "keep-identity", e) &&
           take_number(&r->steps, p[10].data.d_int32, "steps", e) && take_number(&r->output, p[11].data.d_int32, "output", e) &&
           take_number(&r->install, p[12].data.d_int32, "install", e);
}

static bool take_new_domain(plugin_request *r, const GimpParam *p, plugin_error *e) {
    return plugin_request_text(r->model, sizeof r->model, p[1].data.d_string, "model", e) &&
           plugin_request_text(r->source, sizeof r->source, p[2].data.d_string, "source", e) &&
           plugin_request_text(r->target, sizeof r->target, p[3].data.d_string, "target", e) &&
           plugin_request_text(r->name, sizeof r->name, p[4].data.d_string, "name", e) &&
           take_number(&r->seed, p[5].data.d_int32, "seed", e) && take_number(&r->steps, p[6].data.d_int32, "steps", e);
}

static GtkWidget *window(const char *title, const char *procedure) {
    gimp_ui_init("nada", TRUE);
    GtkWidget *dialog = gimp_dialog_new(title, procedure, NULL, 0, gimp_standard_help_func, procedure, NULL);
    gimp_window_set_transient(GTK_WINDOW(dialog));
    return dialog;
}

/* --- Running --- */

/* GIMP_PDB_SUCCESS, or what else to answer; the message of an error in `error`. */
static GimpPDBStatusType run_restyle(GimpRunMode mode, const GimpParam *parameters, plugin_request *request, plugin_session *session,
                                     gint32 *layer, plugin_error *error) {
    host h = {parameters[1].data.d_image, parameters[2].data.d_drawable, -1, false};
    plugin_canvas canvas;
    if (!open_picture(&h, &canvas, error)) return GIMP_PDB_EXECUTION_ERROR;
    if (mode == GIMP_RUN_INTERACTIVE) {
        GtkWidget *dialog = window("Restyle with text", RESTYLE);
        bool wanted = plugin_panel_run(dialog, PLUGIN_RESTYLE, session, request, source_of, &canvas);
        gtk_widget_destroy(dialog);
        if (!wanted) return GIMP_PDB_CANCEL;
    }
    bool done = plugin_canvas_restyle(&canvas, session, request, mode == GIMP_RUN_INTERACTIVE, error);
    if (h.visible) gimp_progress_end();
    *layer = h.layer;
    if (done && mode != GIMP_RUN_NONINTERACTIVE) gimp_displays_flush();
    return done ? GIMP_PDB_SUCCESS : GIMP_PDB_EXECUTION_ERROR;
}

static GimpPDBStatusType run_new_domain(GimpRunMode mode, plugin_request *request, plugin_session *session, char file[PLUGIN_PATH],
                                        plugin_error *error) {
    host h = {-1, -1, -1, false};
    plugin_canvas canvas = {.host = &h, .progress = host_progress};
    if (mode == GIMP_RUN_INTERACTIVE) {
        GtkWidget *dialog = window("New domain from text", NEW_DOMAIN);
        bool wanted = plugin_panel_run(dialog, PLUGIN_NEW_DOMAIN, session, request, NULL, NULL);
        gtk_widget_destroy(dialog);
        return wanted ? GIMP_PDB_SUCCESS : GIMP_PDB_CANCEL;
    }
    bool done = plugin_canvas_new_domain(&canvas, session, request, file, error);
    if (h.visible) gimp_progress_end();
    return done ? GIMP_PDB_SUCCESS : GIMP_PDB_EXECUTION_ERROR;
}

static GimpPDBStatusType run_procedure(bool restyle, gint count, const GimpParam *parameters, GimpParam *result, plugin_error *error) {
    static plugin_library library;
    static char file[PLUGIN_PATH];
    const char *name = restyle ? RESTYLE : NEW_DOMAIN;
    GimpRunMode mode = parameters[0].data.d_int32;
    plugin_request request;
    plugin_request_init(&request);
    if (mode == GIMP_RUN_NONINTERACTIVE) {
        int wanted = restyle ? (int)G_N_ELEMENTS(RESTYLE_ARGUMENTS) : (int)G_N_ELEMENTS(NEW_DOMAIN_ARGUMENTS);
        if (count != wanted) {
            plugin_fail(error, "%s takes %d arguments, not %d", name, wanted, count);
            return GIMP_PDB_CALLING_ERROR;
        }
        if (!(restyle ? take_restyle : take_new_domain)(&request, parameters, error)) return GIMP_PDB_CALLING_ERROR;
    } else if (gimp_get_data_size(name) == (gint)sizeof request) {
        /* Another size is another version's. */
        gimp_get_data(name, &request);
    }
    if (!plugin_library_open(&library, error)) return GIMP_PDB_EXECUTION_ERROR;
    plugin_session *session = plugin_session_new(&library, error);
    if (!session) return GIMP_PDB_EXECUTION_ERROR;
    GimpPDBStatusType status;
    if (restyle) {
        status = run_restyle(mode, parameters, &request, session, &result->data.d_layer, error);
    } else {
        status = run_new_domain(mode, &request, session, file, error);
        result->data.d_string = file;
    }
    if (mode == GIMP_RUN_INTERACTIVE && status == GIMP_PDB_SUCCESS) gimp_set_data(name, &request, sizeof request);
    plugin_session_free(session);
    return status;
}

static void run(const gchar *name, gint count, const GimpParam *parameters, gint *result_count, GimpParam **results) {
    static GimpParam values[2];
    static plugin_error error;
    bool restyle = strcmp(name, RESTYLE) == 0;
    gegl_init(NULL, NULL);
    values[1].type = restyle ? GIMP_PDB_LAYER : GIMP_PDB_STRING;
    values[0].type = GIMP_PDB_STATUS;
    values[0].data.d_status = run_procedure(restyle, count, parameters, &values[1], &error);
    *results = values;
    *result_count = 1;
    if (values[0].data.d_status == GIMP_PDB_SUCCESS) {
        *result_count = 2;
    } else if (*error.text) {
        *result_count = 2;
        values[1].type = GIMP_PDB_STRING;
        values[1].data.d_string = error.text;
    }
}

const GimpPlugInInfo PLUG_IN_INFO = {NULL, NULL, query, run};

MAIN()
