/* For the tests; the plug-in under test is not asked.
 *
 * plug-in-nada-test-dump drawable file: writes pixels as R'G'B'A floats (channels as Y floats), rows without gaps.
 * plug-in-nada-test-wait file: waits until the file is there, two minutes at most; GIMP's windows work on. */
#include <libgimp/gimp.h>
#include <stdio.h>
#include <string.h>

#define DUMP_NAME "plug-in-nada-test-dump"
#define WAIT_NAME "plug-in-nada-test-wait"

struct _Tests {
    GimpPlugIn parent_instance;
};
#define TESTS_TYPE (tests_get_type())
G_DECLARE_FINAL_TYPE(Tests, tests, TESTS, PLUG_IN, GimpPlugIn)
G_DEFINE_TYPE(Tests, tests, GIMP_TYPE_PLUG_IN)

static GimpValueArray *dump(GimpProcedure *procedure, GimpProcedureConfig *config, gpointer data) {
    (void)data;
    GimpDrawable *drawable;
    char *file;
    gegl_init(NULL, NULL);
    g_object_get(config, "drawable", &drawable, "file", &file, NULL);
    GeglBuffer *buffer = gimp_drawable_get_buffer(drawable);
    const Babl *format = babl_format(GIMP_IS_CHANNEL(drawable) ? "Y float" : "R'G'B'A float");
    size_t size = (size_t)gegl_buffer_get_width(buffer) * (size_t)gegl_buffer_get_height(buffer) * (size_t)babl_format_get_bytes_per_pixel(format);
    void *pixels = g_malloc(size);
    gegl_buffer_get(buffer, NULL, 1, format, pixels, GEGL_AUTO_ROWSTRIDE, GEGL_ABYSS_NONE);
    FILE *out = fopen(file, "wb");
    gboolean written = out && fwrite(pixels, 1, size, out) == size;
    if (out) fclose(out);
    g_object_unref(buffer);
    g_free(pixels);
    return gimp_procedure_new_return_values(procedure, written ? GIMP_PDB_SUCCESS : GIMP_PDB_EXECUTION_ERROR, NULL);
}

static GimpValueArray *wait_for(GimpProcedure *procedure, GimpProcedureConfig *config, gpointer data) {
    (void)data;
    char *file;
    g_object_get(config, "file", &file, NULL);
    for (int i = 0; i < 1200 && !g_file_test(file, G_FILE_TEST_EXISTS); i++) g_usleep(100000);
    gboolean there = g_file_test(file, G_FILE_TEST_EXISTS);
    return gimp_procedure_new_return_values(procedure, there ? GIMP_PDB_SUCCESS : GIMP_PDB_EXECUTION_ERROR, NULL);
}

static GList *query_procedures(GimpPlugIn *plug_in) {
    (void)plug_in;
    return g_list_append(g_list_append(NULL, g_strdup(DUMP_NAME)), g_strdup(WAIT_NAME));
}

static GimpProcedure *create_procedure(GimpPlugIn *plug_in, const gchar *name) {
    gboolean dumps = strcmp(name, DUMP_NAME) == 0;
    GimpProcedure *procedure = gimp_procedure_new(plug_in, name, GIMP_PDB_PROC_TYPE_PLUGIN, dumps ? dump : wait_for, NULL, NULL);
    gimp_procedure_set_documentation(procedure, "For tests", "For tests", name);
    if (dumps) gimp_procedure_add_drawable_argument(procedure, "drawable", "Drawable", "What to write", FALSE, G_PARAM_READWRITE);
    gimp_procedure_add_string_argument(procedure, "file", "File", "Where to write, or what to wait for", "", G_PARAM_READWRITE);
    return procedure;
}

static gboolean set_i18n(GimpPlugIn *plug_in, const gchar *name, gchar **domain, gchar **folder) {
    (void)plug_in, (void)name, (void)domain, (void)folder;
    return FALSE;
}

static void tests_class_init(TestsClass *class) {
    GIMP_PLUG_IN_CLASS(class)->query_procedures = query_procedures;
    GIMP_PLUG_IN_CLASS(class)->create_procedure = create_procedure;
    GIMP_PLUG_IN_CLASS(class)->set_i18n = set_i18n;
}

static void tests_init(Tests *tests) { (void)tests; }

GIMP_MAIN(TESTS_TYPE)
