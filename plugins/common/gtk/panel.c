#include "panel.h"

#include "../reached.h"
#include "../words.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RESPONSE_RESET = 1, RESPONSE_WORK = 2, RESPONSE_FINISHED = 3 };
enum { COLUMN_PICTURE, COLUMN_LABEL, COLUMN_NAME, COLUMNS };
enum { THUMBNAIL_SIDE = 48, PICTURE_SIDE = 208, TEXT_WIDTH = 48, WARNING_LENGTH = 90, TROUBLE_LENGTH = 300 };

/* What the running job is for. */
enum work { NOTHING, OPENING, WORKING, DRAWING, INSTALLING };

typedef struct panel {
    plugin_kind kind;
    plugin_session *session;
    const plugin_library *library;
    plugin_request *request;
    plugin_source source;
    void *data;

    plugin_job *job;
    plugin_task task;
    enum work work;
    bool accepted; /* OK was pressed: the dialog ends when the work is done */
    bool redraw;   /* the strength or the domain changed while something was drawn */
    bool reopen;   /* another pack was chosen while a job ran */
    bool filling;  /* the widgets are being set, not by the user */

    nada_model *model; /* the chosen pack, for what it says of itself */
    uint32_t default_identity, default_steps;
    char default_source[PLUGIN_TEXT];

    GtkWidget *dialog, *before, *after, *bar, *status, *go;
    GtkWidget *models, *domains, *text_box, *source_entry, *target, *phrases, *phrases_box, *warning, *name;
    GtkWidget *strength, *identity, *steps, *seed, *in_place, *new_layer, *install;
    GtkWidget *left, *left_label;
    char left_file[PLUGIN_FILE_MAX];
} panel;

/* --- What GTK 2 and 3 call differently --- */

static GtkWidget *row_box(int spacing) {
#if GTK_MAJOR_VERSION < 3
    return gtk_hbox_new(FALSE, spacing);
#else
    return gtk_box_new(GTK_ORIENTATION_HORIZONTAL, spacing);
#endif
}

static GtkWidget *column_box(int spacing) {
#if GTK_MAJOR_VERSION < 3
    return gtk_vbox_new(FALSE, spacing);
#else
    return gtk_box_new(GTK_ORIENTATION_VERTICAL, spacing);
#endif
}

static GtkWidget *scale(double low, double high, double step) {
#if GTK_MAJOR_VERSION < 3
    GtkWidget *widget = gtk_hscale_new_with_range(low, high, step);
#else
    GtkWidget *widget = gtk_scale_new_with_range(GTK_ORIENTATION_HORIZONTAL, low, high, step);
#endif
    gtk_scale_set_value_pos(GTK_SCALE(widget), GTK_POS_RIGHT);
    return widget;
}

static GtkWidget *left_label(const char *text) {
    GtkWidget *label = gtk_label_new_with_mnemonic(text);
#if GTK_MAJOR_VERSION < 3
    gtk_misc_set_alignment(GTK_MISC(label), 0, 0.5f);
#else
    gtk_label_set_xalign(GTK_LABEL(label), 0);
#endif
    return label;
}

static GtkWidget *text_label(int width) {
    GtkWidget *label = left_label("");
    gtk_label_set_line_wrap(GTK_LABEL(label), TRUE);
    gtk_label_set_width_chars(GTK_LABEL(label), width);
    gtk_label_set_max_width_chars(GTK_LABEL(label), width);
    return label;
}

#if GTK_MAJOR_VERSION < 3
/* Of a colour, [0, 65535]. */
static int brightness(const GdkColor *c) { return (3 * c->red + 6 * c->green + c->blue) / 10; }

/* The dark theme of GIMP 2.10 draws a list's selected row in light grey on the same light grey. Where a theme's two colours are that close,
 * the text becomes what differs most from the theme's background. */
static void keep_readable(GtkWidget *view, GtkStyle *before, gpointer data) {
    (void)before, (void)data;
    static const GtkStateType SELECTED[] = {GTK_STATE_SELECTED, GTK_STATE_ACTIVE};
    static const GdkColor BLACK = {0, 0, 0, 0}, WHITE = {0, 65535, 65535, 65535};
    const GtkStyle *style = gtk_widget_get_style(view);
    for (size_t i = 0; i < G_N_ELEMENTS(SELECTED); i++) {
        int back = brightness(&style->base[SELECTED[i]]), text = brightness(&style->text[SELECTED[i]]);
        /* Changing it calls this again, which then finds them apart. */
        if (abs(back - text) < 65536 / 4) gtk_widget_modify_text(view, SELECTED[i], back < 32768 ? &WHITE : &BLACK);
    }
}
#endif

/* A list, which keeps the rows; its columns are the caller's to add. */
static GtkWidget *list_of(GtkListStore *rows) {
    GtkWidget *view = gtk_tree_view_new_with_model(GTK_TREE_MODEL(rows));
    g_object_unref(rows);
    gtk_tree_view_set_headers_visible(GTK_TREE_VIEW(view), FALSE);
#if GTK_MAJOR_VERSION < 3
    g_signal_connect(view, "style-set", G_CALLBACK(keep_readable), NULL);
#endif
    return view;
}

