/* The plug-in for GIMP 3: its procedures, and how it reaches a picture. The work is in plugins/common. */
#include "../common/gegl/canvas.h"
#include "../common/gtk/panel.h"

#include <libgimp/gimp.h>
#include <libgimp/gimpui.h>
#include <string.h>

#define RESTYLE "plug-in-nada-restyle"
#define NEW_DOMAIN "plug-in-nada-new-domain"

struct _Nada {
    GimpPlugIn parent_instance;
};
#define NADA_TYPE (nada_get_type())
G_DECLARE_FINAL_TYPE(Nada, nada, NADA, PLUG_IN, GimpPlugIn)
G_DEFINE_TYPE(Nada, nada, GIMP_TYPE_PLUG_IN)

/* --- The picture --- */

typedef struct host {
    GimpImage *image;
    GimpDrawable *drawable;
    GimpLayer *layer; /* the result's */
    bool visible;     /* a progress bar was begun */
} host;

static GeglBuffer *host_pixels(void *data) { return gimp_drawable_get_buffer(((host *)data)->drawable); }

static GeglBuffer *host_selection(void *data, int *x, int *y) {
    host *h = data;
    if (gimp_selection_is_empty(h->image)) return NULL;
    gimp_drawable_get_offsets(h->drawable, x, y);
    return gimp_drawable_get_buffer(GIMP_DRAWABLE(gimp_image_get_selection(h->image)));
}

static const char *trouble(void) { return gimp_pdb_get_last_error(gimp_get_pdb()); }

static GeglBuffer *host_begin(void *data, bool new_layer, const char *words, plugin_error *error) {
    host *h = data;
    if (!new_layer) return gimp_drawable_get_shadow_buffer(h->drawable);
    int x, y;
    char *old = gimp_item_get_name(GIMP_ITEM(h->drawable)), *name = g_strdup_printf("%s: %s", old, words);
    GimpImageType type = gimp_image_get_base_type(h->image) == GIMP_GRAY ? GIMP_GRAYA_IMAGE : GIMP_RGBA_IMAGE;
    h->layer = gimp_layer_new(h->image, name, gimp_drawable_get_width(h->drawable), gimp_drawable_get_height(h->drawable), type, 100,
                              gimp_image_get_default_new_layer_mode(h->image));
    g_free(name), g_free(old);
    if (!h->layer) {
        plugin_fail(error, "GIMP made no new layer: %s", trouble());
        return NULL;
    }
    gimp_drawable_get_offsets(h->drawable, &x, &y);
    gimp_layer_set_offsets(h->layer, x, y);
    return gimp_drawable_get_buffer(GIMP_DRAWABLE(h->layer));
}

