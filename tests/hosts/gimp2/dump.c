/* For the tests: writes a drawable's pixels to a file, as R'G'B'A floats (channels as Y floats), rows without gaps; the plug-in under test
 * is not asked. */
#include <libgimp/gimp.h>
#include <stdio.h>

static void query(void) {
    static const GimpParamDef arguments[] = {
        {GIMP_PDB_DRAWABLE, "drawable", "What to write"},
        {GIMP_PDB_STRING, "file", "Where to"},
    };
    gimp_install_procedure("plug-in-nada-test-dump", "Writes pixels", "", "", "", "", NULL, NULL, GIMP_PLUGIN, G_N_ELEMENTS(arguments), 0,
                           arguments, NULL);
}

static void run(const gchar *name, gint count, const GimpParam *parameters, gint *result_count, GimpParam **results) {
    static GimpParam status = {GIMP_PDB_STATUS, {.d_status = GIMP_PDB_EXECUTION_ERROR}};
    (void)name, (void)count;
    *result_count = 1, *results = &status;
    gegl_init(NULL, NULL);
    GeglBuffer *buffer = gimp_drawable_get_buffer(parameters[0].data.d_drawable);
    const Babl *format = babl_format(gimp_item_is_channel(parameters[0].data.d_drawable) ? "Y float" : "R'G'B'A float");
    size_t size = (size_t)gegl_buffer_get_width(buffer) * (size_t)gegl_buffer_get_height(buffer) * (size_t)babl_format_get_bytes_per_pixel(format);
    void *pixels = g_malloc(size);
    gegl_buffer_get(buffer, NULL, 1, format, pixels, GEGL_AUTO_ROWSTRIDE, GEGL_ABYSS_NONE);
    FILE *out = fopen(parameters[1].data.d_string, "wb");
    if (out && fwrite(pixels, 1, size, out) == size) status.data.d_status = GIMP_PDB_SUCCESS;
    if (out) fclose(out);
    g_object_unref(buffer);
    g_free(pixels);
}

const GimpPlugInInfo PLUG_IN_INFO = {NULL, NULL, query, run};
MAIN()