static void show_fraction(panel *p, double fraction) { gtk_progress_bar_set_fraction(GTK_PROGRESS_BAR(p->bar), fraction); }

/* --- Pictures --- */

static void free_rgb(guchar *rgb, gpointer data) {
    (void)rgb;
    plugin_picture_free(data);
}

/* The picture becomes the pixbuf's. */
static GdkPixbuf *pixbuf_of(plugin_picture *picture) {
    return picture ? gdk_pixbuf_new_from_data(picture->rgb, GDK_COLORSPACE_RGB, FALSE, 8, picture->width, picture->height, picture->width * 3,
                                              free_rgb, picture)
                   : NULL;
}

/* Shows a picture, becoming the widget's, as large as fits into `width` x `height`. */
static void show_picture(GtkWidget *image, plugin_picture *picture, int width, int height) {
    GdkPixbuf *pixbuf = pixbuf_of(picture);
    if (!pixbuf) return;
    double factor = MIN((double)width / gdk_pixbuf_get_width(pixbuf), (double)height / gdk_pixbuf_get_height(pixbuf));
    GdkPixbuf *fitted = gdk_pixbuf_scale_simple(pixbuf, MAX(1, (int)lrint(gdk_pixbuf_get_width(pixbuf) * factor)),
                                                MAX(1, (int)lrint(gdk_pixbuf_get_height(pixbuf) * factor)), GDK_INTERP_BILINEAR);
    gtk_image_set_from_pixbuf(GTK_IMAGE(image), fitted);
    if (fitted) g_object_unref(fitted);
    g_object_unref(pixbuf);
}

static void show_after(panel *p, plugin_picture *picture) {
    show_picture(p->after, picture, p->kind == PLUGIN_RESTYLE ? PICTURE_SIDE : 2 * PICTURE_SIDE, PICTURE_SIDE);
}

/* As much of `text` as leaves the window its size, with the whole as tooltip. */
static void set_text(GtkWidget *label, const char *text, const char *format, glong most) {
    char *first = g_utf8_strlen(text, -1) <= most ? g_strdup(text) : g_utf8_substring(text, 0, most - 1);
    char *shown = g_strconcat(first, strlen(first) < strlen(text) ? "\342\200\246" : "", NULL), *markup = g_markup_printf_escaped(format, shown);
    gtk_label_set_markup(GTK_LABEL(label), markup);
    gtk_widget_set_tooltip_text(label, strlen(first) < strlen(text) ? text : NULL);
    g_free(first), g_free(shown), g_free(markup);
}

static void say(panel *p, const char *text, bool trouble) { set_text(p->status, text, trouble ? "<b>%s</b>" : "%s", TROUBLE_LENGTH); }

/* --- From the widgets to the request, and back --- */

static void take_text(GtkWidget *entry, char *field, size_t size, const char *name, panel *p) {
    plugin_error error;
    if (!plugin_request_text(field, size, gtk_entry_get_text(GTK_ENTRY(entry)), name, &error)) say(p, error.text, true);
}

static void selected_domain(panel *p, char domain[PLUGIN_PATH]) {
    GtkTreeModel *rows;
    GtkTreeIter row;
    char *name = NULL;
    plugin_error error;
    if (gtk_tree_selection_get_selected(gtk_tree_view_get_selection(GTK_TREE_VIEW(p->domains)), &rows, &row))
        gtk_tree_model_get(rows, &row, COLUMN_NAME, &name, -1);
    plugin_request_text(domain, PLUGIN_PATH, name, "domain", &error);
    g_free(name);
}

static uint32_t whole(GtkWidget *range) {
    /* What was typed is taken only when the field is left, which the keys of buttons do not do in GTK 3. */
    if (GTK_IS_SPIN_BUTTON(range)) gtk_spin_button_update(GTK_SPIN_BUTTON(range));
    double value = GTK_IS_RANGE(range) ? gtk_range_get_value(GTK_RANGE(range)) : gtk_spin_button_get_value(GTK_SPIN_BUTTON(range));
    return (uint32_t)lrint(value);
}

static void read_widgets(panel *p) {
    plugin_request *r = p->request;
    take_text(p->source_entry, r->source, sizeof r->source, "source", p);
    take_text(p->target, r->target, sizeof r->target, "target", p);
    /* The pack's own settings stay the pack's, also when it is another one the next time. */
    if (strcmp(r->source, p->default_source) == 0) memset(r->source, 0, sizeof r->source);
    r->steps = whole(p->steps);
    if (r->steps == p->default_steps) r->steps = 0;
    r->seed = whole(p->seed);
    if (p->kind == PLUGIN_NEW_DOMAIN) {
        take_text(p->name, r->name, sizeof r->name, "name", p);
        memset(r->domain, 0, sizeof r->domain);
        return;
    }
    selected_domain(p, r->domain);
    r->strength = gtk_range_get_value(GTK_RANGE(p->strength));
    r->identity = whole(p->identity);
    if (r->identity == p->default_identity) r->identity = 0;
    r->output = gtk_toggle_button_get_active(GTK_TOGGLE_BUTTON(p->in_place)) ? PLUGIN_IN_PLACE : PLUGIN_NEW_LAYER;
    r->install = gtk_toggle_button_get_active(GTK_TOGGLE_BUTTON(p->install)) ? 1 : 0;
}