static bool host_finish(void *data, bool new_layer, plugin_error *error) {
    host *h = data;
    GimpItem *item = GIMP_ITEM(h->drawable);
    if (new_layer) {
        GimpLayer *parent = (GimpLayer *)gimp_item_get_parent(item);
        if (gimp_image_insert_layer(h->image, h->layer, parent, gimp_image_get_item_position(h->image, item))) return true;
        gimp_item_delete(GIMP_ITEM(h->layer));
        return plugin_fail(error, "GIMP refused the new layer: %s", trouble());
    }
    int x, y, width, height;
    if (!gimp_drawable_merge_shadow(h->drawable, TRUE)) return plugin_fail(error, "GIMP refused the pixels: %s", trouble());
    gimp_drawable_mask_intersect(h->drawable, &x, &y, &width, &height);
    gimp_drawable_update(h->drawable, x, y, width, height);
    h->layer = GIMP_LAYER(h->drawable);
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

static bool open_picture(host *h, GimpDrawable **drawables, plugin_canvas *canvas, plugin_error *error) {
    int x, y, width, height;
    size_t count = gimp_core_object_array_get_length((GObject **)drawables);
    if (count != 1) return plugin_fail(error, "drawables: %zu were given, one layer is wanted", count);
    h->drawable = drawables[0];
    if (!GIMP_IS_LAYER(h->drawable)) return plugin_fail(error, "drawables: is no layer; choose a layer of the picture");
    if (!gimp_drawable_mask_intersect(h->drawable, &x, &y, &width, &height))
        return plugin_fail(error, "the selection does not meet the layer: there is nothing to restyle");
    *canvas = (plugin_canvas){h, {x, y, width, height}, host_pixels, host_selection, host_begin, host_finish, host_progress};
    return true;
}

static bool source_of(void *canvas, plugin_session *session, plugin_error *error) { return plugin_canvas_source(canvas, session, error); }

/* --- Arguments --- */

static bool take_text(GimpProcedureConfig *config, const char *name, char *field, size_t size, plugin_error *error) {
    char *text = NULL;
    g_object_get(config, name, &text, NULL);
    bool fits = plugin_request_text(field, size, text, name, error);
    g_free(text);
    return fits;
}

static bool take(GimpProcedureConfig *config, bool restyle, plugin_request *r, plugin_error *error) {
    int seed, steps, identity;
    gboolean install;
    plugin_request_init(r);
    g_object_get(config, "seed", &seed, "steps", &steps, NULL);
    r->seed = (uint32_t)seed, r->steps = (uint32_t)steps;
    bool texts = take_text(config, "model", r->model, sizeof r->model, error) && take_text(config, "source", r->source, sizeof r->source, error) &&
                 take_text(config, "target", r->target, sizeof r->target, error);
    if (!texts || !restyle) return texts && take_text(config, "name", r->name, sizeof r->name, error);
    g_object_get(config, "strength", &r->strength, "keep-identity", &identity, "install", &install, NULL);
    r->identity = (uint32_t)identity, r->install = install ? 1 : 0;
    r->output = (uint32_t)gimp_procedure_config_get_choice_id(config, "output");
    return take_text(config, "domain", r->domain, sizeof r->domain, error);
}

/* What the dialog changed becomes the last used values. */
static void give(GimpProcedureConfig *config, bool restyle, const plugin_request *r) {
    g_object_set(config, "model", r->model, "source", r->source, "target", r->target, "seed", (int)r->seed, "steps", (int)r->steps, NULL);
    if (restyle)
        g_object_set(config, "domain", r->domain, "strength", r->strength, "keep-identity", (int)r->identity, "output",
                     r->output == PLUGIN_IN_PLACE ? "in-place" : "new-layer", "install", (gboolean)r->install, NULL);
    else
        g_object_set(config, "name", r->name, NULL);
}

static GtkWidget *window(const char *title, const char *procedure) {
    gimp_ui_init("nada");
    GtkWidget *dialog = gimp_dialog_new(title, procedure, NULL, 0, gimp_standard_help_func, procedure, NULL);
    gimp_window_set_transient(GTK_WINDOW(dialog));
    return dialog;
}

/* --- Running --- */

static GimpValueArray *answer(GimpProcedure *procedure, GimpPDBStatusType status, const plugin_error *error) {
    return gimp_procedure_new_return_values(procedure, status, *error->text ? g_error_new(GIMP_PLUG_IN_ERROR, 0, "%s", error->text) : NULL);
}

/* A session, which the caller frees; the library stays open until the process ends. */
static plugin_session *new_session(plugin_error *error) {
    static plugin_library library;
    gegl_init(NULL, NULL);
    return plugin_library_open(&library, error) ? plugin_session_new(&library, error) : NULL;
}

static GimpPDBStatusType restyle(GimpRunMode mode, host *h, GimpDrawable **drawables, GimpProcedureConfig *config, plugin_session *session,
                                 plugin_error *error) {
    plugin_request request;
    plugin_canvas canvas;
    if (!take(config, true, &request, error) || !open_picture(h, drawables, &canvas, error)) return GIMP_PDB_EXECUTION_ERROR;
    if (mode == GIMP_RUN_INTERACTIVE) {
        GtkWidget *dialog = window("Restyle with text", RESTYLE);
        bool wanted = plugin_panel_run(dialog, PLUGIN_RESTYLE, session, &request, source_of, &canvas);
        gtk_widget_destroy(dialog);
        if (!wanted) return GIMP_PDB_CANCEL;
        give(config, true, &request);
    }
    bool done = plugin_canvas_restyle(&canvas, session, &request, mode == GIMP_RUN_INTERACTIVE, error);
    if (h->visible) gimp_progress_end();
    if (done && mode != GIMP_RUN_NONINTERACTIVE) gimp_displays_flush();
    return done ? GIMP_PDB_SUCCESS : GIMP_PDB_EXECUTION_ERROR;
}

static GimpValueArray *run_restyle(GimpProcedure *procedure, GimpRunMode mode, GimpImage *image, GimpDrawable **drawables,
                                   GimpProcedureConfig *config, gpointer data) {
    (void)data;
    plugin_error error = {""};
    host h = {image, NULL, NULL, false};
    plugin_session *session = new_session(&error);
    GimpPDBStatusType status = session ? restyle(mode, &h, drawables, config, session, &error) : GIMP_PDB_EXECUTION_ERROR;
    plugin_session_free(session);
    GimpValueArray *values = answer(procedure, status, &error);
    if (status == GIMP_PDB_SUCCESS) g_value_set_object(gimp_value_array_index(values, 1), h.layer);
    return values;
}

static GimpPDBStatusType new_domain(GimpRunMode mode, GimpProcedureConfig *config, plugin_session *session, char file[PLUGIN_PATH],
                                    plugin_error *error) {
    plugin_request request;
    host h = {NULL, NULL, NULL, false};
    plugin_canvas canvas = {.host = &h, .progress = host_progress};
    if (!take(config, false, &request, error)) return GIMP_PDB_EXECUTION_ERROR;
    if (mode == GIMP_RUN_INTERACTIVE) {
        GtkWidget *dialog = window("New domain from text", NEW_DOMAIN);
        bool wanted = plugin_panel_run(dialog, PLUGIN_NEW_DOMAIN, session, &request, NULL, NULL);
        gtk_widget_destroy(dialog);
        if (wanted) give(config, false, &request);
        return wanted ? GIMP_PDB_SUCCESS : GIMP_PDB_CANCEL;
    }
    bool done = plugin_canvas_new_domain(&canvas, session, &request, file, error);
    if (h.visible) gimp_progress_end();
    return done ? GIMP_PDB_SUCCESS : GIMP_PDB_EXECUTION_ERROR;
}

static GimpValueArray *run_new_domain(GimpProcedure *procedure, GimpProcedureConfig *config, gpointer data) {
    (void)data;
    plugin_error error = {""};
    char file[PLUGIN_PATH] = "";
    GimpRunMode mode;
    g_object_get(config, "run-mode", &mode, NULL);
    plugin_session *session = new_session(&error);
    GimpPDBStatusType status = session ? new_domain(mode, config, session, file, &error) : GIMP_PDB_EXECUTION_ERROR;
    plugin_session_free(session);
    GimpValueArray *values = answer(procedure, status, &error);
    if (status == GIMP_PDB_SUCCESS) g_value_set_string(gimp_value_array_index(values, 1), file);
    return values;
}

/* --- Procedures --- */

static void add_texts(GimpProcedure *procedure) {
    gimp_procedure_add_string_argument(procedure, "model", "Model pack", "Name or folder of a model pack; \"\" for the starter", "",
                                       G_PARAM_READWRITE);
    gimp_procedure_add_string_argument(procedure, "source", "From",
                                       "What pictures of the generator are, in words; \"\" for the pack's own, such as \"a photo\"", "",
                                       G_PARAM_READWRITE);
    gimp_procedure_add_string_argument(procedure, "target", "To", "What they are to become, such as \"a pencil sketch\"", "",
                                       G_PARAM_READWRITE);
}

static void add_numbers(GimpProcedure *procedure) {
    gimp_procedure_add_int_argument(procedure, "seed", "Seed", "Of everything that is drawn at random", 0, G_MAXINT, 1, G_PARAM_READWRITE);
    gimp_procedure_add_int_argument(procedure, "steps", "Steps", "Steps of learning the words at the most; 0 for the pack's recipe", 0,
                                    PLUGIN_STEPS_MAX, 0, G_PARAM_READWRITE);
}

static GimpProcedure *create_restyle(GimpPlugIn *plug_in) {
    GimpProcedure *procedure = gimp_image_procedure_new(plug_in, RESTYLE, GIMP_PDB_PROC_TYPE_PLUGIN, run_restyle, NULL, NULL);
    gimp_procedure_set_image_types(procedure, "RGB*, GRAY*");
    gimp_procedure_set_sensitivity_mask(procedure, GIMP_PROCEDURE_SENSITIVE_DRAWABLE);
    gimp_procedure_set_menu_label(procedure, "_Restyle with text...");
    gimp_procedure_set_documentation(procedure, "Restyle a face by words, or with an installed domain",
                                     "Finds the picture in a StyleGAN2 generator, and draws it anew with the generator adapted to a text "
                                     "(StyleGAN-NADA). The result is blended into the layer with a soft edge, or becomes a layer above it. The "
                                     "selection, alpha and the picture's depth are kept; it is one step of undo.",
                                     RESTYLE);
    add_texts(procedure);
    gimp_procedure_add_string_argument(procedure, "domain", "Domain",
                                       "Name of an installed domain, or the path (with a slash) of a domain file; \"\" to learn the target", "",
                                       G_PARAM_READWRITE);
    gimp_procedure_add_double_argument(procedure, "strength", "Strength", "How much of the domain; 1 is what was learned", 0,
                                       PLUGIN_STRENGTH_MAX, 1, G_PARAM_READWRITE);
    gimp_procedure_add_int_argument(procedure, "keep-identity", "Keep identity",
                                    "Steps of the inversion: more come closer to the picture; 0 for what the pack recommends", 0,
                                    PLUGIN_STEPS_MAX, 0, G_PARAM_READWRITE);
    add_numbers(procedure);
    GimpChoice *output = gimp_choice_new();
    gimp_choice_add(output, "new-layer", PLUGIN_NEW_LAYER, "New layer", NULL);
    gimp_choice_add(output, "in-place", PLUGIN_IN_PLACE, "In place", NULL);
    gimp_procedure_add_choice_argument(procedure, "output", "Output", "Where the result goes", output, "new-layer", G_PARAM_READWRITE);
    gimp_procedure_add_boolean_argument(procedure, "install", "Add a new domain to the gallery",
                                        "Whether a domain that was learned goes into the gallery", FALSE, G_PARAM_READWRITE);
    gimp_procedure_add_layer_return_value(procedure, "layer", "Layer", "The new layer; in place: the one that was given", TRUE,
                                          G_PARAM_READWRITE);
    return procedure;
}

static GimpProcedure *create_new_domain(GimpPlugIn *plug_in) {
    GimpProcedure *procedure = gimp_procedure_new(plug_in, NEW_DOMAIN, GIMP_PDB_PROC_TYPE_PLUGIN, run_new_domain, NULL, NULL);
    gimp_procedure_set_menu_label(procedure, "_New domain from text...");
    gimp_procedure_set_documentation(procedure, "Adapt a generator to words and install the domain",
                                     "Adapts a StyleGAN2 generator to a text (StyleGAN-NADA) and puts the domain into the gallery, from which "
                                     "\"Restyle with text\" takes it. Needs no picture.",
                                     NEW_DOMAIN);
    gimp_procedure_add_enum_argument(procedure, "run-mode", "Run mode", "The run mode", GIMP_TYPE_RUN_MODE, GIMP_RUN_INTERACTIVE,
                                     G_PARAM_READWRITE);
    add_texts(procedure);
    gimp_procedure_add_string_argument(procedure, "name", "Name",
                                       "Under which the domain is installed; \"\": made from the target. A taken name gets -2, -3, ...", "",
                                       G_PARAM_READWRITE);
    add_numbers(procedure);
    gimp_procedure_add_string_return_value(procedure, "file", "File", "The file of the installed domain", "", G_PARAM_READWRITE);
    return procedure;
}

static GimpProcedure *create_procedure(GimpPlugIn *plug_in, const gchar *name) {
    GimpProcedure *procedure = strcmp(name, RESTYLE) == 0 ? create_restyle(plug_in) : create_new_domain(plug_in);
    gimp_procedure_add_menu_path(procedure, "<Image>/Filters/Artistic");
    gimp_procedure_set_attribution(procedure, "the libnada authors", "the libnada authors", "2026");
    return procedure;
}

static GList *query_procedures(GimpPlugIn *plug_in) {
    (void)plug_in;
    return g_list_append(g_list_append(NULL, g_strdup(RESTYLE)), g_strdup(NEW_DOMAIN));
}

/* The texts are in English alone. */
static gboolean set_i18n(GimpPlugIn *plug_in, const gchar *procedure_name, gchar **gettext_domain, gchar **catalog_dir) {
    (void)plug_in, (void)procedure_name, (void)gettext_domain, (void)catalog_dir;
    return FALSE;
}

static void nada_class_init(NadaClass *class) {
    GIMP_PLUG_IN_CLASS(class)->query_procedures = query_procedures;
    GIMP_PLUG_IN_CLASS(class)->create_procedure = create_procedure;
    GIMP_PLUG_IN_CLASS(class)->set_i18n = set_i18n;
}

static void nada_init(Nada *nada) { (void)nada; }

GIMP_MAIN(NADA_TYPE)
