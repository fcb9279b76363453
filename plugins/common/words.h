/* Words that a model pack knows. Packs with a small CLIP list them; the others know natural language. */
#ifndef NADA_PLUGIN_WORDS_H
#define NADA_PLUGIN_WORDS_H

#include "request.h"

/* The library's sentence on the words of `text` that the pack does not know, with those that it does; the caller frees it. NULL where it
 * knows all. */
char *plugin_unknown_words(const plugin_library *library, const nada_model *model, const char *text);

/* False with a message where what `request` wants to learn is too long for the pack's CLIPs, or where a pack that lists words knows none of
 * its words: it would learn nothing of what was meant. `call` may be NULL; where it is cancelled nothing is said, as the next call will. */
bool plugin_words_known(const plugin_library *library, const nada_model *model, const plugin_request *request, const nada_call *call,
                        plugin_error *error);

#endif