static void write_widgets(panel *p) {
    const plugin_request *r = p->request;
    p->filling = true;
    gtk_entry_set_text(GTK_ENTRY(p->source_entry), *r->source ? r->source : p->default_source);
    gtk_entry_set_text(GTK_ENTRY(p->target), r->target);
    gtk_spin_button_set_value(GTK_SPIN_BUTTON(p->steps), r->steps ? r->steps : p->default_steps);
    gtk_spin_button_set_value(GTK_SPIN_BUTTON(p->seed), r->seed);
    if (p->kind == PLUGIN_NEW_DOMAIN) {
        gtk_entry_set_text(GTK_ENTRY(p->name), r->name);
    } else {
        gtk_range_set_value(GTK_RANGE(p->strength), r->strength);
        gtk_range_set_value(GTK_RANGE(p->identity), r->identity ? r->identity : p->default_identity);
        gtk_toggle_button_set_active(GTK_TOGGLE_BUTTON(r->output == PLUGIN_IN_PLACE ? p->in_place : p->new_layer), TRUE);
        gtk_toggle_button_set_active(GTK_TOGGLE_BUTTON(p->install), r->install != 0);
    }
    p->filling = false;
}

/* --- Jobs --- */

static void update_buttons(panel *p) {
    bool busy = p->work == OPENING || p->work == WORKING || p->work == INSTALLING;
    gtk_button_set_label(GTK_BUTTON(p->go), p->work == WORKING ? "Sto_p" : p->kind == PLUGIN_RESTYLE ? "_Preview" : "Tr_ain");
    gtk_widget_set_sensitive(p->go, p->work != OPENING && p->work != INSTALLING && plugin_session_size(p->session) > 0);
    gtk_dialog_set_response_sensitive(GTK_DIALOG(p->dialog), GTK_RESPONSE_OK, !busy && plugin_session_size(p->session) > 0);
    gtk_dialog_set_response_sensitive(GTK_DIALOG(p->dialog), RESPONSE_RESET, !busy);
    /* What was left is drawn with what jobs work with. */
    gtk_widget_set_sensitive(p->left, !p->job);
}

static gboolean tick(gpointer data);

static bool start(panel *p, enum work work, plugin_work function, bool as_reached) {
    plugin_error error;
    p->task = (plugin_task){.session = p->session, .request = *p->request, .as_reached = as_reached};
    p->job = plugin_job_start(p->library, function, &p->task, &error);
    if (!p->job) {
        say(p, error.text, true);
        return false;
    }
    p->work = work;
    update_buttons(p);
    g_timeout_add(PLUGIN_POLL_MS, tick, p);
    return true;
}

static plugin_work main_work(const panel *p) { return p->kind == PLUGIN_RESTYLE ? plugin_work_restyle : plugin_work_new_domain; }

/* Draws anew where all that takes long is there. */
static void redraw(panel *p) {
    if (p->filling || p->kind != PLUGIN_RESTYLE) return;
    if (p->job) {
        p->redraw = true;
        return;
    }
    read_widgets(p);
    bool quick = plugin_session_inverted(p->session, p->request) &&
                 (*p->request->domain || plugin_session_reached(p->session, p->request).usable);
    if (quick) start(p, DRAWING, main_work(p), true);
}

static void open_pack(panel *p) {
    if (p->job) {
        p->reopen = true;
        plugin_job_cancel(p->job);
        return;
    }
    start(p, OPENING, plugin_work_open, false);
}

/* Begins what the user wants to see or have; true where a job runs. */
static bool begin(panel *p, bool as_reached) {
    plugin_error error;
    read_widgets(p);
    if (!plugin_request_check(p->request, p->kind, &error)) {
        say(p, error.text, true);
        return false;
    }
    return start(p, WORKING, main_work(p), as_reached);
}

static void describe_reached(panel *p) {
    plugin_reached reached = plugin_session_reached(p->session, &p->task.request);
    char text[300];
    const char *use = p->kind == PLUGIN_RESTYLE ? "OK" : "Install";
    if (reached.total == 0 || !reached.usable)
        g_snprintf(text, sizeof text, "Ready.");
    else if (reached.complete)
        g_snprintf(text, sizeof text, "Learned in %u steps.", reached.step);
    else
        g_snprintf(text, sizeof text, "Stopped at step %u of %u. %s takes it as it is, %s goes on.", reached.step, reached.total, use,
                   p->kind == PLUGIN_RESTYLE ? "Preview" : "Train");
    say(p, text, false);
}

static void fill_domains(panel *p);

static void opened(panel *p) {
    plugin_error error;
    if (p->source && !p->source(p->data, p->session, &error)) {
        say(p, error.text, true);
        return;
    }
    if (p->kind == PLUGIN_RESTYLE) {
        show_picture(p->before, plugin_session_source(p->session, PLUGIN_PREVIEW_SIDE), PICTURE_SIDE, PICTURE_SIDE);
        fill_domains(p);
    }
    say(p, p->kind == PLUGIN_RESTYLE ? "Preview shows the result on the picture." : "Train shows pairs of pictures, before and after.", false);
}

