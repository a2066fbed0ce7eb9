/* Counts its events, and says which version it is: VERSION. The count outlives the version. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gaugefn.h"

static void *open_count(const gaugefn_host *host) {
    (void)host;
    return calloc(1, sizeof(unsigned long));
}

static void call(void *instance, const gaugefn_call *call) {
    for (size_t n = 0; n < call->count; n++) {
        gaugefn_slice payload = gaugefn_event_at(call, n)->payload;
        gaugefn_outcome *outcome = gaugefn_outcome_at(call, n);
        size_t room = payload.len + 80;
        char *text = malloc(room);
        if (!text)
            continue;
        unsigned long calls = ++*(unsigned long *)instance;
        int length = snprintf(text, room, "{\"v\": %d, \"calls\": %lu, \"event\": %.*s}", VERSION, calls,
                              (int)payload.len, (const char *)payload.data);
        outcome->status = GAUGEFN_OUTPUT;
        outcome->value.data = (const uint8_t *)text;
        outcome->value.len = (size_t)length;
    }
}

static void release(void *instance, const gaugefn_call *call) {
    (void)instance;
    for (size_t n = 0; n < call->count; n++)
        free((void *)gaugefn_outcome_at(call, n)->value.data);
}

#ifndef FORGETFUL
static void save(void *instance, const gaugefn_save *save) {
    char text[32];
    int length = snprintf(text, sizeof text, "%lu", *(unsigned long *)instance);
    gaugefn_slice key = GAUGEFN_TEXT("calls"), value = { (const uint8_t *)text, (size_t)length };
    save->put(save->handle, key, value);
}

static void load(void *instance, const gaugefn_load *load) {
    for (size_t n = 0; n < load->count; n++) {
        char text[32] = { 0 };
        gaugefn_slice value = gaugefn_entry_at(load, n)->value;
        memcpy(text, value.data, value.len < sizeof text ? value.len : sizeof text - 1);
        *(unsigned long *)instance = strtoul(text, NULL, 10);
    }
}
#else
#define save NULL
#define load NULL
#endif

static const gaugefn_function functions[] = {
    { GAUGEFN_TEXT("handler"), open_count, call, release, free, save, load },
};
GAUGEFN_EXPORT(functions);
