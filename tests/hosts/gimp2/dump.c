/* For the tests; the plug-in under test is not asked.
 *
 * plug-in-nada-test-dump drawable file: writes pixels as R'G'B'A floats (channels as Y floats), rows without gaps.
 * plug-in-nada-test-wait file: waits until the file is there, two minutes at most; GIMP's windows work on. */
#include <libgimp/gimp.h>
#include <stdio.h>
#include <string.h>

static void query(void) {
    static const GimpParamDef dump[] = {
        {GIMP_PDB_DRAWABLE, "drawable", "What to write"},
        {GIMP_PDB_STRING, "file", "Where to"},
    };
    static const GimpParamDef wait[] = {{GIMP_PDB_STRING, "file", "What to wait for"}};
    gimp_install_procedure("plug-in-nada-test-dump", "Writes pixels", "", "", "", "", NULL, NULL, GIMP_PLUGIN, 2, 0, dump, NULL);
    gimp_install_procedure("plug-in-nada-test-wait", "Waits", "", "", "", "", NULL, NULL, GIMP_PLUGIN, 1, 0, wait, NULL);
}

static gboolean dump(gint32 drawable, const char *file) {
    gegl_init(NULL, NULL);
    GeglBuffer *buffer = gimp_drawable_get_buffer(drawable);
    const Babl *format = babl_format(gimp_item_is_channel(drawable) ? "Y float" : "R'G'B'A float");
    size_t size = (size_t)gegl_buffer_get_width(buffer) * (size_t)gegl_buffer_get_height(buffer) * (size_t)babl_format_get_bytes_per_pixel(format);
    void *pixels = g_malloc(size);
    gegl_buffer_get(buffer, NULL, 1, format, pixels, GEGL_AUTO_ROWSTRIDE, GEGL_ABYSS_NONE);
    FILE *out = fopen(file, "wb");
    gboolean written = out && fwrite(pixels, 1, size, out) == size;
    if (out) fclose(out);
    g_object_unref(buffer);
    g_free(pixels);
    return written;
}

static gboolean wait_for(const char *file) {
    for (int i = 0; i < 1200 && !g_file_test(file, G_FILE_TEST_EXISTS); i++) g_usleep(100000);
    return g_file_test(file, G_FILE_TEST_EXISTS);
}

static void run(const gchar *name, gint count, const GimpParam *p, gint *result_count, GimpParam **results) {
    static GimpParam status = {.type = GIMP_PDB_STATUS};
    (void)count;
    gboolean done = strcmp(name, "plug-in-nada-test-wait") == 0 ? wait_for(p[0].data.d_string) : dump(p[0].data.d_drawable, p[1].data.d_string);
    status.data.d_status = done ? GIMP_PDB_SUCCESS : GIMP_PDB_EXECUTION_ERROR;
    *result_count = 1, *results = &status;
}

const GimpPlugInInfo PLUG_IN_INFO = {NULL, NULL, query, run};
MAIN()