static gboolean tick(gpointer data) {
    panel *p = data;
    plugin_job_status status;
    plugin_job_poll(p->job, &status);
    show_after(p, status.preview);
    if (p->work != DRAWING) show_fraction(p, status.fraction);
    if (status.state == PLUGIN_RUNNING) {
        if (p->work != DRAWING) say(p, status.text, false);
        return TRUE;
    }
    plugin_job_free(p->job);
    enum work work = p->work;
    p->job = NULL, p->work = NOTHING;
    show_fraction(p, 0);
    if (status.state == PLUGIN_FAILED) {
        p->accepted = false;
        say(p, status.error.text, true);
    } else if (status.state == PLUGIN_CANCELLED) {
        p->accepted = false;
        describe_reached(p);
    } else if (work == OPENING) {
        opened(p);
    } else if (work == INSTALLING) {
        /* The dialog's owner leaves: whatever was chosen meanwhile, no job begins on what it frees. */
        p->reopen = p->redraw = false;
        gtk_dialog_response(GTK_DIALOG(p->dialog), RESPONSE_FINISHED);
        return FALSE;
    } else if (work == WORKING) {
        describe_reached(p);
    }
    if (p->reopen) {
        p->reopen = p->redraw = false;
        open_pack(p);
    } else if (p->redraw) {
        p->redraw = false;
        redraw(p);
    } else if (p->accepted && (work == WORKING || work == DRAWING) && status.state == PLUGIN_DONE) {
        if (p->kind == PLUGIN_NEW_DOMAIN)
            start(p, INSTALLING, plugin_work_install, true);
        else
            gtk_dialog_response(GTK_DIALOG(p->dialog), RESPONSE_FINISHED);
    }
    update_buttons(p);
    return FALSE;
}

/* --- Packs, domains, words --- */

static void check_words(panel *p) {
    char *source = p->model ? plugin_unknown_words(p->library, p->model, gtk_entry_get_text(GTK_ENTRY(p->source_entry))) : NULL;
    char *target = p->model ? plugin_unknown_words(p->library, p->model, gtk_entry_get_text(GTK_ENTRY(p->target))) : NULL;
    /* It goes on with what the pack knows, which the list above shows. */
    set_text(p->warning, target ? target : source ? source : "", "%s", WARNING_LENGTH);
    free(source), free(target);
}

static void fill_phrases(panel *p) {
    GtkListStore *rows = GTK_LIST_STORE(gtk_tree_view_get_model(GTK_TREE_VIEW(p->phrases)));
    gtk_list_store_clear(rows);
    size_t needed = 0;
    if (p->library->model_phrases(p->model, NULL, 0, &needed) != NADA_OK || needed <= 1) {
        gtk_widget_hide(p->phrases_box);
        return;
    }
    char *all = g_malloc(needed);
    if (p->library->model_phrases(p->model, all, needed, NULL) == NADA_OK) {
        char **lines = g_strsplit(all, "\n", -1);
        for (char **line = lines; *line; line++)
            if (**line) gtk_list_store_insert_with_values(rows, NULL, -1, 0, *line, -1);
        g_strfreev(lines);
    }
    g_free(all);
    gtk_widget_show(p->phrases_box);
}

static void fill_domains(panel *p) {
    plugin_error error;
    GtkListStore *rows = GTK_LIST_STORE(gtk_tree_view_get_model(GTK_TREE_VIEW(p->domains)));
    GtkTreeSelection *selection = gtk_tree_view_get_selection(GTK_TREE_VIEW(p->domains));
    GtkTreeIter row;
    p->filling = true;
    gtk_list_store_clear(rows);
    gtk_list_store_insert_with_values(rows, &row, -1, COLUMN_LABEL, "<i>New, from the text below</i>", COLUMN_NAME, "", -1);
    gtk_tree_selection_select_iter(selection, &row);
    nada_gallery *gallery = plugin_session_gallery(p->session, &error);
    if (!gallery) say(p, error.text, true);
    const plugin_library *library = p->library;
    for (size_t i = 0; gallery && i < library->gallery_count(gallery); i++) {
        /* Domains of other generators cannot be drawn with this one. */
        if (!plugin_session_fits(p->session, gallery, i)) continue;
        nada_image *image = NULL;
        GdkPixbuf *thumbnail = NULL;
        if (library->gallery_thumbnail(gallery, i, &image) == NADA_OK && image)
            thumbnail = pixbuf_of(plugin_picture_new(library, image, THUMBNAIL_SIDE));
        library->image_free(image);
        if (!thumbnail) {
            thumbnail = gdk_pixbuf_new(GDK_COLORSPACE_RGB, FALSE, 8, THUMBNAIL_SIDE, THUMBNAIL_SIDE);
            if (thumbnail) gdk_pixbuf_fill(thumbnail, 0x808080ff);
        }
        const char *name = library->gallery_name(gallery, i);
        char *label = g_markup_printf_escaped("%s\n<small>%s</small>", name, library->gallery_target(gallery, i));
        gtk_list_store_insert_with_values(rows, &row, -1, COLUMN_PICTURE, thumbnail, COLUMN_LABEL, label, COLUMN_NAME, name, -1);
        g_free(label);
        if (thumbnail) g_object_unref(thumbnail);
        if (strcmp(name, p->request->domain) == 0) gtk_tree_selection_select_iter(selection, &row);
    }
    library->gallery_free(gallery);
    p->filling = false;
    gtk_widget_set_sensitive(p->text_box, !*p->request->domain);
}

