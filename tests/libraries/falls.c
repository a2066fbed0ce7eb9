/* Returns its events, unless one of them asks for an end of the process, or for none at all. */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gaugefn.h"

static volatile int depth;
static volatile int clings;

static __attribute__((noinline)) int deeper(int level) {
    volatile char room[4096];
    room[0] = (char)level;
    depth = level;
    return deeper(level + 1) + room[0];
}

static int asks(const char *text, const char *what) {
    return strstr(text, what) != NULL;
}

static void obey(const char *text) {
    if (asks(text, "\"null\"")) {
        int *volatile nowhere = NULL;
        *nowhere = 1;
    }
    if (asks(text, "\"abort\""))
        abort();
    if (asks(text, "\"overflow\""))
        depth = deeper(0);
    if (asks(text, "\"exit\""))
        exit(0);
    if (asks(text, "\"cling\""))
        clings = 1;
    if (asks(text, "\"fork\"")) {
        int status = 1;
        pid_t child = fork();
        /* the child comes back, too */
        if (child > 0 && (waitpid(child, &status, 0) != child || status != 0))
            abort();
    }
    while (asks(text, "\"loop\""))
        depth++;
}

static void call(void *instance, const gaugefn_call *call) {
    (void)instance;
    for (size_t n = 0; n < call->count; n++) {
        gaugefn_slice payload = gaugefn_event_at(call, n)->payload;
        gaugefn_outcome *outcome = gaugefn_outcome_at(call, n);
        char *text = malloc(payload.len + 1);
        if (!text)
            continue;
        memcpy(text, payload.data, payload.len);
        text[payload.len] = 0;
        obey(text);
        outcome->status = GAUGEFN_OUTPUT;
        outcome->value.data = (const uint8_t *)text;
        outcome->value.len = payload.len;
    }
}

static void release(void *instance, const gaugefn_call *call) {
    (void)instance;
    for (size_t n = 0; n < call->count; n++)
        free((void *)gaugefn_outcome_at(call, n)->value.data);
}

static void close_instance(void *instance) {
    (void)instance;
    while (clings)
        pause();
}

static const gaugefn_function functions[] = {
    { .name = GAUGEFN_TEXT("handler"), .call = call, .release = release, .close = close_instance },
};
GAUGEFN_EXPORT(functions);
