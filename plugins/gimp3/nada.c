/* The plug-in for GIMP 3: its procedures, and how it reaches a picture. The work is in plugins/common. */
#include "../common/gimp/run.h"

#include <string.h>

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

static bool open_picture(host *h, GimpDrawable **drawables, plugin_canvas *canvas, plugin_error *error) {
    int x, y, width, height;
    size_t count = gimp_core_object_array_get_length((GObject **)drawables);
    if (count != 1) return plugin_fail(error, "drawables: %zu were given, one layer is wanted", count);
    h->drawable = drawables[0];
    if (!GIMP_IS_LAYER(h->drawable)) return plugin_fail(error, "drawables: is no layer; choose a layer of the picture");
    if (!gimp_drawable_mask_intersect(h->drawable, &x, &y, &width, &height))
        return plugin_fail(error, "the selection does not meet the layer: there is nothing to restyle");
    *canvas = (plugin_canvas){h, {x, y, width, height}, host_pixels, host_selection, host_begin, host_finish, plugin_gimp_progress, plugin_gimp_warn};
    return true;
}

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

/* --- Running --- */

static GimpValueArray *answer(GimpProcedure *procedure, GimpPDBStatusType status, const plugin_error *error) {
    return gimp_procedure_new_return_values(procedure, status, *error->text ? g_error_new(GIMP_PLUG_IN_ERROR, 0, "%s", error->text) : NULL);
}

static GimpPDBStatusType restyle(GimpRunMode mode, host *h, GimpDrawable **drawables, GimpProcedureConfig *config, plugin_error *error) {
    plugin_request request;
    plugin_canvas canvas;
    if (!take(config, true, &request, error) || !open_picture(h, drawables, &canvas, error)) return GIMP_PDB_EXECUTION_ERROR;
    plugin_session *session = plugin_gimp_session(error);
    if (!session) return GIMP_PDB_EXECUTION_ERROR;
    GimpPDBStatusType status = plugin_gimp_restyle(mode, &canvas, session, &request, error);
    plugin_session_free(session);
    if (status == GIMP_PDB_SUCCESS && mode == GIMP_RUN_INTERACTIVE) give(config, true, &request);
    return status;
}

static GimpValueArray *run_restyle(GimpProcedure *procedure, GimpRunMode mode, GimpImage *image, GimpDrawable **drawables,
                                   GimpProcedureConfig *config, gpointer data) {
    (void)data;
    plugin_error error = {""};
    host h = {image, NULL, NULL};
    GimpPDBStatusType status = restyle(mode, &h, drawables, config, &error);
    GimpValueArray *values = answer(procedure, status, &error);
    if (status == GIMP_PDB_SUCCESS) g_value_set_object(gimp_value_array_index(values, 1), h.layer);
    return values;
}

static GimpPDBStatusType new_domain(GimpRunMode mode, GimpProcedureConfig *config, char file[PLUGIN_PATH], plugin_error *error) {
    plugin_request request;
    if (!take(config, false, &request, error)) return GIMP_PDB_EXECUTION_ERROR;
    plugin_session *session = plugin_gimp_session(error);
    if (!session) return GIMP_PDB_EXECUTION_ERROR;
    GimpPDBStatusType status = plugin_gimp_new_domain(mode, session, &request, file, error);
    plugin_session_free(session);
    if (status == GIMP_PDB_SUCCESS && mode == GIMP_RUN_INTERACTIVE) give(config, false, &request);
    return status;
}

static GimpValueArray *run_new_domain(GimpProcedure *procedure, GimpProcedureConfig *config, gpointer data) {
    (void)data;
    plugin_error error = {""};
    char file[PLUGIN_PATH] = "";
    GimpRunMode mode;
    g_object_get(config, "run-mode", &mode, NULL);
    GimpPDBStatusType status = new_domain(mode, config, file, &error);
    GimpValueArray *values = answer(procedure, status, &error);
    if (status == GIMP_PDB_SUCCESS) g_value_set_string(gimp_value_array_index(values, 1), file);
    return values;
}

/* --- Procedures --- */