static void on_domain(GtkTreeSelection *selection, panel *p) {
    (void)selection;
    char domain[PLUGIN_PATH];
    selected_domain(p, domain);
    gtk_widget_set_sensitive(p->text_box, !*domain);
    redraw(p);
}

static void on_changed(GtkWidget *widget, panel *p) {
    (void)widget;
    redraw(p);
}

static void on_words(GtkWidget *widget, panel *p) {
    (void)widget;
    check_words(p);
}

static void on_phrase(GtkTreeSelection *selection, panel *p) {
    GtkTreeModel *rows;
    GtkTreeIter row;
    char *phrase;
    if (!gtk_tree_selection_get_selected(selection, &rows, &row)) return;
    gtk_tree_model_get(rows, &row, 0, &phrase, -1);
    gtk_entry_set_text(GTK_ENTRY(p->target), phrase);
    g_free(phrase);
}

/* Another pack: its words and its defaults, then its generator on a thread. */
static void use_model(panel *p) {
    plugin_error error;
    nada_model *model = plugin_session_look_up(p->session, p->request->model, &error);
    if (!model) {
        say(p, error.text, true);
        return;
    }
    p->library->model_free(p->model);
    p->model = model;
    nada_adaptation_options adaptation;
    nada_inversion_options inversion;
    if (p->library->model_adaptation_options(model, &adaptation, sizeof adaptation) == NADA_OK) {
        p->default_steps = adaptation.steps;
        plugin_request_text(p->default_source, sizeof p->default_source, adaptation.source_text, "source", &error);
    }
    if (p->library->model_inversion_options(model, &inversion, sizeof inversion) == NADA_OK) p->default_identity = inversion.steps;
    gtk_widget_set_tooltip_text(p->models, p->library->model_description(model));
    write_widgets(p);
    fill_phrases(p);
    check_words(p);
    open_pack(p);
}

static void on_model(GtkComboBox *combo, panel *p) {
    GtkTreeIter row;
    plugin_error error;
    char *name = NULL;
    if (p->filling || !gtk_combo_box_get_active_iter(combo, &row)) return;
    read_widgets(p);
    gtk_tree_model_get(gtk_combo_box_get_model(combo), &row, 1, &name, -1);
    plugin_request_text(p->request->model, sizeof p->request->model, name, "model", &error);
    g_free(name);
    use_model(p);
}

static void fill_models(panel *p) {
    plugin_error error;
    GtkListStore *rows = GTK_LIST_STORE(gtk_combo_box_get_model(GTK_COMBO_BOX(p->models)));
    nada_model_list *list = plugin_session_models(p->session, &error);
    const char *wanted = *p->request->model ? p->request->model : "starter";
    GtkTreeIter row;
    bool found = false;
    if (!list) say(p, error.text, true);
    p->filling = true;
    for (size_t i = 0; list && i < p->library->model_list_count(list); i++) {
        const char *name = p->library->model_list_name(list, i), *folder = p->library->model_list_folder(list, i);
        gtk_list_store_insert_with_values(rows, &row, -1, 0, name, 1, name, -1);
        if (!found && (strcmp(name, wanted) == 0 || strcmp(folder, wanted) == 0)) {
            found = true;
            gtk_combo_box_set_active_iter(GTK_COMBO_BOX(p->models), &row);
        }
    }
    if (!found) {
        gtk_list_store_insert_with_values(rows, &row, -1, 0, wanted, 1, wanted, -1);
        gtk_combo_box_set_active_iter(GTK_COMBO_BOX(p->models), &row);
    }
    p->filling = false;
    /* Of folders that NADA_MODELS names and that lead nowhere. */
    const char *warning = list ? p->library->model_list_warning(list) : "";
    if (*warning) gtk_widget_set_tooltip_text(p->models, warning);
    if (list) p->library->model_list_free(list);
}

/* --- What an earlier run that was ended left --- */

static void show_left(panel *p) {
    char files[PLUGIN_REACHED_MAX][PLUGIN_FILE_MAX];
    size_t count = plugin_reached_left(files);
    gtk_widget_hide(p->left);
    while (count > 0) {
        plugin_error error;
        char words[PLUGIN_TEXT];
        uint32_t step;
        memcpy(p->left_file, files[--count], sizeof p->left_file);
        if (!plugin_session_left(p->session, p->left_file, words, &step, &error)) continue;
        char *text = g_strdup_printf("An earlier run was ended at step %u: \"%s\".", step, words);
        gtk_label_set_text(GTK_LABEL(p->left_label), text);
        g_free(text);
        gtk_widget_show(p->left);
        return;
    }
}

