/*
 * A library with the mistake that the command line wants, to see whether it is found: LEAK (a result is not freed),
 * OVERREAD (a byte behind the event), STALE (a result that was freed), SAVED (a text of `load` is kept), OPEN (an
 * instance is not freed). Without any of them it is right.
 */
#include "gaugefn.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    gaugefn_slice kept;
    int sum;
} state;

static void *open_one(const gaugefn_host *host) {
    (void)host;
    return calloc(1, sizeof(state));
}

static void call(void *instance, const gaugefn_call *call) {
    state *own = instance;
    for (size_t n = 0; n < call->count; n++) {
        gaugefn_slice payload = gaugefn_event_at(call, n)->payload;
        size_t length = payload.len;
#ifdef OVERREAD
        length++;
#endif
        for (size_t at = 0; at < length; at++)
            own->sum ^= payload.data[at];
        char *text = malloc(3);
        memcpy(text, own->sum & 1 ? "[1]" : "[0]", 3);
        gaugefn_outcome *outcome = gaugefn_outcome_at(call, n);
        outcome->status = GAUGEFN_OUTPUT;
        outcome->value.data = (const uint8_t *)text;
        outcome->value.len = 3;
#ifdef STALE
        free(text);
#endif
    }
}

static void release(void *instance, const gaugefn_call *call) {
    (void)instance;
    (void)call;
#if !defined(LEAK) && !defined(STALE)
    for (size_t n = 0; n < call->count; n++)
        free((void *)gaugefn_outcome_at(call, n)->value.data);
#endif
}

static void close_one(void *instance) {
#ifdef OPEN
    *(state **)instance = NULL;
#else
    free(instance);
#endif
}

static void save(void *instance, const gaugefn_save *save) {
    static const gaugefn_slice key = GAUGEFN_TEXT("sum"), zero = GAUGEFN_TEXT("0");
    const state *own = instance;
    save->put(save->handle, key, own->kept.data ? own->kept : zero);
}

static void load(void *instance, const gaugefn_load *load) {
    static const gaugefn_slice odd = GAUGEFN_TEXT("odd"), zero = GAUGEFN_TEXT("0");
    state *own = instance;
    for (size_t n = 0; n < load->count; n++)
        if (gaugefn_entry_at(load, n)->value.data[0] == '{') {
            load->refuse(load->handle, odd);
            return;
        }
    own->kept = zero;
#ifdef SAVED
    if (load->count)
        own->kept = gaugefn_entry_at(load, 0)->value;
#endif
}

static const gaugefn_function functions[] = {
    {
        .name = GAUGEFN_TEXT("handler"),
        .open = open_one,
        .call = call,
        .release = release,
        .close = close_one,
        .save = save,
        .load = load,
    },
};
GAUGEFN_EXPORT(functions);
