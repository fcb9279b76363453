#include "request.h"

#include <stdio.h>
#include <string.h>

void plugin_request_init(plugin_request *request) {
    memset(request, 0, sizeof *request);
    request->strength = 1;
    request->seed = 1;
    request->output = PLUGIN_NEW_LAYER;
}

bool plugin_request_text(char *field, size_t size, const char *text, const char *name, plugin_error *error) {
    size_t length = text ? strlen(text) : 0;
    if (length >= size) return plugin_fail(error, "%s: %zu bytes, at most %zu are allowed", name, length, size - 1);
    /* The rest is zeroed, so that requests can be compared as bytes. */
    memset(field, 0, size);
    if (length) memcpy(field, text, length);
    return true;
}

static bool is_blank(const char *text) { return text[strspn(text, " \t\r\n")] == '\0'; }

bool plugin_request_check(const plugin_request *request, plugin_kind kind, plugin_error *error) {
    if (kind == PLUGIN_NEW_DOMAIN && is_blank(request->target))
        return plugin_fail(error, "target: is empty; write what pictures are to become, such as \"a pencil sketch\"");
    if (kind == PLUGIN_RESTYLE && is_blank(request->domain) && is_blank(request->target))
        return plugin_fail(error, "target: is empty; choose an installed domain, or write what the picture is to become, such as "
                                  "\"a pencil sketch\"");
    if (request->steps > PLUGIN_STEPS_MAX)
        return plugin_fail(error, "steps: %u, must be 0 (the pack's recipe) to %d", request->steps, PLUGIN_STEPS_MAX);
    if (kind == PLUGIN_NEW_DOMAIN) return true;
    /* Not a number is not in the range either. */
    if (!(request->strength >= 0 && request->strength <= PLUGIN_STRENGTH_MAX))
        return plugin_fail(error, "strength: %g, must be in [0, %g]", request->strength, PLUGIN_STRENGTH_MAX);
    if (request->identity > PLUGIN_STEPS_MAX)
        return plugin_fail(error, "keep-identity: %u, must be 0 (what the pack recommends) to %d", request->identity, PLUGIN_STEPS_MAX);
    if (request->output > PLUGIN_IN_PLACE)
        return plugin_fail(error, "output: %u, must be %d (a new layer) or %d (in place)", request->output, PLUGIN_NEW_LAYER, PLUGIN_IN_PLACE);
    return true;
}