static void on_left(GtkInfoBar *bar, gint response, panel *p) {
    (void)bar;
    plugin_error error;
    char file[PLUGIN_PATH];
    if (response != GTK_RESPONSE_ACCEPT) {
        unlink(p->left_file);
    } else if (!plugin_session_rescue(p->session, p->left_file, file, &error)) {
        say(p, error.text, true);
        return;
    } else if (p->kind == PLUGIN_RESTYLE && plugin_session_size(p->session) > 0) {
        read_widgets(p);
        fill_domains(p);
    }
    show_left(p);
}

/* --- Building --- */

/* A row with a label that is as wide as the others of the form. */
static GtkWidget *form_row(GtkWidget *form, GtkSizeGroup *labels, const char *text, GtkWidget *widget, const char *help) {
    GtkWidget *row = row_box(8), *label = left_label(text);
    gtk_size_group_add_widget(labels, label);
    gtk_label_set_mnemonic_widget(GTK_LABEL(label), GTK_IS_SCROLLED_WINDOW(widget) ? gtk_bin_get_child(GTK_BIN(widget)) : widget);
    gtk_box_pack_start(GTK_BOX(row), label, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(row), widget, TRUE, TRUE, 0);
    gtk_box_pack_start(GTK_BOX(form), row, FALSE, FALSE, 0);
    gtk_widget_set_tooltip_text(widget, help);
    return row;
}

static GtkWidget *scrolled(GtkWidget *inside, int width, int height) {
    GtkWidget *window = gtk_scrolled_window_new(NULL, NULL);
    gtk_scrolled_window_set_policy(GTK_SCROLLED_WINDOW(window), GTK_POLICY_AUTOMATIC, GTK_POLICY_AUTOMATIC);
    gtk_scrolled_window_set_shadow_type(GTK_SCROLLED_WINDOW(window), GTK_SHADOW_IN);
    gtk_widget_set_size_request(window, width, height);
    gtk_container_add(GTK_CONTAINER(window), inside);
    return window;
}

static GtkWidget *framed(GtkWidget *inside, const char *title) {
    GtkWidget *frame = gtk_frame_new(title), *box = row_box(0);
    gtk_container_set_border_width(GTK_CONTAINER(box), 4);
    gtk_box_pack_start(GTK_BOX(box), inside, TRUE, TRUE, 0);
    gtk_container_add(GTK_CONTAINER(frame), box);
    return frame;
}

static GtkWidget *model_chooser(void) {
    GtkListStore *rows = gtk_list_store_new(2, G_TYPE_STRING, G_TYPE_STRING);
    GtkWidget *combo = gtk_combo_box_new_with_model(GTK_TREE_MODEL(rows));
    GtkCellRenderer *cell = gtk_cell_renderer_text_new();
    g_object_unref(rows);
    gtk_cell_layout_pack_start(GTK_CELL_LAYOUT(combo), cell, TRUE);
    gtk_cell_layout_add_attribute(GTK_CELL_LAYOUT(combo), cell, "text", 0);
    return combo;
}

static GtkWidget *domain_chooser(void) {
    GtkWidget *view = list_of(gtk_list_store_new(COLUMNS, GDK_TYPE_PIXBUF, G_TYPE_STRING, G_TYPE_STRING));
    gtk_tree_view_insert_column_with_attributes(GTK_TREE_VIEW(view), -1, NULL, gtk_cell_renderer_pixbuf_new(), "pixbuf", COLUMN_PICTURE, NULL);
    gtk_tree_view_insert_column_with_attributes(GTK_TREE_VIEW(view), -1, NULL, gtk_cell_renderer_text_new(), "markup", COLUMN_LABEL, NULL);
    return view;
}

static GtkWidget *phrase_chooser(void) {
    GtkWidget *view = list_of(gtk_list_store_new(1, G_TYPE_STRING));
    gtk_tree_view_insert_column_with_attributes(GTK_TREE_VIEW(view), -1, NULL, gtk_cell_renderer_text_new(), "text", 0, NULL);
    return view;
}

/* Where the preview, its progress and its button are. */
static GtkWidget *build_preview(panel *p) {
    GtkWidget *column = column_box(8), *pictures = row_box(8), *row = row_box(8);
    p->after = gtk_image_new();
    if (p->kind == PLUGIN_RESTYLE) {
        p->before = gtk_image_new();
        gtk_widget_set_size_request(p->before, PICTURE_SIDE, PICTURE_SIDE);
        gtk_widget_set_size_request(p->after, PICTURE_SIDE, PICTURE_SIDE);
        gtk_box_pack_start(GTK_BOX(pictures), framed(p->before, "Picture"), FALSE, FALSE, 0);
        gtk_box_pack_start(GTK_BOX(pictures), framed(p->after, "Restyled"), FALSE, FALSE, 0);
    } else {
        gtk_widget_set_size_request(p->after, 2 * PICTURE_SIDE, PICTURE_SIDE);
        gtk_box_pack_start(GTK_BOX(pictures), framed(p->after, "Before (above) and after (below)"), TRUE, TRUE, 0);
    }
    gtk_box_pack_start(GTK_BOX(column), pictures, FALSE, FALSE, 0);
    p->bar = gtk_progress_bar_new();
    p->go = gtk_button_new_with_mnemonic("_Preview");
    gtk_widget_set_size_request(p->go, 90, -1);
    gtk_widget_set_tooltip_text(p->go, "Starts the work and shows it; Stop ends it and keeps what was reached");
    gtk_box_pack_start(GTK_BOX(row), p->bar, TRUE, TRUE, 0);
    gtk_box_pack_start(GTK_BOX(row), p->go, FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(column), row, FALSE, FALSE, 0);
    p->status = text_label(TEXT_WIDTH);
    gtk_label_set_selectable(GTK_LABEL(p->status), TRUE);
    gtk_box_pack_start(GTK_BOX(column), p->status, FALSE, FALSE, 0);
    return column;
}

