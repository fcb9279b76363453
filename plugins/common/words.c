#include "words.h"

#include <stdlib.h>
#include <string.h>

char *plugin_unknown_words(const plugin_library *library, const nada_model *model, const char *text) {
    size_t needed = 0;
    if (library->model_check_text(model, text, NULL, NULL, 0, &needed) != NADA_OK || needed <= 1) return NULL;
    char *sentence = malloc(needed);
    if (sentence && library->model_check_text(model, text, NULL, sentence, needed, NULL) == NADA_OK) return sentence;
    free(sentence);
    return NULL;
}

static bool is_known(const plugin_library *library, const nada_model *model, const char *word) {
    /* A pack knows them from its phrases, yet they say nothing of a picture. */
    static const char *const DULL[] = {"a", "an", "and", "at", "in", "of", "on", "the", "with"};
    for (size_t i = 0; i < sizeof DULL / sizeof *DULL; i++)
        if (strcmp(word, DULL[i]) == 0) return false;
    size_t needed = 0;
    return library->model_check_text(model, word, NULL, NULL, 0, &needed) == NADA_OK && needed <= 1;
}

/* Of the pieces that the library takes for words; every letter of other scripts is bytes from 128 up. */
static bool is_letter(char c) {
    return (c & 0x80) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool knows_some(const plugin_library *library, const nada_model *model, const char *text, const char *argument, plugin_error *error) {
    /* A model of natural language lists no words: what is said of the text is for the user to judge. */
    size_t listed = 0;
    if (library->model_phrases(model, NULL, 0, &listed) == NADA_OK && listed <= 1) return true;
    char *sentence = plugin_unknown_words(library, model, text);
    if (!sentence) return true;
    free(sentence);
    char word[PLUGIN_TEXT];
    for (const char *at = text; *at;) {
        size_t length = 0;
        while (length + 1 < sizeof word && is_letter(at[length])) {
            word[length] = at[length] >= 'A' && at[length] <= 'Z' ? (char)(at[length] + 'a' - 'A') : at[length];
            length++;
        }
        word[length] = '\0';
        if (length > 0 && is_known(library, model, word)) return true;
        at += length > 0 ? length : 1;
    }
    return plugin_fail(error, "%s: the model '%.200s' knows no word of \"%s\"; use words that it lists", argument,
                       library->model_name(model), text);
}

bool plugin_words_known(const plugin_library *library, const nada_model *model, const plugin_request *request, const nada_call *call,
                        plugin_error *error) {
    /* What the CLIPs make of words is read by the first of these calls, which may take long. */
    if (library->model_check_text(model, request->target, call, NULL, 0, NULL) == NADA_CANCELLED) return plugin_library_fail(library, error);
    // First, as words that are not known break into many tokens.
    if (!knows_some(library, model, request->source, "source", error) || !knows_some(library, model, request->target, "target", error))
        return false;
    const char *const texts[] = {request->source, request->target};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (library->model_check_length(model, texts[i], call) == NADA_INVALID_ARGUMENT) return plugin_library_fail(library, error);
    return true;
}
