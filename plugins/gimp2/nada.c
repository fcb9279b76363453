/* The plug-in for GIMP 2.10: its procedures, and how it reaches a picture. The work is in plugins/common. */
#include "../common/gimp/run.h"

#include <string.h>

#define RUN_MODE_HELP "The run mode { RUN-INTERACTIVE (0), RUN-NONINTERACTIVE (1), RUN-WITH-LAST-VALS (2) }"

static const GimpParamDef RESTYLE_ARGUMENTS[] = {
    {GIMP_PDB_INT32, "run-mode", RUN_MODE_HELP},
    {GIMP_PDB_IMAGE, "image", "The image"},
    {GIMP_PDB_DRAWABLE, "drawable", "The layer to restyle; of its selected part, else of all of it, the largest centred square"},
    {GIMP_PDB_STRING, "model", MODEL_HELP},
    {GIMP_PDB_STRING, "domain", DOMAIN_HELP},
    {GIMP_PDB_STRING, "source", SOURCE_HELP},
    {GIMP_PDB_STRING, "target", TARGET_HELP},
    {GIMP_PDB_FLOAT, "strength", STRENGTH_HELP},
    {GIMP_PDB_INT32, "seed", SEED_HELP},
    {GIMP_PDB_INT32, "keep-identity", IDENTITY_HELP},
    {GIMP_PDB_INT32, "steps", STEPS_HELP},
    {GIMP_PDB_INT32, "output", "Where the result goes { NEW-LAYER (0), IN-PLACE (1) }"},
    {GIMP_PDB_INT32, "install", INSTALL_HELP " { FALSE (0), TRUE (1) }"},
};
static const GimpParamDef RESTYLE_RESULTS[] = {{GIMP_PDB_LAYER, "layer", "The new layer; in place: `drawable`"}};

static const GimpParamDef NEW_DOMAIN_ARGUMENTS[] = {
    {GIMP_PDB_INT32, "run-mode", RUN_MODE_HELP},
    {GIMP_PDB_STRING, "model", MODEL_HELP},
    {GIMP_PDB_STRING, "source", SOURCE_HELP},
    {GIMP_PDB_STRING, "target", TARGET_HELP},
    {GIMP_PDB_STRING, "name", NAME_HELP},
    {GIMP_PDB_INT32, "seed", SEED_HELP},
    {GIMP_PDB_INT32, "steps", STEPS_HELP},
};
static const GimpParamDef NEW_DOMAIN_RESULTS[] = {{GIMP_PDB_STRING, "file", FILE_HELP}};

static void query(void) {
    gimp_install_procedure(RESTYLE, RESTYLE_BLURB, RESTYLE_HELP, AUTHORS, AUTHORS, YEAR, RESTYLE_LABEL, RESTYLE_IMAGES, GIMP_PLUGIN,
                           G_N_ELEMENTS(RESTYLE_ARGUMENTS), G_N_ELEMENTS(RESTYLE_RESULTS), RESTYLE_ARGUMENTS, RESTYLE_RESULTS);
    gimp_install_procedure(NEW_DOMAIN, NEW_DOMAIN_BLURB, NEW_DOMAIN_HELP, AUTHORS, AUTHORS, YEAR, NEW_DOMAIN_LABEL, NULL, GIMP_PLUGIN,
                           G_N_ELEMENTS(NEW_DOMAIN_ARGUMENTS), G_N_ELEMENTS(NEW_DOMAIN_RESULTS), NEW_DOMAIN_ARGUMENTS, NEW_DOMAIN_RESULTS);
    gimp_plugin_menu_register(RESTYLE, MENU);
    gimp_plugin_menu_register(NEW_DOMAIN, MENU);
}

/* --- The picture --- */

typedef struct host {
    gint32 image, drawable;
    gint32 layer; /* the result's */
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

static bool open_picture(host *h, plugin_canvas *canvas, plugin_error *error) {
    int x, y, width, height;
    if (!gimp_item_is_layer(h->drawable)) return plugin_fail(error, "drawable: is no layer; choose a layer of the picture");
    if (!gimp_drawable_mask_intersect(h->drawable, &x, &y, &width, &height))
        return plugin_fail(error, "the selection does not meet the layer: there is nothing to restyle");
    *canvas = (plugin_canvas){h, {x, y, width, height}, host_pixels, host_selection, host_begin, host_finish, plugin_gimp_progress, plugin_gimp_warn};
    return true;
}

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

/* --- Running --- */

static GimpPDBStatusType run_procedure(bool restyle, gint count, const GimpParam *parameters, GimpParam *result, plugin_error *error) {
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
    plugin_session *session = plugin_gimp_session(error);
    if (!session) return GIMP_PDB_EXECUTION_ERROR;
    GimpPDBStatusType status = GIMP_PDB_EXECUTION_ERROR;
    if (restyle) {
        host h = {parameters[1].data.d_image, parameters[2].data.d_drawable, -1};
        plugin_canvas canvas;
        if (open_picture(&h, &canvas, error)) status = plugin_gimp_restyle(mode, &canvas, session, &request, error);
        result->data.d_layer = h.layer;
    } else {
        status = plugin_gimp_new_domain(mode, session, &request, file, error);
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