static GtkWidget *build_texts(panel *p, GtkSizeGroup *labels) {
    GtkWidget *box = column_box(6);
    p->source_entry = gtk_entry_new();
    p->target = gtk_entry_new();
    gtk_entry_set_activates_default(GTK_ENTRY(p->target), TRUE);
    form_row(box, labels, "_From", p->source_entry, "What the pictures of the generator are, in words");
    form_row(box, labels, "_To", p->target, "What they are to become, such as \"a pencil sketch\"");
    p->phrases = phrase_chooser();
    p->phrases_box = form_row(box, labels, "_Words", scrolled(p->phrases, 260, 96), "What this pack's CLIP knows");
    p->warning = text_label(TEXT_WIDTH);
    gtk_box_pack_start(GTK_BOX(box), p->warning, FALSE, FALSE, 0);
    p->steps = gtk_spin_button_new_with_range(1, PLUGIN_STEPS_MAX, 1);
    form_row(box, labels, "Steps at _most", p->steps, "Of learning the words; it may end earlier, when more would harm the picture");
    return box;
}

static GtkWidget *build_form(panel *p) {
    GtkWidget *form = column_box(6);
    GtkSizeGroup *labels = gtk_size_group_new(GTK_SIZE_GROUP_HORIZONTAL);
    p->models = model_chooser();
    form_row(form, labels, "Mo_del pack", p->models, NULL);
    if (p->kind == PLUGIN_RESTYLE) {
        p->domains = domain_chooser();
        form_row(form, labels, "Domai_n", scrolled(p->domains, 260, 130), "Installed domains, or a new one from words");
    }
    p->text_box = build_texts(p, labels);
    gtk_box_pack_start(GTK_BOX(form), p->text_box, FALSE, FALSE, 0);
    p->seed = gtk_spin_button_new_with_range(0, G_MAXUINT32, 1);
    if (p->kind == PLUGIN_NEW_DOMAIN) {
        p->name = gtk_entry_new();
        form_row(form, labels, "_Name", p->name, "Under which it is installed; empty: made from the words");
        form_row(form, labels, "S_eed", p->seed, "The same seed gives the same domain");
    } else {
        p->strength = scale(0, PLUGIN_STRENGTH_MAX, 0.01);
        form_row(form, labels, "_Strength", p->strength, "0 changes nothing of the style, 1 is what was learned");
        p->identity = scale(10, 2000, 10);
        form_row(form, labels, "Keep identit_y", p->identity, "Steps of finding the picture in the generator: more come closer, and take longer");
        form_row(form, labels, "S_eed", p->seed, "The same seed gives the same result");
        GtkWidget *output = row_box(8);
        p->new_layer = gtk_radio_button_new_with_mnemonic(NULL, "New _layer");
        p->in_place = gtk_radio_button_new_with_mnemonic_from_widget(GTK_RADIO_BUTTON(p->new_layer), "_In place");
        gtk_box_pack_start(GTK_BOX(output), p->new_layer, FALSE, FALSE, 0);
        gtk_box_pack_start(GTK_BOX(output), p->in_place, FALSE, FALSE, 0);
        form_row(form, labels, "Output", output, NULL);
        p->install = gtk_check_button_new_with_mnemonic("_Add a new domain to the gallery");
        gtk_box_pack_start(GTK_BOX(form), p->install, FALSE, FALSE, 0);
    }
    g_object_unref(labels);
    return form;
}

static void on_go(GtkButton *button, panel *p) {
    (void)button;
    gtk_dialog_response(GTK_DIALOG(p->dialog), RESPONSE_WORK);
}

