/* For the tests; the plug-in under test is not asked. plug-in-nada-test-dump drawable file: writes pixels as R'G'B'A floats (channels as Y
 * floats), rows without gaps. */
#include <libgimp/gimp.h>
#include <stdio.h>

struct _Dump {
    GimpPlugIn parent_instance;
};
#define DUMP_TYPE (dump_get_type())
G_DECLARE_FINAL_TYPE(Dump, dump, DUMP, PLUG_IN, GimpPlugIn)
G_DEFINE_TYPE(Dump, dump, GIMP_TYPE_PLUG_IN)

static GimpValueArray *run(GimpProcedure *procedure, GimpProcedureConfig *config, gpointer data) {
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

static GList *query_procedures(GimpPlugIn *plug_in) {
    (void)plug_in;
    return g_list_append(NULL, g_strdup("plug-in-nada-test-dump"));
}

static GimpProcedure *create_procedure(GimpPlugIn *plug_in, const gchar *name) {
    GimpProcedure *procedure = gimp_procedure_new(plug_in, name, GIMP_PDB_PROC_TYPE_PLUGIN, run, NULL, NULL);
    gimp_procedure_set_documentation(procedure, "Writes pixels", "Writes pixels", name);
    gimp_procedure_add_drawable_argument(procedure, "drawable", "Drawable", "What to write", FALSE, G_PARAM_READWRITE);
    gimp_procedure_add_string_argument(procedure, "file", "File", "Where to", "", G_PARAM_READWRITE);
    return procedure;
}

static gboolean set_i18n(GimpPlugIn *plug_in, const gchar *name, gchar **domain, gchar **folder) {
    (void)plug_in, (void)name, (void)domain, (void)folder;
    return FALSE;
}

static void dump_class_init(DumpClass *class) {
    GIMP_PLUG_IN_CLASS(class)->query_procedures = query_procedures;
    GIMP_PLUG_IN_CLASS(class)->create_procedure = create_procedure;
    GIMP_PLUG_IN_CLASS(class)->set_i18n = set_i18n;
}

static void dump_init(Dump *dump) { (void)dump; }

GIMP_MAIN(DUMP_TYPE)