static void add_text(GimpProcedure *procedure, const char *name, const char *label, const char *help) {
    gimp_procedure_add_string_argument(procedure, name, label, help, "", G_PARAM_READWRITE);
}

static void add_number(GimpProcedure *procedure, const char *name, const char *label, const char *help, int most, int value) {
    gimp_procedure_add_int_argument(procedure, name, label, help, 0, most, value, G_PARAM_READWRITE);
}

/* What both have. */
static void add_arguments(GimpProcedure *procedure) {
    add_text(procedure, "model", "Model pack", MODEL_HELP);
    add_text(procedure, "source", "From", SOURCE_HELP);
    add_text(procedure, "target", "To", TARGET_HELP);
    add_number(procedure, "seed", "Seed", SEED_HELP, G_MAXINT, 1);
    add_number(procedure, "steps", "Steps", STEPS_HELP, PLUGIN_STEPS_MAX, 0);
}

static GimpProcedure *create_restyle(GimpPlugIn *plug_in) {
    GimpProcedure *procedure = gimp_image_procedure_new(plug_in, RESTYLE, GIMP_PDB_PROC_TYPE_PLUGIN, run_restyle, NULL, NULL);
    gimp_procedure_set_image_types(procedure, RESTYLE_IMAGES);
    gimp_procedure_set_sensitivity_mask(procedure, GIMP_PROCEDURE_SENSITIVE_DRAWABLE);
    gimp_procedure_set_menu_label(procedure, RESTYLE_LABEL);
    gimp_procedure_set_documentation(procedure, RESTYLE_BLURB, RESTYLE_HELP, RESTYLE);
    add_arguments(procedure);
    add_text(procedure, "domain", "Domain", DOMAIN_HELP);
    gimp_procedure_add_double_argument(procedure, "strength", "Strength", STRENGTH_HELP, 0, PLUGIN_STRENGTH_MAX, 1, G_PARAM_READWRITE);
    add_number(procedure, "keep-identity", "Keep identity", IDENTITY_HELP, PLUGIN_STEPS_MAX, 0);
    GimpChoice *output = gimp_choice_new();
    gimp_choice_add(output, "new-layer", PLUGIN_NEW_LAYER, "New layer", NULL);
    gimp_choice_add(output, "in-place", PLUGIN_IN_PLACE, "In place", NULL);
    gimp_procedure_add_choice_argument(procedure, "output", "Output", "Where the result goes", output, "new-layer", G_PARAM_READWRITE);
    gimp_procedure_add_boolean_argument(procedure, "install", "Add a new domain to the gallery", INSTALL_HELP, FALSE, G_PARAM_READWRITE);
    gimp_procedure_add_layer_return_value(procedure, "layer", "Layer", "The new layer; in place: the one that was given", TRUE,
                                          G_PARAM_READWRITE);
    return procedure;
}

static GimpProcedure *create_new_domain(GimpPlugIn *plug_in) {
    GimpProcedure *procedure = gimp_procedure_new(plug_in, NEW_DOMAIN, GIMP_PDB_PROC_TYPE_PLUGIN, run_new_domain, NULL, NULL);
    gimp_procedure_set_menu_label(procedure, NEW_DOMAIN_LABEL);
    gimp_procedure_set_documentation(procedure, NEW_DOMAIN_BLURB, NEW_DOMAIN_HELP, NEW_DOMAIN);
    gimp_procedure_add_enum_argument(procedure, "run-mode", "Run mode", "The run mode", GIMP_TYPE_RUN_MODE, GIMP_RUN_INTERACTIVE,
                                     G_PARAM_READWRITE);
    add_arguments(procedure);
    add_text(procedure, "name", "Name", NAME_HELP);
    gimp_procedure_add_string_return_value(procedure, "file", "File", FILE_HELP, "", G_PARAM_READWRITE);
    return procedure;
}

static GimpProcedure *create_procedure(GimpPlugIn *plug_in, const gchar *name) {
    GimpProcedure *procedure = strcmp(name, RESTYLE) == 0 ? create_restyle(plug_in) : create_new_domain(plug_in);
    gimp_procedure_add_menu_path(procedure, MENU);
    gimp_procedure_set_attribution(procedure, AUTHORS, AUTHORS, YEAR);
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