static void build(panel *p) {
    GtkWidget *columns = row_box(16), *content = gtk_dialog_get_content_area(GTK_DIALOG(p->dialog));
    p->left = gtk_info_bar_new_with_buttons("_Keep", GTK_RESPONSE_ACCEPT, "Discard", GTK_RESPONSE_REJECT, NULL);
    p->left_label = left_label("");
    gtk_container_add(GTK_CONTAINER(gtk_info_bar_get_content_area(GTK_INFO_BAR(p->left))), p->left_label);
    gtk_widget_show_all(p->left);
    gtk_widget_hide(p->left);
    gtk_widget_set_no_show_all(p->left, TRUE);
    gtk_box_pack_start(GTK_BOX(content), p->left, FALSE, FALSE, 0);
    gtk_container_set_border_width(GTK_CONTAINER(columns), 12);
    gtk_box_pack_start(GTK_BOX(columns), build_preview(p), FALSE, FALSE, 0);
    gtk_box_pack_start(GTK_BOX(columns), build_form(p), TRUE, TRUE, 0);
    gtk_box_pack_start(GTK_BOX(content), columns, TRUE, TRUE, 0);
    gtk_dialog_add_button(GTK_DIALOG(p->dialog), "_Reset", RESPONSE_RESET);
    gtk_dialog_add_button(GTK_DIALOG(p->dialog), "_Cancel", GTK_RESPONSE_CANCEL);
    gtk_dialog_add_button(GTK_DIALOG(p->dialog), p->kind == PLUGIN_RESTYLE ? "_OK" : "_Install", GTK_RESPONSE_OK);
    gtk_dialog_set_default_response(GTK_DIALOG(p->dialog), GTK_RESPONSE_OK);

    g_signal_connect(p->go, "clicked", G_CALLBACK(on_go), p);
    g_signal_connect(p->models, "changed", G_CALLBACK(on_model), p);
    g_signal_connect(p->source_entry, "changed", G_CALLBACK(on_words), p);
    g_signal_connect(p->target, "changed", G_CALLBACK(on_words), p);
    g_signal_connect(p->left, "response", G_CALLBACK(on_left), p);
    g_signal_connect(gtk_tree_view_get_selection(GTK_TREE_VIEW(p->phrases)), "changed", G_CALLBACK(on_phrase), p);
    if (p->kind == PLUGIN_RESTYLE) {
        g_signal_connect(p->strength, "value-changed", G_CALLBACK(on_changed), p);
        g_signal_connect(gtk_tree_view_get_selection(GTK_TREE_VIEW(p->domains)), "changed", G_CALLBACK(on_domain), p);
    }
    gtk_widget_show_all(p->dialog);
}

/* --- Running --- */

/* What the user trained so far is only dropped when they say so. */
static void offer_to_keep(panel *p) {
    plugin_reached reached = plugin_session_reached(p->session, &p->task.request);
    if (!reached.usable || reached.kept || reached.step == 0) return;
    GtkWidget *question =
        gtk_message_dialog_new(GTK_WINDOW(p->dialog), GTK_DIALOG_MODAL, GTK_MESSAGE_QUESTION, GTK_BUTTONS_NONE,
                               "Keep the domain \"%s\"?\nIt was trained for %u steps.", p->task.request.target, reached.step);
    gtk_dialog_add_buttons(GTK_DIALOG(question), "_Discard", GTK_RESPONSE_REJECT, "_Keep in the gallery", GTK_RESPONSE_ACCEPT, NULL);
    gtk_dialog_set_default_response(GTK_DIALOG(question), GTK_RESPONSE_ACCEPT);
    bool keep = gtk_dialog_run(GTK_DIALOG(question)) != GTK_RESPONSE_REJECT;
    gtk_widget_destroy(question);
    if (!keep) return;
    /* Quick, and the window is about to close. */
    plugin_error error;
    plugin_job_status status;
    plugin_job *job = plugin_job_start(p->library, plugin_work_install, &p->task, &error);
    if (!job) return;
    while (plugin_job_poll(job, &status) == PLUGIN_RUNNING) g_usleep(PLUGIN_POLL_MS * 1000);
    plugin_job_free(job);
}

bool plugin_panel_run(GtkWidget *dialog, plugin_kind kind, plugin_session *session, plugin_request *request, plugin_source source, void *data) {
    panel state = {.kind = kind, .session = session, .library = plugin_session_library(session), .request = request, .source = source,
                   .data = data, .dialog = dialog};
    panel *p = &state;
    build(p);
    fill_models(p);
    use_model(p);
    show_left(p);
    update_buttons(p);
    /* What was hidden since needs no room. */
    gtk_window_resize(GTK_WINDOW(dialog), 1, 1);
    bool finished = false;
    for (bool open = true; open;) {
        switch (gtk_dialog_run(GTK_DIALOG(dialog))) {
        case RESPONSE_FINISHED:
            finished = true, open = false;
            break;
        case RESPONSE_RESET:
            plugin_request_init(request);
            write_widgets(p);
            if (kind == PLUGIN_RESTYLE && plugin_session_size(session) > 0) fill_domains(p);
            break;
        case RESPONSE_WORK:
            if (p->work == WORKING)
                plugin_job_cancel(p->job);
            else if (!p->job)
                begin(p, false);
            break;
        case GTK_RESPONSE_OK:
            /* A stopped adaptation is taken as it is; something being drawn ends first. */
            p->accepted = p->job ? p->work == DRAWING : begin(p, true);
            break;
        default:
            if (p->job) {
                /* The first Cancel stops the work, the second one leaves. */
                p->accepted = false;
                plugin_job_cancel(p->job);
                break;
            }
            offer_to_keep(p);
            open = false;
        }
    }
    p->library->model_free(p->model);
    return finished;
}
